//! A store in memory that keeps the real one's promises, can die at any change, and looks at every change itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mayfly_sdk::{Revision, SpiffeId};

use crate::authority::{Acknowledgements, SlotStore, Stored};
use crate::ledger::Record;
use crate::store::{BundleRow, Change, Committed, Op, SlotRow, SlotState, StoreError};

/// Where a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    /// The change was on its way.
    Before(u64),
    /// The change is durable, and nobody heard of it.
    After(u64),
}

#[derive(Default)]
pub(super) struct FakeStore {
    inner: Mutex<Inner>,
    death: Mutex<Option<Death>>,
    commits: AtomicU64,
}

#[derive(Default, Clone)]
struct Inner {
    slots: BTreeMap<String, SlotRow>,
    bundle: Option<BundleRow>,
    records: Vec<Record>,
    revision: Revision,
}

impl FakeStore {
    pub(super) fn stored(&self) -> Stored {
        let inner = self.inner.lock().unwrap();
        Stored {
            slots: inner.slots.values().cloned().collect(),
            bundle: inner.bundle.clone(),
            revision: inner.revision,
        }
    }

    pub(super) fn records(&self) -> Vec<Record> {
        self.inner.lock().unwrap().records.clone()
    }

    /// Changes a stored row behind the issuer's back.
    pub(super) fn tamper(&self, with: impl Fn(&mut SlotRow)) {
        self.inner.lock().unwrap().slots.values_mut().for_each(with);
    }

    pub(super) fn restore_as_new_epoch(&self) {
        let mut inner = self.inner.lock().unwrap();
        inner.revision = Revision { epoch: inner.revision.epoch + 1, n: 0 };
    }

    pub(super) fn die(&self, death: Option<Death>) {
        self.commits.store(0, Ordering::SeqCst);
        *self.death.lock().unwrap() = death;
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }

    fn try_commit(&self, change: Change) -> Result<Committed, StoreError> {
        let nth = self.commits.fetch_add(1, Ordering::SeqCst);
        let death = *self.death.lock().unwrap();
        match death {
            Some(Death::Before(at)) if nth >= at => return Err(StoreError::Shut),
            Some(Death::After(at)) if nth > at => return Err(StoreError::Shut),
            _ => {}
        }
        let mut inner = self.inner.lock().unwrap();
        let mut next = inner.clone();
        next.revision.n += 1;
        for op in change.ops {
            next.apply(op)?;
            next.check();
        }
        next.records.extend(change.records);
        *inner = next;
        if death == Some(Death::After(nth)) {
            return Err(StoreError::Shut);
        }
        Ok(Committed { revision: inner.revision, first_order: 0 })
    }
}

impl Inner {
    fn apply(&mut self, op: Op) -> Result<(), StoreError> {
        let conflict = |what: &str| Err(StoreError::Conflict { what: what.to_owned() });
        match op {
            Op::PutSlot(put) => {
                let found = self.slots.get(&put.row.id).map(|row| (row.state, row.generation));
                if found != put.expect {
                    return conflict("the slot is not as expected");
                }
                self.slots.insert(put.row.id.clone(), SlotRow { revision: self.revision, ..put.row });
            }
            Op::PutBundle(put) => {
                let found = self.bundle.as_ref().map(|row| row.sequence);
                if put.replaces.is_some() && found != put.replaces {
                    return conflict("the bundle is not as expected");
                }
                assert!(found.is_none_or(|found| put.sequence > found), "the sequence did not grow");
                self.bundle = Some(BundleRow {
                    trust_domain: put.trust_domain,
                    owner: put.owner,
                    document: put.document,
                    sequence: put.sequence,
                    revision: self.revision,
                });
            }
            Op::DeleteSlot { id } => {
                let gone = self.slots.remove(&id);
                assert!(gone.is_some_and(|row| matches!(row.state, SlotState::Retired | SlotState::Revoked)));
            }
            _ => return conflict("not an operation of authorities"),
        }
        Ok(())
    }

    /// Of each kind at most one is active and one prepared, after each row of a change; and whatever signs no more has
    /// no private key.
    fn check(&self) {
        let mut seen = HashMap::new();
        for row in self.slots.values() {
            if matches!(row.state, SlotState::Active | SlotState::Prepared) {
                let before = seen.insert((row.kind, row.issuer.clone(), row.state), &row.id);
                assert!(before.is_none(), "two of {} are {}", row.kind, row.state);
            } else {
                assert!(row.key.is_none(), "{} is {} and its key is still there", row.id, row.state);
            }
        }
    }
}

impl SlotStore for FakeStore {
    fn commit(&self, change: Change) -> BoxFuture<'_, Result<Committed, StoreError>> {
        std::future::ready(self.try_commit(change)).boxed()
    }
}

/// Nodes in sync, and what each has acknowledged.
#[derive(Default, Clone)]
pub(super) struct FakeNodes(Arc<Mutex<BTreeMap<SpiffeId, Revision>>>);

impl FakeNodes {
    pub(super) fn acknowledge(&self, node: &str, revision: Revision) {
        let id = format!("spiffe://td.test/mayfly/node/join/{node}").parse().unwrap();
        self.0.lock().unwrap().insert(id, revision);
    }
}

impl Acknowledgements for FakeNodes {
    fn behind(&self, published: Revision) -> Vec<SpiffeId> {
        let nodes = self.0.lock().unwrap();
        nodes.iter().filter(|(_, acknowledged)| **acknowledged < published).map(|(id, _)| id.clone()).collect()
    }
}
