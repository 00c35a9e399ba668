//! The tasks of this node's workloads: begun at the issuer for the instance that asks, their tokens kept fresh while the tasks are open.
//!
//! ```text
//! Begin, Delegate ─> Tasks ─BeginTask─> issuer ─> HeldTask ─watch─> Watch streams
//!                      │                             ^ ^ ^
//!     Keeper ──────────┴─ one renewal for each task ─┘ │ └── an instance has ended: abandoned
//!                                     TaskStates ──────┘
//! ```
//!
//! - A token is bound to the X.509-SVID that its instance has. When that one is replaced the task is bound anew, and whoever watches gets the
//!   token and what it is bound to in one message. What was handed out before stays good until it ends.
//! - A failed renewal changes nothing: the token that is held stays until its end, and watchers are told when that is near.
//! - A detached task outlives the instance that began it: its SVID goes on being renewed here until the task has ended.
//! - What the issuer says of a task's state counts, and so does what has happened here: a task that has ended never opens again.
//!
//! - A task that its holder ends while the issuer is away ends here at once; the issuer is told once it is back, also after a restart.
//! - A restart of the agent keeps them ([`KeptTasks`]): those of instances that live go on under their ids, those of others are abandoned.

mod accept;
mod calls;
mod held;
mod keeper;
mod kept;
mod news;
mod renewal;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use mayfly_proto::node;
use mayfly_sdk::task::TaskState;
use mayfly_sdk::{Clock, InstanceId, Reason, Refusal, Retry};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tonic::Status;

use self::calls::ANSWER_WITHIN;
use self::held::Bound;
pub(crate) use self::held::{HeldTask, Owner, Standing};
pub(crate) use self::keeper::Keeper;
pub(crate) use self::kept::KeptTasks;
use crate::holdings::Holdings;
use crate::identity::{Held, Identities, Lease, MintCounters, X509};
use crate::link::{LinkStatus, LinkView, NodeClient, TaskNews};
use crate::workload::{HeldProcess, Instances};

/// What this agent says of itself, and what an entry may require.
pub(crate) const FEATURE: &str = "tasks";

/// Open tasks of one instance, and of all instances of one user. The issuer has a quota of its own, which is lower unless an operator has raised it.
const MOST_OF_INSTANCE: usize = 256;
const MOST_OF_USER: usize = 2_048;
/// Renewals and ends that are under way at a time.
const MOST_IN_FLIGHT: usize = 16;
/// Tasks of one confirmation.
const CONFIRMED_AT_A_TIME: usize = 1_000;
/// States of tasks whose begin is not answered yet.
const MOST_EARLY: usize = 1_024;

type Job = BoxFuture<'static, ()>;

/// The tasks that this agent holds.
#[derive(Debug, Clone)]
pub(crate) struct Tasks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    issuer: watch::Receiver<Option<NodeClient>>,
    holdings: watch::Receiver<Holdings>,
    status: watch::Receiver<LinkStatus>,
    identities: Identities,
    instances: Arc<Instances>,
    turns: Semaphore,
    counters: MintCounters,
    jobs: mpsc::UnboundedSender<Job>,
    changes: watch::Sender<()>,
    clock: Clock,
}

#[derive(Debug, Default)]
struct Table {
    /// By id; one that has ended stays for a moment.
    held: HashMap<Arc<str>, Arc<HeldTask>>,
    /// Begins that are not answered yet, and what the issuer has said meanwhile of tasks that are not held.
    beginning: usize,
    early: HashMap<String, TaskState>,
    /// Instances that have ended, and whose detached tasks have not.
    survived: HashSet<InstanceId>,
    /// Tasks that are not held here, of instances that live.
    others: HashMap<String, InstanceId>,
    /// Tasks that are not held here, and of whose end the issuer is being told.
    abandoning: HashSet<String>,
}

/// What a begin needs beyond the caller's wish.
pub(crate) struct Beginner {
    pub(crate) owner: Owner,
    /// The process itself.
    pub(crate) process: Arc<HeldProcess>,
    /// Keeps the instance's X.509-SVID renewed.
    pub(crate) lease: Lease<X509>,
    /// The one to bind the first token to.
    pub(crate) svid: Arc<Held<X509>>,
}

impl Tasks {
    /// A table, and what works behind it.
    pub(crate) fn new(
        link: &LinkView,
        identities: &Identities,
        instances: &Arc<Instances>,
        news: mpsc::UnboundedReceiver<TaskNews>,
        clock: &Clock,
    ) -> (Self, Keeper) {
        let (sender, jobs) = mpsc::unbounded_channel();
        let tasks = Self(Arc::new(Shared {
            table: Mutex::default(),
            issuer: link.issuer.clone(),
            holdings: link.holdings.clone(),
            status: link.status.clone(),
            identities: identities.clone(),
            instances: Arc::clone(instances),
            turns: Semaphore::new(MOST_IN_FLIGHT),
            counters: MintCounters::default(),
            jobs: sender,
            changes: watch::Sender::new(()),
            clock: clock.clone(),
        }));
        let keeper = Keeper::new(tasks.clone(), jobs, news);
        (tasks, keeper)
    }

