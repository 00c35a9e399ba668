use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mayfly_sdk::{KeyAlgorithm, PrivateKey, SignatureAlgorithm, Timestamp, Ttl, jwk, jws::JwsAlgorithm};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::oidc::{JwksUrl, ProviderKey};

fn config(issuer: &str) -> ProviderConfig {
    ProviderConfig { issuer: issuer.into(), jwks_file: Some("/nonexistent".into()), ..ProviderConfig::default() }
}

fn agentless(providers: &[&str]) -> Agentless {
    let configured = providers.iter().map(|name| ((*name).to_owned(), config(&format!("https://{name}.example"))));
    Agentless::new(&configured.collect(), &"td".parse().unwrap(), Clock::system()).unwrap()
}

#[test]
fn so_many_callers_are_looked_at_and_no_more() {
    let agentless = agentless(&["ci"]);
    let places: Vec<_> = (0..CALLERS).map(|_| agentless.enter().unwrap()).collect();
    assert_eq!(agentless.enter().unwrap_err().reason, Reason::Overloaded);
    drop(places);
    assert!(agentless.enter().is_ok());
}

#[test]
fn without_providers_there_is_no_such_call() {
    assert_eq!(agentless(&[]).enter().unwrap_err().reason, Reason::Unimplemented);
}

