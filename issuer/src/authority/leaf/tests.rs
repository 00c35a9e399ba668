use mayfly_sdk::{KeyAlgorithm, TrustDomain};
use proptest::prelude::*;

use super::encode::by_rcgen;
use super::*;
use crate::authority::certificate::X509Root;

const MADE: Timestamp = Timestamp::from_unix_s(1_800_000_000);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_s(MADE.unix_s() + seconds)
}

/// An intermediate of a day, under a root.
fn intermediate(algorithm: KeyAlgorithm) -> LeafSigner {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let trust_domain: TrustDomain = "td.test".parse().unwrap();
        let serial = Serial::try_from([1; 16]).unwrap();
        let birth = Birth { trust_domain: &trust_domain, serial, made_at: MADE, not_after: at(86_400) };
        let key = PrivateKey::generate(algorithm).unwrap();
        let root = X509Root::signer(&key, &X509Root::certify(&birth, &key).await.unwrap()).unwrap();
        let own = PrivateKey::generate(algorithm).unwrap();
        let certificate = root.sign_intermediate(&birth, own.public_key()).await.unwrap();
        X509Intermediate::signer(&own, &[certificate]).unwrap()
    })
}

fn plan(key: &PublicKey) -> LeafPlan {
    LeafPlan {
        spiffe_id: "spiffe://td.test/a/workload".parse().unwrap(),
        public_key: key.clone(),
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        ttl: Ttl::from_s(900),
        serial: Serial::try_from([0x11; 16]).unwrap(),
        now: at(100),
    }
}

/// What [`Active::sign`] does, without its slot.
fn sign(signer: &LeafSigner, plan: &LeafPlan) -> Result<(Vec<u8>, Validity), AuthorityError> {
    let validity = signer.validity(plan)?;
    check_plan(plan)?;
    let key_id = subject_key_id(&plan.public_key);
    let tbs = signer.template.fill(plan, validity, &key_id)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let signature = runtime.block_on(signer.key.sign(&tbs))?;
    let der = der::certificate(&tbs, signer.template.algorithm(), &signature);
    signer.check(&der, plan, validity, &key_id)?;
    Ok((der, validity))
}

/// Rows.
#[test]
fn a_leaf_has_the_golden_shape() {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let signer = intermediate(KeyAlgorithm::EcP256);
    let mut plan = plan(key.public_key());
    plan.dns_names = vec!["a.example.org".to_owned()];
    let validity = signer.validity(&plan).unwrap();
    let key_id = subject_key_id(&plan.public_key);
    let tbs = hex::encode(signer.template.fill(&plan, validity, &key_id).unwrap());
    let common = format!("{} {}", "intermediate", signer.id);
    let golden = [
        // TBSCertificate, version 3, serial number.
        "308201b0",
        "a003020102",
        "021011111111111111111111111111111111",
        // ecdsa-with-SHA256; O=Mayfly, CN=intermediate <key id>.
        "300a06082a8648ce3d040302",
        &format!("3051310f300d060355040a0c064d6179666c79313e303c06035504030c35{}", hex::encode(common)),
        // From 60 s before now, for 900 s; an empty subject.
        "301e170d3237303131353038303034305a170d3237303131353038313634305a",
        "3000",
        &hex::encode(key.public_key().spki()),
        // Extensions: authorityKeyIdentifier; subjectAltName, critical: the URI and one DNS name.
        "a381ba",
        "3081b7",
        &format!("301f0603551d23041830168014{}", signer.id),
        "30380603551d110101ff042e302c861b7370696666653a2f2f74642e746573742f612f776f726b6c6f6164820d",
        "612e6578616d706c652e6f7267",
        // keyUsage, critical: digitalSignature. extKeyUsage: serverAuth, clientAuth.
        "300e0603551d0f0101ff040403020780",
        "301d0603551d250416301406082b0601050507030106082b06010505070302",
        // subjectKeyIdentifier; basicConstraints, critical: not a CA.
        &format!("301d0603551d0e04160414{}", hex::encode(key_id)),
        "300c0603551d130101ff04023000",
    ];
    assert_eq!(tbs, golden.concat());
}

