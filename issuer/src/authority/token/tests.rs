use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_sdk::KeyAlgorithm;

use super::*;
use crate::authority::slot::{Facts, Prepared, state};
use crate::store::SlotOrigin;

const NOW: Timestamp = Timestamp::from_unix_s(1_800_000_000);

fn active(algorithm: KeyAlgorithm) -> Active<Jwt> {
    let key = PrivateKey::generate(algorithm).unwrap();
    let facts = Facts {
        id: Jwt::authority_id(key.public_key()),
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
    let signer = Arc::new(Jwt::signer(&key, &[]).unwrap());
    Prepared::prepare(facts, state::Secret { stored: None, signer }).activate(NOW)
}

fn plan() -> JwtPlan {
    JwtPlan {
        spiffe_id: "spiffe://td.test/a/workload".parse().unwrap(),
        audience: vec!["b".to_owned(), "a".to_owned()],
        ttl: Ttl::from_s(300),
        jti: Serial::try_from([0x11; 16]).unwrap(),
        iss: Some("https://td.test/svid".into()),
        claims: serde_json::from_str(r#"{"team":"blue","levels":[1,2]}"#).unwrap(),
        now: NOW,
    }
}

fn segment(token: &str, at: usize) -> String {
    String::from_utf8(URL_SAFE_NO_PAD.decode(token.split('.').nth(at).unwrap()).unwrap()).unwrap()
}

/// Rows: J-2, J-8, J-10, J-14.
#[tokio::test]
async fn a_token_has_the_golden_shape() {
    let key = active(KeyAlgorithm::EcP256);
    let signed = key.sign(&plan()).await.unwrap();
    assert_eq!(segment(&signed.token, 0), format!(r#"{{"alg":"ES256","kid":"{}","typ":"JWT"}}"#, key.id()));
    assert_eq!(
        segment(&signed.token, 1),
        r#"{"aud":["b","a"],"exp":1800000300,"iat":1800000000,"iss":"https://td.test/svid","jti":"11111111111111111111111111111111","levels":[1,2],"sub":"spiffe://td.test/a/workload","team":"blue"}"#
    );
    assert_eq!(signed.not_after.unix_s(), 1_800_000_300);
    assert_eq!(signed.authority, *key.id());
}

/// Rows: J-10.
#[tokio::test]
async fn one_audience_is_a_list_and_no_issuer_is_no_claim() {
    let signed = active(KeyAlgorithm::EcP256)
        .sign(&JwtPlan { audience: vec!["a".to_owned()], iss: None, ..plan() })
        .await
        .unwrap();
    let claims = segment(&signed.token, 1);
    assert!(claims.contains(r#""aud":["a"]"#) && !claims.contains("iss"), "{claims}");
}

#[tokio::test]
async fn every_kind_of_key_signs_with_its_algorithm() {
    for (algorithm, name) in [
        (KeyAlgorithm::EcP256, "ES256"),
        (KeyAlgorithm::EcP384, "ES384"),
        (KeyAlgorithm::EcP521, "ES512"),
        (KeyAlgorithm::Rsa2048, "RS256"),
    ] {
        let signed = active(algorithm).sign(&plan()).await.unwrap();
        assert!(segment(&signed.token, 0).contains(name));
    }
}

/// Rows: J-8, J-11.
#[tokio::test]
async fn what_is_no_svid_is_refused() {
    let key = active(KeyAlgorithm::EcP256);
    key.sign(&plan()).await.unwrap();
    let mut claims = plan().claims;
    claims.insert("exp".to_owned(), json!(1));
    let long = json!("x".repeat(MAX_PAYLOAD));
    for bad in [
        JwtPlan { spiffe_id: "spiffe://td.test".parse().unwrap(), ..plan() },
        JwtPlan { audience: Vec::new(), ..plan() },
        JwtPlan { audience: vec!["a".to_owned(), String::new()], ..plan() },
        JwtPlan { audience: vec!["a".to_owned(); 33], ..plan() },
        JwtPlan { ttl: Ttl::ZERO, ..plan() },
        JwtPlan { claims, ..plan() },
        JwtPlan { claims: [("long".to_owned(), long)].into_iter().collect(), ..plan() },
    ] {
        let error = key.sign(&bad).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, AuthorityError::Plan { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_token_that_is_not_as_planned_is_not_released() {
    let key = active(KeyAlgorithm::EcP256);
    let signed = key.sign(&plan()).await.unwrap();
    let checker = key.signer();
    checker.check(&signed.token, &plan(), signed.not_after).unwrap();
    let field = |token: &str, plan: &JwtPlan, not_after| match checker.check(token, plan, not_after) {
        Err(AuthorityError::NotAsPlanned { field }) => field,
        other => panic!("{other:?}"),
    };
    let differs = |plan: JwtPlan| field(&signed.token, &plan, signed.not_after);
    assert_eq!(differs(JwtPlan { spiffe_id: "spiffe://td.test/b".parse().unwrap(), ..plan() }), "sub");
    assert_eq!(differs(JwtPlan { audience: vec!["a".to_owned(), "b".to_owned()], ..plan() }), "aud");
    assert_eq!(differs(JwtPlan { now: NOW.saturating_add(Ttl::from_s(1)), ..plan() }), "iat");
    assert_eq!(differs(JwtPlan { jti: Serial::try_from([1; 16]).unwrap(), ..plan() }), "jti");
    assert_eq!(differs(JwtPlan { iss: None, ..plan() }), "iss");
    assert_eq!(differs(JwtPlan { claims: Object::new(), ..plan() }), "claims");
    assert_eq!(field(&signed.token, &plan(), NOW), "exp");
    let other = active(KeyAlgorithm::EcP256).sign(&plan()).await.unwrap();
    assert_eq!(field(&other.token, &plan(), signed.not_after), "header");
    let forged = format!("{}.{}", signed.token.rsplit_once('.').unwrap().0, other.token.rsplit_once('.').unwrap().1);
    checker.signed.store(VERIFIED_OF, Ordering::Relaxed);
    assert_eq!(field(&forged, &plan(), signed.not_after), "signature");
}
