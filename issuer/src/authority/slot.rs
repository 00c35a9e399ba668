//! One slot for every kind of key. Prepared cannot sign, active signs, retiring only verifies.
//!
//! ```text
//! Prepared ──activate──> Active ──retire──> Retiring ──end──> Retired
//!    │                     │ │                │  │
//!    │                     │ └─────taint──────┼──┴──> Tainted ──end──> Retired
//!    └──────revoke─────────┴──────revoke──────┴──────> Revoked <──revoke── Tainted
//! ```
//!
//! A private key leaves memory and store with the state that may use it: from retiring on nothing can sign with it.

use std::sync::Arc;

use bytes::Bytes;
use mayfly_sdk::{KeyAlgorithm, PublicKey, Revision, Timestamp, Ttl};

use super::AuthorityId;
use super::kind::Kind;
use super::schedule::{SIXTH, last_expiry};
use crate::store::{SlotKey, SlotKind, SlotOrigin};

/// What a slot is, whatever its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its id.
    pub id: AuthorityId,
    /// Counts the keys of a kind in a trust domain, from 1.
    pub generation: u64,
    /// The issuer whose own it is; empty: shared by all.
    pub issuer: Arc<str>,
    /// What kind of key it is.
    pub algorithm: KeyAlgorithm,
    /// The public key.
    pub public_key: PublicKey,
    /// DER certificates, its own first; none where the bare key is published.
    pub chain: Arc<[Bytes]>,
    /// DER certificates that the bundle holds for it; none where the bare key is published.
    pub anchors: Arc<[Bytes]>,
    /// Who vouches for it.
    pub origin: SlotOrigin,
    /// When it was made.
    pub made_at: Timestamp,
    /// The end of its life.
    pub not_after: Timestamp,
}

impl Facts {
    /// How long it lives.
    #[must_use]
    pub fn life(&self) -> Ttl {
        self.not_after.remaining(self.made_at)
    }

    /// When it takes over at the latest, whether or not every node knows it: 1/6 of its life after it was made.
    #[must_use]
    pub fn activate_by(&self) -> Timestamp {
        self.made_at.saturating_add(SIXTH.of(self.life()))
    }
}

/// A key of kind `K` in the state `S`.
pub struct Slot<K: Kind, S> {
    facts: Arc<Facts>,
    state: S,
    kind: std::marker::PhantomData<fn() -> K>,
}

/// Published, does not sign yet.
pub type Prepared<K> = Slot<K, state::Prepared<K>>;
/// Signs.
pub type Active<K> = Slot<K, state::Active<K>>;
/// Signs no more, still published.
pub type Retiring<K> = Slot<K, state::Retiring>;
/// At its end.
pub type Retired<K> = Slot<K, state::Retired>;
/// Believed to be compromised, still published.
pub type Tainted<K> = Slot<K, state::Tainted>;
/// Compromised, not published.
pub type Revoked<K> = Slot<K, state::Revoked>;

/// What a slot knows in each state alone.
pub mod state {
    use std::sync::Arc;

    use mayfly_sdk::{Revision, Timestamp};

    use super::{Kind, SlotKey};

    /// A private key, stored and ready.
    pub struct Secret<K: Kind> {
        /// `None` where the key never leaves this process.
        pub(in super::super) stored: Option<SlotKey>,
        pub(in super::super) signer: Arc<K::Signer>,
    }

    impl<K: Kind> Clone for Secret<K> {
        fn clone(&self) -> Self {
            Self { stored: self.stored.clone(), signer: Arc::clone(&self.signer) }
        }
    }

    /// Of a prepared key.
    pub struct Prepared<K: Kind> {
        pub(in super::super) secret: Secret<K>,
        pub(in super::super) published: Option<Revision>,
    }

    impl<K: Kind> Clone for Prepared<K> {
        fn clone(&self) -> Self {
            Self { secret: self.secret.clone(), published: self.published }
        }
    }

    /// Of an active key.
    pub struct Active<K: Kind> {
        pub(in super::super) secret: Secret<K>,
        pub(in super::super) since: Timestamp,
    }

    impl<K: Kind> Clone for Active<K> {
        fn clone(&self) -> Self {
            Self { secret: self.secret.clone(), since: self.since }
        }
    }

    /// Of a key that signed, or might have.
    #[derive(Clone)]
    pub struct Past {
        pub(in super::super) activated: Option<Timestamp>,
        pub(in super::super) stopped: Timestamp,
    }

    /// A state in which a key signs no more.
    pub trait Ended {
        /// What it was before.
        fn past(&self) -> &Past;
    }

    /// Of a retiring key.
    #[derive(Clone)]
    pub struct Retiring(pub(in super::super) Past);

    /// Of a retired key.
    #[derive(Clone)]
    pub struct Retired(pub(in super::super) Past, pub(in super::super) Timestamp);

    /// Of a tainted key.
    #[derive(Clone)]
    pub struct Tainted(pub(in super::super) Past, pub(in super::super) Timestamp);

    /// Of a revoked key.
    #[derive(Clone)]
    pub struct Revoked(pub(in super::super) Past, pub(in super::super) Timestamp);

