//! A change: operations that become visible together, as one revision.

use mayfly_sdk::{Revision, SpiffeId, Timestamp, TrustDomain};

use super::changes::{self, ChangedKind, Touched};
use super::transaction::{Tx, Work};
use super::{NodeState, PutBundle, PutEntry, PutPolicy, PutSlot, StoreError, bundles, entries, nodes, policies, slots};
use crate::ledger::Record;

/// Operations of one change, at most.
const MAX_OPS: usize = 1 << 21;

/// Operations that become visible together, in one transaction and as one revision, with the records that say so.
#[derive(Debug, Clone)]
pub struct Change {
    /// When: what the rows say about their creation and last change.
    pub at: Timestamp,
    /// The revision that this change was made for. If another one is the newest, [`StoreError::Stale`].
    ///
    /// [`StoreError::Stale`]: super::StoreError::Stale
    pub expect: Option<Revision>,
    /// In this order. If one fails, none happened. Without any, the change makes no revision.
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
    /// Applies a set of policies, or deletes it.
    PutPolicy(PutPolicy),
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

impl Work for Change {
    type Answer = Committed;

    async fn run(self, tx: &mut Tx<'_>) -> Result<Committed, StoreError> {
        let Self { at, expect, ops, records } = self;
        let current = tx.head.revision;
        if expect.is_some_and(|expected| expected != current) {
            return Err(StoreError::Stale { current });
        }
        if ops.len() > MAX_OPS {
            return Err(StoreError::TooLarge { what: format!("a change has at most {MAX_OPS} operations") });
        }
        let mut committed = Committed { revision: current, first_order: tx.head.next_order };
        if !ops.is_empty() {
            committed.revision = current.next();
            tx.head.revision = committed.revision;
            let touched = apply(tx, ops, at).await?;
            changes::insert(tx, &touched).await?;
        }
        tx.record_at(records, committed.revision)?;
        Ok(committed)
    }
}

/// Does the operations in their order, those on neighbouring entries by one statement for many.
async fn apply(tx: &mut Tx<'_>, ops: Vec<Op>, at: Timestamp) -> Result<Vec<Touched>, StoreError> {
    let mut touched = Vec::with_capacity(ops.len());
    let mut ops = ops.into_iter().peekable();
    while let Some(op) = ops.next() {
        touched.push(op.touches());
        match op {
            Op::PutEntry(first) => {
                let mut puts = vec![first];
                while let Some(Op::PutEntry(next)) = ops.next_if(|next| matches!(next, Op::PutEntry(_))) {
                    touched.push(Touched::entry(&next.uid, false));
                    puts.push(next);
                }
                entries::put(tx, puts, at).await?;
            }
            Op::DeleteEntry { uid: first } => {
                let mut uids = vec![first];
                while let Some(Op::DeleteEntry { uid }) = ops.next_if(|next| matches!(next, Op::DeleteEntry { .. })) {
                    touched.push(Touched::entry(&uid, true));
                    uids.push(uid);
                }
                entries::delete(tx, &uids).await?;
            }
            Op::PutBundle(put) => bundles::put(tx, put).await?,
            Op::DeleteBundle { trust_domain } => bundles::delete(tx, &trust_domain).await?,
            Op::PutPolicy(put) => policies::put(tx, put, at).await?,
            Op::PutSlot(put) => slots::put(tx, *put).await?,
            Op::DeleteSlot { id } => slots::delete(tx, &id).await?,
            Op::SetNodeState { spiffe_id, state } => nodes::set_state(tx, &spiffe_id, state).await?,
            Op::EvictNode { spiffe_id } => nodes::evict(tx, &spiffe_id).await?,
        }
    }
    Ok(touched)
}

impl Op {
    fn touches(&self) -> Touched {
        let (kind, key, deleted) = match self {
            Self::PutEntry(put) => return Touched::entry(&put.uid, false),
            Self::DeleteEntry { uid } => return Touched::entry(uid, true),
            Self::PutBundle(put) => (ChangedKind::Bundle, put.trust_domain.to_string(), false),
            Self::DeleteBundle { trust_domain } => (ChangedKind::Bundle, trust_domain.to_string(), true),
            Self::PutPolicy(put) => (ChangedKind::Policy, put.name.clone(), put.document.is_none()),
            Self::PutSlot(put) => (ChangedKind::Slot, put.row.id.clone(), false),
            Self::DeleteSlot { id } => (ChangedKind::Slot, id.clone(), true),
            Self::SetNodeState { spiffe_id, .. } => (ChangedKind::Node, spiffe_id.to_string(), false),
            Self::EvictNode { spiffe_id } => (ChangedKind::Node, spiffe_id.to_string(), true),
        };
        Touched { kind, key, deleted }
    }
}
