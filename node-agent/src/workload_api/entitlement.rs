//! What a caller is entitled to, found out anew before each message.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use mayfly_sdk::{InstanceId, Reason, Refusal, Revision, Selector, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Shared;
use super::caller::Caller;
use crate::holdings::{Entry, Holdings};
use crate::identity::SubjectKey;
use crate::link::LinkState;
use crate::workload::{AttestError, Attestation, InstanceError, Undetermined, Verdict};

/// How long a workload waits for an entry that is perhaps about to come.
const WAIT_FOR_IDENTITY: Duration = Duration::from_secs(2);
/// Out of sync for this long, the agent serves nobody whom it did not serve before: it can no longer know who was withdrawn.
const NEW_WORKLOADS_UNTIL: Duration = Duration::from_mins(15);

/// What a caller is entitled to at one revision.
#[derive(Debug)]
pub(super) struct Entitlement {
    /// The default identity first; at least one.
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) facts: BTreeSet<Selector>,
    pub(super) instance: Option<InstanceId>,
    pub(super) revision: Revision,
}

/// Why there is none. Three answers, and a fourth for a caller that is no longer the one that connected.
#[derive(Debug)]
pub(super) enum Lacking {
    /// It is known that no entry matches.
    Nothing,
    /// An entry may match, and it cannot be found out.
    Undetermined(Refusal),
    /// The process has ended or runs another program.
    Gone(Refusal),
}

/// Which instances were given something since they began.
#[derive(Debug, Clone, Default)]
pub(crate) struct Served(Arc<Mutex<HashSet<InstanceId>>>);

impl Entitlement {
    /// The subject of one of its entries.
    ///
    /// # Errors
    /// [`Reason::WorkloadUndetermined`]: the entry gives each instance credentials of its own, and this one cannot be told apart.
    pub(super) fn subject(&self, entry: &Entry) -> Result<SubjectKey, Refusal> {
        if entry.is_per_instance() && self.instance.is_none() {
            let what = "the process cannot be told from others, as it is not visible in the node agent's PID namespace";
            return Err(Refusal::new(Reason::WorkloadUndetermined, what));
        }
        let instance = self.instance.unwrap_or(InstanceId::from_bytes([0; 16]));
        Ok(SubjectKey::new(entry, &self.facts, instance))
    }

    /// When the first of its entries expires.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        self.entries.iter().filter_map(|entry| entry.expires_at()).min()
    }
}

impl Shared {
    /// What a caller is entitled to now.
    ///
    /// # Errors
    /// [`Lacking`].
    pub(super) async fn entitlement(&self, caller: &Caller) -> Result<Entitlement, Lacking> {
        let needs = Arc::clone(self.link.holdings.borrow().needs());
        let attestation = self.attestors.attest(caller.process(), &needs).await.map_err(gone)?;
        let instance = match self.instances.id_of(caller.process()) {
            Ok(instance) => Some(instance),
            Err(InstanceError::Undetermined(_)) => None,
            Err(error @ InstanceError::Dead) => {
                return Err(Lacking::Gone(Refusal::new(Reason::Unavailable, error.to_string())));
            }
            Err(InstanceError::Kernel(why)) => {
                return Err(Lacking::Undetermined(Refusal::new(Reason::WorkloadUndetermined, why)));
            }
        };
        let holdings = self.link.holdings.borrow();
        let entries = entries(&holdings, &attestation, instance, self.clock.now());
        if let Some(undetermined) = undetermined(&holdings, &attestation) {
            let what = format!("{}: {}", undetermined.why, undetermined.remedy);
            return Err(Lacking::Undetermined(Refusal::new(Reason::WorkloadUndetermined, what)));
        }
        if entries.is_empty() {
            return Err(Lacking::Nothing);
        }
        Ok(Entitlement { entries, facts: attestation.facts, instance, revision: holdings.revision() })
    }

