//! The steps from consent to release.

use std::sync::Arc;

use mayfly_sdk::{Clock, InstanceId, Reason, Refusal, Serial, SpiffeId, Timestamp};
use ring::digest::{SHA256, digest};

use super::{Caller, Profile};
use crate::{
    authority::{Authorities, AuthorityId},
    directory::Directory,
    ledger::{Digest, Kind, Personal, Record, RequestId},
    registry::{Entry, Sharing},
    store::{RedeemToken, Redemption, UsedToken},
};

/// Of the lifetime, when an SVID is renewed: drawn once, here, so that a fleet does not renew in step.
const RENEWED_FROM: f64 = 0.45;
const RENEWED_TO: f64 = 0.55;

/// The registry's consent, and what exactly is to be signed.
#[derive(Debug)]
pub struct Authorized<P: Profile> {
    pub(super) plan: P::Plan,
    pub(super) on_behalf: OnBehalf,
}

/// Who asked, for whom, and why it was allowed: for the ledger.
#[derive(Debug)]
pub(super) struct OnBehalf {
    /// The node, or the origin of a caller without one.
    pub node: SpiffeId,
    /// The workload's process.
    pub instance: Option<InstanceId>,
    /// The entry.
    pub entry: Arc<Entry>,
    /// What the node called its request.
    pub request_id: RequestId,
    /// Who asked, where that is not a node.
    pub actor: Option<Arc<str>>,
}

impl OnBehalf {
    pub(super) fn new(
        caller: &Caller<'_>,
        instance: Option<InstanceId>,
        entry: Arc<Entry>,
        request_id: RequestId,
    ) -> Self {
        Self { node: caller.facts.spiffe_id.clone(), instance, entry, request_id, actor: None }
    }
}

/// The instance that a credential of this entry is for: none where its workloads share.
///
/// # Errors
/// The entry's workloads do not share, and the node names no instance.
pub(super) fn instance(entry: &Entry, named: Option<InstanceId>) -> Result<Option<InstanceId>, Refusal> {
    match (entry.spec.effective_sharing(), named) {
        (Sharing::Entry, _) => Ok(None),
        (Sharing::Instance, Some(instance)) => Ok(Some(instance)),
        (Sharing::Instance, None) => {
            let what =
                format!("each instance of the entry {} has credentials of its own: name the instance", entry.name());
            Err(Refusal::new(Reason::InvalidArgument, what))
        }
    }
}

/// What the ledger says about a credential.
#[derive(Debug)]
pub struct Description {
    /// What was issued.
    pub kind: Kind,
    /// Serial number or `jti`.
    pub serial: Serial,
    /// Whose identity it is.
    pub spiffe_id: SpiffeId,
    /// The key that signed it.
    pub authority: AuthorityId,
    /// SHA-256 of the certified public key.
    pub key_sha256: Option<Digest>,
    /// SHA-256 of the exact bytes.
    pub released_sha256: Digest,
    /// When it ends.
    pub not_after: Timestamp,
}

/// A credential that exists in this process only: it is not recorded, and nobody may have it.
#[derive(Debug)]
pub struct Signed<C> {
    issued: Issued<C>,
    record: Record,
}

/// A credential whose record is durable.
#[derive(Debug)]
pub struct Recorded<C> {
    issued: Issued<C>,
}

/// A credential on its way out.
#[derive(Debug)]
pub struct Issued<C> {
    /// The credential.
    pub credential: C,
    /// Serial number or `jti`.
    pub serial: Serial,
    /// What is left of its life, seconds.
    pub lifetime_s: u32,
    /// When to renew it, seconds from now.
    pub renew_after_s: u32,
}

