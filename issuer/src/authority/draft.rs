//! A change being made: a copy of the keyring as it will be, with the operations and records that make the store agree.
//!
//! Whatever becomes visible together is one draft and one change of the store: the old key stops and the new one starts
//! in the same transaction, with the bundle that follows from it. So there is no step between two of them to crash at.

use std::sync::Arc;

use mayfly_sdk::{Serial, SpiffeId, Timestamp};

use super::bundle::OwnBundle;
use super::certificate::{X509Root, serial_of};
use super::keyring::{Keyring, of_kind};
use super::kind::Kind;
use super::leaf::X509Intermediate;
use super::row::Write;
use super::slot::Slot;
use super::workshop::Workshop;
use super::{AuthorityError, AuthorityId};
use crate::ledger::{self, Record};
use crate::store::{Change, Op, PutSlot, SlotKind, SlotState};

/// A change being made.
pub(super) struct Draft<'a> {
    keyring: Keyring,
    change: Change,
    workshop: &'a Workshop,
    now: Timestamp,
    actor: Option<Arc<str>>,
}

/// A change as it goes to the store, and what holds once it is there.
pub(super) struct Finished {
    pub(super) keyring: Keyring,
    pub(super) change: Change,
    pub(super) bundle: OwnBundle,
}

/// What became of the key that made room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Retired,
    Tainted,
    Revoked,
}

impl<'a> Draft<'a> {
    pub(super) fn new(keyring: &Keyring, workshop: &'a Workshop, actor: Option<&Arc<str>>) -> Self {
        let now = workshop.clock.now();
        Self { keyring: keyring.draft(), change: Change::new(now), workshop, now, actor: actor.cloned() }
    }

    /// Makes a successor and publishes it.
    pub(super) async fn prepare<K: Kind>(&mut self) -> Result<AuthorityId, AuthorityError> {
        let generation = self.next_generation::<K>();
        let slot = self.workshop.shared::<K>(generation, self.now).await?;
        self.put(&slot, None, ledger::Kind::AuthorityPrepared, None)?;
        let id = slot.id().clone();
        K::roster_mut(&mut self.keyring).prepared = Some(slot);
        Ok(id)
    }

    /// Lets the prepared key take over, or makes one that is active at once; the old one meets its fate.
    pub(super) async fn succeed<K: Kind>(&mut self, fate: Fate, without: &[SpiffeId]) -> Result<(), AuthorityError> {
        let (next, was, detail) = if let Some(prepared) = K::roster_mut(&mut self.keyring).prepared.take() {
            let detail = (!without.is_empty()).then(|| laggards(without));
            (prepared.activate(self.now), Some(SlotState::Prepared), detail)
        } else {
            let generation = self.next_generation::<K>();
            let made = self.workshop.shared::<K>(generation, self.now).await?;
            (made.activate(self.now), None, Some("made and active at once".to_owned()))
        };
        self.replace::<K>(fate)?;
        self.put(&next, was, ledger::Kind::AuthorityActivated, detail)?;
        K::roster_mut(&mut self.keyring).active = Some(next);
        if K::NAME == SlotKind::X509Root { self.renew_intermediate(Fate::Retired).await } else { Ok(()) }
    }

    /// Makes this process's next intermediate under the active root.
    pub(super) async fn renew_intermediate(&mut self, fate: Fate) -> Result<(), AuthorityError> {
        let generation = self.next_generation::<X509Intermediate>();
        let root = self.keyring.active::<X509Root>()?;
        let ends = root.facts().not_after;
        let next = self.workshop.intermediate(generation, root.signer(), ends, self.now).await?;
        for lost in std::mem::take(&mut self.keyring.intermediates.lost) {
            let detail = Some("its process has ended".to_owned());
            self.put(&lost, Some(SlotState::Active), ledger::Kind::AuthorityRetiring, detail)?;
            self.keyring.intermediates.retiring.push(lost);
        }
        self.replace::<X509Intermediate>(fate)?;
        self.put(&next, None, ledger::Kind::IntermediateMade, None)?;
        self.keyring.intermediates.active = Some(next);
        Ok(())
    }

