//! The credentials that one stream uses, of whichever kind.

use std::sync::Arc;

use futures_util::future::select_all;
use mayfly_sdk::{Reason, Refusal};

use super::entitlement::{Entitlement, no_identity};
use super::stream::Rendered;
use crate::holdings::{Entry, Holdings};
use crate::identity::{Credential, Held, Lease, Standing, Table};

/// What one stream uses: one lease for each entry that it shows, in their order.
#[derive(Debug)]
pub(super) struct Leases<C: Credential>(Vec<Lease<C>>);

/// How one entry's credential stands.
pub(super) enum Slot<C> {
    /// As it should be.
    Good(Arc<Held<C>>),
    /// Valid, and about to be replaced.
    Old(Arc<Held<C>>),
    /// Being made.
    Making,
    /// Not to be had, and why.
    Refused(Arc<Refusal>),
}

/// What there is to show of the leases.
pub(super) struct Shown<C> {
    held: Vec<(Arc<Entry>, Arc<Held<C>>)>,
    /// Nothing better is being made.
    settled: bool,
    refused: Option<Arc<Refusal>>,
}

impl<C: Credential> Default for Leases<C> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<C: Credential<Request = ()>> Leases<C> {
    /// Holds exactly the leases of these entries, and keeps those that it has.
    pub(super) fn hold(
        &mut self,
        table: &Table<C>,
        entitlement: &Entitlement,
        entries: &[Arc<Entry>],
    ) -> Result<(), Refusal> {
        let mut before = std::mem::take(&mut self.0);
        for entry in entries {
            let subject = entitlement.subject(entry)?;
            let kept = before.iter().position(|lease| *lease.subject() == subject);
            self.0.push(match kept {
                Some(at) => before.swap_remove(at),
                None => table.lease(subject, ()),
            });
        }
        Ok(())
    }
}

impl<C: Credential> Leases<C> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Lease<C>> {
        self.0.iter()
    }

    /// What there is to show for the entries that they were taken for.
    pub(super) fn shown(&self, entries: &[Arc<Entry>], holdings: &Holdings) -> Shown<C> {
        let mut shown = Shown { held: Vec::with_capacity(entries.len()), settled: true, refused: None };
        for (entry, lease) in entries.iter().zip(&self.0) {
            match slot(entry, lease, holdings) {
                Slot::Good(held) => shown.held.push((Arc::clone(entry), held)),
                Slot::Old(held) => {
                    shown.settled = false;
                    shown.held.push((Arc::clone(entry), held));
                }
                Slot::Making => shown.settled = false,
                Slot::Refused(why) => shown.refused = shown.refused.or(Some(why)),
            }
        }
        shown
    }

    pub(super) fn mark_seen(&mut self) {
        self.0.iter_mut().for_each(Lease::mark_seen);
    }

    /// Resolves when one of them changes. Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.0.is_empty() {
            return std::future::pending().await;
        }
        select_all(self.0.iter_mut().map(|lease| Box::pin(lease.changed()))).await;
    }
}

impl<C> Shown<C> {
    /// The message of what is held; why there is none, if nothing is.
    pub(super) fn render<M>(self, message: impl FnOnce(&[(Arc<Entry>, Arc<Held<C>>)]) -> M) -> Rendered<M> {
        let Self { held, settled, refused } = self;
        if held.is_empty() {
            return match refused {
                Some(why) if settled => Rendered::Refused(as_lack_of_identity(&why)),
                why => Rendered::Pending(why.map(|why| as_lack_of_identity(&why))),
            };
        }
        let message = message(&held);
        if settled { Rendered::Complete(message) } else { Rendered::Unsettled(message) }
    }
}

pub(super) fn slot<C: Credential>(entry: &Entry, lease: &Lease<C>, holdings: &Holdings) -> Slot<C> {
    let refused = lease.refused();
    let Some(held) = lease.held() else {
        return refused.map_or(Slot::Making, Slot::Refused);
    };
    match held.standing(entry, holdings) {
        Standing::Discard => refused.map_or(Slot::Making, Slot::Refused),
        Standing::Replace if refused.is_none() => Slot::Old(held),
        // A failed renewal keeps what is there.
        Standing::Replace | Standing::Good => Slot::Good(held),
    }
}

/// What a workload is told when minting was refused: whoever refuses for good has said that there is no identity.
pub(super) fn as_lack_of_identity(why: &Refusal) -> Refusal {
    match why.reason.retry() {
        mayfly_sdk::Retry::No => Refusal::new(Reason::NoIdentity, format!("{}: {}", no_identity().what, why.what)),
        mayfly_sdk::Retry::Later | mayfly_sdk::Retry::Now => {
            Refusal::new(Reason::Unavailable, format!("the identity is not issued yet: {}", why.what))
        }
    }
}