    /// Begins a task. `wish`: the request without what says who asks. If whoever asks goes away meanwhile, the task is ended again.
    ///
    /// # Errors
    /// What the issuer says, in its words; [`Reason::TaskQuota`]: too many tasks are open.
    pub(crate) async fn begin(
        &self,
        beginner: Beginner,
        wish: node::BeginTaskRequest,
    ) -> Result<Arc<HeldTask>, Status> {
        self.has_room(&beginner.owner)?;
        let (answer, answered) = oneshot::channel();
        let tasks = self.clone();
        // By itself, so that a caller that goes away does not leave a task at the issuer that nobody here knows of.
        self.job(async move {
            let begun = tasks.begin_now(beginner, wish).await;
            if let Err(Ok(unwanted)) = answer.send(begun) {
                tasks.abandon(unwanted).await;
            }
        });
        // What comes later is taken back, too.
        match tokio::time::timeout(ANSWER_WITHIN, answered).await {
            Ok(answered) => answered.map_err(|_dropped| shutting_down())?,
            Err(_elapsed) => Err(calls::silent().into()),
        }
    }

    async fn begin_now(&self, beginner: Beginner, wish: node::BeginTaskRequest) -> Result<Arc<HeldTask>, Status> {
        let Beginner { owner, process, lease, svid } = beginner;
        let _beginning = Beginning::note(self);
        let begun = self.begin_task(&lease, &svid, wish).await;
        let begun = begun.and_then(|issue| Ok(self.accepted(issue, &owner, svid)?));
        let counters = &self.0.counters;
        if begun.is_ok() {
            counters.minted.inc()
        } else {
            counters.failed.inc()
        };
        let (task, bound, left) = begun?;
        let held = Arc::new(HeldTask::new(owner, task, bound, left, &self.0.clock));
        let early = {
            let mut table = self.0.table.lock();
            table.held.insert(Arc::clone(held.id()), Arc::clone(&held));
            table.early.remove(held.id().as_ref())
        };
        if let Some(state) = early {
            held.set_state(state);
        }
        tracing::info!(task = %held.id(), spiffe_id = held.owner().spiffe_id, "a task was begun");
        self.job(self.clone().keep_up(Arc::clone(&held), lease));
        self.note_change();
        // Its death may have been reported before the task was held.
        if !process.alive() {
            self.instance_ended(held.owner().instance);
        }
        Ok(held)
    }

    /// What the issuer has begun. Where it is of no use the task is ended: nobody else knows of it.
    fn accepted(
        &self,
        issue: node::TaskIssue,
        owner: &Owner,
        svid: Arc<Held<X509>>,
    ) -> Result<(node::Task, Bound, Duration), Refusal> {
        let id = issue.task.as_ref().map(|task| task.id.clone());
        accept::begun(issue, owner, svid, &self.0.clock).inspect_err(|_refused| {
            if let Some(id) = id {
                self.abandon_another(&mut self.0.table.lock(), id);
            }
        })
    }

