//! Every task that has not ended, from memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::{Arc, Weak};
use std::time::Duration;

use mayfly_sdk::task::{MAX_LIFE, Standing, TaskState};
use mayfly_sdk::{Clock, InstanceId, Reason, Refusal, Serial, SpiffeId, Timestamp, Ttl};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::feeds::{Feeds, Following};
use super::held::{Held, Task};
use super::rate::Rate;
use super::statuses::{StatusListed, Statuses};
use super::watch::Watch;
use crate::ledger::{Personal, Record, RequestId};
use crate::store::{BeginTask, HushTasks, MoveTask, Moved, Store, TaskBegin, TaskRow, kind_of};

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
    store: Store,
    clock: Clock,
    limits: Limits,
    begins_of_instance: Rate<(SpiffeId, InstanceId)>,
    begins_of_node: Rate<SpiffeId>,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug)]
pub(super) struct Table {
    tasks: BTreeMap<Serial, Held>,
    by_node: HashMap<SpiffeId, HashSet<Serial>>,
    deadlines: BTreeSet<(Timestamp, Serial)>,
    /// Of each instance with open tasks, how many; begun ones and those that are just being begun.
    of_instance: HashMap<InstanceId, usize>,
    /// Of each root with tasks below it, how many there are.
    below: HashMap<Serial, usize>,
    watches: HashMap<SpiffeId, Weak<Watch>>,
    /// Those that are suspended because their own node is silent.
    silent: HashSet<Serial>,
    pub(super) feeds: Feeds,
    statuses: Statuses,
}

/// Room for one task, given back unless it is used.
struct Place {
    table: Arc<Mutex<Table>>,
    task: Option<Arc<Task>>,
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
                table.reserve(&held.task);
                if silent {
                    table.silent.insert(held.task.id);
                }
                table.insert(held);
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

    /// Begins a task: durable with its records, then known, whether or not whoever asked still waits.
    ///
    /// # Errors
    /// [`Reason::TaskQuota`], [`Reason::ParentNotOpen`], or what the store says.
    pub(crate) async fn begin(&self, task: Task, decision: String, records: Vec<Record>) -> Result<Arc<Task>, Refusal> {
        let task = Arc::new(task);
        let place = self.reserve(&task)?;
        let wanted = BeginTask { task: task.row(TaskState::Open), decision, records };
        let outcome = self.store.begin_task(wanted, move |outcome| match outcome {
            TaskBegin::Begun => place.fill(),
            TaskBegin::ParentNotOpen => drop(place),
        });
        match outcome.await? {
            TaskBegin::Begun => Ok(task),
            TaskBegin::ParentNotOpen => Err(Refusal::new(Reason::ParentNotOpen, "the task above is not open any more")),
        }
    }

