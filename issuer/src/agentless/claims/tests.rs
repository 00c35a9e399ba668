use mayfly_sdk::{Clock, Ttl};
use serde_json::json;

use super::*;
use crate::agentless::ProviderConfig;

const NOW: i64 = 1_800_000_000;

fn provider(require_jti: bool) -> Provider {
    let config = ProviderConfig {
        issuer: "https://ci.example".into(),
        jwks_file: Some("/nonexistent".into()),
        token_life: Ttl::from_s(600),
        require_jti,
        ..ProviderConfig::default()
    };
    Provider::new("ci", "spiffe://td/mayfly/agentless/ci".parse().unwrap(), &config, &Clock::system()).unwrap()
}

/// A good token, in which some claims are others; null takes one away.
fn token(changes: &Value) -> Claims {
    let Value::Object(mut all) =
        json!({ "iss": "https://ci.example", "aud": "td", "sub": "job", "jti": "1", "exp": NOW + 600 })
    else {
        panic!("an object")
    };
    for (name, value) in changes.as_object().unwrap() {
        all.insert(name.clone(), value.clone());
    }
    all.retain(|_, value| !value.is_null());
    Claims { all, signed_sha256: [7; 32] }
}

fn checked(require_jti: bool, changes: &Value) -> Result<VerifiedToken, Refusal> {
    let now = Timestamp::from_unix_s(NOW);
    check(token(changes), &provider(require_jti), &"td".parse().unwrap(), now)
}

fn reason(changes: &Value) -> Option<Reason> {
    checked(true, changes).err().map(|refusal| refusal.reason)
}

#[test]
fn a_token_says_who_its_bearer_is() {
    let token = checked(true, &json!({ "a": [1, true, "x", "x", null, {}], "auth_time": 1 })).unwrap();
    assert_eq!(&*token.actor, "oidc:ci:job");
    assert_eq!((token.caller.origin.path(), &*token.caller.issuer), ("/mayfly/agentless/ci", "ci"));
    let mut claims: Vec<_> = token.caller.claims.iter().map(ToString::to_string).collect();
    claims.sort();
    assert_eq!(claims, ["oidc:a:1", "oidc:a:true", "oidc:a:x", "oidc:iss:https://ci.example", "oidc:sub:job"]);
    // Remembered for as long as it is accepted.
    assert_eq!(token.used.expires_at.unix_s(), NOW + 630);
}

#[test]
fn a_token_is_of_its_provider_and_for_this_trust_domain_alone() {
    for audience in [json!("td"), json!("spiffe://td"), json!(["td"])] {
        assert_eq!(reason(&json!({ "aud": audience })), None, "{audience}");
    }
    for audience in [json!("tdx"), json!(["td", "other"]), json!([]), json!(["other"]), json!(1), json!(null)] {
        assert_eq!(reason(&json!({ "aud": audience })), Some(Reason::WrongAudience), "{audience}");
    }
    for issuer in [json!("https://ci.example/"), json!(null), json!(1)] {
        assert_eq!(reason(&json!({ "iss": issuer })), Some(Reason::TokenInvalid), "{issuer}");
    }
}

#[test]
fn a_token_counts_within_its_time_to_the_second() {
    for (name, seconds, expected) in [
        ("exp", NOW - 30, None),
        ("exp", NOW - 31, Some(Reason::Expired)),
        ("exp", NOW + 630, None),
        ("exp", NOW + 631, Some(Reason::TokenInvalid)),
        ("nbf", NOW + 30, None),
        ("nbf", NOW + 31, Some(Reason::NotYetValid)),
        ("iat", NOW + 30, None),
        ("iat", NOW + 31, Some(Reason::NotYetValid)),
        ("iat", -1, Some(Reason::TokenInvalid)),
    ] {
        assert_eq!(reason(&json!({ name: seconds })), expected, "{name} {seconds}");
    }
    for bad in [json!(null), json!("1800000000"), json!(1_800_000_000.5)] {
        assert_eq!(reason(&json!({ "exp": bad })), Some(Reason::TokenInvalid), "{bad}");
    }
}

#[test]
fn an_id_is_a_text_within_bounds_and_counts_once_for_each_provider() {
    for name in ["sub", "jti"] {
        for bad in [json!(null), json!(""), json!(1), json!("x".repeat(1025))] {
            assert_eq!(reason(&json!({ name: bad })), Some(Reason::TokenInvalid), "{name} {bad}");
        }
        assert_eq!(reason(&json!({ name: "x".repeat(1024) })), None, "{name}");
    }
    let used = |require, changes| checked(require, &changes).unwrap().used.sha256;
    let by_id = used(true, json!({}));
    assert_eq!(by_id, used(false, json!({ "sub": "other" })));
    assert_ne!(by_id, used(true, json!({ "jti": "2" })));
    // Where none is required, the signed bytes are known again.
    assert_eq!(used(false, json!({ "jti": null })), used(false, json!({ "jti": null, "sub": "other" })));
    assert_ne!(by_id, used(false, json!({ "jti": null })));
}

#[test]
fn so_many_claims_become_selectors_and_no_longer_ones() {
    let of = |changes: Value| checked(true, &changes).map(|token| token.caller.claims.len());
    // Beside `iss` and `sub`.
    let values = |count: usize| json!({ "groups": (0..count).collect::<Vec<_>>() });
    assert_eq!(of(values(254)).unwrap(), 256);
    assert_eq!(of(values(255)).unwrap_err().reason, Reason::TokenInvalid);
    let text = |len| json!({ "a": "x".repeat(len) });
    let longest = (1..=MAX_VALUE).rev().find(|len| Selector::new("oidc", "a", &"x".repeat(*len)).is_ok()).unwrap();
    assert_eq!((of(text(longest)).unwrap(), of(text(longest + 1)).unwrap()), (3, 2));
}
