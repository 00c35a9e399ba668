//! What a message must hold to be taken, and what is made of it.

use mayfly_proto::workload::X509svidResponse;

use super::agent::{message, part};
use crate::client::{Material as _, X509Context};
use crate::reason::Reason;
use crate::x509::fixture::{Domain, bundle};

const A: &str = "spiffe://td/a";
const B: &str = "spiffe://td/b";

/// Rows: WA-15.
#[test]
fn the_first_svid_is_the_default_one_and_hints_lead_to_the_others() {
    let domain = Domain::new();
    let context = X509Context::decode(message(&domain, &[(A, ""), (B, "internal")])).unwrap();
    assert_eq!(context.default_svid().spiffe_id().as_str(), A);
    assert_eq!(context.by_hint("internal").unwrap().spiffe_id().as_str(), B);
    assert!(context.by_hint("external").is_none() && context.by_hint("").is_none());
    let context = X509Context::decode(message(&domain, &[(B, ""), (A, "")])).unwrap();
    assert_eq!(context.default_svid().spiffe_id().as_str(), B, "WA-15");
    assert_eq!(context.bundles().get(&"td".parse().unwrap()), Some(&bundle("td", &[&domain.root])));
}

/// Rows: WA-13.
#[test]
fn of_two_equal_hints_the_first_wins_and_no_hint_is_no_hint() {
    let domain = Domain::new();
    let context = X509Context::decode(message(&domain, &[(A, "h"), (B, "h"), (A, ""), (B, "")])).unwrap();
    assert_eq!(context.svids().len(), 3, "WA-13");
    assert_eq!(context.by_hint("h").unwrap().spiffe_id().as_str(), A);
}

/// Rows: WA-25.
#[test]
fn federated_bundles_are_taken_for_foreign_trust_domains_only() {
    let (domain, foreign, forged) = (Domain::new(), Domain::named("other"), Domain::new());
    let mut sent = message(&domain, &[(A, "")]);
    sent.federated_bundles = [
        ("spiffe://other".to_owned(), foreign.root.der.clone().into()),
        ("spiffe://td".to_owned(), forged.root.der.clone().into()),
        ("spiffe://empty".to_owned(), Vec::new().into()),
    ]
    .into();
    let context = X509Context::decode(sent).unwrap();
    assert_eq!(context.bundles().get(&"other".parse().unwrap()), Some(&bundle("other", &[&foreign.root])));
    assert_eq!(context.bundles().get(&"td".parse().unwrap()), Some(&bundle("td", &[&domain.root])), "WA-25");
    assert!(context.bundles().get(&"empty".parse().unwrap()).unwrap().is_empty(), "X-23");
}

/// What is wrong, and how a good message becomes so.
type Spoil = (&'static str, fn(&mut X509svidResponse, &Domain));

pub(super) const SPOILS: &[Spoil] = &[
    ("no svids", |sent, _| sent.svids.clear()),
    ("no id", |sent, _| sent.svids[0].spiffe_id.clear()),
    ("no chain", |sent, _| sent.svids[0].x509_svid.clear()),
    ("no key", |sent, _| sent.svids[0].x509_svid_key.clear()),
    ("no bundle", |sent, _| sent.svids[0].bundle.clear()),
    ("the second svid is bad", |sent, domain| {
        sent.svids.push(part(domain, B, ""));
        sent.svids[1].x509_svid = sent.svids[1].x509_svid.slice(1..);
    }),
    ("the chain is cut short", |sent, _| {
        let chain = sent.svids[0].x509_svid.clone();
        sent.svids[0].x509_svid = chain.slice(..chain.len() - 1);
    }),
    ("the id is not the certificate's", |sent, _| B.clone_into(&mut sent.svids[0].spiffe_id)),
    ("the key is another's", |sent, domain| sent.svids[0].x509_svid_key = part(domain, A, "").x509_svid_key),
    ("the key is not PKCS#8", |sent, _| sent.svids[0].x509_svid_key = sent.svids[0].x509_svid_key.slice(26..)),
    ("the leaf is an authority", |sent, domain| {
        sent.svids[0].x509_svid = domain.intermediate.der.clone().into();
        sent.svids[0].x509_svid_key = domain.intermediate.key.serialize_der().into();
    }),
    ("the bundle is no certificate", |sent, _| sent.svids[0].bundle = b"bundle".to_vec().into()),
    ("a federated bundle is no certificate", |sent, _| {
        sent.federated_bundles.insert("spiffe://other".to_owned(), b"bundle".to_vec().into());
    }),
    ("a federated bundle is of a workload", |sent, domain| {
        sent.federated_bundles.insert("spiffe://other/x".to_owned(), domain.root.der.clone().into());
    }),
    ("a federated bundle is of a bare name", |sent, domain| {
        sent.federated_bundles.insert("other".to_owned(), domain.root.der.clone().into());
    }),
    ("too many svids", |sent, _| sent.svids = vec![sent.svids[0].clone(); 101]),
    ("too many bundles", |sent, domain| {
        let bundle = |n| (format!("spiffe://td{n}"), domain.root.der.clone().into());
        sent.federated_bundles = (0..201).map(bundle).collect();
    }),
];

/// Rows: WA-11.
#[test]
fn a_message_with_one_spoiled_part_is_discarded_as_a_whole() {
    let domain = Domain::new();
    for (what, spoil) in SPOILS {
        let mut sent = message(&domain, &[(A, "")]);
        assert!(X509Context::decode(sent.clone()).is_ok());
        spoil(&mut sent, &domain);
        let refusal = X509Context::decode(sent).expect_err(what);
        assert_eq!(refusal.reason, Reason::MessageInvalid, "{what}");
    }
}

#[test]
fn no_key_shows_in_debug() {
    let domain = Domain::new();
    let sent = message(&domain, &[(A, "")]);
    let key = format!("{:?}", &sent.svids[0].x509_svid_key[40..60]);
    let shown = format!("{:?}", X509Context::decode(sent).unwrap());
    assert!(shown.contains(A) && !shown.contains(key.trim_matches(['[', ']'])), "{shown}");
}
