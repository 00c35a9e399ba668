//! The second act: a task, handed on narrower, and dead with its completion.

use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::unistd::getuid;

use super::steps::Steps;
use super::story::{Stage, Workload, check, copy_of_this, id};
use crate::failure::Failure;

/// The service's resource URI.
const AUDIENCE: &str = "https://tool.demo.example/";
/// How soon everybody must know that a task is over, milliseconds. Far more than it takes: a busy machine is no failure.
const TOLD_WITHIN_MS: i64 = 2000;

impl Stage {
    /// An agent and its sub-agent call a service for one task, until it is done.
    pub(super) async fn tasks(&mut self, steps: &mut Steps) -> Result<(), Failure> {
        let [tool, agent, sub_agent] = ["tool", "planner", "reader"].map(|name| copy_of_this(self.local.dir(), name));
        let (tool, agent, sub_agent) = (tool?, agent?, sub_agent?);
        let programs = [("tool", &tool), ("planner", &agent), ("reader", &sub_agent)];
        self.local.apply(entries(&self.node, &programs)).await?;
        let service = ["tool", "--audience", AUDIENCE];
        let mut tool = Workload::start("tool", &tool, &service, &self.local, &mut self.readers)?;
        let address = tool.until("the service takes connections", |seen| seen.address.is_some()).await?;
        let address = address.address.unwrap_or_default();
        let child = sub_agent.display().to_string();
        let service_id = id("tool");
        let arguments =
            ["agent", "--sub-agent", &child, "--address", &address, "--service", &service_id, "--audience", AUDIENCE];
        let mut agent = Workload::start("planner", &agent, &arguments, &self.local, &mut self.readers)?;
        let begun = agent.until("a task is begun", |seen| seen.agents.contains_key("agent")).await?;
        steps.held(format!(
            "an agent begins a task; its token is for one service and two scopes, and bound to the key of this process [{}]",
            begun.agents.get("agent").map_or("", |agent| &agent.task)
        ))?;

        let both = ["agent", "sub-agent"];
        let seen = agent.until("10 calls of each were admitted", |seen| {
            both.iter().all(|who| seen.agents.get(*who).is_some_and(|agent| agent.good >= 10))
        });
        let seen = seen.await?;
        let refused: Vec<_> = seen.agents.values().map(|agent| &agent.refused).filter(|why| !why.is_empty()).collect();
        check(refused.is_empty(), "no call is refused", &refused)?;
        steps.held("it hands a part to a sub-agent; an HTTP service admits both over mTLS, each by its own token")?;
        let wider = seen.denied.get("more than the task above").cloned().unwrap_or_default();
        let copied = seen.denied.get("a copied token").cloned().unwrap_or_default();
        check(wider == "scope_exceeds_parent", "nobody gets more than he was handed", &wider)?;
        check(copied == "task_token_not_bound", "a token is of no use to others", &copied)?;
        steps.held(format!(
            "the sub-agent gets no more than it was handed [{wider}], and has no use for its parent's token [{copied}]"
        ))?;

        agent.child.signal(Signal::SIGUSR1);
        let seen = agent.until("both are refused", |seen| {
            seen.completed.is_some()
                && both.iter().all(|who| seen.agents.get(*who).is_some_and(|agent| agent.refused == "task_ended"))
        });
        let seen = seen.await?;
        let (ended, completed_ms) = seen.completed.unwrap_or_default();
        check(ended == 2, "the task and the one below it end together", &ended)?;
        let last_ms = seen.agents.values().map(|agent| agent.refused_ms).max().unwrap_or_default();
        let after_ms = (last_ms - completed_ms).max(0);
        check(after_ms < TOLD_WITHIN_MS, "they are refused at once", &after_ms)?;
        steps
            .held(format!("the agent is done; {after_ms} ms later both tokens are refused everywhere [task_ended]"))?;
        agent.child.stop().await?;
        tool.child.stop().await
    }
}

fn entries(node: &str, programs: &[(&str, &PathBuf)]) -> String {
    let task = |name: &str| match name {
        "planner" => serde_json::json!({"audiences": [AUDIENCE], "scopes": ["read", "list"], "delegable": [AUDIENCE]}),
        _ => serde_json::json!({"audiences": [AUDIENCE], "scopes": ["read", "list", "write"]}),
    };
    let entry = |(name, program): &(&str, &PathBuf)| {
        let mut entry = serde_json::json!({
            "name": name,
            "spiffe_id": id(name),
            "node": [node],
            "selectors": [format!("unix:uid:{}", getuid()), format!("unix:path:{}", program.display())],
            "x509_ttl": "60s",
        });
        if let Some(entry) = entry.as_object_mut() {
            match *name {
                "tool" => entry.insert("serves".to_owned(), serde_json::json!([AUDIENCE])),
                name => entry.insert("task".to_owned(), task(name)),
            };
        }
        entry
    };
    serde_json::json!({ "owner": "demo-tasks", "entries": programs.iter().map(entry).collect::<Vec<_>>() }).to_string()
}
