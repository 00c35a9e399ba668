use x509_parser::asn1_rs::{Any, FromDer};

use super::*;
use crate::der::element;
use crate::key::SignatureAlgorithm;
use crate::time::Timestamp;

fn with_intermediate(change: impl FnOnce(&mut CertificateParams)) -> Result<(), X509Error> {
    let mut params = ca("intermediate");
    change(&mut params);
    Domain::of("td", ca("root"), params).verdict(leaf(ID)).map(|_| ())
}

fn with_root(change: impl FnOnce(&mut CertificateParams)) -> Result<(), X509Error> {
    let mut params = ca("root");
    change(&mut params);
    Domain::of("td", params, ca("intermediate")).verdict(leaf(ID)).map(|_| ())
}

/// Rows, BD-2.
#[test]
fn anchors_come_from_the_bundle_of_the_leafs_own_trust_domain_only() {
    // rows
    let (a, b) = (Domain::named("a"), Domain::named("b"));
    let both: X509BundleSet = a.bundles.iter().chain(b.bundles.iter()).cloned().collect();
    let issued = |by: &Domain, id: &str| {
        let leaf = signed(leaf(id), &by.intermediate);
        chain_verdict(&[&leaf, &by.intermediate], &both)
    };
    assert_eq!(issued(&a, "spiffe://a/x"), Ok(()));
    assert_eq!(issued(&b, "spiffe://b/x"), Ok(()));
    assert_eq!(issued(&a, "spiffe://b/x"), Err(X509Error::BadSignature));
    assert_eq!(issued(&b, "spiffe://a/x"), Err(X509Error::BadSignature));
    assert_eq!(issued(&a, "spiffe://c/x"), Err(X509Error::NoBundle));
    // rows: X-23
    let made = signed(leaf("spiffe://a/x"), &a.intermediate);
    let empty = bundle("a", &[]).into();
    assert_eq!(chain_verdict(&[&made, &a.intermediate], &empty), Err(X509Error::NoPath));
}

/// Rows: X-26.
#[test]
fn what_a_peer_sends_is_never_an_anchor() {
    // rows: X-26
    let (ours, theirs) = (Domain::new(), Domain::of("td", ca("their root"), ca("their intermediate")));
    let made = signed(leaf(ID), &theirs.intermediate);
    let chain = [&made, &theirs.intermediate, &theirs.root];
    assert_eq!(chain_verdict(&chain, &theirs.bundles), Ok(()));
    assert_eq!(chain_verdict(&chain, &ours.bundles), Err(X509Error::NoPath));
    // Names that are right do not help: the signature is another root's.
    let theirs = Domain::new();
    let made = signed(leaf(ID), &theirs.intermediate);
    let chain = [&made, &theirs.intermediate, &theirs.root];
    assert_eq!(chain_verdict(&chain, &ours.bundles), Err(X509Error::BadSignature));
}

#[test]
fn the_path_is_found_without_help_and_not_without_its_links() {
    let domain = Domain::new();
    let second = signed(ca("second"), &domain.intermediate);
    let made = signed(leaf(ID), &second);
    assert_eq!(chain_verdict(&[&made, &second, &domain.intermediate], &domain.bundles), Ok(()));
    assert_eq!(chain_verdict(&[&made, &domain.intermediate, &second], &domain.bundles), Ok(()));
    assert_eq!(chain_verdict(&[&made, &second], &domain.bundles), Err(X509Error::NoPath));
    assert_eq!(chain_verdict(&[&made], &domain.bundles), Err(X509Error::NoPath));
    assert_eq!(verify::<Vec<u8>>(&[], &domain.bundles, NOW, Usage::Any).unwrap_err(), X509Error::NoCertificate);
    // A leaf that the root itself signed.
    assert_eq!(chain_verdict(&[&signed(leaf(ID), &domain.root)], &domain.bundles), Ok(()));
}

