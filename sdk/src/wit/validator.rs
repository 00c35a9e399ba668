use std::fmt;
use std::sync::Arc;

use super::presentation::Presentation;
use super::single_use::SingleUse;
use super::token::issued;
use super::{Carrier, MAX_LEEWAY, MAX_PROOF_LIFE, ProofError, TargetUri, UnverifiedWit, WitError, proof};
use crate::bundle::WitBundleSet;
use crate::id::{SpiffeId, TrustDomain};
use crate::json::Object;
use crate::key::PublicKey;
use crate::time::{Timestamp, Ttl};

/// How strictly requests are read. The default: 30 s of leeway, proofs of two minutes at most, which may be used again while
/// they last. Cheap to clone; clones remember used proofs together.
#[derive(Debug, Clone)]
pub struct Validator {
    carrier: Carrier,
    leeway: Ttl,
    longest_proof: Ttl,
    longest_life: Option<Ttl>,
    context: Vec<String>,
    single_use: Option<Arc<SingleUse>>,
}

/// Whoever made a request, after token and proof were verified together.
///
/// Claims of the token are statements of the trust domain of its subject, and of nobody else (SPIFFE-ID 4).
#[derive(Clone)]
pub struct VerifiedCaller {
    wit: UnverifiedWit,
    proof_id: String,
}

impl Default for Validator {
    fn default() -> Self {
        Self {
            carrier: Carrier::default(),
            leeway: Ttl::from_s(30),
            longest_proof: Ttl::from_s(120),
            longest_life: None,
            context: Vec::new(),
            single_use: None,
        }
    }
}

impl Validator {
    /// With proofs that travel another way.
    #[must_use]
    pub fn with_carrier(self, carrier: Carrier) -> Self {
        Self { carrier, ..self }
    }

    /// With this difference between the clocks of issuer, caller and validator; counts for each `exp` and `nbf` alike.
    ///
    /// # Errors
    /// [`ProofError::OutOfRange`] above [`MAX_LEEWAY`].
    pub fn with_leeway(self, leeway: Ttl) -> Result<Self, ProofError> {
        if leeway > MAX_LEEWAY { Err(ProofError::OutOfRange) } else { Ok(Self { leeway, ..self }) }
    }

    /// With proofs that live this long at most.
    ///
    /// # Errors
    /// [`ProofError::OutOfRange`] outside 1 s to [`MAX_PROOF_LIFE`].
    pub fn with_longest_proof(self, longest_proof: Ttl) -> Result<Self, ProofError> {
        if longest_proof.is_zero() || longest_proof > MAX_PROOF_LIFE {
            return Err(ProofError::OutOfRange);
        }
        Ok(Self { longest_proof, ..self })
    }

    /// With tokens that live this long at most (WIT-SVID 3.5): from `nbf`, or from now where they have none.
    #[must_use]
    pub fn with_longest_life(self, longest: Ttl) -> Self {
        Self { longest_life: Some(longest), ..self }
    }

    /// With a further token that counts, in a header of this name: where a request has it, its proof must be bound to it.
    /// A token that is not named here must not decide anything about the request.
    ///
    /// # Errors
    /// [`ProofError::BadHeaderName`].
    pub fn with_context_header(mut self, name: &str) -> Result<Self, ProofError> {
        self.context.push(proof::context_header(name)?);
        Ok(self)
    }

    /// With proofs that are good once. Remembers so many of them at a time, some 100 bytes each. One key has at most a quarter of the
    /// room that is left in use (and 16 in any case); beyond that its proofs are refused, and nobody else's.
    #[must_use]
    pub fn with_single_use(self, most: usize) -> Self {
        Self { single_use: Some(Arc::new(SingleUse::new(most))), ..self }
    }

    /// Verifies who makes a request to one of these targets: the token in its headers, and the proof that its maker has the
    /// token's key. The headers are all of the request; targets are made from an [`Origin`](super::Origin) that is configured.
    ///
    /// # Errors
    /// A [`WitError`] for the first check that does not hold. Which came first says nothing about the others.
    pub fn verify<'h>(
        &self,
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
        targets: &[TargetUri],
        bundles: &WitBundleSet,
        now: Timestamp,
    ) -> Result<VerifiedCaller, WitError> {
        let headers: Vec<_> = headers.into_iter().collect();
        let presented = Presentation::find(headers, self.carrier, &self.context)?;
        let wit = issued(presented.token, bundles)?;
        self.check_times(&wit, now)?;
        let proof = proof::check(&presented, wit.confirmation(), targets, (self.longest_proof, self.leeway), now)?;
        if let Some(single_use) = &self.single_use {
            single_use.note(wit.bound_key(), &proof.id, proof.expires_at, now)?;
        }
        Ok(VerifiedCaller { wit, proof_id: proof.id })
    }

    fn check_times(&self, wit: &UnverifiedWit, now: Timestamp) -> Result<(), WitError> {
        if now >= wit.expires_at().saturating_add(self.leeway) {
            return Err(WitError::Expired);
        }
        if wit.not_before().is_some_and(|at| at > now.saturating_add(self.leeway)) {
            return Err(WitError::NotYetValid);
        }
        let life = wit.expires_at().remaining(wit.not_before().unwrap_or(now));
        if self.longest_life.is_some_and(|longest| life > longest) { Err(WitError::LivesTooLong) } else { Ok(()) }
    }
}

impl VerifiedCaller {
    /// Who it is.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        self.wit.spiffe_id()
    }

    /// The trust domain that says all this, and for which alone the claims mean anything.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        self.spiffe_id().trust_domain()
    }

    /// From when on the token is not valid.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.wit.expires_at()
    }

    /// The key that the caller has.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        self.wit.bound_key()
    }

    /// All claims of the token. They are statements of [`VerifiedCaller::trust_domain`].
    #[must_use]
    pub fn claims(&self) -> &Object {
        self.wit.claims()
    }

    /// The `jti` of the proof, for audits.
    #[must_use]
    pub fn proof_id(&self) -> &str {
        &self.proof_id
    }
}

impl fmt::Debug for VerifiedCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifiedCaller({} until {})", self.spiffe_id(), self.expires_at())
    }
}
