use std::collections::HashSet;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use mayfly_proto::node;
use mayfly_sdk::{Clock, Refusal, SpiffeId};
use tokio::sync::watch;

use super::{GRACE, Life, SubjectKey};
use crate::holdings::{Entry, HeldBundle, Holdings};
use crate::link::NodeClient;

/// A kind of credential: how it is asked for, and what is checked before anybody gets it.
pub(crate) trait Credential: Sized + Send + Sync + Debug + 'static {
    /// What is asked for beyond the subject.
    type Request: Clone + Eq + Hash + Send + Sync + Debug;
    /// One item of a batch on the wire.
    type Item: Send + 'static;
    /// What the issuer sends for one item.
    type Issue: Send + 'static;
    /// What was made on the node for one item, and never travels.
    type Made: Send + 'static;

    /// For logs and metrics.
    const KIND: &'static str;

    /// Makes one item of a batch.
    ///
    /// # Errors
    /// A key cannot be made.
    fn ask(
        request: &Self::Request,
        subject: node::Subject,
        remaining_s: u32,
    ) -> Result<(Self::Item, Self::Made), Refusal>;

    /// Has a batch minted: one outcome for each item, in their order.
    ///
    /// # Errors
    /// The whole call failed.
    fn mint(
        client: NodeClient,
        items: Vec<Self::Item>,
    ) -> impl Future<Output = Result<Vec<Outcome<Self::Issue>>, tonic::Status>> + Send;

    /// Checks what the issuer sent, by the issuer's clock, before anybody gets it.
    ///
    /// # Errors
    /// What does not hold.
    fn accept(
        request: &Self::Request,
        issue: Self::Issue,
        made: Self::Made,
        own: &HeldBundle,
        clock: &Clock,
    ) -> Result<Accepted<Self>, Refusal>;

    /// Whether it still verifies against this bundle, which has changed since it was accepted.
    fn verifies(&self, own: &HeldBundle) -> bool;
}

/// What the issuer made of one item: nothing, if it answered with an empty outcome.
pub(crate) type Outcome<I> = Option<Result<I, node::Refused>>;

/// A credential that was checked.
#[derive(Debug)]
pub(crate) struct Accepted<C> {
    pub(crate) credential: C,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) life: Life,
    /// Hex: serial or jti.
    pub(crate) serial: String,
    /// Hex ids of the authorities that it stands on.
    pub(crate) authorities: Vec<String>,
    /// SHA-256 (hex) of its public key; empty where it has none.
    pub(crate) key_sha256: String,
}

/// A credential in its slot.
#[derive(Debug)]
pub(crate) struct Held<C> {
    pub(crate) accepted: Accepted<C>,
    /// Of the entry, when it was minted.
    pub(crate) issuance: u64,
    /// The own bundle that it was checked against.
    pub(crate) checked_with: Arc<HeldBundle>,
}

/// What is to become of a credential after a change of the holdings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It stays.
    Good,
    /// It stays until a new one is there, which is minted at once.
    Replace,
    /// It is denied: nobody gets it any more.
    Discard,
}

impl<C: Credential> Held<C> {
    pub(crate) fn credential(&self) -> &C {
        &self.accepted.credential
    }

    pub(crate) fn spiffe_id(&self) -> &SpiffeId {
        &self.accepted.spiffe_id
    }

    pub(crate) fn life(&self) -> &Life {
        &self.accepted.life
    }

    /// How it stands with the entry and the holdings of the moment.
    pub(crate) fn standing(&self, entry: &Entry, holdings: &Holdings) -> Standing {
        let denials = holdings.denials();
        let among = |set: &HashSet<String>, value: &String| !set.is_empty() && set.contains(value);
        if among(&denials.serials, &self.accepted.serial) || among(&denials.keys, &self.accepted.key_sha256) {
            return Standing::Discard;
        }
        let tainted = self.accepted.authorities.iter().any(|id| among(&denials.tainted_authorities, id));
        let stale = tainted || self.issuance != entry.issuance() || !self.stands_on(holdings);
        if stale { Standing::Replace } else { Standing::Good }
    }

    /// Whether its authorities are still in the bundle. Looked at only when the bundle has changed.
    fn stands_on(&self, holdings: &Holdings) -> bool {
        match holdings.bundle(self.spiffe_id().trust_domain()) {
            Some(own) if Arc::ptr_eq(own, &self.checked_with) => true,
            Some(own) => self.credential().verifies(own),
            None => true,
        }
    }
}

/// What a slot shows to those who wait on it.
#[derive(Debug)]
pub(crate) struct SlotState<C> {
    /// The credential, while there is one. It may have expired: ask its life.
    pub(crate) held: Option<Arc<Held<C>>>,
    /// Why the last attempt failed; none after a success.
    pub(crate) refused: Option<Arc<Refusal>>,
}

/// What a slot is for.
#[derive(Debug)]
pub(crate) struct SlotKey<C: Credential> {
    pub(crate) subject: SubjectKey,
    pub(crate) request: C::Request,
}

/// One credential that is, or was lately, in use.
#[derive(Debug)]
pub(crate) struct Slot<C: Credential> {
    pub(crate) key: SlotKey<C>,
    pub(crate) state: watch::Sender<SlotState<C>>,
    /// Leases that are held.
    users: AtomicUsize,
    /// Monotonic milliseconds of the last use.
    last_use_ms: AtomicU64,
    /// The minter was told, and has not finished yet.
    queued: AtomicBool,
}

impl<C: Credential> Slot<C> {
    pub(crate) fn new(key: SlotKey<C>, now: Duration) -> Self {
        let (state, _) = watch::channel(SlotState { held: None, refused: None });
        let last_use_ms = AtomicU64::new(whole_ms(now));
        Self { key, state, users: AtomicUsize::new(0), last_use_ms, queued: AtomicBool::new(false) }
    }

    pub(crate) fn held(&self) -> Option<Arc<Held<C>>> {
        self.state.borrow().held.clone()
    }

    pub(crate) fn enter(&self, now: Duration) {
        self.users.fetch_add(1, Ordering::AcqRel);
        self.last_use_ms.store(whole_ms(now), Ordering::Relaxed);
    }

    pub(crate) fn leave(&self, now: Duration) {
        self.last_use_ms.store(whole_ms(now), Ordering::Relaxed);
        self.users.fetch_sub(1, Ordering::AcqRel);
    }

    pub(crate) fn has_users(&self) -> bool {
        self.users.load(Ordering::Acquire) > 0
    }

    /// Whether it is leased, or was a moment ago.
    pub(crate) fn is_in_use(&self, now: Duration) -> bool {
        self.has_users() || self.last_use() + GRACE > now
    }

    pub(crate) fn last_use(&self) -> Duration {
        Duration::from_millis(self.last_use_ms.load(Ordering::Relaxed))
    }

    /// Marks it as handed to the minter. Whether it was not before.
    pub(crate) fn queue(&self) -> bool {
        !self.queued.swap(true, Ordering::AcqRel)
    }

    /// The minter has done with it.
    pub(crate) fn unqueue(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

impl<C: Credential> Clone for SlotKey<C> {
    fn clone(&self) -> Self {
        Self { subject: self.subject.clone(), request: self.request.clone() }
    }
}

impl<C: Credential> PartialEq for SlotKey<C> {
    fn eq(&self, other: &Self) -> bool {
        self.subject == other.subject && self.request == other.request
    }
}

impl<C: Credential> Eq for SlotKey<C> {}

impl<C: Credential> Hash for SlotKey<C> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.subject.hash(state);
        self.request.hash(state);
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