    /// Told of each change that a restart would have to keep.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    fn note_change(&self) {
        self.0.changes.send_replace(());
    }

    /// Tokens that were minted, renewed, or refused.
    pub(crate) fn counters(&self) -> &MintCounters {
        &self.0.counters
    }

    /// How many tasks have not ended.
    pub(crate) fn count(&self) -> usize {
        self.0.table.lock().held.values().filter(|task| !task.state().is_final()).count()
    }

    /// The task with this id, also for a moment after its end.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<HeldTask>> {
        self.0.table.lock().held.get(id).cloned()
    }

    /// Every task that has not ended, in the order of their ids, which is that of their begins.
    pub(crate) fn open(&self) -> Vec<Arc<HeldTask>> {
        let mut open: Vec<_> =
            self.0.table.lock().held.values().filter(|task| !task.state().is_final()).cloned().collect();
        open.sort_unstable_by(|a, b| a.id().cmp(b.id()));
        open
    }

    /// Ends a task as its holder says. The ids of all that this ended; none where it had ended before.
    ///
    /// # Errors
    /// What the issuer says, in its words. Where it may be asked again the task has ended on this node, and the issuer is told as soon as it
    /// answers; until then what is below the task lives elsewhere, so that this is no success.
    pub(crate) async fn complete(&self, task: &Arc<HeldTask>, failed: bool) -> Result<Vec<String>, Status> {
        let (answer, answered) = oneshot::channel();
        let (tasks, task) = (self.clone(), Arc::clone(task));
        // By itself, so that the wish of a caller that goes away is not lost.
        self.job(async move {
            answer.send(tasks.complete_now(&task, failed).await).ok();
        });
        answered.await.map_err(|_dropped| shutting_down())?
    }

    async fn complete_now(&self, task: &Arc<HeldTask>, failed: bool) -> Result<Vec<String>, Status> {
        if task.is_untold() {
            return Err(told_later(&Refusal::new(
                Reason::Unavailable,
                "the issuer does not know yet that the task has ended",
            )));
        }
        let state = task.state();
        // A deadline may have passed by this node's clock alone.
        if state.is_final() && state != TaskState::Expired {
            return Ok(Vec::new());
        }
        let (outcome, state) = if failed {
            (node::TaskOutcome::Failed, TaskState::Failed)
        } else {
            (node::TaskOutcome::Completed, TaskState::Completed)
        };
        match self.end_task(task.id(), outcome).await {
            Ok(ended) => {
                task.set_state(state);
                Ok(ended)
            }
            Err(status) => {
                let refusal = Refusal::from_status(&status);
                if calls::is_gone(&refusal) {
                    // It ended a moment ago, and nobody here has heard how.
                    task.set_state(TaskState::Revoked);
                    return Ok(Vec::new());
                }
                if refusal.reason.retry() == Retry::No || !task.end_untold(state) {
                    return Err(status);
                }
                self.job(self.clone().tell(Arc::clone(task), outcome));
                Err(told_later(&refusal))
            }
        }
    }

    /// An instance has ended: its tasks are abandoned, but for those that were begun as detached.
    pub(crate) fn instance_ended(&self, instance: InstanceId) {
        let (mut abandoned, mut survives) = (Vec::new(), false);
        {
            let mut table = self.0.table.lock();
            self.abandon_others(&mut table, instance);
            let open = table.held.values().filter(|task| task.owner().instance == instance && !task.state().is_final());
            for task in open {
                if task.owner().detached {
                    survives = true;
                } else {
                    abandoned.push(Arc::clone(task));
                }
            }
            if survives {
                table.survived.insert(instance);
            }
        }
        for task in abandoned {
            tracing::info!(task = %task.id(), "a task was abandoned: its instance has ended");
            task.set_state(TaskState::Abandoned);
            self.job(self.clone().abandon(task));
        }
        if !survives {
            self.0.identities.forget_instance(instance);
        }
    }

    /// A task has ended, and was kept for as long as somebody may ask how.
    fn forget(&self, task: &HeldTask) {
        self.0.table.lock().held.remove(task.id());
    }

    /// A detached task has ended: the identity of an instance that is no more goes with the last of them.
    fn let_go(&self, owner: &Owner) {
        let last = {
            let mut table = self.0.table.lock();
            let another =
                table.held.values().any(|task| task.owner().instance == owner.instance && !task.state().is_final());
            !another && table.survived.remove(&owner.instance)
        };
        if last {
            self.0.identities.forget_instance(owner.instance);
        }
    }

    fn has_room(&self, owner: &Owner) -> Result<(), Refusal> {
        let (mut of_instance, mut of_user) = (0, 0);
        for task in self.0.table.lock().held.values().filter(|task| !task.state().is_final()) {
            of_instance += usize::from(task.owner().instance == owner.instance);
            of_user += usize::from(task.owner().uid == owner.uid);
        }
        let full = |whose: &str, most: usize| {
            let what = format!("{whose} has {most} tasks open already, which is as many as this node agent keeps");
            Err(Refusal::new(Reason::TaskQuota, what))
        };
        if of_instance >= MOST_OF_INSTANCE {
            return full("this process", MOST_OF_INSTANCE);
        }
        if of_user >= MOST_OF_USER {
            return full(&format!("the user {}", owner.uid), MOST_OF_USER);
        }
        Ok(())
    }

    fn job(&self, job: impl Future<Output = ()> + Send + 'static) {
        // Where the keeper has ended, the agent is shutting down.
        self.0.jobs.send(Box::pin(job)).ok();
    }
}

/// The issuer has not heard that a task has ended.
fn told_later(refusal: &Refusal) -> Status {
    let what =
        format!("{}; the node agent has ended the task here, and tells the issuer as soon as it answers", refusal.what);
    Refusal::new(refusal.reason, what).into()
}

fn shutting_down() -> Refusal {
    Refusal::new(Reason::ShuttingDown, "the node agent is shutting down")
}

/// Counts a begin for as long as it is not answered.
struct Beginning<'a>(&'a Tasks);

impl<'a> Beginning<'a> {
    fn note(tasks: &'a Tasks) -> Self {
        tasks.0.table.lock().beginning += 1;
        Self(tasks)
    }
}

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        let mut table = self.0.0.table.lock();
        table.beginning -= 1;
        if table.beginning == 0 {
            table.early.clear();
        }
    }
}
