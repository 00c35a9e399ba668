use mayfly_sdk::{KeyAlgorithm, PrivateKey, jwk};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{fetch::JwksUrl, keys::ProviderKeys, token::Presented, *};

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

proptest! {
    #[test]
    fn no_document_makes_the_reader_of_keys_panic(text in r#"\{"keys":\[(\{("(kty|kid|n|e|crv|x|y|use|alg|k|d)":("[A-Za-z0-9_-]{0,8}"|1|null|\[\]),?){0,6}\},?){0,3}\]\}|\PC*"#) {
        let _outcome = ProviderKeys::parse(text.as_bytes());
    }

    #[test]
    fn no_text_makes_the_reader_of_tokens_panic(text in r"[A-Za-z0-9_-]{0,40}(\.[A-Za-z0-9_-]{0,40}){0,4}|\PC*") {
        if let Ok(presented) = Presented::read(&text) {
            let _issuer = presented.claimed_issuer();
        }
    }
}