impl<P: Profile> Authorized<P> {
    /// Signs it.
    ///
    /// # Errors
    /// No authority can sign it now, or what was signed is not what was planned.
    pub async fn sign(self, authorities: &Authorities, clock: &Clock) -> Result<Signed<P::Credential>, Refusal> {
        let credential = P::sign(authorities, &self.plan).await?;
        let about = P::describe(&credential, &self.plan);
        let lifetime_s = about.not_after.remaining(clock.now()).as_s();
        let renew_after_s = renew_after_s(lifetime_s);
        let OnBehalf { node, instance, entry, request_id, actor } = self.on_behalf;
        let record = Record {
            authority: Some(about.authority.shared()),
            key_sha256: about.key_sha256,
            node: Some(node),
            instance,
            entry_uid: Some(entry.uid.to_string().into()),
            revision: Some(entry.revision),
            request_id: Some(request_id),
            released_sha256: Some(about.released_sha256),
            not_after: Some(about.not_after),
            personal: Personal { spiffe_id: Some(about.spiffe_id), actor, detail: Some(Arc::clone(&entry.spec.name)) },
            ..Record::new(about.kind, about.serial)
        };
        Ok(Signed { issued: Issued { credential, serial: about.serial, lifetime_s, renew_after_s }, record })
    }
}

/// Makes the records of a batch durable, in its order.
///
/// # Errors
/// The store could not: none of the batch may be released.
pub async fn record<C>(batch: Vec<Signed<C>>, directory: &Directory) -> Result<Vec<Recorded<C>>, Refusal> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let (issued, records): (Vec<_>, Vec<_>) = batch.into_iter().map(|signed| (signed.issued, signed.record)).unzip();
    directory.record(records).await?;
    Ok(issued.into_iter().map(|issued| Recorded { issued }).collect())
}

impl<C> Signed<C> {
    /// Makes its record durable and uses up the token that it rests on, in one transaction: one token, one credential.
    ///
    /// # Errors
    /// The token was used before, or the store could not: it may not be released.
    pub async fn redeem(self, token: UsedToken, directory: &Directory) -> Result<Recorded<C>, Refusal> {
        match directory.redeem_token(RedeemToken { token, records: vec![self.record] }).await? {
            Redemption::Redeemed => Ok(Recorded { issued: self.issued }),
            Redemption::UsedBefore => Err(Refusal::new(Reason::TokenUsed, "this token was used before")),
            Redemption::Full => {
                Err(Refusal::new(Reason::Overloaded, "the issuer remembers as many used tokens as it can"))
            }
        }
    }
}

impl<C> Signed<C> {
    /// Makes its record durable together with what else `make` records.
    ///
    /// # Errors
    /// What `make` says: it may not be released.
    pub(super) async fn record_with<T, F>(self, make: impl FnOnce(Record) -> F) -> Result<(T, Recorded<C>), Refusal>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        let Self { issued, record } = self;
        let answer = make(record).await?;
        Ok((answer, Recorded { issued }))
    }
}

impl<C> Recorded<C> {
    /// Lets it go: once.
    #[must_use]
    pub fn release(self) -> Issued<C> {
        self.issued
    }
}

/// When to renew what lives `lifetime_s` seconds from now.
pub(crate) fn renew_after_s(lifetime_s: u32) -> u32 {
    let part = RENEWED_FROM + (RENEWED_TO - RENEWED_FROM) * fastrand::f64();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "less than the lifetime, and not negative"
    )]
    let after = (f64::from(lifetime_s) * part) as u32;
    after
}

/// SHA-256 of exact bytes.
pub(crate) fn sha256(parts: &[&[u8]]) -> Digest {
    let mut sum = [0; 32];
    let found = match parts {
        [one] => digest(&SHA256, one),
        parts => {
            let mut context = ring::digest::Context::new(&SHA256);
            for part in parts {
                context.update(part);
            }
            context.finish()
        }
    };
    sum.copy_from_slice(found.as_ref());
    sum
}

pub(super) fn lost() -> Refusal {
    Refusal::new(Reason::Internal, "a recorded credential was lost on its way out")
}
