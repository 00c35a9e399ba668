use std::{fs, time::Duration};

use mayfly_rig::{Rig, eventually};

use super::{text, x509_serial};

/// Lives that a test can outlast.
const SHORT: [(&str, &str); 3] = [("ttl.allow_short_ttl", "true"), ("ttl.x509", "\"20s\""), ("ttl.node", "\"12s\"")];

/// The SPIFFE ID of the one node.
fn node(rig: &Rig) -> String {
    let nodes = rig.json(&["node", "list"]);
    nodes["items"][0]["spiffe_id"].as_str().unwrap().to_owned()
}

/// Waits until an agent's `/ready` names this state, with a remedy that has these words.
fn says(rig: &mut Rig, agent: &str, state: &str, remedy: &str) {
    eventually(&format!("the agent {agent} is {state}"), 90, || rig.agent_ready(agent).contains(state).then_some(()));
    assert!(rig.agent_runs(agent), "the agent {agent} ended: {}", rig.agent_log(agent));
    let ready = rig.agent_ready(agent);
    assert!(ready.contains(state) && ready.contains(remedy), "{ready}");
}

/// An agent that is refused waits: it burns no processor, and asks the issuer seldom.
fn rests(rig: &Rig, agent: &str) {
    let spent = |rig: &Rig| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", rig.agent_id(agent))).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        // Of user and system, in hundredths of a second.
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let (cpu, lines) = (spent(rig), rig.agent_log(agent).lines().count());
    std::thread::sleep(Duration::from_secs(3));
    let (cpu, lines) = (spent(rig) - cpu, rig.agent_log(agent).lines().count() - lines);
    assert!(
        cpu < 100 && lines < 10,
        "in 3 s {agent} took {cpu}0 ms and logged {lines} lines: {}",
        rig.agent_log(agent)
    );
}

/// What was given before is given on, until it ends.
fn serves_what_it_has_until_it_ends(rig: &Rig, agent: &str, serial: &str) {
    assert_eq!(x509_serial(rig, agent).as_deref(), Some(serial), "{}", rig.agent_log(agent));
    eventually("what is held has ended", 30, || x509_serial(rig, agent).is_none().then_some(()));
}

/// The serial number that a workload holds once nothing is about to be renewed.
fn held(rig: &Rig, agent: &str) -> String {
    eventually("a workload has its identity", 10, || x509_serial(rig, agent))
}

#[test]
fn an_evicted_node_serves_what_it_has_and_comes_back_with_a_new_token() {
    let mut rig = Rig::started(&SHORT);
    rig.apply(&rig.entry("workload", ""));
    let serial = held(&rig, "a");
    let id = node(&rig);
    assert!(rig.run(&["node", "evict", &id]).status.success());
    says(&mut rig, "a", "node_unknown", "join token");
    serves_what_it_has_until_it_ends(&rig, "a", &serial);
    rests(&rig, "a");
    says(&mut rig, "a", "node_unknown", "join token");

    let token = rig.run(&["join-token", "create"]);
    fs::write(rig.agent_dir("a").join("token"), token.stdout).unwrap();
    rig.wait_for_agent("a");
    assert!(x509_serial(&rig, "a").is_some());
}

#[test]
fn a_node_that_is_enrolled_anew_with_other_selectors_serves_what_is_for_those() {
    let mut rig = Rig::started(&[]);
    let on = |rack: &str| rig.entry(rack, "").replace("node:attestor:join_token", &format!("rack:name:{rack}"));
    rig.apply(&(on("one") + &on("two")));
    let identity = |rig: &Rig| {
        let mut command = std::process::Command::new(mayfly_rig::mayfly());
        command.args(["--output", "json", "svid", "x509", "fetch"]).env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a"));
        let shown: serde_json::Value = serde_json::from_slice(&command.output().unwrap().stdout).ok()?;
        Some(shown["items"][0]["spiffe_id"].as_str()?.to_owned())
    };
    assert_eq!(identity(&rig), None);
    for rack in ["one", "two"] {
        assert!(rig.run(&["node", "evict", &node(&rig)]).status.success());
        says(&mut rig, "a", "node_unknown", "join token");
        let selector = format!("rack:name:{rack}");
        let token = rig.run(&["join-token", "create", "--spiffe-id", "a", "--selector", &selector]);
        fs::write(rig.agent_dir("a").join("token"), token.stdout).unwrap();
        let wanted = format!("spiffe://{}/{rack}", rig.trust_domain);
        eventually(&format!("the identity of rack {rack}"), 60, || (identity(&rig)? == wanted).then_some(()));
    }
}

#[test]
fn a_banned_node_serves_what_it_has_and_stays_out() {
    let mut rig = Rig::started(&SHORT);
    rig.apply(&rig.entry("workload", ""));
    let serial = held(&rig, "a");
    let id = node(&rig);
    assert!(rig.run(&["node", "ban", &id]).status.success());
    says(&mut rig, "a", "node_banned", "ban");
    serves_what_it_has_until_it_ends(&rig, "a", &serial);
    rests(&rig, "a");
    says(&mut rig, "a", "node_banned", "ban");
}

#[test]
fn a_join_token_that_was_used_up_is_a_state_and_no_end() {
    let mut rig = Rig::started(&[]);
    fs::create_dir_all(rig.agent_dir("b")).unwrap();
    fs::copy(rig.agent_dir("a").join("token"), rig.agent_dir("b").join("token")).unwrap();
    rig.launch_agent("b");
    says(&mut rig, "b", "join_token_used", "join-token create");
    rests(&rig, "b");
    let token = rig.run(&["join-token", "create"]);
    fs::write(rig.agent_dir("b").join("token"), token.stdout).unwrap();
    rig.wait_for_agent("b");
    assert_eq!(rig.json(&["node", "list"])["items"].as_array().unwrap().len(), 2);
}

#[test]
fn a_copied_state_directory_freezes_the_node_and_both_machines_are_told() {
    let mut rig = Rig::started(&SHORT);
    rig.apply(&rig.entry("workload", ""));
    let copied = std::process::Command::new("cp").arg("-a").args([rig.agent_dir("a"), rig.agent_dir("b")]).output();
    let copied = copied.unwrap();
    assert!(copied.status.success(), "{}", text(&copied.stderr));
    rig.launch_agent("b");
    for agent in ["a", "b"] {
        says(&mut rig, agent, "node_frozen", "second machine");
    }
    let id = node(&rig);
    assert_eq!(rig.json(&["node", "show", &id])["state"], "frozen");
    let ledger = rig.run(&["ledger", "tail", "-n", "1000"]);
    assert!(text(&ledger.stdout).contains("node_frozen"), "{}", text(&ledger.stdout));
    for agent in ["a", "b"] {
        rests(&rig, agent);
    }
}
