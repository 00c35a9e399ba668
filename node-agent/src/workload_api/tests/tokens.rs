//! Tokens that others made, and the keys to verify them.

use mayfly_sdk::jwk;
use prost_types::value::Kind;
use serde_json::{Value, json};

use super::*;

/// Rows: WA-44, WA-45.
#[tokio::test]
async fn the_keys_of_tokens_are_a_plain_jwk_set_and_nothing_else() {
    let node = TestNode::in_sync().await;
    node.put(entry("web")).await;
    let request = TestNode::call(wire::JwtBundlesRequest {});
    let mut stream = node.api.fetch_jwt_bundles(request).await.unwrap().into_inner();
    let bundles = next(&mut stream).await.unwrap().bundles;
    assert_eq!(bundles.keys().collect::<Vec<_>>(), [OWN]);
    let set: Value = serde_json::from_slice(&bundles[OWN]).unwrap();
    assert_eq!(set.as_object().unwrap().keys().collect::<Vec<_>>(), ["keys"], "no member of the SPIFFE form");
    let keys = set["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 1, "the bundle has an anchor too, and that is not here: {set}");
    let held = node.issuer.state.authority.token_key();
    assert_eq!((&keys[0]["use"], &keys[0]["kid"]), (&json!("jwt-svid"), &json!(jwk::thumbprint(held))));
    assert_eq!(jwk::public_key(keys[0].as_object().unwrap()).unwrap(), *held);
    node.halt().await;
}

/// Each is rightly signed by the trust domain's key, or says so, and breaks one rule.
///
/// Rows: WA-46, WA-48, J-1, J-3, J-4, J-6, J-7, J-9, J-12, J-14, J-16, J-18, J-19, J-21.
#[tokio::test]
async fn a_token_that_breaks_one_rule_is_an_invalid_argument() {
    let node = TestNode::in_sync().await;
    node.put(entry("web")).await;
    let authority = &node.issuer.state.authority;
    let (now, kid) = (node.clock.now().unix_s(), jwk::thumbprint(authority.token_key()));
    let header = json!({ "alg": "ES256", "kid": kid, "typ": "JWT" });
    let claims = json!({ "sub": "spiffe://example.org/web", "aud": ["a"], "exp": now + 300, "big": (1_u64 << 53) + 1 });
    let good = authority.signed(&header.to_string(), &claims.to_string());
    let answer = validate(&node, "a", &good).await.unwrap();
    // Numbers are doubles, and 2^53 + 1 is none.
    let big = answer.claims.unwrap().fields["big"].kind.clone();
    assert_eq!(big, Some(Kind::NumberValue(9_007_199_254_740_992.0)));

    let mut bad = Vec::new();
    for (name, value) in [
        // rows: J-4, J-6
        ("alg", json!("none")),
        ("alg", json!("HS256")),
        ("alg", json!("EdDSA")),
        ("alg", json!("ES384")),
        ("alg", json!("RS256")),
        ("alg", json!(1)),
        ("alg", Value::Null),
        // rows: J-7
        ("typ", json!("jwt")),
        ("typ", json!("wit+jwt")),
        ("typ", json!("")),
        // rows: J-19
        ("kid", json!("another")),
        ("kid", json!(kid.to_uppercase())),
        // rows: J-3
        ("crit", json!(["exp"])),
        ("jwk", json!({})),
        ("jku", json!("https://x")),
        ("x5c", json!([])),
        ("cty", json!("JWT")),
        ("b64", json!(true)),
    ] {
        let mut changed = header.clone();
        changed[name] = value;
        bad.push((changed.to_string(), claims.to_string()));
    }
    for (name, value) in [
        // rows: J-9, J-18
        ("sub", None),
        ("sub", Some(Value::Null)),
        ("sub", Some(json!("alice"))),
        ("sub", Some(json!("spiffe://example.org"))),
        ("sub", Some(json!("spiffe://other.org/web"))),
        // rows: J-12
        ("aud", None),
        ("aud", Some(json!([]))),
        ("aud", Some(json!(""))),
        ("aud", Some(json!(["A"]))),
        ("aud", Some(json!([1]))),
        // rows: J-14, J-16
        ("exp", None),
        ("exp", Some(json!("soon"))),
        ("exp", Some(json!(-1))),
        ("exp", Some(json!(now - 60))),
        ("nbf", Some(json!(now + 120))),
    ] {
        let mut changed = claims.clone();
        match value {
            Some(value) => changed[name] = value,
            None => drop(changed.as_object_mut().unwrap().remove(name)),
        }
        bad.push((header.to_string(), changed.to_string()));
    }
    // rows: J-21
    bad.push((header.to_string(), claims.to_string().replacen('{', r#"{"aud":"a","#, 1)));
    bad.push((header.to_string().replacen('{', r#"{"alg":"ES256","#, 1), claims.to_string()));
    let mut tokens: Vec<_> = bad.iter().map(|(header, claims)| authority.signed(header, claims)).collect();
    // rows: J-1
    let parts: Vec<_> = good.split('.').collect();
    tokens.push(json!({ "protected": parts[0], "payload": parts[1], "signature": parts[2] }).to_string());
    // Another's key under the right name.
    let foreign = FakeIssuer::start(mayfly_sdk::Clock::system()).await;
    tokens.push(foreign.state.authority.signed(&header.to_string(), &claims.to_string()));
    for token in tokens {
        let answer = validate(&node, "a", &token).await;
        assert_eq!(answer.map(|_| ()).unwrap_err().code(), Code::InvalidArgument, "{token}");
    }
    node.halt().await;
}
