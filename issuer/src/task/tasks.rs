//! What is done with tasks: begun, looked at, moved to another state, ended at their deadlines.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use mayfly_sdk::task::{MAX_LIFE, Standing, TaskState};
use mayfly_sdk::{Clock, InstanceId, Reason, Refusal, Serial, SpiffeId, Timestamp, Ttl};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::feeds::Following;
use super::held::{Held, Task};
use super::rate::Rate;
use super::statuses::StatusListed;
use super::table::{Place, Table};
use super::users;
use super::watch::Watch;
use crate::ledger::{Personal, Record, RequestId};
use crate::store::{BeginTask, MoveTask, Store, TaskBegin, TaskRow, kind_of};

/// What may be begun at once, in seconds of what may be begun a second.
const BURST_S: f64 = 5.0;
/// How often it is looked which deadlines have passed.
const SWEEP: Duration = Duration::from_secs(1);
/// Tasks that expire in one sweep; the next ones follow at once.
const EXPIRED_AT_A_TIME: usize = 256;
/// Tasks that are looked at under one lock.
const LOOKED_AT: usize = 1000;
/// How many sweeps lie between two that forget what ended long ago.
const FORGET_EVERY: u32 = 60;

/// How many tasks there may be, and how long they may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most tasks that one instance may have open at a time.
    pub per_instance: usize,
    /// The most tasks that the instances of one node may have open at a time, all together.
    pub per_node: usize,
    /// The most tasks that one root may have below it.
    pub per_root: usize,
    /// How many tasks one instance may begin a second.
    pub begins_per_instance: u32,
    /// How many tasks the instances of one node may begin a second.
    pub begins_per_node: u32,
    /// How long a task may last where nobody says.
    pub deadline: Ttl,
    /// How long any task may last.
    pub longest_deadline: Ttl,
    /// How long a token lives.
    pub token: Ttl,
}

