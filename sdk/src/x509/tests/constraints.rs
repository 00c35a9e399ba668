//! rows: X-28

use super::*;
use crate::der::element;

const OID: &[u64] = &[2, 5, 29, 30];
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const EMAIL: u8 = 0x81;
const DIRECTORY: u8 = 0xa4;
const IP: u8 = 0x87;

fn subtrees(tag: u8, trees: &[(u8, &[u8])]) -> Vec<u8> {
    let trees: Vec<u8> = trees.iter().flat_map(|(form, base)| element(0x30, &element(*form, base))).collect();
    element(tag, &trees)
}

fn permitted(trees: &[(u8, &[u8])]) -> Vec<u8> {
    element(0x30, &subtrees(0xa0, trees))
}

fn excluded(trees: &[(u8, &[u8])]) -> Vec<u8> {
    element(0x30, &subtrees(0xa1, trees))
}

/// The verdict on a leaf `spiffe://a.example/x` under an intermediate with this extension.
fn under(value: &[u8], change: impl FnOnce(&mut CertificateParams)) -> Result<(), X509Error> {
    let mut issuer = ca("intermediate");
    issuer.custom_extensions = vec![extension(OID, true, value)];
    let mut params = leaf("spiffe://a.example/x");
    // An empty subject: the constraint is on the other names.
    params.distinguished_name = rcgen::DistinguishedName::new();
    change(&mut params);
    Domain::of("a.example", ca("root"), issuer).verdict(params).map(|_| ())
}

const REFUSED: Result<(), X509Error> = Err(X509Error::NameConstraint);

/// Rows: X-28.
#[test]
fn uris_are_evaluated_by_their_host() {
    let uri = |value: Vec<u8>| under(&value, |_| {});
    assert_eq!(uri(permitted(&[(URI, b"a.example")])), Ok(()));
    assert_eq!(uri(permitted(&[(URI, b"A.Example")])), Ok(()));
    assert_eq!(uri(permitted(&[(URI, b".example")])), Ok(()));
    assert_eq!(uri(permitted(&[(URI, b"b.example"), (URI, b"a.example")])), Ok(()));
    assert_eq!(uri(permitted(&[(URI, b"b.example")])), REFUSED);
    assert_eq!(uri(permitted(&[(URI, b"example")])), REFUSED);
    assert_eq!(uri(permitted(&[(URI, b".a.example")])), REFUSED);
    assert_eq!(uri(permitted(&[(URI, b".b.c")])), REFUSED);
    assert_eq!(uri(permitted(&[(URI, b"")])), REFUSED);
    assert_eq!(uri(permitted(&[(URI, b"\xff")])), REFUSED);
    assert_eq!(uri(excluded(&[(URI, b"b.example")])), Ok(()));
    assert_eq!(uri(excluded(&[(URI, b"a.example")])), REFUSED);
    assert_eq!(uri(excluded(&[(URI, b".example")])), REFUSED);
    assert_eq!(uri(excluded(&[(URI, b"")])), REFUSED);
    let both = element(0x30, &[subtrees(0xa0, &[(URI, b".example")]), subtrees(0xa1, &[(URI, b"a.example")])].concat());
    assert_eq!(uri(both), REFUSED);
}

#[test]
fn a_trust_domain_like_an_ip_address_fits_no_uri_constraint() {
    let mut issuer = ca("intermediate");
    issuer.custom_extensions = vec![extension(OID, true, &permitted(&[(URI, b"1.2.3.4")]))];
    let domain = Domain::of("1.2.3.4", ca("root"), issuer);
    assert_eq!(domain.verdict(leaf("spiffe://1.2.3.4/x")).unwrap_err(), X509Error::NameConstraint);
}

#[test]
fn hosts_that_are_none_fit_no_uri_constraint_not_even_one_that_excludes_another() {
    let beneath = |name: &str| {
        let mut root = ca("root");
        root.custom_extensions = vec![extension(OID, true, &excluded(&[(URI, b"b.example")]))];
        let mut intermediate = ca("intermediate");
        intermediate.subject_alt_names = vec![uri(name)];
        Domain::of("a.example", root, intermediate).verdict(leaf("spiffe://a.example/x")).map(|_| ())
    };
    assert_eq!(beneath("https://c.example/x"), Ok(()));
    for name in ["https://[::1]/x", "https:///x", "https://1.2.3.4/x", "urn:x", "https://u@b.example:443/x"] {
        assert_eq!(beneath(name), REFUSED, "{name}");
    }
    // A trust domain of the form of a base names no host below that base.
    let mut issuer = ca("intermediate");
    issuer.custom_extensions = vec![extension(OID, true, &permitted(&[(URI, b".example")]))];
    let domain = Domain::of(".example", ca("root"), issuer);
    assert_eq!(domain.verdict(leaf("spiffe://.example/x")).unwrap_err(), X509Error::NameConstraint);
}

