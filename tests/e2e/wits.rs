//! WIT-SVIDs where they are on: issued, renewed, withdrawn, and believed together with a proof only.

mod attacks;

use std::process::{Command, Output};

use mayfly_rig::{Rig, eventually, mayfly};
use serde_json::Value;

use crate::attacks::text;

/// WIT-SVIDs on, and lives that a test can outlast.
const ON: [(&str, &str); 4] = [
    ("wit.enabled", "true"),
    ("ttl.allow_short_ttl", "true"),
    ("ttl.x509", "\"20s\""),
    ("authority.publish_lead", "\"1s\""),
];
const URL: &str = "https://db.example.org/rows";

/// A trust domain that issues WIT-SVIDs, with one workload, `web`.
fn rig() -> Rig {
    let rig = Rig::started(&ON);
    rig.apply(&rig.entry("web", ""));
    rig
}

/// `mayfly svid wit ...` as a workload of this user.
fn wit(rig: &Rig, args: &[&str]) -> Output {
    let mut command = Command::new(mayfly());
    command.args(["--output", "json", "svid", "wit"]).args(args).env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a"));
    command.output().unwrap()
}

/// The first token that this user is given; none: none is.
fn token(rig: &Rig) -> Option<String> {
    let output = wit(rig, &["fetch"]);
    let shown: Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(shown["items"][0]["token"].as_str().unwrap().to_owned())
}

