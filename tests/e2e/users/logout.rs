use std::process::Command;

use mayfly_rig::Rig;
use mayfly_sdk::Clock;
use serde_json::{Value, json};

use super::{AUDIENCE, alone, begin, id, subject, token};
use crate::agentless::provider::{IdentityProvider, encode};
use crate::attacks::text;
use crate::task_rules::{Node, on_runtime, reading};

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// A good logout token of a user, in which some claims are others; null takes one away.
fn logout_token(provider: &IdentityProvider, changes: &Value) -> String {
    let mut claims = provider.claims();
    for name in ["repository", "nbf"] {
        claims.remove(name);
    }
    for (name, value) in [("sub", json!("alice")), ("aud", json!(AUDIENCE)), ("events", json!({EVENT: {}}))] {
        claims.insert(name.to_owned(), value);
    }
    for (name, value) in changes.as_object().unwrap() {
        claims.insert(name.clone(), value.clone());
    }
    claims.retain(|_, value| !value.is_null());
    let mut header = provider.header();
    header["typ"] = "logout+jwt".into();
    provider.sign(&header, &Value::Object(claims).to_string())
}

/// What a provider's software sends, and the status that it is answered with.
fn post(rig: &Rig, name: &str, arguments: &[&str]) -> (u16, String) {
    let url = format!("https://{}/users/{name}/logout", rig.web_address());
    let output =
        Command::new("curl").args(["-sS", "-k", "-i", "--max-time", "20"]).args(arguments).arg(url).output().unwrap();
    let said = text(&output.stdout);
    let status = said.split(' ').nth(1).unwrap_or_else(|| panic!("{}", text(&output.stderr))).parse().unwrap();
    (status, said.to_lowercase())
}

fn log_out(rig: &Rig, token: &str) -> (u16, String) {
    post(rig, "corp", &["--data-urlencode", &format!("logout_token={token}")])
}

/// How tasks stand, by their ids.
fn states(rig: &Rig, ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| rig.json(&["task", "show", id])["state"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_user_who_logs_out_has_no_open_task_and_begins_none_by_an_older_token_also_after_a_restart() {
    let corp = IdentityProvider::new("corp");
    let mut rig = alone(&[("corp", &corp)]);
    let now = Clock::system().now().unix_s();
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let (planner, reader) = (node.holder("planner", 1).await, node.holder("reader", 2).await);
        let old = token(&corp, "alice", &json!({"iat": now - 60}));
        let alices = begin(&mut node, &planner, &old).await.unwrap();
        let below = node.delegate(&alices, &reader, reading()).await.unwrap();
        let bobs = begin(&mut node, &planner, &token(&corp, "bob", &json!({"iat": now - 60}))).await.unwrap();
        let own = node.begin(&planner, reading()).await.unwrap();
        let newer = begin(&mut node, &planner, &token(&corp, "alice", &json!({"iat": now}))).await.unwrap();
        let all = [id(&alices), id(&below), id(&bobs), id(&own), id(&newer)];

        let logout = logout_token(&corp, &json!({"iat": now - 30}));
        let (status, said) = log_out(&rig, &logout);
        assert_eq!(status, 200, "{said}");
        assert!(said.contains("cache-control: no-store"), "{said}");
        // Hers that were begun before, with what is below; nobody else's, and not the one by a token that she got since.
        let after = ["suspended", "suspended", "open", "open", "open"];
        assert_eq!(states(&rig, &all), after);
        assert_eq!(node.check(&below).await.unwrap_err(), "task_suspended");
        assert_eq!(node.rogue.renew(&planner.subject, &planner.svid, id(&alices)).await.unwrap_err(), "task_suspended");
        assert_eq!(begin(&mut node, &planner, &old).await.unwrap_err(), "user_logged_out");
        let same_second = token(&corp, "alice", &json!({"iat": now - 30}));
        assert_eq!(begin(&mut node, &planner, &same_second).await.unwrap_err(), "user_logged_out");
        begin(&mut node, &planner, &token(&corp, "alice", &json!({"iat": now - 29}))).await.unwrap();

        // Told once more, it is refused: whoever recorded it suspends nobody again.
        let resumed = rig.json(&["task", "resume", "--user", subject(&alices)]);
        assert_eq!(resumed["changed"].as_array().unwrap().len(), 2, "{resumed}");
        assert_eq!(states(&rig, &all), ["open"; 5]);
        let (status, said) = log_out(&rig, &logout);
        assert!(status == 400 && said.contains("token_used"), "{said}");
        assert_eq!(states(&rig, &all), ["open"; 5]);
        // What was resumed by hand is not what makes an old token good again.
        assert_eq!(begin(&mut node, &planner, &old).await.unwrap_err(), "user_logged_out");

        let (status, _) = log_out(&rig, &logout_token(&corp, &json!({"iat": now - 30})));
        assert_eq!((status, states(&rig, &all)), (200, after.map(str::to_owned).to_vec()));
        let records = text(&rig.run(&["--output", "json", "ledger", "tail", "-n", "1000"]).stdout);
        assert!(records.contains("\"user_logged_out\"") && records.contains("user:corp:alice"), "{records}");
        assert!(!records.contains(logout.rsplit('.').next().unwrap()));

        let owned = all.map(str::to_owned);
        rig.stop_issuer();
        rig.start_issuer();
        let all: Vec<_> = owned.iter().map(String::as_str).collect();
        assert_eq!(states(&rig, &all), after);
        let mut node = Node::of(&rig, "a").await;
        assert_eq!(begin(&mut node, &planner, &old).await.unwrap_err(), "user_logged_out");
        let (status, said) = log_out(&rig, &logout);
        assert!(status == 400 && said.contains("token_used"), "{said}");
    });
}

