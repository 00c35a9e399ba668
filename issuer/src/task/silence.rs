//! Nodes that are silent, and their tasks.
//!
//! Nobody knows what becomes of the instances of a node that is not in sync: its tasks are suspended after a while, and
//! resumed once the node is in sync again and says of each that its instance lives. Time in which no issuer ran does not
//! count, and what counts is kept over a restart.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use mayfly_sdk::task::TaskState;
use mayfly_sdk::{Refusal, Serial, SpiffeId};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::Tasks;
use crate::directory::Directory;
use crate::ledger::Record;
use crate::store::{HushTasks, KeepSilences, Moved, kind_of};

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

impl Tasks {
    /// The nodes whose instances have tasks that have not ended.
    #[must_use]
    pub fn nodes(&self) -> HashSet<SpiffeId> {
        self.table.lock().nodes()
    }

    /// Suspends the tasks of a node that is silent, and what is below them. How many of its own this concerned.
    ///
    /// # Errors
    /// What the store says.
    pub async fn hush(&self, node: &SpiffeId) -> Result<usize, Refusal> {
        let ids = self.table.lock().not_silent(node);
        self.set_silent(node, ids, true).await
    }

    /// A node that is in sync says of which of its tasks the instances live: they are no longer suspended for its silence.
    ///
    /// # Errors
    /// What the store says.
    pub async fn heard(&self, node: &SpiffeId, alive: &[Serial]) -> Result<usize, Refusal> {
        let ids = self.table.lock().silent_among(node, alive);
        self.set_silent(node, ids, false).await
    }

    async fn set_silent(&self, node: &SpiffeId, ids: Vec<Serial>, silent: bool) -> Result<usize, Refusal> {
        let count = ids.len();
        let mut trees: HashMap<Serial, Vec<Serial>> = HashMap::new();
        for id in ids {
            if let Some(held) = self.get(id) {
                trees.entry(held.task.root).or_default().push(id);
            }
        }
        for (root, ids) in trees {
            let kind = kind_of(if silent { TaskState::Suspended } else { TaskState::Open });
            let record =
                Record { node: Some(node.clone()), ..Record::new(kind, Serial::generate(self.clock.now_ms())?) };
            let (table, concerned) = (Arc::clone(&self.table), ids.clone());
            let no_token_after = self.clock.now().saturating_add(self.limits.token);
            let hush = HushTasks { root, ids, silent, record };
            let then = move |moved: &Vec<Moved>| {
                let mut table = table.lock();
                table.set_silent(&concerned, silent);
                table.follow(moved, no_token_after);
            };
            self.store.hush_tasks(hush, then).await?;
        }
        Ok(count)
    }
}
