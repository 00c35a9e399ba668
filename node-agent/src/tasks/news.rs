//! What the issuer says of this node's tasks: of those that are held here, and of others.
//!
//! Others are those that instances have begun by themselves over OAuth, and those that a restart has not kept. Such a task ends with its
//! instance as any does: an instance that is not known to live is no more, and what it left is ended, unless it was begun as detached.

use std::collections::HashSet;

use mayfly_proto::node;
use mayfly_sdk::grpc::retry_after;
use mayfly_sdk::task::TaskState;
use mayfly_sdk::{InstanceId, Refusal, Retry};

use super::renewal::{FIRST_PAUSE, LONGEST_PAUSE};
use super::{CONFIRMED_AT_A_TIME, MOST_EARLY, Table, Tasks};
use crate::link::{Backoff, TaskNews};

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

    pub(super) fn abandon_another(&self, table: &mut Table, id: String) {
        if !table.abandoning.insert(id.clone()) {
            return;
        }
        tracing::info!(task = id, "a task that nobody holds here is ended");
        let tasks = self.clone();
        self.job(async move {
            tasks.tell_of_end(&id, node::TaskOutcome::Abandoned, None).await;
            tasks.0.table.lock().abandoning.remove(&id);
        });
    }

    /// Tells the issuer that the instances of these tasks live, until it has heard it or none of them is suspended any more. On the next
    /// connection it names by itself those that still are.
    async fn confirm(self, mut ids: Vec<String>) {
        let mut issuer = self.0.issuer.clone();
        issuer.mark_unchanged();
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let Err(status) = self.confirm_tasks(ids.clone()).await else { return };
            let refusal = Refusal::from_status(&status);
            tracing::warn!(
                reason = refusal.reason.code(),
                what = refusal.what,
                "the issuer does not know yet that suspended tasks live"
            );
            if refusal.reason.retry() == Retry::No {
                return;
            }
            let pause = backoff.failed(retry_after(&status));
            tokio::select! {
                Ok(()) = issuer.changed() => return,
                () = tokio::time::sleep(pause) => {}
            }
            self.retain_suspended(&mut ids);
            if ids.is_empty() {
                return;
            }
        }
    }

    /// Of a task that is not held here it is not known how it stands.
    fn retain_suspended(&self, ids: &mut Vec<String>) {
        let table = self.0.table.lock();
        ids.retain(|id| table.held.get(id.as_str()).is_none_or(|task| task.state() == TaskState::Suspended));
    }
}
