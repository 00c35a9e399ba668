//! The memory of tasks: those that have not ended, and what others are told of all.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Weak};

use mayfly_sdk::task::TaskState;
use mayfly_sdk::{InstanceId, Reason, Refusal, Serial, SpiffeId, Timestamp};
use parking_lot::Mutex;

use super::feeds::Feeds;
use super::held::{Held, Task};
use super::statuses::Statuses;
use super::tasks::Limits;
use super::watch::Watch;
use crate::store::Moved;

#[derive(Debug)]
pub(super) struct Table {
    pub(super) tasks: BTreeMap<Serial, Held>,
    pub(super) by_node: HashMap<SpiffeId, HashSet<Serial>>,
    deadlines: BTreeSet<(Timestamp, Serial)>,
    /// Of each node with open tasks, how many; begun ones and those that are just being begun.
    counts: HashMap<SpiffeId, Counts>,
    /// Of each root with tasks below it, how many there are.
    below: HashMap<Serial, usize>,
    pub(super) watches: HashMap<SpiffeId, Weak<Watch>>,
    /// Those that are suspended because their own node is silent.
    silent: HashSet<Serial>,
    pub(super) feeds: Feeds,
    pub(super) statuses: Statuses,
}

/// How many tasks a node has open. What an instance is called is the node's own word, and so it counts within the node.
#[derive(Debug, Default)]
struct Counts {
    open: usize,
    of_instance: HashMap<InstanceId, usize>,
}

impl Table {
    pub(super) fn new(now_ms: i64) -> Self {
        Self {
            tasks: BTreeMap::new(),
            by_node: HashMap::new(),
            deadlines: BTreeSet::new(),
            counts: HashMap::new(),
            below: HashMap::new(),
            watches: HashMap::new(),
            silent: HashSet::new(),
            feeds: Feeds::new(now_ms),
            statuses: Statuses::default(),
        }
    }

    /// Takes a task over from the store, for those who may meet its tokens.
    pub(super) fn know(&mut self, held: &Held, no_token_after: Timestamp) {
        if let Some(index) = held.task.status {
            self.statuses.seen(index);
        }
        if held.state == TaskState::Open {
            return;
        }
        tell(&mut self.feeds, &mut self.statuses, held, no_token_after);
    }

    pub(super) fn forget(&mut self, now: Timestamp) {
        self.feeds.forget(now);
        self.statuses.forget(now);
    }

    pub(super) fn reserve(&mut self, task: &Task) {
        let counts = self.counts.entry(task.node.clone()).or_default();
        counts.open += 1;
        if let Some(instance) = task.instance() {
            *counts.of_instance.entry(instance).or_default() += 1;
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
        if let Some(counts) = self.counts.get_mut(&task.node) {
            counts.open -= 1;
            if let Some(instance) = task.instance() {
                one_less(&mut counts.of_instance, &instance);
            }
            if counts.open == 0 {
                self.counts.remove(&task.node);
            }
        }
        if task.parent.is_some() {
            one_less(&mut self.below, &task.root);
        }
    }

    pub(super) fn insert(&mut self, held: Held) {
        let task = &held.task;
        self.by_node.entry(task.node.clone()).or_default().insert(task.id);
        self.deadlines.insert((task.deadline, task.id));
        self.tasks.insert(task.id, held);
    }

    /// The nodes whose instances have tasks.
    pub(super) fn nodes(&self) -> HashSet<SpiffeId> {
        self.by_node.keys().cloned().collect()
    }

    /// A node's tasks that are not suspended for its silence.
    pub(super) fn not_silent(&self, node: &SpiffeId) -> Vec<Serial> {
        let of_node = self.by_node.get(node).into_iter().flatten();
        of_node.filter(|id| !self.silent.contains(id)).copied().collect()
    }

    /// Those of these tasks that are the node's, and suspended for its silence.
    pub(super) fn silent_among(&self, node: &SpiffeId, ids: &[Serial]) -> Vec<Serial> {
        let of_node = self.by_node.get(node);
        let its_own = |id: &&Serial| of_node.is_some_and(|ids| ids.contains(id)) && self.silent.contains(id);
        ids.iter().filter(its_own).copied().collect()
    }

    /// Whether these tasks are suspended because their own node is silent; those that have ended are not.
    pub(super) fn set_silent(&mut self, ids: &[Serial], silent: bool) {
        for id in ids {
            if silent && self.tasks.contains_key(id) {
                self.silent.insert(*id);
            } else {
                self.silent.remove(id);
            }
        }
    }

    /// At most so many of those whose deadline has passed, the longest ago first.
    pub(super) fn due(&self, now: Timestamp, at_most: usize) -> Vec<Serial> {
        self.deadlines.iter().take_while(|(at, _)| *at <= now).take(at_most).map(|(_, id)| *id).collect()
    }

    /// What the store has made durable.
    pub(super) fn follow(&mut self, moved: &[Moved], no_token_after: Timestamp) {
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

/// Room for one task, given back unless it is used.
pub(super) struct Place {
    table: Arc<Mutex<Table>>,
    task: Option<Arc<Task>>,
}

impl Place {
    pub(super) fn of(table: &Arc<Mutex<Table>>, task: &Arc<Task>, limits: &Limits) -> Result<Self, Refusal> {
        let mut known = table.lock();
        let Limits { per_instance, per_node, per_root, .. } = *limits;
        let counts = known.counts.get(&task.node);
        let of_instance = task.instance().and_then(|instance| counts?.of_instance.get(&instance)).copied();
        if of_instance.unwrap_or_default() >= per_instance {
            let what = format!("the instance has {per_instance} open tasks already");
            return Err(Refusal::new(Reason::TaskQuota, what));
        }
        if counts.is_some_and(|counts| counts.open >= per_node) {
            let what = format!("the instances of {} have {per_node} open tasks already", task.node);
            return Err(Refusal::new(Reason::TaskQuota, what));
        }
        if task.parent.is_some() && known.below.get(&task.root).copied().unwrap_or_default() >= per_root {
            let what = format!("the root task {} has {per_root} tasks below it already", task.root);
            return Err(Refusal::new(Reason::TaskQuota, what));
        }
        known.reserve(task);
        Ok(Self { table: Arc::clone(table), task: Some(Arc::clone(task)) })
    }

    /// It is begun. Its node is told, unless the node is who asked.
    pub(super) fn fill(mut self, by_node: bool) {
        let Some(task) = self.task.take() else { return };
        let mut table = self.table.lock();
        if !by_node && let Some(watch) = table.watches.get(&task.node).and_then(Weak::upgrade) {
            watch.tell(task.id, TaskState::Open);
        }
        table.insert(Held { task, state: TaskState::Open });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            self.table.lock().give_back(&task);
        }
    }
}
