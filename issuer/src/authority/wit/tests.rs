use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_sdk::KeyAlgorithm;
use mayfly_sdk::jws::Signer;

use super::*;
use crate::authority::slot::{Facts, Prepared, state};
use crate::store::SlotOrigin;

const NOW: Timestamp = Timestamp::from_unix_s(1_800_000_000);

fn active(key: &PrivateKey, algorithm: KeyAlgorithm) -> Active<Wit> {
    let facts = Facts {
        id: Wit::authority_id(key.public_key()),
        generation: 1,
        issuer: "".into(),
        algorithm,
        public_key: key.public_key().clone(),
        chain: Arc::new([]),
        anchors: Arc::new([]),
        origin: SlotOrigin::Own,
        made_at: NOW,
        not_after: NOW.saturating_add(Ttl::from_s(86_400)),
    };
    let signer = Arc::new(Wit::signer(key, &[]).unwrap());
    Prepared::prepare(facts, state::Secret { stored: None, signer }).activate(NOW)
}

fn p256() -> Active<Wit> {
    active(&PrivateKey::generate(KeyAlgorithm::EcP256).unwrap(), KeyAlgorithm::EcP256)
}

fn plan(workload: &PrivateKey) -> WitPlan {
    WitPlan {
        spiffe_id: "spiffe://td.test/a/workload".parse().unwrap(),
        public_key: workload.public_key().clone(),
        ttl: Ttl::from_s(900),
        jti: Serial::try_from([0x11; 16]).unwrap(),
        now: NOW,
    }
}

fn segment(token: &str, at: usize) -> String {
    String::from_utf8(URL_SAFE_NO_PAD.decode(token.split('.').nth(at).unwrap()).unwrap()).unwrap()
}

/// Rows: W-1, W-2, W-3, W-5, W-7, W-8, W-9, W-11, W-14, W-18, W-19, W-21.
#[tokio::test]
async fn a_token_has_the_golden_shape() {
    let (key, workload) = (p256(), PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
    let signed = key.sign(&plan(&workload)).await.unwrap();
    assert_eq!(segment(&signed.token, 0), format!(r#"{{"alg":"ES256","kid":"{}","typ":"wit+jwt"}}"#, key.id()));
    let members = jwk::members(workload.public_key());
    let (x, y) = (members["x"].as_str().unwrap(), members["y"].as_str().unwrap());
    // No audience and no issuer: what is neither there cannot be taken for an identity token of OpenID.
    assert_eq!(
        segment(&signed.token, 1),
        format!(
            r#"{{"cnf":{{"jwk":{{"alg":"ES256","crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}}},"exp":1800000900,"iat":1800000000,"jti":"11111111111111111111111111111111","sub":"spiffe://td.test/a/workload"}}"#
        )
    );
    assert_eq!((signed.not_after.unix_s(), &signed.authority), (1_800_000_900, key.id()));
    assert_eq!(signed.token.split('.').count(), 3);
}

/// Rows: W-4, W-9, W-10.
#[tokio::test]
async fn every_kind_of_key_signs_and_is_bound_with_its_algorithm() {
    for (algorithm, name) in [
        (KeyAlgorithm::EcP256, "ES256"),
        (KeyAlgorithm::EcP384, "ES384"),
        (KeyAlgorithm::EcP521, "ES512"),
        (KeyAlgorithm::Rsa2048, "RS256"),
    ] {
        let (key, workload) = (PrivateKey::generate(algorithm).unwrap(), PrivateKey::generate(algorithm).unwrap());
        let signed = active(&key, algorithm).sign(&plan(&workload)).await.unwrap();
        assert!(segment(&signed.token, 0).contains(&format!(r#""alg":"{name}""#)));
        let claims: Value = serde_json::from_str(&segment(&signed.token, 1)).unwrap();
        assert_eq!(claims["cnf"]["jwk"]["alg"], name);
    }
}

#[tokio::test]
async fn what_is_no_svid_is_refused() {
    let (key, workload) = (p256(), PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
    key.sign(&plan(&workload)).await.unwrap();
    for bad in [
        WitPlan { spiffe_id: "spiffe://td.test".parse().unwrap(), ..plan(&workload) },
        WitPlan { ttl: Ttl::ZERO, ..plan(&workload) },
    ] {
        let error = key.sign(&bad).await.unwrap_err();
        assert!(matches!(error, AuthorityError::Plan { .. }), "{error}");
    }
    let ed25519 = PrivateKey::generate(KeyAlgorithm::Ed25519).unwrap();
    let error = key.sign(&plan(&ed25519)).await.unwrap_err();
    assert!(matches!(error, AuthorityError::Key(KeyError::Unsupported)), "{error}");
}

#[tokio::test]
async fn a_token_that_is_not_as_planned_is_not_released() {
    let authority = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let (key, workload) =
        (active(&authority, KeyAlgorithm::EcP256), PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
    let signed = key.sign(&plan(&workload)).await.unwrap();
    let field = |token: &str, plan: &WitPlan| match Planned::of(plan).unwrap().check(key.signer(), token) {
        Err(AuthorityError::NotAsPlanned { field }) => field,
        other => panic!("{other:?}"),
    };
    let good = plan(&workload);
    Planned::of(&good).unwrap().check(key.signer(), &signed.token).unwrap();
    let other = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    assert_eq!(field(&signed.token, &plan(&other)), "cnf");
    let spiffe_id = "spiffe://td.test/b".parse().unwrap();
    assert_eq!(field(&signed.token, &WitPlan { spiffe_id, ..plan(&workload) }), "sub");
    assert_eq!(field(&signed.token, &WitPlan { jti: Serial::try_from([1; 16]).unwrap(), ..plan(&workload) }), "jti");
    assert_eq!(field(&signed.token, &WitPlan { ttl: Ttl::from_s(901), ..plan(&workload) }), "exp");
    let later = NOW.saturating_add(Ttl::from_s(1));
    assert_eq!(field(&signed.token, &WitPlan { now: later, ttl: Ttl::from_s(899), ..plan(&workload) }), "iat");
    assert_eq!(field(&p256().sign(&good).await.unwrap().token, &good), "header");
    // The same key, and claims that nobody planned.
    let mut claims: Value = serde_json::from_str(&segment(&signed.token, 1)).unwrap();
    let sign = |claims: &Value, typ: &str| {
        Signer::new(&authority, JwsAlgorithm::Es256, typ).unwrap().sign(claims.to_string().as_bytes()).unwrap()
    };
    assert_eq!(field(&sign(&claims, "JWT"), &good), "header");
    claims["aud"] = json!(["db"]);
    assert_eq!(field(&sign(&claims, TYP), &good), "claims");
    claims.as_object_mut().unwrap().remove("aud");
    claims["cnf"]["jwk"]["d"] = json!("AA");
    assert_eq!(field(&sign(&claims, TYP), &good), "cnf");
}

/// Rows: W-12.
#[test]
fn ids_of_tokens_are_random_and_none_is_used_twice() {
    let ids: HashSet<_> = (0..100_000).map(|_| Serial::generate(1_800_000_000_000).unwrap().to_string()).collect();
    assert_eq!(ids.len(), 100_000);
    // 128 bits, of which 48 are the time: the rest differs in every place.
    for at in 12..32 {
        let digits: HashSet<_> = ids.iter().filter_map(|id| id.chars().nth(at)).collect();
        assert!(digits.len() >= 4, "digit {at} is {digits:?}");
    }
}
