use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mayfly_sdk::{Clock, InstanceId, Refusal};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::SubjectKey;
use super::slot::{Credential, Held, Slot, SlotKey, SlotState};

/// The slots of one kind of credential.
#[derive(Debug)]
pub(crate) struct Table<C: Credential>(Arc<Shared<C>>);

#[derive(Debug)]
struct Shared<C: Credential> {
    slots: Mutex<HashMap<SlotKey<C>, Arc<Slot<C>>>>,
    /// How many slots there may be.
    most: usize,
    wants: mpsc::UnboundedSender<Arc<Slot<C>>>,
    changes: watch::Sender<()>,
    clock: Clock,
}

/// Somebody's use of a slot: keeps its credential renewed until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease<C: Credential> {
    slot: Arc<Slot<C>>,
    state: watch::Receiver<SlotState<C>>,
    clock: Clock,
}

impl<C: Credential> Table<C> {
    pub(super) fn new(most: usize, wants: mpsc::UnboundedSender<Arc<Slot<C>>>, clock: Clock) -> Self {
        Self(Arc::new(Shared { slots: Mutex::default(), most, wants, changes: watch::Sender::new(()), clock }))
    }

    /// Takes a lease on the credential of a subject. Minting begins at once if there is none, and renewal if it is due.
    pub(crate) fn lease(&self, subject: SubjectKey, request: C::Request) -> Lease<C> {
        let now = self.0.clock.monotonic();
        let key = SlotKey { subject, request };
        let slot = {
            let mut slots = self.0.slots.lock();
            if slots.len() >= self.0.most && !slots.contains_key(&key) {
                make_room(&mut slots);
            }
            let slot = slots.entry(key).or_insert_with_key(|key| Arc::new(Slot::new(key.clone(), now)));
            // Under the lock, so that it is not forgotten between the two.
            slot.enter(now);
            Arc::clone(slot)
        };
        let lease = Lease { state: slot.state.subscribe(), slot, clock: self.0.clock.clone() };
        let due = lease.slot.state.borrow().held.as_ref().is_none_or(|held| held.life().must_be_renewed(&self.0.clock));
        if due {
            self.want(&lease.slot);
        }
        lease
    }

    /// Hands a slot to the minter, once.
    pub(super) fn want(&self, slot: &Arc<Slot<C>>) {
        // Where the minter has ended, the agent is shutting down, and so is whoever waits.
        if slot.queue() && self.0.wants.send(Arc::clone(slot)).is_err() {
            slot.unqueue();
        }
    }

    /// Every slot of the moment.
    pub(crate) fn slots(&self) -> Vec<Arc<Slot<C>>> {
        self.0.slots.lock().values().cloned().collect()
    }

    /// How many slots there are.
    pub(crate) fn len(&self) -> usize {
        self.0.slots.lock().len()
    }

    /// An instance has ended: what was its own goes with it.
    pub(crate) fn forget_instance(&self, instance: InstanceId) {
        self.0.slots.lock().retain(|key, _| key.subject.instance() != Some(instance));
    }

    /// Forgets a slot, unless somebody uses it. Whether it was forgotten.
    pub(super) fn forget(&self, slot: &Arc<Slot<C>>) -> bool {
        let mut slots = self.0.slots.lock();
        if slot.has_users() {
            return false;
        }
        if slots.get(&slot.key).is_some_and(|held| Arc::ptr_eq(held, slot)) {
            slots.remove(&slot.key);
        }
        true
    }

    /// Puts a credential back that a restart has kept.
    pub(super) fn restore(&self, key: SlotKey<C>, held: Held<C>) {
        let slot = Arc::new(Slot::new(key.clone(), self.0.clock.monotonic()));
        slot.state.send_modify(|state| state.held = Some(Arc::new(held)));
        self.0.slots.lock().insert(key, slot);
    }

    /// Told of each credential that is minted.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    /// A credential was minted.
    pub(super) fn note_change(&self) {
        self.0.changes.send_replace(());
    }
}

/// Makes room for one more: what was not used for the longest time goes, unless it is in use.
fn make_room<C: Credential>(slots: &mut HashMap<SlotKey<C>, Arc<Slot<C>>>) {
    let oldest = slots.values().filter(|slot| !slot.has_users()).min_by_key(|slot| slot.last_use()).cloned();
    if let Some(slot) = oldest {
        slots.remove(&slot.key);
    }
}

impl<C: Credential> Clone for Table<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: Credential> Lease<C> {
    /// The subject whose credential it is.
    pub(crate) fn subject(&self) -> &SubjectKey {
        &self.slot.key.subject
    }

    /// The credential, if there is one with more left than nothing.
    pub(crate) fn held(&self) -> Option<Arc<Held<C>>> {
        let now = self.clock.monotonic();
        self.state.borrow().held.clone().filter(|held| held.life().has_left(Duration::ZERO, now))
    }

    /// Why there is none; none while it is being minted.
    pub(crate) fn refused(&self) -> Option<Arc<Refusal>> {
        self.state.borrow().refused.clone()
    }

    /// Counts what is there as seen, so that [`Lease::changed`] waits for the next change.
    pub(crate) fn mark_seen(&mut self) {
        self.state.mark_unchanged();
    }

    /// Resolves when the credential changes, or an attempt fails. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            // The sender lives in the slot that this lease holds.
            std::future::pending::<()>().await;
        }
    }
}

impl<C: Credential> Drop for Lease<C> {
    fn drop(&mut self) {
        self.slot.leave(self.clock.monotonic());
    }
}