    /// What an active, retiring or tainted authority signed is minted anew.
    pub(super) async fn taint<K: Kind>(&mut self, id: &AuthorityId) -> Result<(), AuthorityError> {
        if self.is_active::<K>(id) {
            return self.replace_now::<K>(Fate::Tainted).await;
        }
        let now = self.now;
        let slot = take(&mut K::roster_mut(&mut self.keyring).retiring, id)?.taint(now);
        self.put(&slot, Some(SlotState::Retiring), ledger::Kind::AuthorityTainted, None)?;
        K::roster_mut(&mut self.keyring).tainted.push(slot);
        Ok(())
    }

    /// An authority leaves the bundle at once.
    pub(super) async fn revoke<K: Kind>(&mut self, id: &AuthorityId, state: SlotState) -> Result<(), AuthorityError> {
        if self.is_active::<K>(id) {
            return self.replace_now::<K>(Fate::Revoked).await;
        }
        let (now, roster) = (self.now, K::roster_mut(&mut self.keyring));
        let slot = match (state, roster.prepared.take()) {
            (SlotState::Prepared, Some(prepared)) => prepared.revoke(now),
            (SlotState::Tainted, kept) => {
                roster.prepared = kept;
                take(&mut roster.tainted, id)?.revoke(now)
            }
            (_, kept) => {
                roster.prepared = kept;
                take(&mut roster.retiring, id)?.revoke(now)
            }
        };
        self.put(&slot, Some(state), ledger::Kind::AuthorityRevoked, None)?;
        K::roster_mut(&mut self.keyring).revoked.push(slot);
        Ok(())
    }

    /// Nothing that it signed is valid any more.
    pub(super) fn end<K: Kind>(&mut self, id: &AuthorityId, state: SlotState) -> Result<(), AuthorityError> {
        let (now, roster) = (self.now, K::roster_mut(&mut self.keyring));
        let slot = match state {
            SlotState::Tainted => take(&mut roster.tainted, id)?.end(now),
            _ => take(&mut roster.retiring, id)?.end(now),
        };
        self.put(&slot, Some(state), ledger::Kind::AuthorityRetired, None)?;
        K::roster_mut(&mut self.keyring).retired.push(slot);
        Ok(())
    }

    /// It ended long ago.
    pub(super) fn forget<K: Kind>(&mut self, id: &AuthorityId) {
        let roster = K::roster_mut(&mut self.keyring);
        roster.retired.retain(|slot| slot.id() != id);
        roster.revoked.retain(|slot| slot.id() != id);
        self.change.ops.push(Op::DeleteSlot { id: id.to_string() });
    }

    /// Seals every stored private key anew.
    pub(super) fn reseal(&mut self, with: &super::wrapping::Sealer) -> Result<(), AuthorityError> {
        for kind in SlotKind::ALL {
            of_kind!(*kind, K => self.reseal_kind::<K>(with)?);
        }
        Ok(())
    }

    /// Adds the bundle that follows from the slots, if it differs from the one that is published.
    ///
    /// # Errors
    /// [`AuthorityError`] if the bundle cannot be made.
    pub(super) fn finish(mut self, current: Option<&OwnBundle>) -> Result<Finished, AuthorityError> {
        let Workshop { trust_domain, settings, .. } = self.workshop;
        let bundle = OwnBundle::of(&self.keyring, trust_domain, settings, current, self.now)?;
        if current.is_none_or(|current| current.sequence() != bundle.sequence()) {
            self.change.ops.push(Op::PutBundle(bundle.put(current)));
        }
        Ok(Finished { keyring: self.keyring, change: self.change, bundle })
    }

    /// The active key of a kind is replaced without waiting for anybody.
    async fn replace_now<K: Kind>(&mut self, fate: Fate) -> Result<(), AuthorityError> {
        if K::NAME == SlotKind::X509Intermediate {
            self.renew_intermediate(fate).await
        } else {
            // Boxed: `succeed` is large, and this is rare.
            Box::pin(self.succeed::<K>(fate, &[])).await
        }
    }