    fn reserve(&self, task: &Arc<Task>) -> Result<Place, Refusal> {
        let mut table = self.table.lock();
        let Limits { per_instance, per_root, .. } = self.limits;
        let open = task.instance().and_then(|instance| table.of_instance.get(&instance)).copied();
        if open.unwrap_or_default() >= per_instance {
            let what = format!("the instance has {per_instance} open tasks already");
            return Err(Refusal::new(Reason::TaskQuota, what));
        }
        if task.parent.is_some() && table.below.get(&task.root).copied().unwrap_or_default() >= per_root {
            let what = format!("the root task {} has {per_root} tasks below it already", task.root);
            return Err(Refusal::new(Reason::TaskQuota, what));
        }
        table.reserve(task);
        Ok(Place { table: Arc::clone(&self.table), task: Some(Arc::clone(task)) })
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

    /// The nodes whose instances have tasks that have not ended.
    #[must_use]
    pub fn nodes(&self) -> HashSet<SpiffeId> {
        self.table.lock().by_node.keys().cloned().collect()
    }

    /// Suspends the tasks of a node that is silent, and what is below them. How many of its own this concerned.
    ///
    /// # Errors
    /// What the store says.
    pub async fn hush(&self, node: &SpiffeId) -> Result<usize, Refusal> {
        let ids = {
            let table = self.table.lock();
            let of_node = table.by_node.get(node).into_iter().flatten();
            of_node.filter(|id| !table.silent.contains(id)).copied().collect()
        };
        self.set_silent(node, ids, true).await
    }

    /// A node that is in sync says of which of its tasks the instances live: they are no longer suspended for its silence.
    ///
    /// # Errors
    /// What the store says.
    pub async fn heard(&self, node: &SpiffeId, alive: &[Serial]) -> Result<usize, Refusal> {
        let ids = {
            let table = self.table.lock();
            let of_node = table.by_node.get(node);
            let its_own = |id: &&Serial| of_node.is_some_and(|ids| ids.contains(id)) && table.silent.contains(id);
            alive.iter().filter(its_own).copied().collect()
        };
        self.set_silent(node, ids, false).await
    }

    async fn set_silent(&self, node: &SpiffeId, ids: Vec<Serial>, silent: bool) -> Result<usize, Refusal> {
        let count = ids.len();
        let mut trees: HashMap<Serial, Vec<Serial>> = HashMap::new();
        for id in ids {
            if let Some(held) = self.get(id) {
                trees.entry(held.task.root).or_default().push(id);
            }
        }
        for (root, ids) in trees {
            let kind = kind_of(if silent { TaskState::Suspended } else { TaskState::Open });
            let record =
                Record { node: Some(node.clone()), ..Record::new(kind, Serial::generate(self.clock.now_ms())?) };
            let (table, concerned) = (Arc::clone(&self.table), ids.clone());
            let no_token_after = self.clock.now().saturating_add(self.limits.token);
            let hush = HushTasks { root, ids, silent, record };
            let then = move |moved: &Vec<Moved>| {
                let mut table = table.lock();
                for id in concerned {
                    if silent && table.tasks.contains_key(&id) {
                        table.silent.insert(id);
                    } else {
                        table.silent.remove(&id);
                    }
                }
                table.follow(moved, no_token_after);
            };
            self.store.hush_tasks(hush, then).await?;
        }
        Ok(count)
    }

    /// Ends what has passed its deadline, and forgets what ended long ago, until `stop` is cancelled.
    pub async fn run(&self, stop: CancellationToken) {
        let mut sweeps = 0_u32;
        loop {
            let more = self.expire().await;
            if sweeps.is_multiple_of(FORGET_EVERY) {
                self.table.lock().forget(self.clock.now());
                if let Err(error) = self.store.forget_tasks().await {
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
        let due: Vec<_> = {
            let table = self.table.lock();
            table.deadlines.iter().take_while(|(at, _)| *at <= now).take(EXPIRED_AT_A_TIME).map(|(_, id)| *id).collect()
        };
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

impl Table {
    fn new(now_ms: i64) -> Self {
        Self {
            tasks: BTreeMap::new(),
            by_node: HashMap::new(),
            deadlines: BTreeSet::new(),
            of_instance: HashMap::new(),
            below: HashMap::new(),
            watches: HashMap::new(),
            silent: HashSet::new(),
            feeds: Feeds::new(now_ms),
            statuses: Statuses::default(),
        }
    }

    /// Takes a task over from the store, for those who may meet its tokens.
    fn know(&mut self, held: &Held, no_token_after: Timestamp) {
        if let Some(index) = held.task.status {
            self.statuses.seen(index);
        }
        if held.state == TaskState::Open {
            return;
        }
        tell(&mut self.feeds, &mut self.statuses, held, no_token_after);
    }

    fn forget(&mut self, now: Timestamp) {
        self.feeds.forget(now);
        self.statuses.forget(now);
    }

    fn reserve(&mut self, task: &Task) {
        if let Some(instance) = task.instance() {
            *self.of_instance.entry(instance).or_default() += 1;
        }
        if task.parent.is_some() {
            *self.below.entry(task.root).or_default() += 1;
        }
    }

    fn give_back(&mut self, task: &Task) {
        fn one_less<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
            if let Some(count) = counts.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(key);
                }
            }
        }
        if let Some(instance) = task.instance() {
            one_less(&mut self.of_instance, &instance);
        }
        if task.parent.is_some() {
            one_less(&mut self.below, &task.root);
        }
    }

    fn insert(&mut self, held: Held) {
        let task = &held.task;
        self.by_node.entry(task.node.clone()).or_default().insert(task.id);
        self.deadlines.insert((task.deadline, task.id));
        self.tasks.insert(task.id, held);
    }

    /// What the store has made durable.
    fn follow(&mut self, moved: &[Moved], no_token_after: Timestamp) {
        for Moved { id, state, .. } in moved {
            let Some(held) = self.tasks.get_mut(id) else { continue };
            if held.state == *state {
                continue;
            }
            held.state = *state;
            tell(&mut self.feeds, &mut self.statuses, held, no_token_after);
            if let Some(watch) = self.watches.get(&held.task.node).and_then(Weak::upgrade) {
                watch.tell(*id, *state);
            }
            if state.is_final()
                && let Some(Held { task, .. }) = self.tasks.remove(id)
            {
                self.deadlines.remove(&(task.deadline, task.id));
                self.silent.remove(&task.id);
                if let Some(of_node) = self.by_node.get_mut(&task.node) {
                    of_node.remove(id);
                    if of_node.is_empty() {
                        self.by_node.remove(&task.node);
                    }
                }
                self.give_back(&task);
            }
        }
    }
}

/// Tells those who may meet a task's tokens how it stands; none of its tokens is valid after that time.
fn tell(feeds: &mut Feeds, statuses: &mut Statuses, held: &Held, no_token_after: Timestamp) {
    let event = held.event(no_token_after);
    feeds.tell(held.task.grant.audience(), event);
    if let Some(index) = held.task.status {
        statuses.tell(index, event.state, event.forget_at);
    }
}

impl Place {
    fn fill(mut self) {
        if let Some(task) = self.task.take() {
            self.table.lock().insert(Held { task, state: TaskState::Open });
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            self.table.lock().give_back(&task);
        }
    }
}