#[test]
fn a_root_that_was_succeeded_under_its_own_name_is_found_by_its_key() {
    let (old, new) = (Domain::new(), Domain::new());
    let bundles = bundle("td", &[&old.root, &new.root]).into();
    for domain in [&old, &new] {
        let made = signed(leaf(ID), &domain.intermediate);
        assert_eq!(chain_verdict(&[&made, &domain.intermediate], &bundles), Ok(()));
        assert_eq!(chain_verdict(&[&made, &old.intermediate, &new.intermediate], &bundles), Ok(()));
    }
}

#[test]
fn chains_and_certificates_are_bounded() {
    let domain = Domain::new();
    let made = signed(leaf(ID), &domain.intermediate);
    let mut chain = vec![&made, &domain.intermediate];
    chain.resize(MAX_CHAIN, &domain.root);
    assert_eq!(chain_verdict(&chain, &domain.bundles), Ok(()));
    chain.push(&domain.root);
    assert_eq!(chain_verdict(&chain, &domain.bundles), Err(X509Error::ChainTooLong));
    let large = changed(|params| {
        params.custom_extensions = vec![extension(&[1, 2, 3], false, &vec![0; MAX_CERTIFICATE_BYTES])];
    });
    assert_eq!(refused(large), X509Error::Malformed);
}

#[test]
fn a_chain_cannot_make_us_check_signatures_without_end() {
    // Fifteen authorities of one name, none of which signed any other: each might be the issuer of each.
    let domain = Domain::new();
    let crowd: Vec<_> = (0..15).map(|_| signed(ca("crowd"), &self_signed(ca("crowd")))).collect();
    let made = signed(leaf(ID), &crowd[0]);
    let mut chain = vec![&made];
    chain.extend(&crowd);
    assert_eq!(chain_verdict(&chain, &domain.bundles), Err(X509Error::BadSignature));
    // Anchors count as well.
    let anchors: Vec<_> = (0..40).map(|_| self_signed(ca("crowd"))).collect();
    let bundles = bundle("td", &anchors.iter().collect::<Vec<_>>()).into();
    assert_eq!(chain_verdict(&chain, &bundles), Err(X509Error::TooManySignatures));
}

/// Rows: X-17.
#[test]
fn every_signature_of_the_path_must_hold() {
    // rows: X-17
    let domain = Domain::new();
    let made = signed(leaf(ID), &domain.intermediate);
    assert_eq!(chain_verdict(&[&made, &domain.intermediate], &domain.bundles), Ok(()));
    let flip = |der: &[u8]| {
        let mut der = der.to_vec();
        *der.last_mut().unwrap() ^= 1;
        der
    };
    let check = |chain: &[Vec<u8>]| verify(chain, &domain.bundles, NOW, Usage::Any).map(|_| ()).unwrap_err();
    let (leaf, intermediate) = (made.der, domain.intermediate.der);
    assert_eq!(check(&[flip(&leaf), intermediate.clone()]), X509Error::BadSignature);
    assert_eq!(check(&[leaf, flip(&intermediate)]), X509Error::BadSignature);
}

#[test]
fn all_signature_algorithms_of_certificates_hold() {
    let rsa = || KeyPair::from_pkcs8_der_and_sign_algo(&rsa_pkcs8(), &rcgen::PKCS_RSA_SHA256).unwrap();
    for (key, name) in [
        (KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(), "P-256"),
        (KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(), "P-384"),
        (KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap(), "P-521"),
        (KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(), "Ed25519"),
        (rsa(), "RSA"),
        (KeyPair::from_pkcs8_der_and_sign_algo(&rsa_pkcs8(), &rcgen::PKCS_RSA_SHA384).unwrap(), "RSA SHA-384"),
        (KeyPair::from_pkcs8_der_and_sign_algo(&rsa_pkcs8(), &rcgen::PKCS_RSA_SHA512).unwrap(), "RSA SHA-512"),
    ] {
        let params = ca("root");
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let root = Made { params, key, der };
        let bundles = bundle("td", &[&root]).into();
        assert_eq!(chain_verdict(&[&signed(leaf(ID), &root)], &bundles), Ok(()), "{name}");
    }
}

fn rsa_pkcs8() -> rustls_pki_types::PrivatePkcs8KeyDer<'static> {
    let key = PrivateKey::generate(KeyAlgorithm::Rsa2048).unwrap();
    key.expose_pkcs8().to_vec().into()
}