    /// The active key makes room. Its row comes before that of the next one, so that at no row there are two.
    fn replace<K: Kind>(&mut self, fate: Fate) -> Result<(), AuthorityError> {
        let Some(old) = K::roster_mut(&mut self.keyring).active.take() else { return Ok(()) };
        let was = Some(SlotState::Active);
        match fate {
            Fate::Retired => {
                let old = old.retire(self.now);
                self.put(&old, was, ledger::Kind::AuthorityRetiring, None)?;
                K::roster_mut(&mut self.keyring).retiring.push(old);
            }
            Fate::Tainted => {
                let old = old.taint(self.now);
                self.put(&old, was, ledger::Kind::AuthorityTainted, None)?;
                K::roster_mut(&mut self.keyring).tainted.push(old);
            }
            Fate::Revoked => {
                let old = old.revoke(self.now);
                self.put(&old, was, ledger::Kind::AuthorityRevoked, None)?;
                K::roster_mut(&mut self.keyring).revoked.push(old);
            }
        }
        Ok(())
    }

    fn reseal_kind<K: Kind>(&mut self, with: &super::wrapping::Sealer) -> Result<(), AuthorityError> {
        use super::wrapping::SlotName;
        let open = &self.workshop.sealer;
        let roster = K::roster_mut(&mut self.keyring);
        let mut rows = Vec::new();
        if let Some(slot) = &mut roster.prepared
            && let Some(stored) = slot.secret().stored.clone()
        {
            let name = SlotName::of::<K>(slot.facts());
            let sealed = with.seal(&open.open(&stored, &name)?, &name)?;
            slot.reseal(sealed);
            rows.push((slot.row(), SlotState::Prepared));
        }
        if let Some(slot) = &mut roster.active
            && let Some(stored) = slot.secret().stored.clone()
        {
            let name = SlotName::of::<K>(slot.facts());
            let sealed = with.seal(&open.open(&stored, &name)?, &name)?;
            slot.reseal(sealed);
            rows.push((slot.row(), SlotState::Active));
        }
        for (row, state) in rows {
            let expect = Some((state, row.generation));
            self.change.ops.push(Op::PutSlot(Box::new(PutSlot { row, expect })));
        }
        Ok(())
    }

    fn is_active<K: Kind>(&self, id: &AuthorityId) -> bool {
        K::roster(&self.keyring).active.as_ref().is_some_and(|active| active.id() == id)
    }

    fn next_generation<K: Kind>(&mut self) -> u64 {
        let roster = K::roster_mut(&mut self.keyring);
        roster.last_generation += 1;
        roster.last_generation
    }

    /// Writes a slot: its row, if it is still as expected, and the record that says so.
    fn put<K: Kind, S: Write>(
        &mut self,
        slot: &Slot<K, S>,
        was: Option<SlotState>,
        what: ledger::Kind,
        detail: Option<String>,
    ) -> Result<(), AuthorityError> {
        let facts = slot.facts();
        let expect = was.map(|state| (state, facts.generation));
        self.change.ops.push(Op::PutSlot(Box::new(PutSlot { row: slot.row(), expect })));
        let about = format!("{} {}", K::NAME, facts.generation);
        let detail = detail.map_or_else(|| about.clone(), |detail| format!("{about}: {detail}"));
        // The record of a certificate is found by its serial number.
        let certified = was.is_none().then(|| facts.chain.first()).flatten();
        let event = match certified {
            Some(certificate) => serial_of(certificate)?,
            None => Serial::generate(self.workshop.clock.now_ms())?,
        };
        let mut record = Record::new(what, event);
        record.authority = Some(facts.id.shared());
        record.key_sha256 = Some(facts.public_key.spki_sha256());
        record.released_sha256 = facts.chain.first().map(|der| sha256(der));
        record.not_after = Some(facts.not_after);
        record.personal.actor.clone_from(&self.actor);
        record.personal.detail = Some(detail.into());
        self.change.records.push(record);
        Ok(())
    }
}

/// Names those who will refuse what is signed until they catch up. The ledger holds all of them up to a hundred.
fn laggards(nodes: &[SpiffeId]) -> String {
    let names: Vec<_> = nodes.iter().take(100).map(SpiffeId::as_str).collect();
    format!("before {} nodes acknowledged it: {}", nodes.len(), names.join(" "))
}

fn take<K: Kind, S>(slots: &mut Vec<Slot<K, S>>, id: &AuthorityId) -> Result<Slot<K, S>, AuthorityError> {
    let at = slots.iter().position(|slot| slot.id() == id);
    at.map(|at| slots.remove(at)).ok_or_else(|| AuthorityError::NotFound { id: id.clone() })
}

fn sha256(bytes: &[u8]) -> ledger::Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    digest
}
