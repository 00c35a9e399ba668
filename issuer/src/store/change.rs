//! A change: operations that become visible together, as one revision.

use mayfly_sdk::{Revision, SpiffeId, Timestamp, TrustDomain};

use super::{NodeState, PutBundle, PutEntry, PutSlot};
use crate::ledger::Record;

/// Operations that become visible together, in one transaction and as one revision, with the records that say so.
#[derive(Debug, Clone)]
pub struct Change {
    /// When: what the rows say about their creation and last change.
    pub at: Timestamp,
    /// The revision that this change was made for. If another one is the newest, [`StoreError::Stale`].
    ///
    /// [`StoreError::Stale`]: super::StoreError::Stale
    pub expect: Option<Revision>,
    /// In this order. If one fails, none happened.
    pub ops: Vec<Op>,
    /// Written in the same transaction. A record without a revision gets that of the change.
    pub records: Vec<Record>,
}

/// One operation of a [`Change`].
#[derive(Debug, Clone)]
pub enum Op {
    /// Creates an entry, or replaces the one with the same uid.
    PutEntry(PutEntry),
    /// Deletes an entry.
    DeleteEntry {
        /// Its uid.
        uid: String,
    },
    /// Creates or replaces a bundle, with a compare-and-set on its sequence.
    PutBundle(PutBundle),
    /// Deletes a bundle.
    DeleteBundle {
        /// Whose bundle.
        trust_domain: TrustDomain,
    },
    /// Creates or replaces an authority's slot, with a compare-and-set on its state and generation.
    PutSlot(Box<PutSlot>),
    /// Forgets a slot whose authority has ended.
    DeleteSlot {
        /// The authority's id.
        id: String,
    },
    /// Bans, freezes or thaws a node.
    SetNodeState {
        /// Which node.
        spiffe_id: SpiffeId,
        /// Its new state.
        state: NodeState,
    },
    /// Forgets a node: it must attest anew.
    EvictNode {
        /// Which node.
        spiffe_id: SpiffeId,
    },
}

/// What a change became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Its revision: the one after the newest before it.
    pub revision: Revision,
    /// The order given to the change's first [`Op::PutEntry`] if its uid was new; the next one got the next order, and
    /// so on, whether or not it needed one. See [`EntryRow::next`](super::EntryRow::next).
    pub first_order: u64,
}

impl Change {
    /// A change without operations or records.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        Self { at, expect: None, ops: Vec::new(), records: Vec::new() }
    }
}
