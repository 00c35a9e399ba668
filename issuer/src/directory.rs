//! What this issuer serves, from memory: entries, bundles, nodes, join tokens, denials, and the sessions of nodes.
//!
//! ```text
//! edit ──> Store (durable) ──> memory ──> the sessions that it concerns
//!              revision n        n             a delta up to n
//! ```
//!
//! Edits take one lock from their plan to their publication, so that memory follows the store in the order of revisions.
//! A session is registered under the same lock under which memory changes: it misses nothing between its snapshot and
//! its first delta. Nothing here reads the database.

mod edit;
mod load;
mod sessions;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use mayfly_sdk::{Clock, Reason, Refusal, Revision, SpiffeId, Timestamp, TrustDomain};
use parking_lot::{Mutex, RwLock};
use tokio::{sync::watch, task::JoinSet};

pub use edit::{Actor, Edited};
pub use load::SlotsOf;
pub use sessions::Everything;

use crate::{
    ledger::{Digest, Record},
    policy::Policies,
    registry::{ConnectedNodes, NodeFacts, Registry},
    store::{
        BundleRow, JoinTokenRow, NodeRow, NodeState, RedeemToken, Redemption, SlotKind, SlotRow, SlotState, Store,
        StoreError,
    },
    sync::{recent::Recent, session::Session},
};

/// The trust domain as this issuer serves it. Shared behind an `Arc`.
pub struct Directory {
    trust_domain: TrustDomain,
    clock: Clock,
    store: Store,
    edits: tokio::sync::Mutex<()>,
    running: Mutex<JoinSet<()>>,
    served: RwLock<Served>,
    /// Counts what may let a prepared key become active: acknowledgements, nodes that come and go.
    acknowledgements: watch::Sender<u64>,
    /// Counts edits of entries, which may give or take rights.
    edited: watch::Sender<u64>,
}

#[derive(Debug)]
struct Served {
    revision: Revision,
    registry: Registry,
    bundles: BTreeMap<TrustDomain, BundleRow>,
    slots: HashMap<String, SlotRow>,
    nodes: HashMap<SpiffeId, Arc<NodeRow>>,
    join_tokens: HashMap<Digest, JoinTokenRow>,
    policies: Arc<Policies>,
    recent: Recent,
    connected: ConnectedNodes,
    sessions: HashMap<SpiffeId, Arc<Session>>,
}

/// What is refused although it would still verify.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Denials {
    /// Ids of tainted and revoked authorities.
    pub authorities: Vec<String>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

impl Directory {
    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The clock of this issuer.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The store behind it.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Makes records durable.
    ///
    /// # Errors
    /// What the store says.
    pub async fn record(&self, records: Vec<Record>) -> Result<(), StoreError> {
        self.store.record(records).await
    }

    /// Uses a token of an identity provider up, together with the records of what for.
    ///
    /// # Errors
    /// As [`Directory::record`]; a refusal is a [`Redemption`].
    pub async fn redeem_token(&self, redeem: RedeemToken) -> Result<Redemption, StoreError> {
        self.store.redeem_token(redeem).await
    }

    /// Why nothing can be recorded at the moment, so that nothing is issued either.
    #[must_use]
    pub fn trouble(&self) -> Option<Refusal> {
        self.store.trouble().map(Refusal::from)
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.served.read().revision
    }

    /// Looks something up in the registry. The closure must not wait for anything.
    pub fn with_registry<T>(&self, look: impl FnOnce(&Registry) -> T) -> T {
        look(&self.served.read().registry)
    }

    /// The bundle of a trust domain, as it is served.
    #[must_use]
    pub fn bundle(&self, trust_domain: &TrustDomain) -> Option<BundleRow> {
        self.served.read().bundles.get(trust_domain).cloned()
    }

    /// Every bundle, by trust domain.
    #[must_use]
    pub fn bundles(&self) -> Vec<BundleRow> {
        self.served.read().bundles.values().cloned().collect()
    }

    /// The policies of tasks.
    #[must_use]
    pub fn policies(&self) -> Arc<Policies> {
        Arc::clone(&self.served.read().policies)
    }

