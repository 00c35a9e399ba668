use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::slot::{Credential, Slot};

/// When each slot is to be looked at again, on the monotonic clock.
#[derive(Debug)]
pub(super) struct Schedule<C: Credential> {
    due: BTreeMap<(Duration, u64), Weak<Slot<C>>>,
    next: u64,
}

impl<C: Credential> Schedule<C> {
    pub(super) fn new() -> Self {
        Self { due: BTreeMap::new(), next: 0 }
    }

    pub(super) fn add(&mut self, at: Duration, slot: &Arc<Slot<C>>) {
        self.next += 1;
        self.due.insert((at, self.next), Arc::downgrade(slot));
    }

    /// When the first is due.
    pub(super) fn first(&self) -> Option<Duration> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes what is due by `until`.
    pub(super) fn take_until(&mut self, until: Duration) -> Vec<Arc<Slot<C>>> {
        let later = self.due.split_off(&(until, u64::MAX));
        std::mem::replace(&mut self.due, later).into_values().filter_map(|slot| slot.upgrade()).collect()
    }
}