#[test]
fn an_address_is_https_and_nothing_else() {
    for good in ["https://a.example/keys?x=1", "https://a.example", "https://[::1]:8443/keys", "https://127.0.0.1:1/"] {
        assert!(JwksUrl::parse(good).is_ok(), "{good}");
    }
    for bad in ["http://a.example/", "https://user@a.example/", "file:///etc/passwd", "/keys", "", "https://", "a b"] {
        assert!(JwksUrl::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_set_of_keys_keeps_what_is_for_signatures() {
    let key = |algorithm, id: &str| {
        let mut members = jwk::members(PrivateKey::generate(algorithm).unwrap().public_key());
        members.insert("kid".into(), id.into());
        Value::Object(members)
    };
    let set = |keys: &[Value]| ProviderKeys::parse(json!({ "keys": keys }).to_string().as_bytes());
    let keys = set(&[
        key(KeyAlgorithm::EcP256, "p256"),
        key(KeyAlgorithm::EcP384, "p384"),
        key(KeyAlgorithm::EcP521, "p521"),
        key(KeyAlgorithm::Ed25519, "ed25519"),
        json!({ "kty": "unknown", "kid": "unknown" }),
        json!({}),
    ])
    .unwrap();
    assert_eq!(keys.len(), 2);
    assert!(keys.get("p256").is_some() && keys.get("p384").is_some() && keys.get("").is_none());
    let twice = [key(KeyAlgorithm::EcP256, "a"), key(KeyAlgorithm::EcP384, "a")];
    assert!(set(&twice).unwrap_err().contains("one id"));
    let mut private = key(KeyAlgorithm::EcP256, "b");
    private["d"] = "AA".into();
    assert!(set(&[private]).unwrap_err().contains("secret"));
    assert!(set(&[json!("text")]).is_err() && set(&[]).is_err());
}

const START: Timestamp = Timestamp::from_unix_s(1_800_000_000);
const GOOD: &str = r#"{"iss":"https://ci.example","aud":"td","sub":"job","jti":"1","exp":1800000600}"#;

/// A token of these two parts, signed over both.
fn signed(key: &PrivateKey, algorithm: SignatureAlgorithm, header: &Value, claims: &str) -> String {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!("{}.{}", text(header.to_string().as_bytes()), text(claims.as_bytes()));
    let signature = key.sign(algorithm, signed.as_bytes()).unwrap();
    format!("{signed}.{}", text(&signature))
}

fn es256(key: &PrivateKey, kid: &str, claims: &str) -> String {
    signed(key, SignatureAlgorithm::EcP256Sha256Fixed, &json!({ "alg": "ES256", "kid": kid }), claims)
}

fn key() -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::EcP256).unwrap()
}

fn members(key: &PrivateKey, kid: &str) -> Value {
    let mut members = jwk::members(key.public_key());
    members.insert("kid".into(), kid.into());
    Value::Object(members)
}

fn write(path: &std::path::Path, keys: &[Value]) {
    std::fs::write(path, json!({ "keys": keys }).to_string()).unwrap();
}

fn from_file(path: &std::path::Path, clock: &Clock) -> Agentless {
    let config = ProviderConfig { jwks_file: Some(path.into()), ..config("https://ci.example") };
    Agentless::new(&[("ci".to_owned(), config)].into(), &"td".parse().unwrap(), clock.clone()).unwrap()
}

#[tokio::test]
async fn a_token_is_believed_when_its_providers_key_signed_it_and_otherwise_not() {
    let dir = tempfile::tempdir().unwrap();
    let (path, key, other) = (dir.path().join("keys"), key(), key());
    write(&path, &[members(&key, "a")]);
    let agentless = from_file(&path, &Clock::manual(START).0);
    let reason = async |token: String| agentless.verify(&token).await.err().map(|refusal| refusal.reason);
    assert_eq!(reason(es256(&key, "a", GOOD)).await, None);
    assert_eq!(reason(es256(&other, "a", GOOD)).await, Some(Reason::TokenUntrusted));
    assert_eq!(reason(es256(&key, "b", GOOD)).await, Some(Reason::TokenUntrusted));
    let elsewhere = GOOD.replace("ci.example", "other.example");
    assert_eq!(reason(es256(&key, "a", &elsewhere)).await, Some(Reason::IdentityProviderUnknown));
    assert_eq!(reason(es256(&key, "a", &GOOD.replace("iss", "isx"))).await, Some(Reason::TokenInvalid));
    let rsa = PrivateKey::generate(KeyAlgorithm::Rsa2048).unwrap();
    let not_allowed = signed(&rsa, SignatureAlgorithm::RsaPkcs1Sha512, &json!({ "alg": "RS512", "kid": "a" }), GOOD);
    assert_eq!(reason(not_allowed).await, Some(Reason::TokenInvalid));
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_every_half_a_minute_at_the_most() {
    let dir = tempfile::tempdir().unwrap();
    let (path, key) = (dir.path().join("keys"), key());
    let (clock, hand) = Clock::manual(START);
    let agentless = from_file(&path, &clock);
    let provider = agentless.providers[0].oidc();
    let reason = async |id: &str| provider.key(id).await.err().map(|refusal| refusal.reason);
    assert_eq!(reason("a").await, Some(Reason::IdentityProviderUnavailable));
    write(&path, &[members(&key, "a")]);
    hand.advance(Duration::from_millis(29_999));
    assert_eq!(reason("a").await, Some(Reason::IdentityProviderUnavailable));
    hand.advance(Duration::from_millis(1));
    assert_eq!(reason("a").await, None);
    write(&path, &[members(&key, "b")]);
    assert_eq!(reason("b").await, Some(Reason::TokenUntrusted));
    hand.advance(Duration::from_secs(30));
    assert_eq!(reason("b").await, None);
    assert_eq!(reason("a").await, Some(Reason::TokenUntrusted));
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_anew_every_few_minutes_until_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (path, key) = (dir.path().join("keys"), key());
    write(&path, &[members(&key, "a")]);
    let agentless = from_file(&path, &Clock::manual(START).0);
    let stop = CancellationToken::new();
    let steps = async {
        let knows = async |id: &str| agentless.providers[0].oidc().key(id).await.is_ok();
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Nothing is asked for here: it was a moment ago, by a clock that stands.
        write(&path, &[members(&key, "b")]);
        assert!(knows("a").await && !knows("b").await);
        tokio::time::sleep(Duration::from_secs(298)).await;
        assert!(knows("a").await && !knows("b").await);
        tokio::time::sleep(Duration::from_secs(78)).await;
        assert!(!knows("a").await && knows("b").await);
        stop.cancel();
    };
    tokio::join!(agentless.run(stop.clone()), steps);
}

#[test]
fn a_token_is_read_within_bounds_of_size_and_form() {
    let key = key();
    let read = |token: &str| Presented::read(token, &[JWT]).map(|it| it.key_id().to_owned()).map_err(|it| it.reason);
    let with = |header: &Value| read(&signed(&key, SignatureAlgorithm::EcP256Sha256Fixed, header, GOOD));
    let bad = Err(Reason::TokenInvalid);
    for good in ["JWT", "jwt"] {
        assert_eq!(with(&json!({ "alg": "ES256", "kid": "a", "typ": good })), Ok("a".to_owned()));
    }
    for header in [
        json!({ "alg": "ES256", "kid": "a", "typ": "at+jwt" }),
        json!({ "alg": "ES256", "kid": "a", "crit": [] }),
        json!({ "alg": "ES256", "kid": "a", "b64": true }),
        json!({ "alg": "ES256", "kid": "" }),
        json!({ "alg": "ES256", "kid": "x".repeat(513) }),
        json!({ "alg": "ES256" }),
    ] {
        assert_eq!(with(&header), bad, "{header}");
    }
    assert_eq!(with(&json!({ "alg": "ES256", "kid": "x".repeat(512) })), Ok("x".repeat(512)));
    let long = |len: usize| {
        let made = (1..8).flat_map(|kid| (12_000..12_400).map(move |pad| (kid, pad)));
        let header = |kid| json!({ "alg": "ES256", "kid": "k".repeat(kid) });
        let size = |bytes: usize| (bytes * 4).div_ceil(3);
        let fits = |(kid, pad): &(usize, usize)| size(header(*kid).to_string().len()) + size(pad + 8) + 88 == len;
        let (kid, pad) = made.into_iter().find(fits).unwrap();
        let claims = format!(r#"{{"x":"{}"}}"#, "x".repeat(pad));
        let token = signed(&key, SignatureAlgorithm::EcP256Sha256Fixed, &header(kid), &claims);
        assert_eq!(token.len(), len);
        read(&token).map(drop)
    };
    assert_eq!((long(16_384), long(16_385)), (Ok(()), Err(Reason::TokenInvalid)));
}

#[test]
fn a_signature_holds_by_the_algorithm_of_the_key_and_no_other() {
    let rsa = PrivateKey::generate(KeyAlgorithm::Rsa2048).unwrap();
    let verified = |only: Option<JwsAlgorithm>, name: &str, by| {
        // Without a time, and long past: that is for the claims.
        let token = signed(&rsa, by, &json!({ "alg": name, "kid": "a" }), r#"{"nbf":9999999999,"aud":"x"}"#);
        let key = ProviderKey { public: rsa.public_key().clone(), algorithm: only };
        Presented::read(&token, &[JWT]).unwrap().verify(&key).map(|claims| claims.all.len()).map_err(|it| it.reason)
    };
    let (rs, ps) = (SignatureAlgorithm::RsaPkcs1Sha256, SignatureAlgorithm::RsaPssSha256);
    assert_eq!(verified(None, "RS256", rs), Ok(2));
    assert_eq!(verified(None, "PS256", ps), Ok(2));
    assert_eq!(verified(Some(JwsAlgorithm::Rs256), "RS256", rs), Ok(2));
    assert_eq!(verified(Some(JwsAlgorithm::Rs256), "PS256", ps), Err(Reason::TokenUntrusted));
    assert_eq!(verified(None, "PS256", rs), Err(Reason::TokenUntrusted));
    let past = signed(&rsa, rs, &json!({ "alg": "RS256", "kid": "a" }), r#"{"exp":1}"#);
    let key = ProviderKey { public: rsa.public_key().clone(), algorithm: None };
    assert!(Presented::read(&past, &[JWT]).unwrap().verify(&key).is_ok());
}

#[test]
fn keys_are_counted_and_measured_to_the_bit() {
    let count = |keys: &[Value]| ProviderKeys::parse(json!({ "keys": keys }).to_string().as_bytes()).map(|it| it.len());
    let key = key();
    let many: Vec<_> = (0..65).map(|n| members(&key, &n.to_string())).collect();
    assert_eq!(count(&many[..64]), Ok(64));
    assert!(count(&many).is_err());
    let with = |name: &str, value: &str| {
        let mut key = members(&key, "a");
        key[name] = value.into();
        count(&[key]).is_ok()
    };
    assert!(with("use", "sig") && !with("use", "enc") && with("alg", "ES256") && !with("alg", "ES512"));
    assert!(with("kid", &"x".repeat(512)) && !with("kid", &"x".repeat(513)) && !with("kid", ""));
    let rsa = |modulus: &[u8]| {
        let n = URL_SAFE_NO_PAD.encode(modulus);
        count(&[json!({ "kty": "RSA", "kid": "a", "n": n, "e": "AQAB" })]).is_ok()
    };
    assert!(rsa(&[0xff; 256]) && rsa(&[0xff; 512]));
    assert!(!rsa(&[&[1][..], &[0xff; 512]].concat()) && !rsa(&[0xff; 255]));
}

#[test]
fn each_wrong_setting_is_told_by_its_key() {
    let good = config("https://ci.example");
    let keys = |name: &str, change: &dyn Fn(&mut ProviderConfig)| {
        let mut config = good.clone();
        change(&mut config);
        let problems = ProviderConfig::problems(&[(name.to_owned(), config)].into());
        problems.into_iter().map(|problem| problem.key).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    let url = |it: &mut ProviderConfig, url: &str| (it.jwks_file, it.jwks_url) = (None, Some(url.into()));
    assert_eq!(keys("ci", &|_| {}), none);
    assert_eq!(keys("ci", &|it| it.token_life = Ttl::from_s(86_400)), none);
    assert_eq!(
        keys("ci", &|it| {
            url(it, "https://a.example");
            it.jwks_ca = Some("/ca".into());
        }),
        none
    );
    assert_eq!(keys("ci", &|it| it.algorithms = vec!["RS512".into()]), none);
    assert_eq!(keys("C I", &|_| {}), ["agentless.C I"]);
    assert_eq!(keys("ci", &|it| it.jwks_file = None), ["agentless.ci"]);
    assert_eq!(keys("ci", &|it| it.issuer.clear()), ["agentless.ci.issuer"]);
    assert_eq!(keys("ci", &|it| it.jwks_url = Some("https://a.example".into())), ["agentless.ci.jwks_url"]);
    assert_eq!(keys("ci", &|it| url(it, "http://a.example")), ["agentless.ci.jwks_url"]);
    assert_eq!(keys("ci", &|it| it.jwks_ca = Some("/ca".into())), ["agentless.ci.jwks_ca"]);
    for algorithms in [vec![], vec!["ES512".to_owned()], vec!["none".to_owned()], vec!["HS256".to_owned()]] {
        assert_eq!(keys("ci", &|it| it.algorithms.clone_from(&algorithms)), ["agentless.ci.algorithms"]);
    }
    for life in [0, 86_401] {
        assert_eq!(keys("ci", &|it| it.token_life = Ttl::from_s(life)), ["agentless.ci.token_life"]);
    }
    let twins = ProviderConfig::problems(&[("a".to_owned(), good.clone()), ("b".to_owned(), good.clone())].into());
    assert_eq!(twins.into_iter().map(|problem| problem.key).collect::<Vec<_>>(), ["agentless.b.issuer"]);
}

proptest! {
    #[test]
    fn no_document_makes_the_reader_of_keys_panic(text in r#"\{"keys":\[(\{("(kty|kid|n|e|crv|x|y|use|alg|k|d)":("[A-Za-z0-9_-]{0,8}"|1|null|\[\]),?){0,6}\},?){0,3}\]\}|\PC*"#) {
        let _outcome = ProviderKeys::parse(text.as_bytes());
    }

    #[test]
    fn no_text_makes_the_reader_of_tokens_panic(text in r"[A-Za-z0-9_-]{0,40}(\.[A-Za-z0-9_-]{0,40}){0,4}|\PC*") {
        if let Ok(presented) = Presented::read(&text, &[JWT]) {
            let _issuer = presented.claimed_issuer();
        }
    }
}
