//! What a demonstration workload reports on its standard output, one JSON object a line, and what the story has read of it.

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