#[test]
fn the_template_writes_what_rcgen_writes_for_every_key() {
    for issuer in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384, KeyAlgorithm::EcP521, KeyAlgorithm::Ed25519] {
        let signer = intermediate(issuer);
        for subject in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384, KeyAlgorithm::Rsa2048, KeyAlgorithm::Ed25519] {
            let key = PrivateKey::generate(subject).unwrap();
            let plan = plan(key.public_key());
            sign(&signer, &plan).unwrap();
            same_as_rcgen(&signer, &plan);
        }
    }
}

fn same_as_rcgen(signer: &LeafSigner, plan: &LeafPlan) {
    let validity = Validity::new(plan.now, plan.now.saturating_add(plan.ttl)).unwrap();
    let key_id = subject_key_id(&plan.public_key);
    let ours = signer.template.fill(plan, validity, &key_id).unwrap();
    assert_eq!(hex::encode(ours), hex::encode(by_rcgen(plan, validity, signer.key.public_key()).unwrap()));
}

/// Rows: X-5.
#[test]
fn what_is_no_svid_is_refused() {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let signer = intermediate(KeyAlgorithm::EcP256);
    let good = plan(key.public_key());
    sign(&signer, &good).unwrap();
    let refused = |change: &dyn Fn(&mut LeafPlan)| {
        let mut bad = good.clone();
        change(&mut bad);
        sign(&signer, &bad).unwrap_err()
    };
    for error in [
        refused(&|plan| plan.spiffe_id = "spiffe://td.test".parse().unwrap()),
        refused(&|plan| plan.ttl = Ttl::ZERO),
        refused(&|plan| plan.dns_names = vec![String::new()]),
        refused(&|plan| plan.dns_names = vec!["a b".to_owned()]),
        refused(&|plan| plan.dns_names = vec!["ä.example.org".to_owned()]),
        refused(&|plan| plan.dns_names = vec!["a".to_owned(); 65]),
    ] {
        assert!(matches!(error, AuthorityError::Plan { .. }), "{error}");
    }
    let accepted = |change: &dyn Fn(&mut LeafPlan)| {
        let mut plan = good.clone();
        change(&mut plan);
        sign(&signer, &plan).is_ok()
    };
    assert!(accepted(&|plan| plan.dns_names = vec!["a".to_owned(); 64]));
    assert!(accepted(&|plan| plan.ttl = Ttl::from_s(86_300)));
    let outlives = refused(&|plan| plan.ttl = Ttl::from_s(86_301));
    assert!(matches!(outlives, AuthorityError::Unavailable { .. }), "{outlives}");
}

