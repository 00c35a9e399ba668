//! What the issuer says of this node's tasks: of those that are held here, and of others.
//!
//! Others are those that instances have begun by themselves over OAuth, and those that a restart has not kept. Such a task ends with its
//! instance as any does: an instance that is not known to live is no more, and what it left is ended, unless it was begun as detached.

use std::collections::HashSet;

use mayfly_proto::node;
use mayfly_sdk::task::TaskState;
use mayfly_sdk::{InstanceId, Refusal, Retry};

use super::{CONFIRM_AGAIN, CONFIRM_TIMES, CONFIRMED_AT_A_TIME, MOST_EARLY, Table, Tasks};
use crate::link::TaskNews;

impl Tasks {
    /// Takes what the issuer says of tasks.
    pub(super) fn learn(&self, news: TaskNews) {
        let TaskNews { states, opened } = news;
        let mut table = self.0.table.lock();
        if states.whole {
            table.others.clear();
        }
        let mut listed = HashSet::with_capacity(states.states.len());
        let mut suspended = Vec::new();
        for change in states.states {
            listed.insert(change.id.clone());
            let Ok(state) = change.state.parse::<TaskState>() else {
                tracing::warn!(
                    task = change.id,
                    state = change.state,
                    "the issuer names a state that this agent does not know"
                );
                continue;
            };
            let lives = match table.held.get(change.id.as_str()) {
                Some(task) => {
                    task.set_state(state);
                    task.state() == TaskState::Suspended
                }
                None => self.learn_of_another(&mut table, &change, state) && state == TaskState::Suspended,
            };
            if lives {
                suspended.push(change.id);
            }
        }
        // Perhaps because this node was silent. A task whose instance has ended has ended here too.
        for ids in suspended.chunks(CONFIRMED_AT_A_TIME) {
            self.job(self.clone().confirm(ids.to_vec()));
        }
        if states.whole {
            let now = self.0.clock.monotonic();
            // What was begun after the stream was opened need not be in what it began with.
            let gone = table.held.values().filter(|task| task.begun() < opened && !listed.contains(task.id().as_ref()));
            for task in gone {
                // How it ended was said while this agent did not hear it.
                task.set_state(if task.deadline() <= now { TaskState::Expired } else { TaskState::Revoked });
            }
        }
        drop(table);
        self.note_change();
    }

    /// Of a task that is not held here. Whether it is to go on.
    fn learn_of_another(&self, table: &mut Table, change: &node::TaskStateChange, state: TaskState) -> bool {
        if table.beginning > 0 && table.early.len() < MOST_EARLY {
            table.early.insert(change.id.clone(), state);
        }
        if state.is_final() {
            table.others.remove(change.id.as_str());
            return false;
        }
        // An issuer that does not say whose it is leaves it to its deadline.
        let Ok(instance) = InstanceId::try_from(change.instance.as_ref()) else { return false };
        if change.detached {
            return true;
        }
        // Under the table's lock: whoever dies after this is looked for in the table later.
        if self.0.instances.lives(instance) {
            table.others.insert(change.id.clone(), instance);
            return true;
        }
        self.abandon_another(table, change.id.clone());
        false
    }

    /// An instance has ended: so do the tasks that it had besides those that are held here.
    pub(super) fn abandon_others(&self, table: &mut Table, instance: InstanceId) {
        let of_instance = |(_, owner): &(&String, &InstanceId)| **owner == instance;
        let others: Vec<_> = table.others.iter().filter(of_instance).map(|(id, _)| id.clone()).collect();
        for id in others {
            table.others.remove(&id);
            self.abandon_another(table, id);
        }
    }

    fn abandon_another(&self, table: &mut Table, id: String) {
        if !table.abandoning.insert(id.clone()) {
            return;
        }
        tracing::info!(task = id, "a task that is not held here is ended: its instance is no more");
        let tasks = self.clone();
        self.job(async move {
            tasks.tell_of_end(&id, node::TaskOutcome::Abandoned, None).await;
            tasks.0.table.lock().abandoning.remove(&id);
        });
    }

    /// Tells the issuer that the instances of these tasks live. Where it does not hear it, it names the tasks again on the next
    /// stream.
    async fn confirm(self, ids: Vec<String>) {
        let mut pause = CONFIRM_AGAIN;
        for _ in 0..CONFIRM_TIMES {
            match self.confirm_tasks(ids.clone()).await {
                Ok(()) => return,
                Err(status) if Refusal::from_status(&status).reason.retry() == Retry::No => {
                    return tracing::warn!(
                        what = status.message(),
                        "the issuer was not told that suspended tasks live"
                    );
                }
                Err(_later) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
    }
}