/// A part of a token.
fn part(token: &str, at: usize) -> Value {
    use base64::Engine as _;
    let part = token.split('.').nth(at).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Has the command judge a request with these headers.
fn judge(rig: &Rig, url: &str, headers: &str) -> Output {
    let path = rig.dir().join("headers");
    std::fs::write(&path, headers).unwrap();
    wit(rig, &["validate", "--url", url, path.to_str().unwrap()])
}

/// The headers that prove a request to this URL.
fn headers(rig: &Rig, url: &str) -> String {
    let mut command = Command::new(mayfly());
    command.args(["svid", "wit", "prove", "--url", url]).env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The one WIT authority in a state.
fn authority(rig: &Rig, state: &str) -> Option<String> {
    let all = rig.json(&["authority", "list"]);
    let mut found = all["items"].as_array().unwrap().iter().filter(|key| key["kind"] == "wit" && key["state"] == state);
    let one = found.next().map(|key| key["id"].as_str().unwrap().to_owned());
    assert!(found.next().is_none(), "two WIT authorities are {state}: {all}");
    one
}

/// Rows: WA-60.
#[test]
fn off_the_command_says_so_and_there_is_no_key() {
    let rig = Rig::started(&[]);
    rig.apply(&rig.entry("web", ""));
    for args in [&["fetch"][..], &["watch"], &["prove", "--url", URL]] {
        let output = wit(&rig, args);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains("unimplemented"), "{args:?}: {said}");
    }
    assert_eq!(authority(&rig, "active"), None);
    let refused = rig.run(&["authority", "prepare", "wit"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("wit.enabled"), "{}", text(&refused.stderr));
}

/// Rows: W-12, W-14, W-21, W-23, WA-61, WA-62.
#[test]
fn a_token_is_issued_recorded_and_believed_with_a_proof_of_its_key() {
    let rig = rig();
    let token = eventually("a token", 20, || token(&rig));
    let (header, claims) = (part(&token, 0), part(&token, 1));
    assert_eq!((&header["typ"], &header["kid"]), (&"wit+jwt".into(), &authority(&rig, "active").unwrap().into()));
    assert_eq!(header.as_object().unwrap().len(), 3);
    assert_eq!(claims["sub"], format!("spiffe://{}/web", rig.trust_domain));
    assert!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap() == 20, "{claims}");
    let tail = text(&rig.run(&["ledger", "tail", "-n", "100"]).stdout);
    let jti = claims["jti"].as_str().unwrap();
    assert!(tail.contains("wit_svid_issued") && tail.contains(jti), "{tail}");

    let proven = headers(&rig, URL);
    let verdict = judge(&rig, URL, &proven);
    assert!(verdict.status.success(), "{}", text(&verdict.stderr));
    let verdict: Value = serde_json::from_slice(&verdict.stdout).unwrap();
    assert_eq!(verdict["spiffe_id"], claims["sub"]);
    let metrics = rig.agent_metrics("a");
    assert!(metrics.contains("mayfly_agent_wit_svids_held 1"), "{metrics}");
}

/// Rows: WA-60, WA-67, BD-4.
#[test]
fn turned_off_and_on_every_node_follows_and_the_endpoint_shows_what_it_is_to() {
    let mut rig = rig();
    eventually("a token", 20, || token(&rig));
    let shown = |rig: &Rig| -> Value {
        let output = Command::new("curl").args(["-sk", &format!("https://{}/", rig.web_address())]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let has_wit = |bundle: &Value| bundle["keys"].as_array().unwrap().iter().any(|key| key["use"] == "wit-svid");
    let hidden = shown(&rig);
    assert!(!has_wit(&hidden), "{hidden}");
    rig.set("bundle_endpoint.wit", "true");
    rig.stop_issuer();
    rig.start_issuer();
    let open = shown(&rig);
    assert!(has_wit(&open), "{open}");
    assert!(open["spiffe_sequence"].as_u64() > hidden["spiffe_sequence"].as_u64(), "{open}, {hidden}");

    rig.set("wit.enabled", "false");
    rig.stop_issuer();
    rig.start_issuer();
    let off = shown(&rig);
    assert!(!has_wit(&off) && off["spiffe_sequence"].as_u64() > open["spiffe_sequence"].as_u64(), "{off}");
    eventually("the node has heard that there are none", 30, || {
        text(&wit(&rig, &["fetch"]).stderr).contains("unimplemented").then_some(())
    });
    rig.set("wit.enabled", "true");
    rig.stop_issuer();
    rig.start_issuer();
    eventually("there are some again", 30, || token(&rig));
}

/// Rows: WA-67.
#[test]
fn keys_are_prepared_activated_tainted_and_revoked_under_a_workload_that_watches() {
    let mut rig = rig();
    let first = eventually("a token", 20, || token(&rig));
    let mut watching = Command::new(mayfly());
    watching.args(["--output", "json", "svid", "wit", "watch"]).env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a"));
    let log = rig.dir().join("watch.log");
    let mut watching = mayfly_rig::Daemon::start(watching, log);
    let signed_by = |token: &str| part(token, 0)["kid"].as_str().unwrap().to_owned();
    let last = |watching: &mayfly_rig::Daemon| -> Option<String> {
        let log = watching.log();
        let shown: Value = serde_json::from_str(log.lines().last()?).ok()?;
        Some(shown["items"][0]["token"].as_str()?.to_owned())
    };
    let old = signed_by(&first);
    let prepared = rig.json(&["authority", "prepare", "wit"]);
    let id = prepared["authority"]["id"].as_str().unwrap().to_owned();
    eventually("everybody knows the next key", 20, || {
        (rig.run(&["authority", "activate", &id]).status.success() || authority(&rig, "active").as_ref() == Some(&id))
            .then_some(())
    });
    eventually("a renewed token is signed by it", 40, || last(&watching).filter(|token| signed_by(token) == id));
    // A token of the old key is good until it ends; tainted keys are replaced at once, and revoked ones verify nothing.
    assert!(authority(&rig, "retiring").is_some_and(|retiring| retiring == old));
    let tainted = rig.run(&["authority", "taint", &id]);
    assert!(tainted.status.success(), "{}", text(&tainted.stderr));
    let third = eventually("the workload has a token of another key", 20, || {
        last(&watching).filter(|token| signed_by(token) != id)
    });
    assert_eq!(authority(&rig, "active"), Some(signed_by(&third)));
    let proven = headers(&rig, URL);
    assert!(judge(&rig, URL, &proven).status.success());
    let revoked = rig.run(&["authority", "revoke", &id]);
    assert!(revoked.status.success(), "{}", text(&revoked.stderr));
    eventually("the other key is gone from bundles", 20, || {
        let kids = text(&rig.run(&["bundle", "show", "--form", "document"]).stdout);
        (!kids.contains(&id)).then_some(())
    });
    assert!(watching.is_running(), "{}", watching.log());
    assert!(!rig.agent_log("a").contains("ERROR") && rig.agent_runs("a"));
}

#[test]
fn an_agent_that_starts_again_without_an_issuer_has_the_token_and_its_key() {
    let mut rig = Rig::new(&[("wit.enabled", "true")]);
    rig.start_issuer();
    let key = rig.dir().join("warm.key");
    rig.set_environment(&[
        ("MAYFLY_AGENT__WARM_RESTART", "file"),
        ("MAYFLY_AGENT__WARM_RESTART_KEY", key.to_str().unwrap()),
    ]);
    rig.start_agent("a");
    rig.apply(&rig.entry("web", ""));
    let before = eventually("a token", 20, || token(&rig));
    std::thread::sleep(std::time::Duration::from_secs(3));
    rig.stop_issuer();
    rig.stop_agent("a");
    rig.launch_agent("a");
    assert_eq!(eventually("the token is there again", 20, || token(&rig)), before);
    let proven = headers(&rig, URL);
    assert!(judge(&rig, URL, &proven).status.success());
}