#[test]
fn a_leaf_that_is_not_as_planned_is_not_released() {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let other = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let signer = intermediate(KeyAlgorithm::EcP256);
    let good = LeafPlan {
        dns_names: vec!["a.test".to_owned()],
        ip_addresses: vec![[192, 0, 2, 7].into()],
        ..plan(key.public_key())
    };
    let (der, validity) = sign(&signer, &good).unwrap();
    let field =
        |plan: &LeafPlan, validity, key_id: &[u8; 20], der: &[u8]| match signer.check(der, plan, validity, key_id) {
            Err(AuthorityError::NotAsPlanned { field }) => field,
            other => panic!("{other:?}"),
        };
    let key_id = subject_key_id(&good.public_key);
    let planned = |change: &dyn Fn(&mut LeafPlan)| {
        let mut plan = good.clone();
        change(&mut plan);
        field(&plan, validity, &key_id, &der)
    };
    assert_eq!(planned(&|plan| plan.serial = Serial::try_from([0x12; 16]).unwrap()), "serial number");
    assert_eq!(planned(&|plan| plan.public_key = other.public_key().clone()), "public key");
    let san = "subject alternative name";
    assert_eq!(planned(&|plan| plan.spiffe_id = "spiffe://td.test/other".parse().unwrap()), san);
    assert_eq!(planned(&|plan| plan.dns_names.clear()), san);
    assert_eq!(planned(&|plan| plan.dns_names.push("b.test".to_owned())), san);
    assert_eq!(planned(&|plan| plan.ip_addresses.clear()), san);
    assert_eq!(planned(&|plan| plan.ip_addresses[0] = [192, 0, 2, 8].into()), san);
    assert_eq!(planned(&|plan| plan.ip_addresses.push([192, 0, 2, 8].into())), san);
    assert_eq!(field(&good, Validity::new(at(41), validity.not_after()).unwrap(), &key_id, &der), "notBefore");
    assert_eq!(field(&good, Validity::new(at(40), at(1001)).unwrap(), &key_id, &der), "notAfter");
    assert_eq!(field(&good, validity, &[0; 20], &der), "subject key identifier");
    let flipped = |what: &[u8], to: &[u8]| {
        let at = der.windows(what.len()).position(|window| window == what).unwrap();
        let mut der = der.clone();
        der[at..at + to.len()].copy_from_slice(to);
        field(&good, validity, &key_id, &der)
    };
    assert_eq!(flipped(b"\x04\x04\x03\x02\x07\x80", b"\x04\x04\x03\x02\x02\x84"), "key usage");
    assert_eq!(flipped(b"\x55\x1d\x13\x01\x01\xff", b"\x55\x1d\x13\x01\x01\x00"), "basic constraints");
    assert_eq!(flipped(b"\x05\x07\x03\x01", b"\x05\x07\x03\x02"), "extended key usage");
    assert_eq!(flipped(b"\x05\x07\x03\x02", b"\x05\x07\x03\x01"), "extended key usage");
    for other in [0_u8, 3, 4, 8, 9, 17] {
        assert_eq!(flipped(b"\x05\x07\x03\x01", &[5, 7, 3, other]), "extended key usage", "{other}");
        assert_eq!(flipped(b"\x05\x07\x03\x02", &[5, 7, 3, other]), "extended key usage", "{other}");
    }
    assert_eq!(flipped(b"\x55\x1d\x0e", b"\x55\x1d\x12"), "an extension that was not planned");
    assert_eq!(flipped(&signer.key_id, &[7; 20]), "authority key identifier");
    let elsewhere = intermediate(KeyAlgorithm::EcP256);
    let foreign = elsewhere.check(&der, &good, validity, &key_id);
    assert!(matches!(foreign, Err(AuthorityError::NotAsPlanned { field: "issuer" })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Rows: X-30.
    #[test]
    fn no_leaf_outlives_its_issuer_and_every_one_is_what_rcgen_would_write(
        ttl in 1_u32..100_000,
        since in 0_i64..90_000,
        path in "(/[a-zA-Z0-9._-]{1,60}x){1,12}",
        names in proptest::collection::vec("[a-z0-9-]{1,40}\\.[a-z]{2,10}", 0..20),
        addresses in proptest::collection::vec(any::<std::net::IpAddr>(), 0..5),
        random in any::<[u8; 16]>(),
    ) {
        let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
        let signer = intermediate(KeyAlgorithm::EcP256);
        let mut bytes = random;
        bytes[0] &= 0x7f;
        let plan = LeafPlan {
            spiffe_id: format!("spiffe://td.test{path}").parse().unwrap(),
            dns_names: names,
            ip_addresses: addresses,
            ttl: Ttl::from_s(ttl),
            serial: Serial::try_from(bytes).unwrap(),
            now: at(since),
            ..plan(key.public_key())
        };
        same_as_rcgen(&signer, &plan);
        match sign(&signer, &plan) {
            Ok((der, validity)) => {
                prop_assert!(validity.not_after() <= signer.not_after);
                let leaf = parse(&der).unwrap();
                // Positive, at most 20 bytes (RFC 5280 4.1.2.2), and 80 of its bits are random.
                prop_assert!(leaf.raw_serial().len() <= 17 && leaf.raw_serial()[0] < 0x80);
                prop_assert!(leaf.validity().not_after.timestamp() <= signer.not_after.unix_s());
            }
            Err(error) => {
                prop_assert!(matches!(error, AuthorityError::Unavailable { .. }), "{}", error);
                prop_assert!(since + i64::from(ttl) > 86_400);
            }
        }
    }
}