    /// A node, whatever its state.
    #[must_use]
    pub fn node(&self, id: &SpiffeId) -> Option<Arc<NodeRow>> {
        self.served.read().nodes.get(id).cloned()
    }

    /// Every node, ordered by SPIFFE ID.
    #[must_use]
    pub fn nodes(&self) -> Vec<Arc<NodeRow>> {
        let mut nodes: Vec<_> = self.served.read().nodes.values().cloned().collect();
        nodes.sort_by(|a, b| a.spiffe_id.cmp(&b.spiffe_id));
        nodes
    }

    /// How many nodes are enrolled.
    #[must_use]
    pub fn count_nodes(&self) -> usize {
        self.served.read().nodes.len()
    }

    /// The live node with this SPIFFE ID and key.
    ///
    /// # Errors
    /// [`Reason::NodeUnknown`], [`Reason::NodeFrozen`], [`Reason::NodeBanned`].
    pub fn live_node(&self, id: &SpiffeId, key_sha256: &Digest) -> Result<Arc<NodeRow>, Refusal> {
        self.served.read().live_node(id, key_sha256)
    }

    /// The join token with this hash, if it has not ended.
    ///
    /// # Errors
    /// [`Reason::JoinTokenUnknown`], [`Reason::JoinTokenExpired`].
    pub fn join_token(&self, sha256: &Digest, now: Timestamp) -> Result<JoinTokenRow, Refusal> {
        let token = self.served.read().join_tokens.get(sha256).cloned();
        let token =
            token.ok_or_else(|| Refusal::new(Reason::JoinTokenUnknown, "this issuer knows no such join token"))?;
        if token.expires_at <= now {
            return Err(Refusal::new(
                Reason::JoinTokenExpired,
                format!("the join token ended at {}", token.expires_at),
            ));
        }
        Ok(token)
    }

    /// Changes after every edit of entries has become visible.
    #[must_use]
    pub fn edits(&self) -> watch::Receiver<u64> {
        self.edited.subscribe()
    }

    /// What is refused although it would still verify.
    #[must_use]
    pub fn denials(&self, now: Timestamp) -> Denials {
        self.served.read().denials(now)
    }
}

impl Served {
    fn live_node(&self, id: &SpiffeId, key_sha256: &Digest) -> Result<Arc<NodeRow>, Refusal> {
        let node = self.nodes.get(id).filter(|node| node.key_sha256 == *key_sha256);
        let node =
            node.ok_or_else(|| Refusal::new(Reason::NodeUnknown, format!("no node {id} is enrolled with this key")))?;
        match node.state {
            NodeState::Active => Ok(Arc::clone(node)),
            NodeState::Frozen => {
                Err(Refusal::new(Reason::NodeFrozen, format!("the node {id} is frozen: its state was used twice")))
            }
            NodeState::Banned => Err(Refusal::new(Reason::NodeBanned, format!("the node {id} is banned"))),
        }
    }

    fn denials(&self, now: Timestamp) -> Denials {
        let denied =
            |slot: &&SlotRow| matches!(slot.state, SlotState::Tainted | SlotState::Revoked) && slot.not_after >= now;
        let roots: Vec<_> = self.slots.values().filter(denied).filter(|slot| slot.kind == SlotKind::X509Root).collect();
        // What a denied root certified is denied too, so that those who compare need only look at a leaf's issuer.
        let below = |slot: &&SlotRow| {
            slot.kind == SlotKind::X509Intermediate && roots.iter().any(|root| root.chain == slot.anchors)
        };
        let all = self.slots.values().filter(|slot| denied(slot) || below(slot));
        let mut authorities: Vec<_> = all.map(|slot| slot.id.clone()).collect();
        authorities.sort_unstable();
        Denials { authorities }
    }
}

/// A node as the registry sees it.
#[must_use]
pub fn facts(node: &NodeRow) -> NodeFacts {
    NodeFacts { spiffe_id: node.spiffe_id.clone(), selectors: node.selectors.clone().into() }
}
