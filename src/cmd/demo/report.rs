//! What a demonstration workload reports on its standard output, one JSON object a line, and what the story has read of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::ChildStdout;
use tokio::sync::watch;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Report {
    /// The server takes connections here.
    Listening { address: String },
    /// A new SVID is in use. Times in Unix milliseconds.
    Svid { spiffe_id: String, serial: String, begun_ms: i64, not_after_ms: i64 },
    /// The identity is gone, for this reason code.
    Withdrawn { reason: String },
    /// Calls so far, and why the last one that failed did.
    Calls { good: u64, failed: u64, peer: String, why: String },
    /// The server refused a peer, for this reason code.
    Refused { reason: String, what: String },
    /// An agent began a task, or took over a part of one.
    Began { who: String, task: String },
    /// Calls of the service under a task so far, and why the last one that was refused was. Unix milliseconds.
    Tool { who: String, good: u64, refused: String, at_ms: i64 },
    /// What must be refused was, for this reason code.
    Denied { what: String, reason: String },
    /// A task and those below it were completed.
    Completed { ended: usize, at_ms: i64 },
}

/// What an agent has reported.
#[derive(Debug, Clone, Default)]
pub(super) struct AgentSeen {
    pub(super) task: String,
    pub(super) good: u64,
    /// Why its last call that was refused was; empty: none was.
    pub(super) refused: String,
    /// When it was refused first, Unix milliseconds.
    pub(super) refused_ms: i64,
}

/// Everything read so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) address: Option<String>,
    pub(super) spiffe_id: String,
    /// Of each SVID, the newest last.
    pub(super) serials: Vec<String>,
    pub(super) not_after_ms: i64,
    pub(super) withdrawn: Option<String>,
    pub(super) good: u64,
    pub(super) failed: u64,
    pub(super) peer: String,
    pub(super) why: String,
    /// Reason codes of refused peers, each once, the newest last.
    pub(super) refused: Vec<String>,
    /// The process ended.
    pub(super) ended: bool,
    pub(super) agents: BTreeMap<String, AgentSeen>,
    /// Reason codes, by what was refused.
    pub(super) denied: BTreeMap<String, String>,
    /// How many tasks were completed together, and when, Unix milliseconds.
    pub(super) completed: Option<(usize, i64)>,
}

impl Seen {
    fn take(&mut self, report: Report) {
        match report {
            Report::Listening { address } => self.address = Some(address),
            Report::Svid { spiffe_id, serial, not_after_ms, .. } => {
                self.spiffe_id = spiffe_id;
                self.not_after_ms = not_after_ms;
                if self.serials.last() != Some(&serial) {
                    self.serials.push(serial);
                }
            }
            Report::Withdrawn { reason } => self.withdrawn = Some(reason),
            Report::Calls { good, failed, peer, why } => {
                (self.good, self.failed) = (good, failed);
                (self.peer, self.why) = (peer, why);
            }
            Report::Began { who, task } => self.agents.entry(who).or_default().task = task,
            Report::Tool { who, good, refused, at_ms } => {
                let agent = self.agents.entry(who).or_default();
                if agent.refused.is_empty() && !refused.is_empty() {
                    agent.refused_ms = at_ms;
                }
                (agent.good, agent.refused) = (good, refused);
            }
            Report::Denied { what, reason } => {
                self.denied.insert(what, reason);
            }
            Report::Completed { ended, at_ms } => self.completed = Some((ended, at_ms)),
            Report::Refused { reason, .. } => {
                self.refused.retain(|earlier| *earlier != reason);
                self.refused.push(reason);
            }
        }
    }
}

/// Reads a workload's lines until it ends. Lines that are no reports are passed over.
pub(super) async fn follow(stdout: ChildStdout, seen: watch::Sender<Seen>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(report) = serde_json::from_str(&line) {
            seen.send_modify(|seen| seen.take(report));
        }
    }
    seen.send_modify(|seen| seen.ended = true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_add_up() {
        let mut seen = Seen::default();
        let svid =
            |serial: &str| Report::Svid { spiffe_id: "s".into(), serial: serial.into(), begun_ms: 1, not_after_ms: 2 };
        for report in
            [svid("1"), svid("1"), svid("2"), Report::Calls { good: 5, failed: 1, peer: "p".into(), why: "w".into() }]
        {
            let line = serde_json::to_string(&report).unwrap();
            seen.take(serde_json::from_str(&line).unwrap());
        }
        for reason in ["expired", "handshake_failed", "expired"] {
            seen.take(Report::Refused { reason: reason.into(), what: String::new() });
        }
        assert_eq!(seen.serials, ["1", "2"]);
        assert_eq!((seen.good, seen.failed), (5, 1));
        assert_eq!(seen.refused, ["handshake_failed", "expired"]);
    }
}
