//! Users of an identity provider that is made of other people's libraries, and agents that act for them by OAuth.

use serde_json::json;

use super::oauth::Place;
use super::{Command, Value, repository, text, tool};

const AUDIENCE: &str = "https://files.example.org/mcp";

#[test]
fn authlib_exchanges_users_tokens_and_introspection_always_says_who_acts() {
    let Some(python) = tool(&["MAYFLY_TEST_PYTHON", "target/test-env/venv/bin/python"]) else { return };
    let keys = tempfile::tempdir().unwrap();
    let script = repository().join("tests/interop/python/users.py");
    let made = Command::new(&python).arg(script).args(["keys", keys.path().to_str().unwrap()]).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
    let jwks = format!("\"{}\"", keys.path().join("provider.jwks").display());
    let settings = [("users.login.issuer", "\"https://login.example.org\""), ("users.login.jwks_file", &*jwks)];
    let place = Place::new(&settings, &[AUDIENCE]);
    let report = place.report(&python, "users.py", &[AUDIENCE, keys.path().to_str().unwrap()]);

    let id = |name: &str| json!(format!("spiffe://{}/{name}", place.rig.trust_domain));
    let told = report["introspected"].as_array().unwrap();
    assert_eq!(told.len(), 5);
    for claims in told {
        assert_eq!((&claims["active"], &claims["sub"]), (&json!(true), &json!("user:login:alice")), "{report}");
        assert!(claims["act"]["sub"].is_string() && claims["act"]["instance"].is_string(), "{report}");
    }
    assert_eq!((&told[0]["act"]["sub"], told[0]["act"].get("act")), (&id("planner"), None), "{report}");
    assert_eq!((&told[1]["act"]["sub"], &told[1]["act"]["act"]["sub"]), (&id("reader"), &id("planner")), "{report}");
    let inactive = json!({"active": false});
    assert_eq!((&report["no_logout"], &report["logout"]), (&json!(400), &json!(200)), "{report}");
    assert_eq!(report["after"], json!([inactive, inactive]), "{report}");
    let refused = json!({
        "acted_with_by_another": "unauthorized_client", "for_another": "unauthorized_client", "of_another_client": "unauthorized_client",
        "for_somebody_else": "invalid_request", "a_task_as_a_user": "invalid_request", "a_user_as_a_task": "invalid_request",
        "with_an_actor_token": "invalid_request", "another_kind": "invalid_request", "no_process": "insufficient_attestation",
        "a_logout": "invalid_request", "logged_out": "access_denied",
    });
    assert_eq!(report["refused"], refused, "{report}");
    let root = report["root"]["id"].as_str().unwrap();
    assert_eq!(place.rig.json(&["task", "show", root])["state"], Value::from("suspended"));
}