#[test]
fn a_session_that_ends_takes_its_own_tasks_and_those_that_may_be_of_it() {
    let corp = IdentityProvider::new("corp");
    let rig = alone(&[("corp", &corp)]);
    let now = Clock::system().now().unix_s();
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let planner = node.holder("planner", 1).await;
        let of = |sid: Value| token(&corp, "alice", &json!({"sid": sid, "iat": now - 60}));
        let (one, two, unnamed) = (of(json!("one")), of(json!("two")), of(Value::Null));
        let mut begun = Vec::new();
        for token in [&one, &two, &unnamed] {
            begun.push(begin(&mut node, &planner, token).await.unwrap());
        }
        let all: Vec<_> = begun.iter().map(id).collect();
        // By the session alone: nobody says whose those are that name none.
        assert_eq!(log_out(&rig, &logout_token(&corp, &json!({"sub": null, "sid": "two"}))).0, 200);
        assert_eq!(states(&rig, &all), ["open", "suspended", "open"]);
        assert_eq!(begin(&mut node, &planner, &two).await.unwrap_err(), "user_logged_out");
        begin(&mut node, &planner, &unnamed).await.unwrap();
        // By both: hers that name no session may be of this one.
        assert_eq!(log_out(&rig, &logout_token(&corp, &json!({"sid": "one"}))).0, 200);
        assert_eq!(states(&rig, &all), ["suspended"; 3]);
        for token in [&one, &two, &unnamed] {
            assert_eq!(begin(&mut node, &planner, token).await.unwrap_err(), "user_logged_out");
        }
        begin(&mut node, &planner, &of(json!("three"))).await.unwrap();
    });
}

#[test]
fn an_administrator_suspends_and_resumes_all_tasks_of_one_user_beside_whatever_else_is_suspended() {
    let corp = IdentityProvider::new("corp");
    let mut rig = alone(&[("corp", &corp)]);
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let planner = node.holder("planner", 1).await;
        let alice = token(&corp, "alice", &json!({}));
        let one = begin(&mut node, &planner, &alice).await.unwrap();
        let two = begin(&mut node, &planner, &alice).await.unwrap();
        let bobs = begin(&mut node, &planner, &token(&corp, "bob", &json!({}))).await.unwrap();
        let all = [id(&one), id(&two), id(&bobs)];
        rig.json(&["task", "suspend", id(&two)]);
        let done = rig.json(&["task", "suspend", "--user", "user:corp:alice"]);
        assert_eq!((&done["id"], &done["changed"]), (&json!("user:corp:alice"), &json!([id(&one)])));
        assert_eq!(states(&rig, &all), ["suspended", "suspended", "open"]);
        assert_eq!(begin(&mut node, &planner, &alice).await.unwrap_err(), "user_suspended");
        // One by one they are not resumed: the user is suspended, and not the task.
        let refused = rig.run(&["task", "resume", id(&one)]);
        assert!(text(&refused.stderr).contains("its user is suspended"), "{}", text(&refused.stderr));

        rig.stop_issuer();
        rig.start_issuer();
        let mut node = Node::of(&rig, "a").await;
        assert_eq!(states(&rig, &all), ["suspended", "suspended", "open"]);
        assert_eq!(begin(&mut node, &planner, &alice).await.unwrap_err(), "user_suspended");
        let done = rig.json(&["task", "resume", "--user", "user:corp:alice"]);
        assert_eq!(done["changed"], json!([id(&one)]));
        assert_eq!(states(&rig, &all), ["open", "suspended", "open"]);
        begin(&mut node, &planner, &alice).await.unwrap();
        for wrong in ["alice", "user:corp", "spiffe://test.example/planner", "user:corp:spiffe://x"] {
            assert_eq!(rig.run(&["task", "suspend", "--user", wrong]).status.code(), Some(65), "{wrong}");
        }
    });
}

