//! What everybody reads who verifies: certificates of authorities, and the bundle document.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mayfly_sdk::{KeyAlgorithm, PrivateKey, Ttl, jwk};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, SanType};
use serde_json::{Value, json};
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::opened::{HOUR, START, World, bundle_of, trust_domain};
use crate::authority::certificate::{BACKDATE, check_authority, parse};

/// Rows: ID-21, X-9, X-10, X-12, X-14, X-15, X-30.
#[tokio::test]
async fn an_authority_is_its_trust_domain_and_signs_certificates_only() {
    let world = World::new();
    let issuer = world.start().await.unwrap();
    let snapshot = issuer.authorities.snapshot();
    let intermediate = snapshot.intermediate().facts().chain[0].clone();
    for der in [snapshot.root_certificate().unwrap(), &intermediate] {
        let certificate = parse(der).unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names, [GeneralName::URI("spiffe://td.test")]);
        let constraints = certificate.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        let usage = certificate.key_usage().unwrap().unwrap();
        // keyCertSign and cRLSign.
        assert!(usage.critical && usage.value.flags == 0b110_0000, "{:b}", usage.value.flags);
        assert!(certificate.extended_key_usage().unwrap().is_none());
        let has =
            |is: fn(&ParsedExtension<'_>) -> bool| certificate.extensions().iter().any(|of| is(of.parsed_extension()));
        assert!(has(|extension| matches!(extension, ParsedExtension::SubjectKeyIdentifier(_))));
        assert!(certificate.validity().not_before.timestamp() <= START.unix_s() - i64::from(BACKDATE.as_s()));
    }
    let ends = |der: &[u8]| parse(der).unwrap().validity().not_after.timestamp();
    assert!(ends(&intermediate) <= ends(snapshot.root_certificate().unwrap()));
}

/// Rows.
#[test]
fn what_is_no_authority_of_the_trust_domain_is_not_loaded_as_one() {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let pkcs8 = key.expose_pkcs8().to_vec().into();
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let loaded = |change: fn(&mut CertificateParams)| {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI("spiffe://td.test".try_into().unwrap())];
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        change(&mut params);
        let der = params.self_signed(&pair).unwrap().der().to_vec();
        check_authority(&der, &trust_domain(), key.public_key(), key.public_key()).is_ok()
    };
    assert!(loaded(|_| {}));
    assert!(!loaded(|params| params.subject_alt_names = vec![SanType::URI("spiffe://td.test/x".try_into().unwrap())]));
    assert!(!loaded(|params| params.subject_alt_names = vec![SanType::URI("spiffe://other".try_into().unwrap())]));
    assert!(!loaded(|params| params.is_ca = IsCa::ExplicitNoCa));
    assert!(!loaded(|params| params.key_usages.clear()));
    assert!(!loaded(|params| params.key_usages.push(KeyUsagePurpose::DigitalSignature)));
}

/// Rows: BD-1, BD-6, BD-11, BD-15, BD-17, BD-20, X-29.
#[tokio::test]
async fn the_bundle_holds_what_verifies_and_nothing_that_signs() {
    let world = World::new();
    let mut issuer = world.start().await.unwrap();
    // The next token key is published beside the one that signs.
    world.pass(12 * HOUR);
    issuer.rotation.catch_up().await;
    let snapshot = issuer.authorities.snapshot();
    let document: Value = serde_json::from_str(snapshot.bundle().document()).unwrap();
    assert!(document["spiffe_refresh_hint"].is_u64() && document["spiffe_sequence"].is_u64());
    let keys = document["keys"].as_array().unwrap();
    let of_use = |wanted: &str| keys.iter().filter(|key| key["use"] == wanted).collect::<Vec<_>>();
    let (anchors, tokens) = (of_use("x509-svid"), of_use("jwt-svid"));
    assert_eq!((anchors.len(), tokens.len(), keys.len()), (1, 2, 3), "{document}");

    let members = |key: &Value| key.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(members(anchors[0]), ["crv", "kty", "use", "x", "x5c", "y"]);
    let root = snapshot.root_certificate().unwrap();
    assert_eq!(anchors[0]["x5c"], json!([STANDARD.encode(root)]));
    let of_jwk = jwk::public_key(anchors[0].as_object().unwrap()).unwrap();
    assert_eq!(parse(root).unwrap().public_key().raw, of_jwk.spki(), "the members of the key are the certificate's");
    let kids: std::collections::HashSet<_> = tokens.iter().map(|key| key["kid"].as_str().unwrap()).collect();
    assert_eq!(kids.len(), 2, "no kid is there twice");
    for key in tokens {
        assert_eq!(members(key), ["crv", "kid", "kty", "use", "x", "y"]);
    }
}

/// Rows: BD-4.
#[tokio::test]
async fn the_sequence_grows_with_every_change_and_only_then() {
    let mut world = World::new();
    let mut issuer = world.start().await.unwrap();
    let first = bundle_of(&issuer).sequence.unwrap();
    world.pass(60);
    issuer.rotation.catch_up().await;
    assert_eq!(bundle_of(&issuer).sequence.unwrap(), first, "nothing has changed");
    world.pass(12 * HOUR);
    issuer.rotation.catch_up().await;
    let added = bundle_of(&issuer);
    assert!(added.sequence.unwrap() > first && added.jwt.authorities().len() == 2, "a key was added");
    drop(issuer);
    assert_eq!(bundle_of(&world.start().await.unwrap()), added, "a restart changes nothing");
    world.settings.bundle_refresh_hint = Ttl::from_s(60);
    let issuer = world.start().await.unwrap();
    let hinted = bundle_of(&issuer);
    assert_eq!(hinted.refresh_hint, Some(Ttl::from_s(60)));
    assert!(hinted.sequence > added.sequence, "the hint is content too");
}
