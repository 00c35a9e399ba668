//! One node's `Sync` stream, as the rest of the issuer sees it: what it still has to hear, and what it acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use mayfly_sdk::{Refusal, Revision, TrustDomain};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::registry::{NodeDelta, NodeEntry, NodeFacts, Uid};

/// Above this many entries a session is told everything anew: it is cheaper, and it bounds what a slow reader costs.
const PENDING_ENTRIES: usize = 20_000;

/// A connected node.
#[derive(Debug)]
pub struct Session {
    /// Which node this is, and by which selectors entries find it.
    pub node: NodeFacts,
    /// Name and version of the agent's build.
    pub build: String,
    /// The agent's wall clock minus ours when it connected, milliseconds.
    pub skew_ms: i64,
    /// Ends the stream.
    pub stop: CancellationToken,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug)]
struct State {
    /// None: nothing to say.
    pending: Option<Pending>,
    acknowledged: Option<Revision>,
    problems: BTreeMap<Uid, Refusal>,
}

/// What a session has to be sent next.
#[derive(Debug)]
pub enum Pending {
    /// These changes; together they lead to `revision`.
    Changes(Changes),
    /// A snapshot of everything, as it is when it is made.
    Everything,
}

/// Changes of several commits, coalesced: of each thing its newest state.
#[derive(Debug)]
pub struct Changes {
    /// What the agent holds once it has these.
    pub revision: Revision,
    /// Entries that are new or changed.
    pub put: BTreeMap<Uid, NodeEntry>,
    /// Entries that the node may no longer serve.
    pub removed: BTreeSet<Uid>,
    /// Trust domains whose bundle is sent anew, or said to be gone.
    pub bundles: BTreeSet<TrustDomain>,
    /// Whether the denials are sent anew.
    pub denials: bool,
}

impl Pending {
    /// These changes, or everything where that is cheaper.
    #[must_use]
    pub fn of(changes: Changes) -> Self {
        if changes.is_long() { Self::Everything } else { Self::Changes(changes) }
    }
}

impl Changes {
    /// No change, up to `revision`.
    #[must_use]
    pub fn none(revision: Revision) -> Self {
        Self { revision, put: BTreeMap::new(), removed: BTreeSet::new(), bundles: BTreeSet::new(), denials: false }
    }

    /// Adds what a node must hear of entries.
    pub fn add_entries(&mut self, delta: NodeDelta) {
        for uid in delta.removed {
            self.put.remove(&uid);
            self.removed.insert(uid);
        }
        for entry in delta.put {
            self.removed.remove(&entry.uid);
            self.put.insert(entry.uid, entry);
        }
    }

    fn is_long(&self) -> bool {
        self.put.len() + self.removed.len() > PENDING_ENTRIES
    }

    fn add(&mut self, newer: Self) {
        self.revision = newer.revision;
        let (put, removed) = (newer.put.into_values().collect(), newer.removed.into_iter().collect());
        self.add_entries(NodeDelta { put, removed, problems: Vec::new() });
        self.bundles.extend(newer.bundles);
        self.denials |= newer.denials;
    }
}

impl Session {
    /// A session that has to be sent `first` before anything else.
    #[must_use]
    pub fn new(node: NodeFacts, build: String, skew_ms: i64, first: Pending, stop: CancellationToken) -> Self {
        let state = State { pending: Some(first), acknowledged: None, problems: BTreeMap::new() };
        Self { node, build, skew_ms, stop, state: Mutex::new(state), wake: Notify::new() }
    }

    /// One more change that concerns this node.
    pub fn offer(&self, changes: Changes) {
        let mut state = self.state.lock();
        match &mut state.pending {
            None => state.pending = Some(Pending::of(changes)),
            Some(Pending::Everything) => {}
            Some(Pending::Changes(pending)) => {
                pending.add(changes);
                if pending.is_long() {
                    state.pending = Some(Pending::Everything);
                }
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Waits until there is something to send.
    pub async fn next(&self) -> Pending {
        loop {
            if let Some(pending) = self.state.lock().pending.take() {
                return pending;
            }
            self.wake.notified().await;
        }
    }

    /// The agent has written this revision to every workload stream. Returns whether that is news.
    pub fn acknowledge(&self, revision: Revision) -> bool {
        let mut state = self.state.lock();
        let news = state.acknowledged.is_none_or(|before| before < revision);
        if news {
            state.acknowledged = Some(revision);
        }
        news
    }

    /// The newest revision that the agent acknowledged on this stream.
    #[must_use]
    pub fn acknowledged(&self) -> Option<Revision> {
        self.state.lock().acknowledged
    }

    /// Replaces what this node reports as not servable.
    pub fn report(&self, problems: BTreeMap<Uid, Refusal>) {
        self.state.lock().problems = problems;
    }

    /// What this node reports as not servable.
    #[must_use]
    pub fn problems(&self) -> BTreeMap<Uid, Refusal> {
        self.state.lock().problems.clone()
    }
}
