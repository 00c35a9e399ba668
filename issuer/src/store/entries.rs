//! Registration entries.

use mayfly_sdk::{Revision, Timestamp};

use super::change::Committed;

/// An entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRow {
    /// Given by the issuer; a new one when a name is used again.
    pub uid: String,
    /// Unique in the trust domain.
    pub name: String,
    /// Whose file it came from.
    pub owner: String,
    /// The entry as canonical JSON.
    pub document: String,
    /// The change that wrote it last.
    pub revision: Revision,
    /// The change that last altered what is issued, as [`issuance`] writes it.
    pub issuance: u64,
    /// Ascending in the order of creation.
    pub order: u64,
    /// When the uid was first put.
    pub created_at: Timestamp,
    /// When it was last put.
    pub updated_at: Timestamp,
}

/// An entry to be created or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutEntry {
    /// Which entry; one that is new creates it.
    pub uid: String,
    /// Unique in the trust domain, else [`StoreError::Conflict`](super::StoreError::Conflict).
    pub name: String,
    /// Whose file it came from.
    pub owner: String,
    /// The entry as canonical JSON.
    pub document: String,
    /// Whether what is issued changes, so that SVIDs are minted anew. Of a new entry it always does.
    pub reissues: bool,
}

impl EntryRow {
    /// What the store holds after the `index`-th put of a change, so that memory follows without reading. `previous`:
    /// the row with this uid before. `at` is [`Change::at`](super::Change::at).
    #[must_use]
    pub fn next(previous: Option<&Self>, put: PutEntry, committed: Committed, index: u64, at: Timestamp) -> Self {
        let PutEntry { uid, name, owner, document, reissues } = put;
        let kept = previous.filter(|_| !reissues);
        Self {
            uid,
            name,
            owner,
            document,
            revision: committed.revision,
            issuance: kept.map_or_else(|| issuance(committed.revision), |row| row.issuance),
            order: previous.map_or_else(|| committed.first_order.saturating_add(index), |row| row.order),
            created_at: previous.map_or(at, |row| row.created_at),
            updated_at: at,
        }
    }
}

/// A revision as one number, which no other revision of this store has: the epoch in the bits from 40 on, then `n`.
#[must_use]
pub fn issuance(revision: Revision) -> u64 {
    const N_BITS: u32 = 40;
    revision.epoch << N_BITS | revision.n & ((1 << N_BITS) - 1)
}
