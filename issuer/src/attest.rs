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
mod x509pop;

use std::sync::Arc;

use mayfly_sdk::{Reason, Refusal, Selector, SpiffeId, Timestamp};

pub use join_token::{JoinTokenRequest, create_join_token};
pub use node_key::{Challenge, ClaimedKey, ProvenKey, SIGNED_CONTEXT};
pub use svid::{Enrolled, NodeLifetimes, NodeSubject, SignedNode};
pub use x509pop::{MachineAuthorities, Possession, PresentedChain, fuzz_machine_chain};

use crate::{directory::Directory, ledger::Digest};

/// What a node presents to prove which one it is. Its word, not yet believed.
#[derive(Debug)]
pub enum Evidence {
    /// The secret part of a join token.
    JoinToken(Secret),
    /// Possession of a key that is enrolled already.
    EnrolledKey(SpiffeId),
    /// Possession of the key of a certificate that the machine has from elsewhere.
    Machine(Possession),
}

/// What a node presents first. With what it adds when it is challenged, it is [`Evidence`].
#[derive(Debug)]
pub enum Claim {
    /// The secret part of a join token.
    JoinToken(Secret),
    /// A node whose key is enrolled already.
    EnrolledKey(SpiffeId),
    /// A certificate that the machine has from elsewhere.
    Machine(PresentedChain),
}

impl Claim {
    /// With the answer of the machine's key, which only a certificate needs.
    #[must_use]
    pub fn answered(self, machine_signature: Vec<u8>) -> Evidence {
        match self {
            Self::JoinToken(secret) => Evidence::JoinToken(secret),
            Self::EnrolledKey(id) => Evidence::EnrolledKey(id),
            Self::Machine(chain) => Evidence::Machine(chain.signed(machine_signature)),
        }
    }
}

/// What an operator has configured for the attestors.
#[derive(Debug, Clone)]
pub struct Attestors {
    /// Lifetimes that concern nodes.
    pub lifetimes: NodeLifetimes,
    /// Whose machine certificates enrol nodes; none: no machine certificate does.
    pub machines: Option<MachineAuthorities>,
}

impl Attestors {
    /// # Errors
    /// [`Reason::AttestorOff`]: machine certificates enrol nobody here. Asked before anything of a chain is read.
    pub fn machines(&self) -> Result<&MachineAuthorities, Refusal> {
        self.machines.as_ref().ok_or_else(|| {
            Refusal::new(Reason::AttestorOff, "this issuer does not enrol machines by certificates of their own")
        })
    }
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
    Certificate { key_sha256: Digest },
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
    attestors: &Attestors,
    evidence: Evidence,
    key: ProvenKey,
) -> Result<Attested, Refusal> {
    let now = directory.clock().now();
    match evidence {
        Evidence::JoinToken(secret) => join_token::JoinToken { directory }.attest(secret, key, now),
        Evidence::EnrolledKey(id) => {
            enrolled_key::EnrolledKey { directory, reattest: attestors.lifetimes.reattest }.attest(id, key, now)
        }
        Evidence::Machine(possession) => {
            let authorities = attestors.machines()?;
            x509pop::X509Pop { trust_domain: directory.trust_domain(), authorities }.attest(possession, key, now)
        }
    }
}

/// What every node has as selectors, however it was attested.
fn own_selectors(attestor: &str, id: &str) -> Result<[Selector; 2], Refusal> {
    Ok([Selector::new("node", "attestor", attestor)?, Selector::new("node", "id", id)?])
}
