//! All slots of a trust domain, one roster a kind.

use mayfly_sdk::{Revision, SpiffeId, Timestamp};

use super::certificate::{X509Root, check_authority};
use super::kind::Kind;
use super::leaf::X509Intermediate;
use super::notice::{SecurityEvent, StatusList, Transaction};
use super::row::StoredSlot;
use super::slot::{Active, Prepared, Retired, Retiring, Revoked, Slot, Tainted};
use super::task::Task;
use super::token::Jwt;
use super::wit::Wit;
use super::wrapping::Sealer;
use super::{AuthorityError, AuthorityId};
use crate::store::{SlotKind, SlotRow, SlotState};

/// Runs the same code for the kind with this name.
macro_rules! of_kind {
    ($name:expr, $K:ident => $body:expr) => {
        match $name {
            $crate::store::SlotKind::X509Root => {
                type $K = $crate::authority::certificate::X509Root;
                $body
            }
            $crate::store::SlotKind::X509Intermediate => {
                type $K = $crate::authority::leaf::X509Intermediate;
                $body
            }
            $crate::store::SlotKind::Jwt => {
                type $K = $crate::authority::token::Jwt;
                $body
            }
            $crate::store::SlotKind::Wit => {
                type $K = $crate::authority::wit::Wit;
                $body
            }
            $crate::store::SlotKind::Task => {
                type $K = $crate::authority::task::Task;
                $body
            }
            $crate::store::SlotKind::StatusList => {
                type $K = $crate::authority::notice::StatusList;
                $body
            }
            $crate::store::SlotKind::SecurityEvent => {
                type $K = $crate::authority::notice::SecurityEvent;
                $body
            }
            $crate::store::SlotKind::Transaction => {
                type $K = $crate::authority::notice::Transaction;
                $body
            }
        }
    };
}
pub(super) use of_kind;

/// The slots of one kind. At most one is prepared and at most one is active, because there is room for no second.
pub struct Roster<K: Kind> {
    pub(super) prepared: Option<Prepared<K>>,
    pub(super) active: Option<Active<K>>,
    pub(super) retiring: Vec<Retiring<K>>,
    pub(super) tainted: Vec<Tainted<K>>,
    pub(super) revoked: Vec<Revoked<K>>,
    pub(super) retired: Vec<Retired<K>>,
    /// Stored as active, by a process that has ended with its key.
    pub(super) lost: Vec<Retiring<K>>,
    pub(super) last_generation: u64,
}

/// All slots of a trust domain.
#[derive(Default)]
pub struct Keyring {
    pub(super) roots: Roster<X509Root>,
    pub(super) intermediates: Roster<X509Intermediate>,
    pub(super) jwt: Roster<Jwt>,
    pub(super) wit: Roster<Wit>,
    pub(super) task: Roster<Task>,
    pub(super) status_lists: Roster<StatusList>,
    pub(super) security_events: Roster<SecurityEvent>,
    pub(super) transactions: Roster<Transaction>,
}

/// An authority as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its id.
    pub id: AuthorityId,
    /// What it signs.
    pub kind: SlotKind,
    /// Where it stands.
    pub state: SlotState,
    /// Name of the key's algorithm.
    pub algorithm: &'static str,
    /// The issuer whose own it is; empty: shared by all.
    pub issuer: String,
    /// Counts the keys of its kind, from 1.
    pub generation: u64,
    /// When it was made.
    pub prepared_at: Timestamp,
    /// When it began to sign.
    pub activated_at: Option<Timestamp>,
    /// The end of its life.
    pub not_after: Timestamp,
    /// Of a prepared one: when it takes over at the latest.
    pub activate_by: Option<Timestamp>,
    /// Of a prepared one: the revision that published it.
    pub published: Option<Revision>,
    /// Of a prepared one: the nodes in sync that have not acknowledged it yet.
    pub waiting_for: Vec<SpiffeId>,
}

