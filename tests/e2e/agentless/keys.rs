//! The keys of a provider, from an address that may be slow, down, or hostile.

use std::time::{Duration, Instant};

use mayfly_rig::{Rig, eventually};
use mayfly_sdk::{KeyAlgorithm, Reason, jwk};
use serde_json::{Value, json};

use super::provider::{Address, Answer, IdentityProvider};
use super::{configure, entry, verdict};

#[expect(clippy::unnecessary_wraps, reason = "what a verdict is compared with")]
fn deploy() -> Result<String, Reason> {
    Ok("spiffe://test.example/deploy".to_owned())
}

/// Configures a provider by an address.
fn configure_url(rig: &mut Rig, name: &str, issuer: &str, address: &Address) {
    rig.set(&format!("agentless.{name}.issuer"), &format!("\"{issuer}\""));
    rig.set(&format!("agentless.{name}.jwks_url"), &format!("\"{}\"", address.url));
    rig.set(&format!("agentless.{name}.jwks_ca"), &format!("\"{}\"", address.authority.display()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_new_is_fetched_and_invented_ones_are_asked_for_once() {
    let first = IdentityProvider::new("ci");
    let mut rig = Rig::new(&[]);
    let address = Address::serve(rig.ip(), rig.dir(), "ci", Answer::Document(first.jwks()));
    configure_url(&mut rig, "ci", &first.issuer, &address);
    rig.start_issuer();
    rig.apply(&entry("deploy", "oidc:repository:shop"));
    eventually("the keys were fetched", 10, || (address.asked() > 0).then_some(()));
    assert_eq!(verdict(&rig, &first.token()).await, deploy());

    // Strangers who invent key ids cost the provider nothing.
    let before = address.asked();
    for n in 0..100 {
        let invented = first.token_headed(|header| header["kid"] = format!("invented-{n}").into());
        assert_eq!(verdict(&rig, &invented).await, Err(Reason::TokenUntrusted));
    }
    assert!(address.asked() <= before + 1, "asked {} times", address.asked() - before);

    // The provider rotates.
    let second = IdentityProvider::with_key("ci", "key-2", KeyAlgorithm::EcP384);
    address.answer(Answer::Document(second.jwks()));
    let until = Instant::now() + Duration::from_mins(1);
    while verdict(&rig, &second.token()).await != deploy() {
        assert!(Instant::now() < until, "the new key is not known: {}", rig.issuer_log());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(verdict(&rig, &first.token()).await, Err(Reason::TokenUntrusted), "the old one is withdrawn");

    // What is known stays while the address is down.
    for answer in
        [Answer::Hangup, Answer::Status("500 Internal Server Error", first.jwks()), Answer::Document("{}".into())]
    {
        address.answer(answer);
        assert_eq!(verdict(&rig, &first.token()).await, Err(Reason::TokenUntrusted));
        assert_eq!(verdict(&rig, &second.token()).await, deploy());
    }
    drop(address);
    assert_eq!(verdict(&rig, &second.token()).await, deploy());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_addresses_give_no_keys_and_hold_nobody_up() {
    let (good, bad) = (IdentityProvider::new("ci"), IdentityProvider::new("bad"));
    let mut rig = Rig::new(&[]);
    configure(&mut rig, "ci", &good);
    let padded = |members: Value| json!({ "keys": [bad.jwk()], "padding": members }).to_string();
    let nested = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let elsewhere = Address::serve(rig.ip(), rig.dir(), "elsewhere", Answer::Document(bad.jwks()));
    let redirect = format!("302 Found\r\nLocation: {}", elsewhere.url);
    let redirect: &'static str = Box::leak(redirect.into_boxed_str());
    let answers = [
        ("drip", Answer::Drip),
        ("flood", Answer::Flood),
        ("hangup", Answer::Hangup),
        ("redirect", Answer::Status(redirect, bad.jwks())),
        ("missing", Answer::Status("404 Not Found", bad.jwks())),
        ("large", Answer::Document(padded(json!("x".repeat(300_000))))),
        ("deep", Answer::Document(format!("{{\"keys\":{nested}}}"))),
        ("html", Answer::Document("<html>".into())),
    ];
    let mut addresses = Vec::new();
    let named = |name: &str| format!("https://{name}.example");
    for (name, answer) in answers {
        let address = Address::serve(rig.ip(), rig.dir(), name, answer);
        configure_url(&mut rig, name, &named(name), &address);
        addresses.push((name, address));
    }
    // One whose certificate is by somebody else.
    let address = Address::serve(rig.ip(), rig.dir(), "foreign", Answer::Document(bad.jwks()));
    configure_url(&mut rig, "foreign", &named("foreign"), &address);
    rig.set("agentless.foreign.jwks_ca", &format!("\"{}\"", addresses[0].1.authority.display()));
    addresses.push(("foreign", address));
    rig.start_issuer();
    rig.apply(&entry("deploy", "oidc:repository:shop"));

    for (name, address) in &addresses {
        let token = bad.token_with(|claims| drop(claims.insert("iss".into(), named(name).into())));
        let asked = Instant::now();
        assert_eq!(verdict(&rig, &token).await, Err(Reason::IdentityProviderUnavailable), "{name}");
        assert!(asked.elapsed() < Duration::from_secs(30), "{name}");
        assert_eq!(verdict(&rig, &good.token()).await, deploy(), "beside {name}");
        assert!(address.asked() <= 2, "{name} was asked {} times", address.asked());
    }
    assert_eq!(elsewhere.asked(), 0, "no redirect is followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_keys_for_signatures_of_enough_and_not_too_much_strength_are_taken() {
    let good = IdentityProvider::new("ci");
    let weak = IdentityProvider::with_key("ci", "weak", KeyAlgorithm::EcP521);
    let rsa = IdentityProvider::with_key("ci", "rsa", KeyAlgorithm::Rsa2048);
    let other_use = IdentityProvider::with_key("ci", "enc", KeyAlgorithm::EcP256);
    let bound = IdentityProvider::with_key("ci", "bound", KeyAlgorithm::EcP256);
    let mut encryption = other_use.jwk();
    encryption.insert("use".into(), "enc".into());
    let mut bound_to = bound.jwk();
    bound_to.insert("alg".into(), "ES384".into());
    let mut nameless = IdentityProvider::new("ci").jwk();
    nameless.remove("kid");
    let mut huge = jwk::members(rsa.key.public_key());
    huge.insert("n".into(), super::provider::encode(&[0xff; 2048]).into());
    huge.insert("kid".into(), "huge".into());
    let symmetric = json!({ "kty": "EC", "kid": "half", "crv": "P-256", "x": "AA", "y": "AA" });
    let keys = json!({ "keys": [good.jwk(), weak.jwk(), rsa.jwk(), encryption, bound_to, nameless, huge, symmetric] });

    let mut rig = Rig::new(&[]);
    let file = rig.dir().join("keys.jwks");
    std::fs::write(&file, keys.to_string()).unwrap();
    rig.set("agentless.ci.issuer", &format!("\"{}\"", good.issuer));
    rig.set("agentless.ci.jwks_file", &format!("\"{}\"", file.display()));
    rig.start_issuer();
    rig.apply(&entry("deploy", "oidc:repository:shop"));
    assert_eq!(verdict(&rig, &good.token()).await, deploy());
    assert_eq!(verdict(&rig, &rsa.token()).await, deploy());
    for provider in [&other_use, &bound] {
        assert_eq!(verdict(&rig, &provider.token()).await, Err(Reason::TokenUntrusted), "{}", provider.key_id);
    }

    // Sets that are not believed at all, each in an issuer of its own.
    let secret = json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "hmac" });
    for (what, keys) in [
        ("two of its keys have one id", json!([good.jwk(), good.jwk()])),
        ("secret", json!([good.jwk(), secret])),
        ("more than 64 keys", json!(vec![good.jwk(); 65])),
        ("no key for signatures", json!([weak.jwk()])),
        ("no list of keys", json!({})),
    ] {
        std::fs::write(&file, json!({ "keys": keys }).to_string()).unwrap();
        rig.stop_issuer();
        rig.start_issuer();
        assert_eq!(verdict(&rig, &good.token()).await, Err(Reason::IdentityProviderUnavailable), "{what}");
        assert!(rig.issuer_log().contains(what), "{what}: {}", rig.issuer_log());
    }
}

#[test]
fn every_problem_of_the_providers_is_named_at_once() {
    let rig = Rig::new(&[]);
    let config = rig.dir().join("check.toml");
    let text = r#"
trust_domain = "test.example"
[agentless.a]
jwks_file = "/a"
jwks_url = "https://a.example/keys"
[agentless.b]
issuer = "https://b.example"
jwks_url = "http://b.example/keys"
algorithms = ["HS256", "none", "ES512"]
token_life = "48h"
[agentless.c]
issuer = "https://b.example"
[agentless."D d"]
issuer = "https://d.example"
jwks_file = "/d"
jwks_ca = "/ca"
"#;
    std::fs::write(&config, text).unwrap();
    let checked = rig.run(&["issuer", "check", "--config", config.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&checked.stderr).into_owned();
    for expected in [
        "agentless.a.issuer",
        "agentless.a.jwks_url",
        "agentless.b.jwks_url",
        "\"HS256\"",
        "\"none\"",
        "\"ES512\"",
        "agentless.b.token_life",
        "agentless.c.issuer",
        "has no keys",
        "is not a name",
        "jwks_ca",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    std::fs::write(&config, "trust_domain = \"test.example\"\n[agentless.a]\nisuer = \"x\"\n").unwrap();
    let checked = rig.run(&["issuer", "check", "--config", config.to_str().unwrap()]);
    assert!(!checked.status.success(), "a key that is not known");
}