#[test]
fn dns_names_are_evaluated_and_other_leaves_do_not_care() {
    let dns = |value: &[u8], name: &str| {
        under(value, |params| params.subject_alt_names.push(SanType::DnsName(name.try_into().unwrap())))
    };
    let value = permitted(&[(DNS, b"svc.example")]);
    assert_eq!(under(&value, |_| {}), Ok(()));
    assert_eq!(dns(&value, "svc.example"), Ok(()));
    assert_eq!(dns(&value, "x.SVC.example"), Ok(()));
    assert_eq!(dns(&value, "xsvc.example"), REFUSED);
    assert_eq!(dns(&value, "xxsvc.example"), REFUSED);
    assert_eq!(dns(&value, ".svc.example"), REFUSED);
    assert_eq!(dns(&value, "example"), REFUSED);
    let value = excluded(&[(DNS, b"svc.example")]);
    assert_eq!(dns(&value, "other.example"), Ok(()));
    assert_eq!(dns(&value, "x.svc.example"), REFUSED);
}

/// Rows: X-28.
#[test]
fn forms_that_are_not_supported_refuse_certificates_that_have_them() {
    let value = permitted(&[(EMAIL, b"x@example"), (IP, &[10, 0, 0, 0, 255, 0, 0, 0])]);
    assert_eq!(under(&value, |_| {}), Ok(()));
    let email = SanType::Rfc822Name("x@example".try_into().unwrap());
    assert_eq!(under(&value, |params| params.subject_alt_names.push(email)), REFUSED);
    let ip = SanType::IpAddress("10.1.2.3".parse().unwrap());
    assert_eq!(under(&value, |params| params.subject_alt_names.push(ip)), REFUSED);
    // Each form by itself, and none for another's sake.
    let email = || SanType::Rfc822Name("x@example".try_into().unwrap());
    let ip = || SanType::IpAddress("10.1.2.3".parse().unwrap());
    let only = |form: u8, base: &[u8], name: SanType| {
        under(&permitted(&[(form, base)]), |params| params.subject_alt_names.push(name))
    };
    assert_eq!(only(EMAIL, b"x@example", email()), REFUSED);
    assert_eq!(only(EMAIL, b"x@example", ip()), Ok(()));
    assert_eq!(only(IP, &[10, 0, 0, 0, 255, 0, 0, 0], ip()), REFUSED);
    assert_eq!(only(IP, &[10, 0, 0, 0, 255, 0, 0, 0], email()), Ok(()));
    let named = |form: u8, base: &[u8]| {
        let name = element(DIRECTORY, b"\x30\x00");
        let names = element(0x30, &[element(URI, b"spiffe://a.example/x"), name].concat());
        under(&permitted(&[(form, base)]), |params| {
            params.subject_alt_names.clear();
            params.custom_extensions = vec![extension(&[2, 5, 29, 17], true, &names)];
        })
    };
    assert_eq!(named(DIRECTORY, b"\x30\x00"), REFUSED);
    assert_eq!(named(EMAIL, b"x@example"), Ok(()));
    let directory = permitted(&[(DIRECTORY, b"\x30\x00")]);
    assert_eq!(under(&directory, |_| {}), Ok(()));
    let subject = |params: &mut CertificateParams| params.distinguished_name.push(rcgen::DnType::CommonName, "x");
    assert_eq!(under(&directory, subject), REFUSED);
}

#[test]
fn minimum_maximum_and_other_shapes_are_malformed() {
    let tree = |content: &[u8]| element(0x30, &element(0xa0, &element(0x30, content)));
    let base = element(URI, b"a.example");
    assert_eq!(under(&tree(&base), |_| {}), Ok(()));
    let bad = [
        tree(&[&base[..], &[0x80, 0x01, 0x01]].concat()),
        tree(&[]),
        element(0x30, &element(0xa0, &element(0x31, &base))),
        element(0x30, &element(0xa0, &element(0x30, &element(0x0c, b"a.example")))),
        element(0x30, &element(0xa2, &[])),
        element(0x30, &[subtrees(0xa1, &[]), subtrees(0xa0, &[])].concat()),
        element(0x30, &[subtrees(0xa0, &[(URI, b"a.example")]), subtrees(0xa0, &[(URI, b"a.example")])].concat()),
        element(0x31, &[]),
        vec![],
        vec![0x30, 0x05],
    ];
    for value in bad {
        assert_eq!(under(&value, |_| {}), Err(X509Error::Malformed), "{value:02x?}");
    }
}

/// Rows.
#[test]
fn constraints_bind_all_the_way_down_and_from_the_anchor_too() {
    let mut root = ca("root");
    root.custom_extensions = vec![extension(OID, true, &permitted(&[(URI, b"b.example")]))];
    let domain = Domain::of("a.example", root, ca("intermediate"));
    assert_eq!(domain.verdict(leaf("spiffe://a.example/x")).unwrap_err(), X509Error::NameConstraint);
    // The intermediate's own name counts as well.
    let mut root = ca("root");
    root.custom_extensions = vec![extension(OID, true, &permitted(&[(URI, b"a.example")]))];
    let mut intermediate = ca("intermediate");
    intermediate.subject_alt_names = vec![uri("spiffe://b.example")];
    let domain = Domain::of("a.example", root, intermediate);
    assert_eq!(domain.verdict(leaf("spiffe://a.example/x")).unwrap_err(), X509Error::NameConstraint);
    // On a leaf the extension makes no sense.
    let own = changed(|params| params.custom_extensions = vec![extension(OID, true, &permitted(&[(URI, b"td")]))]);
    assert_eq!(refused(own), X509Error::CriticalExtension);
}