impl Keyring {
    /// Opens the stored slots.
    ///
    /// # Errors
    /// [`AuthorityError::Damaged`] if they contradict each other, and what opening a sealed key says.
    pub(super) fn open(
        rows: impl IntoIterator<Item = SlotRow>,
        sealer: &Sealer,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let mut keyring = Self::default();
        for row in rows {
            of_kind!(row.kind, K => K::roster_mut(&mut keyring).take(StoredSlot::<K>::open(&row, sealer, now)?)?);
        }
        for root in &keyring.roots.facts() {
            let certificate = root.chain.first().map_or(&[][..], |der| der);
            let checked = check_authority(certificate, sealer.trust_domain(), &root.public_key, &root.public_key);
            checked.map_err(|error| AuthorityError::Damaged { what: format!("root {}: {error}", root.id) })?;
        }
        Ok(keyring)
    }

    /// A copy to change: if the store refuses the change, the copy is dropped and nothing has happened.
    pub(super) fn draft(&self) -> Self {
        Self {
            roots: self.roots.draft(),
            intermediates: self.intermediates.draft(),
            jwt: self.jwt.draft(),
            wit: self.wit.draft(),
            task: self.task.draft(),
            status_lists: self.status_lists.draft(),
            security_events: self.security_events.draft(),
            transactions: self.transactions.draft(),
        }
    }

    /// The revision of the change that published what is prepared.
    pub(super) fn published(&mut self, revision: Revision) {
        self.roots.prepared.iter_mut().for_each(|slot| slot.publish(revision));
        self.jwt.prepared.iter_mut().for_each(|slot| slot.publish(revision));
        self.wit.prepared.iter_mut().for_each(|slot| slot.publish(revision));
        self.task.prepared.iter_mut().for_each(|slot| slot.publish(revision));
        self.status_lists.prepared.iter_mut().for_each(|slot| slot.publish(revision));
        self.security_events.prepared.iter_mut().for_each(|slot| slot.publish(revision));
        self.transactions.prepared.iter_mut().for_each(|slot| slot.publish(revision));
    }

    /// The active key of a kind.
    ///
    /// # Errors
    /// [`AuthorityError::Unavailable`] before the first one was made.
    pub(super) fn active<K: Kind>(&self) -> Result<&Active<K>, AuthorityError> {
        let none = AuthorityError::Unavailable { kind: K::NAME, what: "none was made yet" };
        K::roster(self).active.as_ref().ok_or(none)
    }

    /// Where an authority stands.
    ///
    /// # Errors
    /// [`AuthorityError::NotFound`].
    pub(super) fn locate(&self, id: &AuthorityId) -> Result<(SlotKind, SlotState), AuthorityError> {
        let found = self.views().into_iter().find(|view| view.id == *id);
        found.map(|view| (view.kind, view.state)).ok_or_else(|| AuthorityError::NotFound { id: id.clone() })
    }

    /// Every authority, roots first, each kind from the newest to the oldest.
    pub(super) fn views(&self) -> Vec<View> {
        let notices = [self.status_lists.views(), self.security_events.views(), self.transactions.views()].concat();
        let tokens = [self.jwt.views(), self.wit.views(), self.task.views(), notices].concat();
        [self.roots.views(), self.intermediates.views(), tokens].concat()
    }
}

impl<K: Kind> Roster<K> {
    fn take(&mut self, stored: StoredSlot<K>) -> Result<(), AuthorityError> {
        let two =
            |what: &str| AuthorityError::Damaged { what: format!("two authorities of kind {} are {what}", K::NAME) };
        let generation = match stored {
            StoredSlot::Prepared(slot) => {
                let generation = slot.facts().generation;
                if self.prepared.replace(slot).is_some() {
                    return Err(two("prepared"));
                }
                generation
            }
            StoredSlot::Active(slot) => {
                let generation = slot.facts().generation;
                if self.active.replace(slot).is_some() {
                    return Err(two("active"));
                }
                generation
            }
            StoredSlot::Retiring(slot) => push(&mut self.retiring, slot),
            StoredSlot::Retired(slot) => push(&mut self.retired, slot),
            StoredSlot::Tainted(slot) => push(&mut self.tainted, slot),
            StoredSlot::Revoked(slot) => push(&mut self.revoked, slot),
            StoredSlot::Lost(slot) => push(&mut self.lost, slot),
        };
        self.last_generation = self.last_generation.max(generation);
        Ok(())
    }

