//! The history of changes, for those who resume.

use mayfly_sdk::Revision;

use super::slots::stored_as_text;

stored_as_text! {
    /// What kind of thing a change touched.
    ChangedKind {
        /// An entry; the key is its uid.
        Entry = "entry",
        /// A bundle; the key is its trust domain.
        Bundle = "bundle",
        /// An authority; the key is its id.
        Slot = "slot",
        /// A node's state; the key is its SPIFFE ID.
        Node = "node",
    }
}

/// One thing that one change touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRow {
    /// The change.
    pub revision: Revision,
    /// What kind of thing.
    pub kind: ChangedKind,
    /// Which one.
    pub key: String,
    /// Whether it is gone.
    pub deleted: bool,
}

/// The newest changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Whoever holds this revision or a later one resumes by deltas; others, and those of an older epoch, need a
    /// snapshot.
    pub floor: Revision,
    /// Every change after the floor, in order.
    pub changes: Vec<ChangeRow>,
}
