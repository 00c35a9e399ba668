//! Node attestation: from evidence to an enrolled node with an SVID.
//!
//! ```text
//! ClaimedKey --challenge, signature--> ProvenKey
//! (ProvenKey, Evidence) --Attestor--> Attested --sign--> SignedNode --enrol (recorded)--> Enrolled
//! ```
//!
//! Each way of proving which node this is has a file of its own: it turns one kind of evidence into [`Attested`]. The
//! node key is proved for all of them, in one place, by a signature that is bound to the TLS connection.

mod enrolled_key;
mod join_token;
mod node_key;
mod svid;

use std::sync::Arc;

use mayfly_sdk::{Refusal, Selector, SpiffeId, Timestamp};

pub use join_token::{JoinTokenRequest, create_join_token};
pub use node_key::{Challenge, ClaimedKey, ProvenKey, SIGNED_CONTEXT};
pub use svid::{Enrolled, NodeLifetimes, NodeSubject, SignedNode};

use crate::{directory::Directory, ledger::Digest};

/// What a node presents to prove which one it is. Its word, not yet believed.
#[derive(Debug)]
pub enum Evidence {
    /// The secret part of a join token.
    JoinToken(Secret),
    /// Possession of a key that is enrolled already.
    EnrolledKey(SpiffeId),
}

/// A secret that was sent to us: zeroised when dropped, never shown.
pub struct Secret(zeroize::Zeroizing<String>);

impl Secret {
    /// Takes the secret over.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(zeroize::Zeroizing::new(secret))
    }

    fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Which node this is, as the issuer itself has verified.
#[derive(Debug)]
pub struct Attested {
    spiffe_id: SpiffeId,
    attestor: &'static str,
    selectors: Vec<Selector>,
    key: ProvenKey,
    means: Means,
}

/// What the proof used up, or rests on.
#[derive(Debug)]
enum Means {
    JoinToken { sha256: Digest },
    EnrolledKey,
}

/// One way of proving which node this is.
trait Attestor {
    /// The evidence that it understands.
    type Evidence;

    /// Verifies the evidence. Nothing is used up yet.
    ///
    /// # Errors
    /// Why it proves nothing.
    fn attest(&self, evidence: Self::Evidence, key: ProvenKey, now: Timestamp) -> Result<Attested, Refusal>;
}

/// Verifies evidence by the attestor that it is for.
///
/// # Errors
/// Why it proves nothing.
pub fn attest(
    directory: &Arc<Directory>,
    lifetimes: &NodeLifetimes,
    evidence: Evidence,
    key: ProvenKey,
) -> Result<Attested, Refusal> {
    let now = directory.clock().now();
    match evidence {
        Evidence::JoinToken(secret) => join_token::JoinToken { directory }.attest(secret, key, now),
        Evidence::EnrolledKey(id) => {
            enrolled_key::EnrolledKey { directory, reattest: lifetimes.reattest }.attest(id, key, now)
        }
    }
}

/// What every node has as selectors, however it was attested.
fn own_selectors(attestor: &str, id: &str) -> Result<[Selector; 2], Refusal> {
    Ok([Selector::new("node", "attestor", attestor)?, Selector::new("node", "id", id)?])
}