    /// What a caller that has just come is entitled to; waits a moment for what may be about to come.
    ///
    /// # Errors
    /// [`Reason::NoIdentity`] where it is known that there is none, [`Reason::Unavailable`] while it is not.
    pub(super) async fn entitlement_of_newcomer(&self, caller: &Caller) -> Result<Entitlement, Refusal> {
        let deadline = Instant::now() + WAIT_FOR_IDENTITY;
        let (mut holdings, mut status) = (self.link.holdings.clone(), self.link.status.clone());
        loop {
            holdings.mark_unchanged();
            status.mark_unchanged();
            match self.entitlement(caller).await {
                Ok(entitlement) => return self.admit(entitlement),
                Err(Lacking::Undetermined(refusal) | Lacking::Gone(refusal)) => return Err(refusal),
                Err(Lacking::Nothing) if self.is_out_of_reach() => return Err(self.link.status.borrow().why()),
                Err(Lacking::Nothing) => {}
            }
            tokio::select! {
                Ok(()) = holdings.changed() => {}
                Ok(()) = status.changed() => {}
                () = self.stop.cancelled() => return Err(shutting_down()),
                () = tokio::time::sleep_until(deadline) => {
                    let status = self.link.status.borrow();
                    return Err(if status.is_in_sync() { no_identity() } else { status.why() });
                }
            }
        }
    }

    /// Whether waiting a moment will not bring an answer.
    fn is_out_of_reach(&self) -> bool {
        let status = self.link.status.borrow();
        matches!(status.state, LinkState::Unenrolled(_) | LinkState::Disconnected(_) | LinkState::Refused(_))
    }

    /// Lets a newcomer in, unless the agent has been out of sync for too long to know.
    fn admit(&self, entitlement: Entitlement) -> Result<Entitlement, Refusal> {
        let status = self.link.status.borrow();
        let out_for = status.out_of_sync_for(self.clock.monotonic());
        let too_long = out_for.is_some_and(|out_for| out_for >= NEW_WORKLOADS_UNTIL);
        match entitlement.instance {
            Some(instance) if too_long && !self.served.contains(instance) => Err(status.why()),
            None if too_long => Err(status.why()),
            Some(instance) => {
                self.served.add(instance);
                Ok(entitlement)
            }
            None => Ok(entitlement),
        }
    }
}

impl Served {
    pub(crate) fn contains(&self, instance: InstanceId) -> bool {
        self.0.lock().contains(&instance)
    }

    pub(crate) fn add(&self, instance: InstanceId) {
        self.0.lock().insert(instance);
    }

    /// An instance has ended.
    pub(crate) fn remove(&self, instance: InstanceId) {
        self.0.lock().remove(&instance);
    }
}

/// The entries that match and are not denied.
fn entries(
    holdings: &Holdings,
    attestation: &Attestation,
    instance: Option<InstanceId>,
    now: Timestamp,
) -> Vec<Arc<Entry>> {
    let denials = holdings.denials();
    if instance.is_some_and(|instance| denials.instances.contains(&instance.to_string())) {
        return Vec::new();
    }
    let mut entries = holdings.entitled(&attestation.facts, now);
    if !denials.spiffe_ids.is_empty() {
        entries.retain(|entry| entry.rendered(&attestation.facts).is_none_or(|id| !denials.spiffe_ids.contains(&id)));
    }
    entries
}

/// A fact that is not known, and without which it is not known either whether some entry matches.
fn undetermined<'a>(holdings: &Holdings, attestation: &'a Attestation) -> Option<&'a Undetermined> {
    if attestation.undetermined.is_empty() {
        return None;
    }
    holdings.entries().find_map(|entry| match attestation.judge(entry.selectors()) {
        Verdict::Undetermined(undetermined) => Some(undetermined),
        Verdict::Holds | Verdict::Fails => None,
    })
}

fn gone(error: AttestError) -> Lacking {
    // Transient for a program that connects again.
    Lacking::Gone(Refusal::new(Reason::Unavailable, error.to_string()))
}

/// Deployed clients look for these words (row WE-8).
pub(super) fn no_identity() -> Refusal {
    Refusal::new(Reason::NoIdentity, "no identity issued")
}

pub(super) fn shutting_down() -> Refusal {
    Refusal::new(Reason::ShuttingDown, "the node agent is shutting down")
}
