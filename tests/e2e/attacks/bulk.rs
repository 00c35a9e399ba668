//! More than fits into one message.

use mayfly_rig::{Rig, eventually};

use super::{text, x509_serial};

/// Entries that are together larger than any message that an agent reads, and each nearly as large as an entry may be.
fn large(rig: &Rig, of: &str) -> String {
    let list = |kind: &str, items: usize| {
        let items: Vec<_> =
            (0..items).map(|item| format!("\"https://{kind}.example.org/{item}/{}\"", "x".repeat(2000))).collect();
        format!("    {kind}: [{}]\n", items.join(", "))
    };
    let lists = list("jwt_audiences", 256) + &list("serves", 200);
    let entry = |number: usize| rig.entry(&format!("{of}-{number}"), ", \"unix:path:/nobody\"") + &lists;
    (0..20).map(entry).collect()
}

#[test]
fn entries_that_fit_into_no_message_reach_the_agents_in_parts_and_leave_them_in_sync() {
    let mut rig = Rig::started(&[]);
    rig.apply(&large(&rig, "first"));
    rig.apply(&rig.entry("workload", ""));
    eventually("the agent hears of what comes after", 60, || x509_serial(&rig, "a"));
    // One that knows a part already, and one that knows nothing.
    rig.stop_agent("a");
    rig.apply(&large(&rig, "second"));
    rig.start_agent("a");
    rig.start_agent("b");
    for agent in ["a", "b"] {
        eventually("the agent is in sync", 60, || x509_serial(&rig, agent));
        assert!(!rig.agent_log(agent).contains("message_invalid"), "{}", rig.agent_log(agent));
    }
}

#[test]
fn an_entry_that_is_too_large_is_refused_and_named() {
    let rig = {
        let mut rig = Rig::new(&[]);
        rig.start_issuer();
        rig
    };
    let file = format!("owner: test\nentries:\n{}", large(&rig, "entry"));
    let nodes = (0..1000).map(|n| format!("\"node:id:{n}{}\"", "x".repeat(200))).collect::<Vec<_>>().join(", ");
    let file = file.replacen("[\"node:attestor:join_token\"]", &format!("[{nodes}]"), 1);
    let output = rig.run_with(&["entry", "apply", "-f", "-"], file.as_bytes());
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("entry-0"), "{said}");
    assert!(said.contains("at most 1048576 are allowed") && !said.contains("entry-1"), "{said}");
}
