//! Keys change, and nobody who acknowledged late or verifies late is left behind.

use mayfly_rig::{Rig, eventually};
use serde_json::Value;

#[test]
fn a_node_that_holds_its_acknowledgements_back_delays_a_key_and_is_named() {
    let mut rig = Rig::started(&[("authority.publish_lead", "\"1s\"")]);
    rig.start_agent("b");
    let active = authority(&rig, "jwt", "active").expect("an active JWT key");

    // A stopped agent reads nothing and acknowledges nothing, and its connection stays.
    rig.signal_agent("b", nix::sys::signal::Signal::SIGSTOP);
    let prepared = rig.json(&["authority", "prepare", "jwt"]);
    let id = prepared["authority"]["id"].as_str().unwrap_or_else(|| panic!("the prepared key: {prepared}")).to_owned();
    let waiting = eventually("only the stopped node is waited for", 20, || {
        let key = authority(&rig, "jwt", "prepared")?;
        let waiting: Vec<_> =
            key["waiting_for"].as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        (waiting.len() == 1).then_some(waiting)
    });
    assert!(waiting[0].ends_with("/join_token/b"), "{waiting:?}");
    std::thread::sleep(std::time::Duration::from_secs(2));
    let refused = rig.run(&["authority", "activate", &id]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("authority_not_acknowledged"), "{words}");
    assert!(words.contains("/join_token/b"), "the laggard is named: {words}");
    assert_eq!(authority(&rig, "jwt", "active").unwrap()["id"], active["id"], "nothing signs with it yet");

    rig.signal_agent("b", nix::sys::signal::Signal::SIGCONT);
    eventually("everybody has acknowledged, and the key takes over", 20, || {
        (rig.run(&["authority", "activate", &id]).status.success()
            || authority(&rig, "jwt", "active").is_some_and(|key| key["id"] == *id))
        .then_some(())
    });
}

#[test]
fn a_deadline_activates_a_key_although_a_node_lags_and_names_it() {
    // A JWT key of 60 s: prepared at 30 s, active by 40 s at the latest.
    let settings = [("authority.jwt_life", "\"60s\""), ("ttl.jwt", "\"10s\""), ("ttl.allow_short_ttl", "true")];
    let mut rig = Rig::started(&settings);
    rig.start_agent("b");
    let first = authority(&rig, "jwt", "active").expect("an active JWT key")["id"].clone();
    rig.signal_agent("b", nix::sys::signal::Signal::SIGSTOP);
    eventually("the next key is active by its deadline", 60, || {
        authority(&rig, "jwt", "active").filter(|key| key["id"] != first)
    });
    rig.signal_agent("b", nix::sys::signal::Signal::SIGCONT);
    let named = rig.issuer_log().lines().any(|line| line.contains("/join_token/b") && line.contains("activat"));
    assert!(named, "the laggard is named: {}", rig.issuer_log());
}

/// The one authority of a kind in a state, if there is one.
fn authority(rig: &Rig, kind: &str, state: &str) -> Option<Value> {
    let all = rig.json(&["authority", "list"]);
    let items = all["items"].as_array().cloned().unwrap_or_default();
    let mut found = items.into_iter().filter(|key| key["kind"] == kind && key["state"] == state);
    let one = found.next();
    assert!(found.next().is_none(), "two authorities of kind {kind} are {state}: {all}");
    one
}
