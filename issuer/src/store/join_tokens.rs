//! Join tokens: stored hashed, consumed by one statement.

use mayfly_sdk::{Selector, SpiffeId, Timestamp};

use crate::ledger::Digest;

/// A join token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinTokenRow {
    /// SHA-256 of the token.
    pub token_sha256: Digest,
    /// The identity of the node to be.
    pub spiffe_id: SpiffeId,
    /// Extra node selectors.
    pub selectors: Vec<Selector>,
    /// Who made it.
    pub owner: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From this moment on it enrols nobody.
    pub expires_at: Timestamp,
    /// SHA-256 of the key that it enrolled.
    pub bound_key_sha256: Option<Digest>,
}
