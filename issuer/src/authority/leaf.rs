//! X.509-SVIDs: from a plan to a signed certificate that was read back and found to be as planned.
//!
//! A leaf costs one signature and little else: its encoding is written by hand, and proved equal to `rcgen`'s whenever
//! an intermediate begins to sign.

mod check;
mod encode;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use mayfly_sdk::{PrivateKey, PublicKey, Serial, SpiffeId, Timestamp, Ttl, Validity};

use super::certificate::{BACKDATE, Birth, parse};
use super::key::KeyHandle;
use super::keyring::{Keyring, Roster};
use super::kind::{Kind, subject_key_id};
use super::slot::Active;
use super::{AuthorityError, AuthorityId, der};
use crate::store::SlotKind;
use encode::Template;

/// Of how many signatures one is verified after the first.
pub(super) const VERIFIED_OF: u64 = 256;
/// The most DNS names of an SVID.
const MAX_DNS_NAMES: usize = 64;
/// The longest DNS name (RFC 1035 2.3.4), bytes.
const MAX_DNS_NAME: usize = 253;

/// This process's intermediate, whose key never leaves its memory.
#[derive(Debug)]
pub enum X509Intermediate {}

/// An X.509-SVID to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafPlan {
    /// Whose identity it is; has a path (X509-SVID 3.1).
    pub spiffe_id: SpiffeId,
    /// The key to be certified, which its owner made.
    pub public_key: PublicKey,
    /// Further names, ASCII, in this order; at most 64.
    pub dns_names: Vec<String>,
    /// Addresses, after the names, in this order; at most 64.
    pub ip_addresses: Vec<IpAddr>,
    /// How long it is valid from `now`.
    pub ttl: Ttl,
    /// Its serial number, which is the id of its ledger record too.
    pub serial: Serial,
    /// The time by the issuer's clock. The validity begins 60 s before.
    pub now: Timestamp,
}

/// A signed X.509-SVID, read back and found to be as planned. It is released once its record is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedX509 {
    /// The certificate, DER.
    pub der: Bytes,
    /// The certificates between it and the root, DER, in order.
    pub intermediates: Arc<[Bytes]>,
    /// Its id.
    pub spiffe_id: SpiffeId,
    /// Its serial number.
    pub serial: Serial,
    /// When it is valid.
    pub validity: Validity,
    /// The intermediate that signed it.
    pub authority: AuthorityId,
}

/// The intermediate's key, ready to sign leaves.
pub struct LeafSigner {
    key: KeyHandle,
    chain: Arc<[Bytes]>,
    id: AuthorityId,
    key_id: [u8; 20],
    not_after: Timestamp,
    template: Template,
    signed: AtomicU64,
}

impl Active<X509Intermediate> {
    /// Signs a leaf, reads it back and compares it with the plan.
    ///
    /// # Errors
    /// [`AuthorityError::Plan`] if this cannot be an X.509-SVID, [`AuthorityError::Unavailable`] if it would outlive
    /// the intermediate, [`AuthorityError::NotAsPlanned`] if something else was signed.
    pub async fn sign(&self, plan: &LeafPlan) -> Result<SignedX509, AuthorityError> {
        let signer = self.signer();
        let validity = signer.validity(plan)?;
        check_plan(plan)?;
        let key_id = subject_key_id(&plan.public_key);
        let tbs = signer.template.fill(plan, validity, &key_id)?;
        let signature = signer.key.sign(&tbs).await?;
        let der = der::certificate(&tbs, signer.template.algorithm(), &signature);
        signer.check(&der, plan, validity, &key_id)?;
        if signer.signed.fetch_add(1, Ordering::Relaxed).is_multiple_of(VERIFIED_OF) {
            let held = signer.key.public_key().verify(signer.key.algorithm(), &tbs, &signature);
            held.or(Err(AuthorityError::NotAsPlanned { field: "signature" }))?;
        }
        Ok(SignedX509 {
            der: der.into(),
            intermediates: Arc::clone(&signer.chain),
            spiffe_id: plan.spiffe_id.clone(),
            serial: plan.serial,
            validity,
            authority: signer.id.clone(),
        })
    }

    /// The certificates between a leaf and the root, DER.
    #[must_use]
    pub fn chain(&self) -> &Arc<[Bytes]> {
        &self.signer().chain
    }
}

impl LeafSigner {
    /// From when until when the leaf is valid. It is never cut: what does not fit is refused.
    fn validity(&self, plan: &LeafPlan) -> Result<Validity, AuthorityError> {
        let unavailable = |what| AuthorityError::Unavailable { kind: SlotKind::X509Intermediate, what };
        let not_after = plan.now.checked_add(plan.ttl).filter(|not_after| *not_after <= self.not_after);
        let not_after =
            not_after.ok_or_else(|| unavailable("it would outlive the intermediate, which is being renewed"))?;
        let validity = Validity::new(plan.now.saturating_sub(BACKDATE), not_after);
        validity.ok().ok_or_else(|| unavailable("its validity would end before it begins"))
    }
}

fn check_plan(plan: &LeafPlan) -> Result<(), AuthorityError> {
    let refuse = |what| Err(AuthorityError::Plan { what });
    if plan.spiffe_id.is_root() {
        return refuse("an X.509-SVID is for a SPIFFE ID with a path");
    }
    if plan.ttl.is_zero() {
        return refuse("an X.509-SVID lives for a second at the least");
    }
    if plan.dns_names.len() > MAX_DNS_NAMES || plan.ip_addresses.len() > MAX_DNS_NAMES {
        return refuse("an X.509-SVID has at most 64 DNS names, and as many addresses");
    }
    let legal = |name: &String| {
        (1..=MAX_DNS_NAME).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte))
    };
    if !plan.dns_names.iter().all(legal) {
        return refuse("a DNS name has 1 to 253 letters, digits, hyphens, dots, underscores or a star");
    }
    Ok(())
}

impl Kind for X509Intermediate {
    const NAME: SlotKind = SlotKind::X509Intermediate;
    type Signer = LeafSigner;

    fn authority_id(key: &PublicKey) -> AuthorityId {
        AuthorityId::of_x509(key)
    }

    /// Never: the root signs an intermediate, it does not sign itself.
    async fn certify(_: &Birth<'_>, _: &PrivateKey) -> Result<Vec<Bytes>, AuthorityError> {
        Err(AuthorityError::NotForThisKind { kind: SlotKind::X509Intermediate, why: "is signed by a root" })
    }

    fn signer(key: &PrivateKey, chain: &[Bytes]) -> Result<LeafSigner, AuthorityError> {
        let key = KeyHandle::local(key)?;
        let own = chain.first().ok_or(AuthorityError::NotAsPlanned { field: "chain of the intermediate" })?;
        let certificate = parse(own)?;
        let not_after = Timestamp::from_unix_s(certificate.validity().not_after.timestamp());
        let template = Template::cut(key.public_key(), certificate.subject().as_raw())?;
        let (id, key_id) = (AuthorityId::of_x509(key.public_key()), subject_key_id(key.public_key()));
        Ok(LeafSigner { key, chain: chain.into(), id, key_id, not_after, template, signed: AtomicU64::new(0) })
    }

    fn roster(keyring: &Keyring) -> &Roster<Self> {
        &keyring.intermediates
    }

    fn roster_mut(keyring: &mut Keyring) -> &mut Roster<Self> {
        &mut keyring.intermediates
    }
}