/// Rows: X-17.
#[test]
fn an_intermediate_is_a_valid_authority() {
    // rows: X-17
    assert_eq!(with_intermediate(|_| {}), Ok(()));
    assert_eq!(with_intermediate(|params| params.is_ca = IsCa::ExplicitNoCa), Err(X509Error::NotAnAuthority));
    assert_eq!(with_intermediate(|params| params.is_ca = IsCa::NoCa), Err(X509Error::NotAnAuthority));
    let no_sign = vec![KeyUsagePurpose::CrlSign];
    assert_eq!(with_intermediate(|params| params.key_usages = no_sign), Err(X509Error::NotAnAuthority));
    assert_eq!(with_intermediate(|params| params.key_usages.clear()), Err(X509Error::NotAnAuthority));
    // Decision K12.
    assert_eq!(with_intermediate(|params| params.key_usages.push(KeyUsagePurpose::DigitalSignature)), Ok(()));
    // Decision K14.
    assert_eq!(with_intermediate(|params| params.subject_alt_names = vec![uri("spiffe://td")]), Ok(()));
    assert_eq!(with_intermediate(|params| params.not_after = at(-1)), Err(X509Error::AuthorityNotValid));
    assert_eq!(with_intermediate(|params| params.not_before = at(1)), Err(X509Error::AuthorityNotValid));
    let unknown = |critical| vec![extension(&[1, 2, 3], critical, b"\x05\x00")];
    assert_eq!(with_intermediate(|params| params.custom_extensions = unknown(false)), Ok(()));
    let critical = with_intermediate(|params| params.custom_extensions = unknown(true));
    assert_eq!(critical, Err(X509Error::CriticalExtension));
    let usage = |of| move |params: &mut CertificateParams| params.extended_key_usages = vec![of];
    assert_eq!(with_intermediate(usage(ExtendedKeyUsagePurpose::ServerAuth)), Ok(()));
    assert_eq!(with_intermediate(usage(ExtendedKeyUsagePurpose::ClientAuth)), Err(X509Error::ExtendedKeyUsage));
}

/// Rows: X-27.
#[test]
fn an_anchor_need_not_say_that_it_is_one_but_its_times_and_limits_bind() {
    // rows: X-27
    assert_eq!(with_root(|_| {}), Ok(()));
    assert_eq!(with_root(|params| params.is_ca = IsCa::NoCa), Ok(()));
    assert_eq!(with_root(|params| params.key_usages.clear()), Ok(()));
    assert_eq!(with_root(|params| params.is_ca = IsCa::ExplicitNoCa), Err(X509Error::NotAnAuthority));
    let no_sign = vec![KeyUsagePurpose::DigitalSignature];
    assert_eq!(with_root(|params| params.key_usages = no_sign), Err(X509Error::NotAnAuthority));
    assert_eq!(with_root(|params| params.not_after = at(-1)), Err(X509Error::AuthorityNotValid));
    assert_eq!(with_root(|params| params.not_before = at(1)), Err(X509Error::AuthorityNotValid));
    assert_eq!(with_root(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1))), Ok(()));
    let short = with_root(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    assert_eq!(short, Err(X509Error::PathLength));
    // Decision K5: the name of an anchor says nothing.
    assert_eq!(with_root(|params| params.subject_alt_names = vec![uri("spiffe://td/")]), Ok(()));
    assert_eq!(with_root(|params| params.subject_alt_names = vec![uri("spiffe://other")]), Ok(()));
    let unknown = vec![extension(&[1, 2, 3], true, b"\x05\x00")];
    assert_eq!(with_root(|params| params.custom_extensions = unknown), Err(X509Error::CriticalExtension));
}

/// Rows: X-17.
#[test]
fn the_length_of_the_path_is_that_which_every_issuer_allows() {
    // rows: X-17
    let constrained = |most| {
        let mut first = ca("intermediate");
        first.is_ca = IsCa::Ca(BasicConstraints::Constrained(most));
        let domain = Domain::of("td", ca("root"), first);
        let second = signed(ca("second"), &domain.intermediate);
        let below_one =
            chain_verdict(&[&signed(leaf(ID), &domain.intermediate), &domain.intermediate], &domain.bundles);
        let made = signed(leaf(ID), &second);
        (below_one, chain_verdict(&[&made, &second, &domain.intermediate], &domain.bundles))
    };
    assert_eq!(constrained(1), (Ok(()), Ok(())));
    assert_eq!(constrained(0), (Ok(()), Err(X509Error::PathLength)));
}

