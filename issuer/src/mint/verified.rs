//! X.509-SVIDs of ours that were verified, so that an instance which begins many tasks costs two verifications once.

use std::collections::HashMap;

use bytes::Bytes;
use mayfly_sdk::bundle::BundleSet;
use mayfly_sdk::x509::{self, Usage};
use mayfly_sdk::{Refusal, Revision, SpiffeId, Timestamp, VerifiedPeer};
use parking_lot::Mutex;

use super::sha256;
use crate::authority::Authorities;
use crate::ledger::Digest;

/// How many are remembered; when there are more, all are forgotten.
const MOST: usize = 20_000;

/// What was verified under the authorities of one revision. A change of any of them forgets everything.
#[derive(Debug, Default)]
pub struct VerifiedSvids(Mutex<(Revision, HashMap<Digest, Verified>)>);

/// An SVID that is one of ours.
#[derive(Debug, Clone)]
pub(super) struct Verified {
    /// SHA-256 of the leaf.
    pub(super) thumbprint: Digest,
    /// Whose it is.
    pub(super) spiffe_id: SpiffeId,
    /// The last moment at which every certificate of its path is valid.
    pub(super) valid_until: Timestamp,
}

impl Verified {
    /// What TLS has verified.
    pub(super) fn of(peer: &VerifiedPeer) -> Self {
        Self {
            thumbprint: sha256(&[peer.certificate()]),
            spiffe_id: peer.spiffe_id().clone(),
            valid_until: peer.valid_until(),
        }
    }
}

impl VerifiedSvids {
    /// Verifies a chain, leaf first, against this trust domain's own bundle.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn verify(
        &self,
        chain: &[Bytes],
        authorities: &Authorities,
        now: Timestamp,
    ) -> Result<Verified, Refusal> {
        let snapshot = authorities.snapshot();
        let thumbprint = sha256(&[chain.first().map_or(&[][..], |leaf| leaf)]);
        {
            let mut known = self.0.lock();
            if known.0 != snapshot.revision() {
                *known = (snapshot.revision(), HashMap::new());
            }
            if let Some(verified) = known.1.get(&thumbprint).filter(|verified| now <= verified.valid_until) {
                return Ok(verified.clone());
            }
        }
        let mut bundles = BundleSet::new();
        bundles.insert(snapshot.bundle().bundle().x509.clone());
        let peer = x509::verify(chain, &bundles, now, Usage::Client).map_err(Refusal::from)?;
        let verified = Verified::of(&peer);
        let mut known = self.0.lock();
        // Of an older snapshot it is not kept.
        if known.0 == snapshot.revision() {
            if known.1.len() >= MOST {
                known.1.clear();
            }
            known.1.insert(thumbprint, verified.clone());
        }
        Ok(verified)
    }
}