/// The tasks of the trust domain. Shared behind an `Arc`.
pub struct Tasks {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) limits: Limits,
    begins_of_instance: Rate<(SpiffeId, InstanceId)>,
    begins_of_node: Rate<SpiffeId>,
    further_of_instance: Rate<(SpiffeId, Option<InstanceId>)>,
    pub(super) table: Arc<Mutex<Table>>,
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tasks").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Tasks {
    /// The tasks that the store holds: those that have not ended, and those of which tokens may still be about.
    ///
    /// # Errors
    /// [`Reason::StoreCorrupt`].
    pub fn load(rows: Vec<TaskRow>, store: Store, clock: Clock, limits: Limits) -> Result<Self, Refusal> {
        let mut table = Table::new(clock.now_ms());
        // It may have ended a moment ago, and tokens may have lived longer then.
        let no_token_after = clock.now().saturating_add(MAX_LIFE);
        for row in rows {
            let silent = row.silent;
            let held = Held::try_from(row)?;
            table.know(&held, no_token_after);
            if !held.state.is_final() {
                let id = held.task.id;
                table.reserve(&held.task);
                table.insert(held);
                table.set_silent(&[id], silent);
            }
        }
        let rate = |per_s: u32| (f64::from(per_s), f64::from(per_s) * BURST_S);
        let (of_instance, of_node) = (rate(limits.begins_per_instance), rate(limits.begins_per_node));
        Ok(Self {
            store,
            clock,
            limits,
            begins_of_instance: Rate::new(of_instance.0, of_instance.1),
            begins_of_node: Rate::new(of_node.0, of_node.1),
            further_of_instance: Rate::new(of_node.0, of_node.1),
            table: Arc::new(Mutex::new(table)),
        })
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts a begin that is asked for, whatever becomes of it. An instance that begins too fast does not use up what its
    /// node may.
    ///
    /// # Errors
    /// [`Reason::TaskRate`], with the time after which there is room again.
    pub(crate) fn admit(&self, node: &SpiffeId, instance: Option<InstanceId>) -> Result<(), Refusal> {
        let now = self.clock.monotonic();
        let refused = |who: &str, limit: u32, after: Duration| {
            let after_ms = after.as_millis() + 1;
            let what = format!("the {who} may begin {limit} tasks a second; there is room again in {after_ms} ms");
            Refusal::new(Reason::TaskRate, what)
        };
        let Limits { begins_per_instance, begins_per_node, .. } = self.limits;
        if let Some(instance) = instance {
            let taken = self.begins_of_instance.take(&(node.clone(), instance), now);
            taken.map_err(|after| refused("instance", begins_per_instance, after))?;
        }
        self.begins_of_node.take(node, now).map_err(|after| refused("node", begins_per_node, after))
    }

    /// Counts what is asked for a task that is open: one instance may have as many further tokens as its node may begin tasks.
    ///
    /// # Errors
    /// [`Reason::TaskRate`], with the time after which there is room again.
    pub(crate) fn admit_further(&self, node: &SpiffeId, instance: Option<InstanceId>) -> Result<(), Refusal> {
        self.further_of_instance.take(&(node.clone(), instance), self.clock.monotonic()).map_err(|after| {
            let (limit, after_ms) = (self.limits.begins_per_node, after.as_millis() + 1);
            let what = format!("an instance may have {limit} tokens a second; there is room again in {after_ms} ms");
            Refusal::new(Reason::TaskRate, what)
        })
    }

    /// A task that has not ended.
    #[must_use]
    pub fn get(&self, id: Serial) -> Option<Held> {
        self.table.lock().tasks.get(&id).cloned()
    }

    /// A task, whether it has ended or not, as long as the store remembers it.
    ///
    /// # Errors
    /// What the store says.
    pub async fn find(&self, id: Serial) -> Result<Option<Held>, Refusal> {
        match self.get(id) {
            Some(held) => Ok(Some(held)),
            None => self.store.task(id).await?.map(Held::try_from).transpose(),
        }
    }

    /// At most `size` of the tasks that have not ended and are wanted, the oldest first, those after `after` only.
    #[must_use]
    pub fn after(&self, after: Option<Serial>, size: usize, wanted: impl Fn(&Held) -> bool) -> Vec<Held> {
        let (mut from, mut found) = (after.map_or(Bound::Unbounded, Bound::Excluded), Vec::new());
        loop {
            // A few at a time: whoever begins a task does not wait until a million were looked at.
            let some: Vec<_> = self
                .table
                .lock()
                .tasks
                .range((from, Bound::Unbounded))
                .take(LOOKED_AT)
                .map(|(_, held)| held.clone())
                .collect();
            let Some(last) = some.last() else { return found };
            from = Bound::Excluded(last.task.id);
            for held in some {
                if found.len() == size {
                    return found;
                }
                if wanted(&held) {
                    found.push(held);
                }
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.table.lock().tasks.len()
    }

    /// How a task stands at this moment, for whoever was shown a token of it.
    #[must_use]
    pub fn standing(&self, id: Serial, now: Timestamp) -> Standing {
        match self.get(id) {
            Some(held) if held.task.deadline <= now => Standing::Ended,
            Some(held) if held.state == TaskState::Open => Standing::Open,
            Some(_) => Standing::Suspended,
            None => Standing::Ended,
        }
    }

    /// Every task of a node's instances that has not ended.
    #[must_use]
    pub fn of_node(&self, node: &SpiffeId) -> Vec<Held> {
        let table = self.table.lock();
        let ids = table.by_node.get(node).into_iter().flatten();
        ids.filter_map(|id| table.tasks.get(id).cloned()).collect()
    }

    /// A stream of this node, to be told what becomes of its tasks; an older one is told no more.
    #[must_use]
    pub fn watch(&self, node: &SpiffeId) -> Arc<Watch> {
        let watch = Arc::new(Watch::new());
        self.table.lock().watches.insert(node.clone(), Arc::downgrade(&watch));
        watch
    }

    /// A place in the status lists for a task that is to be begun.
    #[must_use]
    pub fn next_status(&self) -> u64 {
        self.table.lock().statuses.next_index()
    }

    /// How often the status list with this number has changed; `None`: there is none.
    #[must_use]
    pub fn status_version(&self, list: u64) -> Option<u64> {
        self.table.lock().statuses.version(list)
    }

    /// The status list with this number; `None`: there is none.
    #[must_use]
    pub fn status_list(&self, list: u64) -> Option<StatusListed> {
        self.table.lock().statuses.list(list)
    }

    /// Follows what becomes of the tasks whose tokens are for this audience.
    #[must_use]
    pub fn follow(&self, audience: &str) -> Following {
        Following::new(&self.table, audience)
    }

    /// Begins a task: durable with its records, then known, whether or not whoever asked still waits. Its node is told, unless the
    /// node is who asked.
    ///
    /// # Errors
    /// [`Reason::TaskQuota`], [`Reason::ParentNotOpen`], [`Reason::UserSuspended`], [`Reason::UserLoggedOut`], or what the
    /// store says.
    pub(crate) async fn begin(
        &self,
        task: Task,
        by_node: bool,
        decision: String,
        records: Vec<Record>,
    ) -> Result<Arc<Task>, Refusal> {
        let task = Arc::new(task);
        let place = Place::of(&self.table, &task, &self.limits)?;
        let wanted = BeginTask { task: task.row(TaskState::Open), decision, records };
        let outcome = self.store.begin_task(wanted, move |outcome| match outcome {
            TaskBegin::Begun => place.fill(by_node),
            TaskBegin::ParentNotOpen | TaskBegin::Barred(_) => drop(place),
        });
        match outcome.await? {
            TaskBegin::Begun => Ok(task),
            TaskBegin::ParentNotOpen => Err(Refusal::new(Reason::ParentNotOpen, "the task above is not open any more")),
            TaskBegin::Barred(barred) => Err(users::refusal(barred, &task.subject)),
        }
    }

    /// Moves a task, and what is below it, to another state. The tasks that this changed, none if it stood there already
    /// or has ended.
    ///
    /// # Errors
    /// What the store says.
    pub async fn set_state(&self, id: Serial, to: TaskState, by: By) -> Result<Vec<Serial>, Refusal> {
        let record = Record {
            node: by.node,
            request_id: by.request_id,
            personal: Personal { actor: by.actor, ..Personal::default() },
            ..Record::new(kind_of(to), Serial::generate(self.clock.now_ms())?)
        };
        let table = Arc::clone(&self.table);
        let change = MoveTask { id, to, record };
        let no_token_after = self.clock.now().saturating_add(self.limits.token);
        let moved = self.store.move_task(change, move |moved| table.lock().follow(moved, no_token_after)).await?;
        Ok(moved.into_iter().filter(|task| task.changed).map(|task| task.id).collect())
    }

    /// Ends what has passed its deadline, and forgets what ended long ago, until `stop` is cancelled.
    pub async fn run(&self, stop: CancellationToken) {
        let mut sweeps = 0_u32;
        loop {
            let more = self.expire().await;
            if sweeps.is_multiple_of(FORGET_EVERY) {
                self.table.lock().forget(self.clock.now());
                if let Err(error) = self.store.forget(self.clock.now()).await {
                    tracing::warn!(reason = error.reason().code(), "tasks that ended long ago were not forgotten");
                }
            }
            sweeps = sweeps.wrapping_add(1);
            let pause = if more { Duration::ZERO } else { SWEEP };
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Whether more are due.
    async fn expire(&self) -> bool {
        let now = self.clock.now();
        let due = self.table.lock().due(now, EXPIRED_AT_A_TIME);
        let more = due.len() == EXPIRED_AT_A_TIME;
        for id in due {
            if let Err(refusal) = self.set_state(id, TaskState::Expired, By::default()).await {
                tracing::warn!(task = %id, reason = refusal.reason.code(), "a task past its deadline was not ended");
                return false;
            }
        }
        more
    }
}

/// Who moves a task: recorded with it.
#[derive(Debug, Clone, Default)]
pub struct By {
    /// The node that asked.
    pub node: Option<SpiffeId>,
    /// What it called its request.
    pub request_id: Option<RequestId>,
    /// Who asked, where that is not a node.
    pub actor: Option<Arc<str>>,
}