    fn draft(&self) -> Self {
        fn all<K: Kind, S: Clone>(slots: &[Slot<K, S>]) -> Vec<Slot<K, S>> {
            slots.iter().map(Slot::draft).collect()
        }
        Self {
            prepared: self.prepared.as_ref().map(Slot::draft),
            active: self.active.as_ref().map(Slot::draft),
            retiring: all(&self.retiring),
            tainted: all(&self.tainted),
            revoked: all(&self.revoked),
            retired: all(&self.retired),
            lost: all(&self.lost),
            last_generation: self.last_generation,
        }
    }

    /// What is published: all that may have signed something valid, or may soon, and is not revoked.
    pub(super) fn published(&self) -> Vec<&super::Facts> {
        let signing = self.prepared.iter().map(Slot::facts).chain(self.active.iter().map(Slot::facts));
        let mut all: Vec<_> =
            signing.chain(self.retiring.iter().map(Slot::facts)).chain(self.tainted.iter().map(Slot::facts)).collect();
        all.sort_by_key(|facts| facts.generation);
        all
    }

    /// Tainted and revoked: what they signed is refused or minted anew.
    pub(super) fn denied(&self) -> impl Iterator<Item = &super::Facts> {
        self.tainted.iter().map(Slot::facts).chain(self.revoked.iter().map(Slot::facts))
    }

    /// Every slot that there is.
    pub(super) fn facts(&self) -> Vec<&super::Facts> {
        let mut all = self.published();
        all.extend(self.revoked.iter().map(Slot::facts));
        all.extend(self.retired.iter().map(Slot::facts));
        all.extend(self.lost.iter().map(Slot::facts));
        all
    }

    fn views(&self) -> Vec<View> {
        let mut views: Vec<_> = self
            .prepared
            .iter()
            .map(|slot| View {
                activate_by: Some(slot.facts().activate_by()),
                published: slot.published(),
                ..view(slot, SlotState::Prepared, None)
            })
            .collect();
        views.extend(self.active.iter().map(|slot| view(slot, SlotState::Active, Some(slot.since()))));
        views.extend(
            self.retiring.iter().chain(&self.lost).map(|slot| view(slot, SlotState::Retiring, slot.activated())),
        );
        views.extend(self.tainted.iter().map(|slot| view(slot, SlotState::Tainted, slot.activated())));
        views.extend(self.revoked.iter().map(|slot| view(slot, SlotState::Revoked, slot.activated())));
        views.extend(self.retired.iter().map(|slot| view(slot, SlotState::Retired, slot.activated())));
        views.sort_by_key(|view| std::cmp::Reverse(view.generation));
        views
    }
}

fn push<K: Kind, S>(slots: &mut Vec<Slot<K, S>>, slot: Slot<K, S>) -> u64 {
    let generation = slot.facts().generation;
    slots.push(slot);
    generation
}

fn view<K: Kind, S>(slot: &Slot<K, S>, state: SlotState, activated_at: Option<Timestamp>) -> View {
    let facts = slot.facts();
    View {
        id: facts.id.clone(),
        kind: K::NAME,
        state,
        algorithm: facts.algorithm.name(),
        issuer: facts.issuer.to_string(),
        generation: facts.generation,
        prepared_at: facts.made_at,
        activated_at,
        not_after: facts.not_after,
        activate_by: None,
        published: None,
        waiting_for: Vec::new(),
    }
}

impl<K: Kind> Default for Roster<K> {
    fn default() -> Self {
        Self {
            prepared: None,
            active: None,
            retiring: Vec::new(),
            tainted: Vec::new(),
            revoked: Vec::new(),
            retired: Vec::new(),
            lost: Vec::new(),
            last_generation: 0,
        }
    }
}
