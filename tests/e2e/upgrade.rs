//! The build of the release before this one and this one, together. A long form: `tests/full` makes the old build, and names it
//! in `MAYFLY_OLD_BUILD`.

use std::{path::PathBuf, process::Command};

use mayfly_rig::{Rig, eventually, mayfly};
use serde_json::Value;

use crate::attacks::{not_run, x509_serial};

/// The old build, where the long forms were asked for.
fn old() -> Option<PathBuf> {
    if !crate::full() {
        return None;
    }
    let old = std::env::var_os("MAYFLY_OLD_BUILD").map(PathBuf::from);
    if old.is_none() {
        not_run("MAYFLY_OLD_BUILD names no build of the release before this one: tests/full makes it");
    }
    old
}

#[test]
fn an_old_agent_and_a_new_issuer_tell_the_whole_story_and_so_does_the_reverse() {
    let Some(old) = old() else { return };
    for other in ["--agent-program", "--issuer-program"] {
        let output = Command::new(mayfly()).arg("demo").arg(other).arg(&old).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{other}: {said}");
    }
}

#[test]
fn what_the_old_build_stored_is_taken_up_by_this_one() {
    let Some(old) = old() else { return };
    // 0.1 had no such listener.
    let mut rig = Rig::new(&[("web.listen", "")]);
    let new = mayfly();
    rig.set_program(old);
    rig.start_issuer();
    rig.start_agent("a");
    rig.apply(&rig.entry("workload", ""));
    let serial = eventually("the old issuer issues", 20, || x509_serial(&rig, "a"));
    let before = ["entry", "node", "authority"].map(|what| rig.json(&[what, "list"]));
    let root = rig.json(&["bundle", "show"]);

    rig.set_program(new);
    rig.set("web.listen", &format!("\"{}\"", rig.web_address()));
    rig.stop_issuer();
    rig.start_issuer();
    let items = |listed: &Value| listed["items"].as_array().unwrap().clone();
    let after = ["entry", "node", "authority"].map(|what| rig.json(&[what, "list"]));
    for (before, after) in before.iter().zip(&after) {
        // Each process makes an intermediate of its own, and this build has keys of kinds that the old one had not.
        let kinds: Vec<Value> = items(before).iter().map(|it| it["kind"].clone()).collect();
        let named = |listed: &Value| -> Vec<String> {
            let all = items(listed).into_iter();
            all.filter(|it| it["kind"] != "x509_intermediate" && kinds.contains(&it["kind"]))
                .map(|it| [&it["uid"], &it["spiffe_id"], &it["id"]].map(ToString::to_string).concat())
                .collect()
        };
        assert!(!named(before).is_empty());
        assert_eq!(named(before), named(after));
    }
    assert_eq!(rig.json(&["bundle", "show"])["x509_authorities"], root["x509_authorities"]);
    assert_eq!(x509_serial(&rig, "a").as_ref(), Some(&serial), "the old agent keeps what it has");
    rig.apply(&rig.entry("another", ""));
    eventually("the new issuer issues to the old agent", 20, || {
        // Minted on first use.
        x509_serial(&rig, "a");
        let listed = rig.run(&["ledger", "tail", "--last", "50"]);
        String::from_utf8_lossy(&listed.stdout).contains("/another").then_some(())
    });
    rig.stop_agent("a");
    rig.launch_agent("a");
    rig.wait_for_agent("a");
    eventually("the new agent has taken up what the old one enrolled", 20, || x509_serial(&rig, "a"));
}

#[test]
fn an_old_agent_serves_on_where_wit_svids_are_issued_and_a_new_one_in_its_place_has_them() {
    let Some(old) = old() else { return };
    let mut rig = Rig::new(&[("wit.enabled", "true"), ("authority.publish_lead", "\"1s\"")]);
    rig.start_issuer();
    rig.set_program(old);
    rig.start_agent("a");
    rig.apply(&rig.entry("workload", ""));
    let serial = eventually("an identity", 20, || x509_serial(&rig, "a"));
    let wit = |rig: &Rig| {
        let mut command = Command::new(mayfly());
        command.args(["svid", "wit", "fetch"]).env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a"));
        command.output().unwrap()
    };
    let told = String::from_utf8_lossy(&wit(&rig).stderr).into_owned();
    assert!(told.contains("unimplemented"), "{told}");
    // It takes bundles with keys that it does not know, and acknowledges them.
    let prepared = rig.json(&["authority", "prepare", "wit"]);
    let id = prepared["authority"]["id"].as_str().unwrap().to_owned();
    eventually("the old agent has acknowledged the next key", 20, || {
        let keys = rig.json(&["authority", "list"]);
        let is_active =
            keys["items"].as_array().unwrap().iter().any(|key| key["id"] == *id && key["state"] == "active");
        (is_active || rig.run(&["authority", "activate", &id]).status.success()).then_some(())
    });
    assert_eq!(x509_serial(&rig, "a"), Some(serial));

    rig.set_program(mayfly());
    rig.stop_agent("a");
    rig.launch_agent("a");
    rig.wait_for_agent("a");
    eventually("a WIT-SVID", 20, || wit(&rig).status.success().then_some(()));
}
