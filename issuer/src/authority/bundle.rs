//! The trust domain's own bundle: what follows from the slots, and its sequence.

use mayfly_sdk::bundle::{Bundle, JwtAuthority, JwtBundle, WitAuthority, WitBundle, X509Authority, X509Bundle};
use mayfly_sdk::{Refusal, Timestamp, TrustDomain};

use super::AuthorityError;
use super::keyring::Keyring;
use super::schedule::Settings;
use crate::store::{BundleRow, PutBundle};

/// Who set the bundle of our own trust domain.
const OWNER: &str = "mayfly";

/// The trust domain's own bundle, as it is published.
///
/// Its sequence grows with every change of content and only then (row BD-4). It is the time in seconds, or one more than
/// the last where that is not greater: so it goes on growing even if the store is restored from a backup.
///
/// Whether the bundle endpoint shows the WIT keys is a change of content for those who fetch it there, and nowhere else to be
/// seen. So the sequence of a bundle that has such keys remembers it: it is odd where they are shown, and even where not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnBundle {
    bundle: Bundle,
    document: String,
    sequence: u64,
}

impl OwnBundle {
    /// The bundle that the store holds.
    ///
    /// # Errors
    /// [`AuthorityError::Refused`] if it cannot be read.
    ///
    /// One that was written in an `epoch` before this one is given no content, so that it is published anew: the nodes
    /// may know later ones, which the restored store does not.
    pub(super) fn open(row: &BundleRow, epoch: u64) -> Result<Self, AuthorityError> {
        if row.revision.epoch < epoch {
            let bundle = Bundle::empty(row.trust_domain.clone());
            return Ok(Self { bundle, document: String::new(), sequence: row.sequence });
        }
        let bundle = Bundle::from_spiffe_json(row.trust_domain.clone(), row.document.as_bytes());
        let bundle = bundle.map_err(Refusal::from)?;
        Ok(Self { bundle, document: row.document.clone(), sequence: row.sequence })
    }

    /// The bundle that follows from the slots. It has the sequence of the `current` one if it has its content.
    pub(super) fn of(
        keyring: &Keyring,
        trust_domain: &TrustDomain,
        settings: &Settings,
        current: Option<&Self>,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let roots = keyring.roots.published().into_iter().flat_map(|root| root.anchors.iter());
        let roots: Result<Vec<_>, _> = roots.map(|anchor| X509Authority::from_der(anchor)).collect();
        let keys = keyring.jwt.published().into_iter().map(|key| JwtAuthority::new(key.public_key.clone()));
        let keys = JwtBundle::new(trust_domain.clone(), keys.collect::<Result<_, _>>()?).map_err(Refusal::from)?;
        let mut bundle = Bundle::new(X509Bundle::new(trust_domain.clone(), roots.map_err(Refusal::from)?), keys);
        if settings.wit {
            let keys = keyring.wit.published().into_iter().map(|key| WitAuthority::new(key.public_key.clone()));
            let keys = WitBundle::new(trust_domain.clone(), keys.collect::<Result<_, _>>()?).map_err(Refusal::from)?;
            // Nothing is published where two kinds of token would name their keys alike (row W-28).
            bundle = bundle.with_wit(keys).map_err(Refusal::from)?;
        }
        bundle.refresh_hint = Some(settings.refresh_hint());
        if let Some(current) = current {
            bundle.sequence = current.bundle.sequence;
            if bundle == current.bundle && tells(current.sequence, settings) {
                return Ok(current.clone());
            }
        }
        let after = current.map_or(0, |current| current.sequence.saturating_add(1));
        let mut sequence = after.max(u64::try_from(now.unix_s()).unwrap_or(0));
        if !tells(sequence, settings) {
            sequence = sequence.saturating_add(1);
        }
        bundle.sequence = Some(sequence);
        Ok(Self { document: bundle.to_spiffe_json(), bundle, sequence })
    }

    pub(super) fn put(&self, replaces: Option<&Self>) -> PutBundle {
        PutBundle {
            trust_domain: self.bundle.trust_domain().clone(),
            owner: OWNER.to_owned(),
            document: self.document.clone(),
            sequence: self.sequence,
            replaces: replaces.map(Self::sequence),
        }
    }

    /// What it holds.
    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The SPIFFE bundle document, JSON.
    #[must_use]
    pub fn document(&self) -> &str {
        &self.document
    }

    /// Its `spiffe_sequence`.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// Whether a bundle of this sequence is one whose WIT keys, where it has any, are shown as the settings say.
fn tells(sequence: u64, settings: &Settings) -> bool {
    !settings.wit || sequence.is_multiple_of(2) != settings.wit_shown
}