#[test]
fn a_peer_is_valid_no_longer_than_its_whole_path() {
    let until = |root, intermediate, own| {
        let (mut a, mut b, mut c) = (ca("root"), ca("intermediate"), leaf(ID));
        (a.not_after, b.not_after, c.not_after) = (at(root), at(intermediate), at(own));
        Domain::of("td", a, b).verdict(c).unwrap().valid_until()
    };
    for lives in [(10, 20, 30), (20, 10, 30), (30, 20, 10)] {
        assert_eq!(until(lives.0, lives.1, lives.2), Timestamp::from_unix_s(NOW.unix_s() + 10), "{lives:?}");
    }
}

/// The certificate with its signature made anew, by RSASSA-PSS with these parameters, which rcgen cannot do.
fn signed_by_pss(der: &[u8], key: &PrivateKey, algorithm: SignatureAlgorithm, parameters: &[u8]) -> Vec<u8> {
    let parts = |der: &[u8]| -> Vec<Vec<u8>> {
        let mut rest = Any::from_der(der).unwrap().1.data;
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let after = Any::from_der(rest).unwrap().0;
            parts.push(rest[..rest.len() - after.len()].to_vec());
            rest = after;
        }
        parts
    };
    let oid = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
    let identifier = element(0x30, &[&oid[..], &element(0x30, parameters)].concat());
    let mut tbs = parts(&parts(der)[0]);
    tbs[2].clone_from(&identifier);
    let tbs = element(0x30, &tbs.concat());
    let signature = key.sign(algorithm, &tbs).unwrap();
    element(0x30, &[tbs, identifier, element(0x03, &[&[0], &signature[..]].concat())].concat())
}

#[test]
fn pss_holds_with_one_hash_throughout_and_not_otherwise() {
    let key = PrivateKey::generate(KeyAlgorithm::Rsa2048).unwrap();
    let pair =
        KeyPair::from_pkcs8_der_and_sign_algo(&key.expose_pkcs8().to_vec().into(), &rcgen::PKCS_RSA_SHA256).unwrap();
    let params = ca("root");
    let der = params.self_signed(&pair).unwrap().der().to_vec();
    let root = Made { params, key: pair, der };
    let bundles = bundle("td", &[&root]).into();
    let good = signed(leaf(ID), &root);
    let parameters = |of: u8, mgf: u8, salt: u8| {
        let hash = |id| [&[0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 3, 4, 2, id][..], &[5, 0]].concat();
        let mgf1 = [&[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8][..], &hash(mgf)].concat();
        [element(0xa0, &hash(of)), element(0xa1, &element(0x30, &mgf1)), element(0xa2, &[2, 1, salt])].concat()
    };
    let check = |algorithm, parameters: &[u8]| {
        let der = signed_by_pss(&good.der, &key, algorithm, parameters);
        verify(&[der], &bundles, NOW, Usage::Server).map(|_| ())
    };
    for (algorithm, id, salt) in [
        (SignatureAlgorithm::RsaPssSha256, 1, 32),
        (SignatureAlgorithm::RsaPssSha384, 2, 48),
        (SignatureAlgorithm::RsaPssSha512, 3, 64),
    ] {
        assert_eq!(check(algorithm, &parameters(id, id, salt)), Ok(()), "{algorithm:?}");
        assert_eq!(check(algorithm, &parameters(id, id, salt - 1)), Err(X509Error::BadSignature));
        assert_eq!(check(algorithm, &parameters(id, 4, salt)), Err(X509Error::BadSignature));
        assert_eq!(check(algorithm, &[]), Err(X509Error::BadSignature));
    }
    assert_eq!(check(SignatureAlgorithm::RsaPssSha256, &parameters(2, 2, 48)), Err(X509Error::BadSignature));
}

