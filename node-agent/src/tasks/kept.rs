//! Tasks in the form in which a restart of the agent keeps them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mayfly_proto::node;
use mayfly_sdk::InstanceId;
use mayfly_sdk::task::TaskState;
use prost::Message;
use zeroize::Zeroize as _;

use super::Tasks;
use super::held::{Bound, HeldTask, Owner};
use crate::holdings::{HeldBundle, Holdings};
use crate::identity::{Held, Kept, Lease, Life, SubjectKey, X509};

/// The tasks of this node that have not ended as far as the issuer knows, with what their tokens are bound to. Field numbers are never used again.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeptTasks {
    #[prost(message, repeated, tag = "1")]
    tasks: Vec<KeptTask>,
    /// Each once, however many tokens are bound to it.
    #[prost(message, repeated, tag = "2")]
    svids: Vec<Kept>,
}

/// A task as it is kept; without a token where it had none that was good. Field numbers are never used again.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct KeptTask {
    /// As the issuer gave it when it was begun.
    #[prost(message, optional, tag = "1")]
    task: Option<node::Task>,
    #[prost(message, optional, tag = "2")]
    subject: Option<node::Subject>,
    #[prost(bytes = "vec", tag = "3")]
    instance: Vec<u8>,
    #[prost(uint32, tag = "4")]
    uid: u32,
    #[prost(string, tag = "5")]
    state: String,
    /// How long it may last still.
    #[prost(uint64, tag = "6")]
    deadline_ms: u64,
    #[prost(string, tag = "7")]
    token: String,
    #[prost(int64, tag = "8")]
    expires_at: i64,
    #[prost(uint64, tag = "9")]
    lifetime_ms: u64,
    #[prost(uint64, tag = "10")]
    remaining_ms: u64,
    #[prost(uint64, tag = "11")]
    renew_in_ms: u64,
    /// Of the SVID that the token is bound to.
    #[prost(string, tag = "12")]
    serial: String,
}

impl fmt::Debug for KeptTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptTask").field("subject", &self.subject).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Drop for KeptTask {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

/// The SVIDs that tokens are bound to, by their serial numbers.
type Svids = HashMap<String, Arc<Held<X509>>>;

impl KeptTasks {
    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }
}

impl Tasks {
    /// Every task that has not ended, and those of whose end the issuer has not heard.
    pub(crate) fn keep(&self) -> KeptTasks {
        let now = self.0.clock.monotonic();
        let (mut tasks, mut svids) = (Vec::new(), HashMap::new());
        for task in self.unfinished() {
            let standing = task.follow().borrow().clone();
            let bound = standing.bound.filter(|bound| bound.life().has_left(Duration::ZERO, now));
            let life = bound.as_ref().map(|bound| bound.life());
            let owner = task.owner();
            tasks.push(KeptTask {
                task: Some(task.issued().clone()),
                subject: Some(owner.subject.to_wire(bound.as_ref().map_or(0, |bound| bound.svid().issuance))),
                instance: owner.instance.as_bytes().to_vec(),
                uid: owner.uid,
                state: standing.state.to_string(),
                deadline_ms: whole_ms(task.deadline().saturating_sub(now)),
                token: bound.as_ref().map(|bound| bound.token().to_owned()).unwrap_or_default(),
                expires_at: bound.as_ref().map_or(0, |bound| bound.expires_at()),
                lifetime_ms: life.map_or(0, |life| whole_ms(life.lifetime())),
                remaining_ms: life.map_or(0, |life| whole_ms(life.remaining(now))),
                renew_in_ms: life.map_or(0, |life| whole_ms(life.renew().saturating_sub(now))),
                serial: bound.as_ref().map(|bound| bound.svid().accepted.serial.clone()).unwrap_or_default(),
            });
            if let Some(bound) = &bound {
                let svid = bound.svid();
                let serial = svid.accepted.serial.clone();
                svids.entry(serial).or_insert_with(|| Kept::of_x509(&owner.subject, svid, now));
            }
        }
        KeptTasks { tasks, svids: svids.into_values().collect() }
    }

