//! Enrolled nodes, and the three operations that concern one node alone.

use bytes::Bytes;
use mayfly_sdk::{Selector, SpiffeId, Timestamp};

use super::slots::stored_as_text;
use crate::ledger::{Digest, Record, RequestId};

stored_as_text! {
    /// Whether a node may call.
    NodeState {
        /// It may.
        Active = "active",
        /// A generation was used twice: it may not, until an operator decides.
        Frozen = "frozen",
        /// It may not, for good.
        Banned = "banned",
    }
}

/// A node as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Its identity.
    pub spiffe_id: SpiffeId,
    /// How it proved itself: `join_token`.
    pub attestor: String,
    /// Who made its join token.
    pub owner: String,
    /// Whether it may call.
    pub state: NodeState,
    /// DER `SubjectPublicKeyInfo` of its enrolled key.
    pub key_spki: Vec<u8>,
    /// SHA-256 of that.
    pub key_sha256: Digest,
    /// What the issuer attested about it.
    pub selectors: Vec<Selector>,
    /// The generation that its next renewal must name; 1 after the first enrolment.
    pub generation: u64,
    /// The id of its last renewal, and the answer to it.
    pub last_renewal: Option<(RequestId, Bytes)>,
    /// When it last proved itself.
    pub attested_at: Timestamp,
    /// When it last got an SVID.
    pub renewed_at: Timestamp,
    /// When that SVID ends.
    pub svid_not_after: Timestamp,
}

/// Consumes a join token for a key, and enrols the node with it.
#[derive(Debug, Clone)]
pub struct EnrolNode {
    /// SHA-256 of the token.
    pub token_sha256: Digest,
    /// The identity that the token is for; another one is refused.
    pub spiffe_id: SpiffeId,
    /// How it proved itself.
    pub attestor: String,
    /// DER `SubjectPublicKeyInfo` of the node key.
    pub key_spki: Vec<u8>,
    /// What was attested, the token's own selectors included.
    pub selectors: Vec<Selector>,
    /// When the SVID that goes with the answer ends.
    pub svid_not_after: Timestamp,
    /// Written in the same transaction, if the node is enrolled.
    pub records: Vec<Record>,
}

/// Gives a node that proved possession of its enrolled key a new SVID.
#[derive(Debug, Clone)]
pub struct ReattestNode {
    /// Which node.
    pub spiffe_id: SpiffeId,
    /// SHA-256 of the key that it proved to hold.
    pub key_sha256: Digest,
    /// When the SVID that goes with the answer ends.
    pub svid_not_after: Timestamp,
    /// Written in the same transaction, if it is granted.
    pub records: Vec<Record>,
}

/// What became of an enrolment or a re-attestation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolment {
    /// The node is enrolled: its row now.
    Enrolled(Box<NodeRow>),
    /// There is no such token, or not for this identity.
    TokenUnknown,
    /// The token's time is over.
    TokenExpired,
    /// The token is bound to another key.
    TokenUsed,
    /// There is no such node.
    NodeUnknown,
    /// The node is enrolled with another key.
    OtherKey,
    /// The node is frozen; a new join token thaws it.
    NodeFrozen,
    /// The node is banned.
    NodeBanned,
}

/// One renewal of a node's SVID. The answer was signed already; it may be released if the outcome is
/// [`Renewal::Stored`].
#[derive(Debug, Clone)]
pub struct RenewNode {
    /// Which node.
    pub spiffe_id: SpiffeId,
    /// SHA-256 of the key of its connection.
    pub key_sha256: Digest,
    /// The generation that it names.
    pub generation: u64,
    /// What it called the request, before it sent it.
    pub request_id: RequestId,
    /// What it is to be told.
    pub answer: Bytes,
    /// When the SVID in the answer ends.
    pub svid_not_after: Timestamp,
    /// Written in the same transaction, if the answer is stored.
    pub records: Vec<Record>,
    /// Written in the same transaction, if the node is frozen.
    pub records_if_frozen: Vec<Record>,
}

/// What became of a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// The answer is stored and may be released; the next renewal names this generation.
    Stored {
        /// The one after that of the request.
        next_generation: u64,
    },
    /// The same request was answered before: release this answer, and drop the new one.
    Repeated(Bytes),
    /// The generation was used already by another request: a cloned disk. The node is frozen now.
    Frozen,
    /// The node may not call: it was frozen or banned before.
    Refused(NodeState),
    /// The generation was never given out, which a restored backup explains. The node must attest anew.
    GenerationUnknown,
    /// There is no such node with this key. It must attest anew.
    NodeUnknown,
}