#[test]
fn what_is_no_good_logout_token_is_refused_and_suspends_nothing() {
    let (corp, partner) = (IdentityProvider::new("corp"), IdentityProvider::new("partner"));
    let rig = alone(&[("corp", &corp), ("partner", &partner)]);
    let now = Clock::system().now().unix_s();
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let planner = node.holder("planner", 1).await;
        let alice = token(&corp, "alice", &json!({"iat": now - 60}));
        let begun = begin(&mut node, &planner, &alice).await.unwrap();
        for (changes, reason) in [
            (json!({"iss": "https://other.example"}), "token_invalid"),
            (json!({"iss": partner.issuer}), "token_invalid"),
            (json!({"aud": "https://other.example"}), "wrong_audience"),
            (json!({"aud": null}), "wrong_audience"),
            (json!({"iat": null}), "token_invalid"),
            (json!({"iat": now + 600}), "not_yet_valid"),
            (json!({"exp": now - 60}), "expired"),
            (json!({"exp": null}), "token_invalid"),
            (json!({"jti": null}), "token_invalid"),
            (json!({"sub": null}), "token_invalid"),
            (json!({"sub": 7}), "token_invalid"),
            (json!({"sid": ""}), "token_invalid"),
            (json!({"nonce": "n"}), "token_invalid"),
            (json!({"events": null}), "token_invalid"),
            (json!({"events": {}}), "token_invalid"),
            (json!({"events": [EVENT]}), "token_invalid"),
            (json!({"events": {EVENT: true}}), "token_invalid"),
            (json!({"events": {"http://schemas.openid.net/event/other": {}}}), "token_invalid"),
        ] {
            let (status, said) = log_out(&rig, &logout_token(&corp, &changes));
            assert!(status == 400 && said.contains(&format!("\"{reason}\"")), "{changes}: {said}");
        }
        // A user's own token, which has no event; another's key; no signature; another provider's path.
        let good = logout_token(&corp, &json!({}));
        let unsigned = encode(json!({"alg": "none", "kid": "key-1", "typ": "logout+jwt"}).to_string().as_bytes());
        let unsigned = format!("{unsigned}.{}.", good.split('.').nth(1).unwrap());
        let stranger = logout_token(&IdentityProvider::new("corp"), &json!({}));
        for (token, reason) in [
            (alice.as_str(), "token_invalid"),
            (unsigned.as_str(), "token_invalid"),
            (stranger.as_str(), "token_untrusted"),
            ("x", "token_invalid"),
        ] {
            let (status, said) = log_out(&rig, token);
            assert!(status == 400 && said.contains(&format!("\"{reason}\"")), "{said}");
        }
        let form = format!("logout_token={good}");
        assert_eq!(post(&rig, "partner", &["-d", &form]).0, 400);
        assert_eq!(post(&rig, "nobody", &["-d", &form]).0, 404);
        assert_eq!(post(&rig, "corp", &["-d", "x=y"]).0, 400);
        assert_eq!(post(&rig, "corp", &["-d", &format!("{form}&{form}")]).0, 400);
        assert_eq!(post(&rig, "corp", &["-H", "content-type: application/json", "-d", &form]).0, 400);
        assert_eq!(post(&rig, "corp", &["-d", &format!("logout_token={}", "x".repeat(40_000))]).0, 413);
        assert_eq!(post(&rig, "corp", &["-G", "-d", &form]).0, 405);
        // A token that names another user in another's name space suspends nobody here.
        let theirs = logout_token(&partner, &json!({}));
        assert_eq!(post(&rig, "partner", &["--data-urlencode", &format!("logout_token={theirs}")]).0, 200);
        assert_eq!(states(&rig, &[id(&begun)]), ["open"]);
        begin(&mut node, &planner, &alice).await.unwrap();
        assert_eq!(log_out(&rig, &good).0, 200);
        assert_eq!(states(&rig, &[id(&begun)]), ["suspended"]);
    });
}