    macro_rules! ended {
        ($($state:ident),+) => {
            $( impl Ended for $state {
                fn past(&self) -> &Past {
                    &self.0
                }
            } )+
        };
    }
    ended!(Retiring, Retired, Tainted, Revoked);
}

impl<K: Kind, S> Slot<K, S> {
    pub(super) fn new(facts: Arc<Facts>, state: S) -> Self {
        Self { facts, state, kind: std::marker::PhantomData }
    }

    /// What it is, whatever its state.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &AuthorityId {
        &self.facts.id
    }

    /// Its kind.
    #[must_use]
    pub const fn kind_name(&self) -> SlotKind {
        K::NAME
    }

    pub(super) fn state(&self) -> &S {
        &self.state
    }

    fn into<T>(self, to: impl FnOnce(S) -> T) -> Slot<K, T> {
        Slot::new(self.facts, to(self.state))
    }
}

/// Copies are for the keyring's drafts only: a draft that the store refuses is dropped, and the old state stands.
impl<K: Kind, S: Clone> Slot<K, S> {
    pub(super) fn draft(&self) -> Self {
        Self::new(Arc::clone(&self.facts), self.state.clone())
    }
}

impl<K: Kind> Prepared<K> {
    pub(super) fn prepare(facts: Facts, secret: state::Secret<K>) -> Self {
        Self::new(Arc::new(facts), state::Prepared { secret, published: None })
    }

    /// It signs from now on.
    #[must_use]
    pub fn activate(self, now: Timestamp) -> Active<K> {
        self.into(|was| state::Active { secret: was.secret, since: now })
    }

    /// It leaves the bundle without having signed anything.
    #[must_use]
    pub fn revoke(self, now: Timestamp) -> Revoked<K> {
        self.into(|_| state::Revoked(state::Past { activated: None, stopped: now }, now))
    }

    /// The revision that published it, once the store has given one.
    #[must_use]
    pub fn published(&self) -> Option<Revision> {
        self.state.published
    }

    pub(super) fn publish(&mut self, revision: Revision) {
        self.state.published.get_or_insert(revision);
    }

    pub(super) fn secret(&self) -> &state::Secret<K> {
        &self.state.secret
    }

    pub(super) fn reseal(&mut self, stored: SlotKey) {
        self.state.secret.stored = Some(stored);
    }
}

impl<K: Kind> Active<K> {
    /// What signs.
    #[must_use]
    pub fn signer(&self) -> &K::Signer {
        &self.state.secret.signer
    }

    /// When it became active.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.state.since
    }

    /// It signs no more.
    #[must_use]
    pub fn retire(self, now: Timestamp) -> Retiring<K> {
        self.into(|was| state::Retiring(state::Past { activated: Some(was.since), stopped: now }))
    }

    /// It signs no more, and what it signed is minted anew.
    #[must_use]
    pub fn taint(self, now: Timestamp) -> Tainted<K> {
        self.retire(now).taint(now)
    }

    /// It signs no more, and leaves the bundle.
    #[must_use]
    pub fn revoke(self, now: Timestamp) -> Revoked<K> {
        self.retire(now).revoke(now)
    }

    pub(super) fn secret(&self) -> &state::Secret<K> {
        &self.state.secret
    }

    pub(super) fn reseal(&mut self, stored: SlotKey) {
        self.state.secret.stored = Some(stored);
    }
}

impl<K: Kind> Retiring<K> {
    /// What it signed is minted anew; it stays published.
    #[must_use]
    pub fn taint(self, now: Timestamp) -> Tainted<K> {
        self.into(|was| state::Tainted(was.0, now))
    }

    /// It leaves the bundle at once.
    #[must_use]
    pub fn revoke(self, now: Timestamp) -> Revoked<K> {
        self.into(|was| state::Revoked(was.0, now))
    }

    /// It leaves the bundle: nothing that it signed is valid any more.
    #[must_use]
    pub fn end(self, now: Timestamp) -> Retired<K> {
        self.into(|was| state::Retired(was.0, now))
    }
}

impl<K: Kind> Tainted<K> {
    /// It leaves the bundle at once.
    #[must_use]
    pub fn revoke(self, now: Timestamp) -> Revoked<K> {
        self.into(|was| state::Revoked(was.0, now))
    }

    /// It leaves the bundle: nothing that it signed is valid any more.
    #[must_use]
    pub fn end(self, now: Timestamp) -> Retired<K> {
        self.into(|was| state::Retired(was.0, now))
    }
}

impl<K: Kind> Retired<K> {
    /// When it left the bundle.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.state.1
    }
}

impl<K: Kind, S: state::Ended> Slot<K, S> {
    /// When it began to sign, if it ever did.
    #[must_use]
    pub fn activated(&self) -> Option<Timestamp> {
        self.state.past().activated
    }

    /// When the last thing that it signed has expired. Until then a revoked or tainted one is named to those who verify.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        last_expiry(K::NAME, self.facts().life(), self.state.past().stopped)
    }
}
