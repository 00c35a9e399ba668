//! Trust bundles: those of other trust domains, and the public form of our own.

use mayfly_sdk::{Revision, TrustDomain};

/// A bundle as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleRow {
    /// Whose bundle.
    pub trust_domain: TrustDomain,
    /// Who set it.
    pub owner: String,
    /// The SPIFFE bundle document, JSON.
    pub document: String,
    /// Its `spiffe_sequence`.
    pub sequence: u64,
    /// The change that wrote it last.
    pub revision: Revision,
}

/// A bundle to be created or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBundle {
    /// Whose bundle.
    pub trust_domain: TrustDomain,
    /// Who sets it.
    pub owner: String,
    /// The SPIFFE bundle document, JSON.
    pub document: String,
    /// Its `spiffe_sequence`.
    pub sequence: u64,
    /// The sequence that the store must hold, else [`StoreError::Conflict`](super::StoreError::Conflict); `None`: any,
    /// or none at all.
    pub replaces: Option<u64>,
}