#[test]
fn the_algorithm_is_written_twice_alike() {
    // RFC 5280 4.1.1.2: what is signed names the algorithm too.
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let domain = Domain::new();
    let made = signed(leaf(ID), &domain.intermediate);
    let sha256 = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let places: Vec<_> = (0..made.der.len() - 10).filter(|at| made.der[*at..*at + 10] == sha256).collect();
    let mut changed = made.der.clone();
    changed[places[places.len() - 1] + 9] = 0x03;
    assert_eq!(Certificate::parse(&changed).unwrap_err(), X509Error::Malformed);
    assert!(Certificate::parse(&made.der).unwrap().verify_signature(key.public_key()).is_err());
}

#[test]
fn an_authority_that_changes_its_key_under_its_own_name_does_not_lengthen_the_path() {
    let constrained = || {
        let mut root = ca("root");
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        root
    };
    let domain = Domain::of("td", constrained(), ca("intermediate"));
    let next = signed(constrained(), &domain.root);
    let made = signed(leaf(ID), &next);
    assert_eq!(chain_verdict(&[&made, &next], &domain.bundles), Ok(()));
    let made = signed(leaf(ID), &domain.intermediate);
    assert_eq!(chain_verdict(&[&made, &domain.intermediate], &domain.bundles), Err(X509Error::PathLength));
}

#[test]
fn a_dead_end_does_not_hide_the_way_beside_it() {
    let (domain, elsewhere) = (Domain::new(), self_signed(ca("elsewhere")));
    let key = KeyPair::generate().unwrap();
    let same = KeyPair::try_from(key.serialize_der()).unwrap();
    // One authority, certified by two others, of which one is not believed.
    let dead = signed_with(ca("intermediate"), &elsewhere, same);
    let good = signed_with(ca("intermediate"), &domain.root, key);
    let made = signed(leaf(ID), &good);
    assert_eq!(chain_verdict(&[&made, &dead, &good], &domain.bundles), Ok(()));
    assert_eq!(chain_verdict(&[&made, &dead], &domain.bundles), Err(X509Error::NoPath));
}

#[test]
fn an_issuer_for_one_use_does_not_serve_where_both_are_asked_for() {
    let verdict = |usages: &[ExtendedKeyUsagePurpose], usage| {
        let mut params = ca("intermediate");
        params.extended_key_usages = usages.to_vec();
        Domain::of("td", ca("root"), params).verdict_as(leaf(ID), usage).map(|_| ())
    };
    let (server, client) = (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
    assert_eq!(verdict(&[server.clone(), client.clone()], Usage::Any), Ok(()));
    assert_eq!(verdict(&[server], Usage::Any), Err(X509Error::ExtendedKeyUsage));
    assert_eq!(verdict(&[client], Usage::Any), Err(X509Error::ExtendedKeyUsage));
}

#[test]
fn a_leaf_with_the_name_of_its_issuer_is_bound_by_constraints_all_the_same() {
    let mut issuer = ca("leaf");
    issuer.custom_extensions = vec![extension(&[2, 5, 29, 30], true, b"\x30\x0b\xa1\x09\x30\x07\x86\x05td.ab")];
    let verdict =
        |issuer: CertificateParams, id: &str| Domain::of("td.ab", ca("root"), issuer).verdict(leaf(id)).map(|_| ());
    assert_eq!(verdict(ca("leaf"), "spiffe://td.ab/a"), Ok(()));
    assert_eq!(verdict(issuer, "spiffe://td.ab/a"), Err(X509Error::NameConstraint));
}

#[test]
fn the_last_signature_that_is_allowed_is_checked_and_no_further_one() {
    let found_after = |others: usize| {
        let anchors: Vec<_> = (0..=others).map(|_| self_signed(ca("crowd"))).collect();
        let bundles = bundle("td", &anchors.iter().collect::<Vec<_>>()).into();
        chain_verdict(&[&signed(leaf(ID), &anchors[others])], &bundles)
    };
    assert_eq!(found_after(31), Ok(()));
    assert_eq!(found_after(32), Err(X509Error::TooManySignatures));
}
