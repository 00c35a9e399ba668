//! The sessions of connected nodes: registered without a gap, told what concerns them, asked what they acknowledged.

use std::{collections::BTreeSet, sync::Arc};

use mayfly_sdk::{Refusal, Revision, SpiffeId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Denials, Directory, Served, facts};
use crate::{
    registry::NodeDelta,
    store::{BundleRow, NodeRow},
    sync::session::{Changes, Pending, Session},
};

/// Everything that one node needs.
#[derive(Debug)]
pub struct Everything {
    /// What the node holds once it has this.
    pub revision: Revision,
    /// Its entries, and those that it cannot serve.
    pub entries: NodeDelta,
    /// Every bundle.
    pub bundles: Vec<BundleRow>,
    /// What is refused although it would still verify.
    pub denials: Denials,
}

impl Directory {
    /// Registers a node's session. It hears of every change from now on, and first of what it missed after `held`.
    /// Another session of the same node is ended: the newer one has taken over.
    ///
    /// # Errors
    /// As [`Directory::live_node`]: the node may have been banned or evicted since its call was authenticated, when there
    /// was no session to be ended yet.
    pub fn connect(
        &self,
        node: &NodeRow,
        held: Option<Revision>,
        build: String,
        skew_ms: i64,
        stop: CancellationToken,
    ) -> Result<Arc<Session>, Refusal> {
        let mut served = self.served.write();
        let node = served.live_node(&node.spiffe_id, &node.key_sha256)?;
        let facts = facts(&node);
        let first = match held.filter(|held| *held <= served.revision).and_then(|held| served.recent.after(held)) {
            None => Pending::Everything,
            Some(touched) => {
                let mut changes = Changes::none(served.revision);
                changes.add_entries(served.registry.delta_for_node(&facts, touched.entries));
                changes.bundles = touched.bundles;
                changes.denials = touched.denials;
                Pending::of(changes)
            }
        };
        let session = Arc::new(Session::new(facts.clone(), build, skew_ms, first, stop));
        served.connected.insert(facts);
        if let Some(older) = served.sessions.insert(node.spiffe_id.clone(), Arc::clone(&session)) {
            older.stop.cancel();
        }
        drop(served);
        self.acknowledgements.send_modify(|count| *count += 1);
        Ok(session)
    }

    /// The session has ended. A newer one of the same node stays.
    pub fn disconnect(&self, session: &Arc<Session>) {
        let id = &session.node.spiffe_id;
        let mut served = self.served.write();
        if served.sessions.get(id).is_some_and(|current| Arc::ptr_eq(current, session)) {
            served.sessions.remove(id);
            served.connected.remove(id);
        }
        drop(served);
        self.acknowledgements.send_modify(|count| *count += 1);
    }

    /// The agent has written `revision` to every workload stream.
    pub fn acknowledge(&self, session: &Session, revision: Revision) {
        if session.acknowledge(revision) {
            self.acknowledgements.send_modify(|count| *count += 1);
        }
    }

    /// Everything that this node needs, as of one revision.
    #[must_use]
    pub fn everything_for(&self, session: &Session) -> Everything {
        let served = self.served.read();
        Everything {
            revision: served.revision,
            entries: served.registry.snapshot_for_node(&session.node),
            bundles: served.bundles.values().cloned().collect(),
            denials: served.denials(self.clock.now()),
        }
    }

    /// The session of a node, while it is connected.
    #[must_use]
    pub fn session(&self, id: &SpiffeId) -> Option<Arc<Session>> {
        self.served.read().sessions.get(id).cloned()
    }

    /// How many nodes are connected.
    #[must_use]
    pub fn count_sessions(&self) -> usize {
        self.served.read().sessions.len()
    }

    /// The connected nodes that have not acknowledged `revision` yet.
    #[must_use]
    pub fn behind(&self, revision: Revision) -> BTreeSet<SpiffeId> {
        let served = self.served.read();
        let behind = |session: &&Arc<Session>| session.acknowledged().is_none_or(|held| held < revision);
        served.sessions.values().filter(behind).map(|session| session.node.spiffe_id.clone()).collect()
    }

    /// Changes whenever [`Directory::behind`] may have.
    #[must_use]
    pub fn acknowledgements(&self) -> watch::Receiver<u64> {
        self.acknowledgements.subscribe()
    }
}

impl Served {
    pub(super) fn end_session(&mut self, id: &SpiffeId) {
        if let Some(session) = self.sessions.remove(id) {
            self.connected.remove(id);
            session.stop.cancel();
        }
    }
}