    fn unfinished(&self) -> Vec<Arc<HeldTask>> {
        let table = self.0.table.lock();
        table.held.values().filter(|task| !task.state().is_final() || task.is_untold()).cloned().collect()
    }

    /// Takes up what was kept `elapsed` ago, under the same ids: it is renewed and can be watched again. Tasks of instances that have ended
    /// meanwhile are abandoned, but for those that were begun as detached. How many were taken up.
    pub(crate) fn restore(
        &self,
        kept: KeptTasks,
        elapsed: Duration,
        holdings: &Holdings,
        own: &Arc<HeldBundle>,
    ) -> usize {
        let read = |kept: Kept| kept.into_x509(elapsed, holdings, own, &self.0.clock);
        let svids = kept.svids.into_iter().filter_map(read);
        let svids: Svids = svids.map(|svid| (svid.accepted.serial.clone(), Arc::new(svid))).collect();
        let mut count = 0;
        for kept in kept.tasks {
            let Some((task, lease)) = self.restored(&kept, elapsed, &svids) else {
                tracing::warn!("a task that was kept over the restart cannot be read");
                continue;
            };
            count += 1;
            let task = Arc::new(task);
            self.0.table.lock().held.insert(Arc::clone(task.id()), Arc::clone(&task));
            tracing::info!(task = %task.id(), spiffe_id = task.owner().spiffe_id, "a task was taken up again");
            self.job(self.clone().keep_up(Arc::clone(&task), lease));
            if let Some(outcome) = untold(&task) {
                self.job(self.clone().tell(task, outcome));
            }
        }
        let held: Vec<_> = self.open().iter().map(|task| task.owner().instance).collect();
        for instance in held.into_iter().filter(|instance| !self.0.instances.lives(*instance)) {
            self.instance_ended(instance);
        }
        count
    }

    fn restored(&self, kept: &KeptTask, elapsed: Duration, svids: &Svids) -> Option<(HeldTask, Lease<X509>)> {
        let clock = &self.0.clock;
        let subject = SubjectKey::from_wire(kept.subject.as_ref()?)?;
        let task = kept.task.clone()?;
        let owner = Owner {
            instance: InstanceId::try_from(kept.instance.as_slice()).ok()?,
            uid: kept.uid,
            subject: subject.clone(),
            spiffe_id: task.spiffe_id.clone(),
            detached: task.detached,
        };
        let untold = |state: &TaskState| matches!(state, TaskState::Completed | TaskState::Failed);
        let state = kept.state.parse::<TaskState>().ok().filter(|state| !state.is_final() || untold(state))?;
        let left = |ms| Duration::from_millis(ms).saturating_sub(elapsed);
        let lease = self.0.identities.x509.lease(subject, ());
        // The same one where it is still in its slot, so that it is there once.
        let in_slot = lease.held().filter(|held| held.accepted.serial == kept.serial);
        let svid = in_slot.or_else(|| svids.get(&kept.serial).cloned());
        let lifetime = Duration::from_millis(kept.lifetime_ms);
        let life = Life::restored(lifetime, left(kept.remaining_ms), left(kept.renew_in_ms), clock);
        let good = !kept.token.is_empty() && life.has_left(Duration::ZERO, clock.monotonic());
        let bound = svid.filter(|_| good).map(|svid| Bound::new(kept.token.clone(), kept.expires_at, life, svid));
        Some((HeldTask::restored(owner, task, state, bound, left(kept.deadline_ms), clock), lease))
    }
}

/// How the issuer has to be told that it has ended.
fn untold(task: &HeldTask) -> Option<node::TaskOutcome> {
    match task.state() {
        TaskState::Completed if task.is_untold() => Some(node::TaskOutcome::Completed),
        TaskState::Failed if task.is_untold() => Some(node::TaskOutcome::Failed),
        _ => None,
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
