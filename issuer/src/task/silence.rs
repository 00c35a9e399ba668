//! Nodes that are silent, and their tasks.
//!
//! Nobody knows what becomes of the instances of a node that is not in sync: its tasks are suspended after a while, and
//! resumed once the node is in sync again and says of each that its instance lives. Time in which no issuer ran does not
//! count, and what counts is kept over a restart.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mayfly_sdk::SpiffeId;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::Tasks;
use crate::directory::Directory;
use crate::store::KeepSilences;

/// How often it is looked who is silent, at the most.
const LOOK: Duration = Duration::from_secs(5);

/// Watches which nodes are silent.
#[derive(Debug)]
pub struct Silence {
    directory: Arc<Directory>,
    tasks: Arc<Tasks>,
    after: Duration,
    silent: Mutex<HashMap<SpiffeId, Duration>>,
}

impl Silence {
    /// `known`: for how long nodes had been silent when an issuer last ran, seconds. Tasks are suspended `after` so long.
    #[must_use]
    pub fn new(directory: Arc<Directory>, tasks: Arc<Tasks>, after: Duration, known: Vec<(SpiffeId, u32)>) -> Self {
        let known = known.into_iter().map(|(node, silent_s)| (node, Duration::from_secs(silent_s.into())));
        Self { directory, tasks, after, silent: Mutex::new(known.collect()) }
    }

    /// Watches until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let pause = LOOK.min(self.after / 4);
        let mut looked = self.directory.clock().monotonic();
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            let now = self.directory.clock().monotonic();
            // A machine that slept ran no issuer meanwhile.
            let passed = now.saturating_sub(looked).min(pause * 2);
            looked = now;
            self.look(passed).await;
        }
    }

    async fn look(&self, passed: Duration) {
        let mut kept = Vec::new();
        let mut due = Vec::new();
        {
            let mut silent = self.silent.lock();
            let nodes = self.tasks.nodes();
            silent.retain(|node, _| {
                let still = nodes.contains(node) && self.directory.session(node).is_none();
                if !still {
                    kept.push((node.clone(), None));
                }
                still
            });
            for node in nodes {
                if self.directory.session(&node).is_some() {
                    continue;
                }
                let so_far = silent.entry(node.clone()).or_default();
                if *so_far < self.after {
                    *so_far += passed;
                    kept.push((node.clone(), Some(u32::try_from(so_far.as_secs()).unwrap_or(u32::MAX))));
                }
                if *so_far >= self.after {
                    due.push(node);
                }
            }
        }
        if !kept.is_empty()
            && let Err(error) = self.directory.store().keep_silences(KeepSilences { silences: kept }).await
        {
            tracing::warn!(reason = error.reason().code(), "it was not kept how long nodes are silent");
        }
        for node in due {
            match self.tasks.hush(&node).await {
                Ok(0) => {}
                Ok(tasks) => tracing::warn!(%node, tasks, "tasks were suspended: their node is silent"),
                Err(refusal) => {
                    tracing::warn!(%node, reason = refusal.reason.code(), "tasks of a silent node were not suspended");
                }
            }
        }
    }
}
