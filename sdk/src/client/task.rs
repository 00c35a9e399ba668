//! A task of this process, begun at the node agent and followed until it ends.
//!
//! ```text
//! TaskRequest ──Begin, Delegate──> Task ──current()──> Pass: the token and the SVID that it is bound to, of one moment
//!                                   │ Watch: renewed, rebound, suspended, ended
//!                                   └──complete(), or dropped──> every token of it and of all below is refused
//! ```
//!
//! ```no_run
//! use mayfly_sdk::Refusal;
//! use mayfly_sdk::client::{Endpoint, Task, TaskRequest};
//!
//! # async fn example() -> Result<(), Refusal> {
//! let request = TaskRequest::new("the quarter's report", "https://files.example.org/").scope(["read"]);
//! let task = Task::begin(&Endpoint::from_env()?, request).await?;
//! let pass = task.current()?; // for a TaskHttp or a TaskChannel: they take it by themselves
//! # let _ = pass;
//! task.complete().await?;
//! # Ok(())
//! # }
//! ```

mod following;
mod pass;
mod request;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mayfly_proto::task as wire;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

pub(super) use self::following::Followed;
use self::following::Now;
use super::{Endpoint, WorkloadClient, supervise};
use crate::grpc;
use crate::reason::{Reason, Refusal, Retry};
use crate::task::{Grant, TaskState};
use crate::time::{Clock, Timestamp};

pub use pass::{BearerToken, Pass};
pub use request::{ParentToken, SubjectToken, TaskRequest};

/// How long a task that was dropped is tried to be completed.
const GOODBYE: Duration = Duration::from_secs(30);
/// The first pause between two tries; each is twice the one before.
const PAUSE: Duration = Duration::from_millis(200);

/// A task that is open, or was when somebody last looked. Dropping it completes it (as failed, where the thread panics); one that
/// was begun as detached lives on.
pub struct Task {
    followed: Arc<Followed>,
    client: WorkloadClient,
    grant: Grant,
    deadline: Timestamp,
    root: String,
    detached: bool,
    ended: bool,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    /// Where it was begun: it may be dropped on a thread that has no runtime.
    runtime: Handle,
}

/// How a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskStatus {
    /// Its state.
    pub state: TaskState,
    /// The token could not be renewed and ends soon: begin nothing new under it.
    pub no_new_work: bool,
}

impl Task {
    /// Begins a task of this process, or takes over a part of another one ([`TaskRequest::below`]). Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// `invalid_grant` before anybody is asked; what the agent answered; `message_invalid` when its answer does not hold.
    pub async fn begin(endpoint: &Endpoint, request: TaskRequest) -> Result<Self, Refusal> {
        Self::begin_at(endpoint, request, &Clock::system()).await
    }

    async fn begin_at(endpoint: &Endpoint, request: TaskRequest, clock: &Clock) -> Result<Self, Refusal> {
        let client = WorkloadClient::new(endpoint);
        let detached = request.is_detached();
        let asked = request.into_message()?;
        let mut api = client.task_api();
        let begun = match asked {
            request::Asked::Begin(message) => api.begin(message).await,
            request::Asked::Part(message) => api.delegate(message).await,
        };
        let begun = begun.map_err(|status| client.refusal(&status))?.into_inner();
        let lacking = || Refusal::new(Reason::MessageInvalid, "the agent's answer lacks the task or its token");
        let (task, token) = (begun.task.ok_or_else(lacking)?, begun.token.ok_or_else(lacking)?);
        let grant = Grant::from_json(task.grant.as_bytes()).map_err(Refusal::from)?;
        let (deadline, root) = (Timestamp::from_unix_s(task.deadline), task.root.clone());
        let followed = Arc::new(Followed::new(&task, token, clock)?);
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(supervise(Arc::clone(&followed), endpoint.clone(), stop.clone()));
        tasks.spawn(Arc::clone(&followed).warn(stop.clone()));
        Ok(Self {
            followed,
            client,
            grant,
            deadline,
            root,
            detached,
            ended: false,
            stop,
            tasks,
            runtime: Handle::current(),
        })
    }

    /// Its id: hex, and the id of the ledger's record of its begin.
    #[must_use]
    pub fn id(&self) -> &str {
        self.followed.id()
    }

    /// The task at the top of the tree; of that one its own id.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// What it may do, as given.
    #[must_use]
    pub const fn grant(&self) -> &Grant {
        &self.grant
    }

    /// When it ends by itself.
    #[must_use]
    pub const fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// The token of this moment and what it is bound to, to be used together.
    ///
    /// # Errors
    /// `task_suspended`, `task_ended`; `expired` when the token could not be renewed in time.
    pub fn current(&self) -> Result<Arc<Pass>, Refusal> {
        self.followed.current()
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> TaskStatus {
        self.followed.status()
    }

    /// How it stands, as it changes.
    #[must_use]
    pub fn changes(&self) -> TaskChanges {
        TaskChanges { followed: Arc::clone(&self.followed), now: self.followed.watch(), seen: None }
    }

    /// What a helper needs to take over a part of this task: hand it over a connection that you trust. Its audience has to be in
    /// `delegable`.
    ///
    /// # Errors
    /// As [`Task::current`].
    pub fn delegate(&self) -> Result<ParentToken, Refusal> {
        Ok(ParentToken::new(self.current()?.expose_token()))
    }

    /// Ends it, and every task below it: how many ended.
    ///
    /// # Errors
    /// What the agent answered. It is tried again for a while, as for a task that is dropped. `unavailable` also where the issuer does not
    /// know yet that the task has ended: the agent tells it, and what is below the task lives until then.
    pub async fn complete(self) -> Result<usize, Refusal> {
        self.end(false).await
    }

    /// The same for a task that was given up, and not done.
    ///
    /// # Errors
    /// As [`Task::complete`].
    pub async fn fail(self) -> Result<usize, Refusal> {
        self.end(true).await
    }

    pub(super) fn followed(&self) -> &Arc<Followed> {
        &self.followed
    }

    async fn end(mut self, failed: bool) -> Result<usize, Refusal> {
        self.detached = false;
        let request = wire::CompleteRequest { id: self.id().to_owned(), failed };
        let answer = self.client.task_api().complete(request).await;
        let ended = answer.map_err(|status| self.client.refusal(&status))?.into_inner().ended;
        self.ended = true;
        self.followed.finish(if failed { TaskState::Failed } else { TaskState::Completed });
        Ok(ended.len())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.stop.cancel();
        if self.detached || self.ended || self.followed.status().state.is_final() {
            return;
        }
        let failed = std::thread::panicking();
        self.followed.finish(if failed { TaskState::Failed } else { TaskState::Completed });
        // A runtime that has ended drops it: the process is on its way out, and the task ends with it.
        self.tasks.spawn_on(say_goodbye(self.client.clone(), self.id().to_owned(), failed), &self.runtime);
        self.tasks.detach_all();
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task({}, {:?})", self.id(), self.status())
    }
}

/// The changes of a task: each status that differs from the one before. A slow reader sees the latest.
pub struct TaskChanges {
    followed: Arc<Followed>,
    now: watch::Receiver<Now>,
    seen: Option<TaskStatus>,
}

impl TaskChanges {
    /// The next status; the present one comes first. `None` after a final state, and when the task was dropped.
    pub async fn next(&mut self) -> Option<TaskStatus> {
        if self.seen.is_some_and(|seen| seen.state.is_final()) {
            return None;
        }
        let seen = self.seen;
        let changed = self.now.wait_for(|now| now.is_closed() || Some(now.status()) != seen).await.ok()?.status();
        if Some(changed) == seen {
            return None;
        }
        self.seen = Some(changed);
        Some(changed)
    }
}

impl fmt::Debug for TaskChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskChanges({})", self.followed.id())
    }
}

/// Completes a task that nobody holds any more.
async fn say_goodbye(client: WorkloadClient, id: String, failed: bool) {
    let tries = async {
        let mut pause = PAUSE;
        loop {
            let request = wire::CompleteRequest { id: id.clone(), failed };
            let Err(status) = client.task_api().complete(request).await else { return };
            let refusal = client.refusal(&status);
            tracing::warn!(task = id, reason = refusal.reason.code(), "a task that was dropped is not complete yet");
            if refusal.reason.retry() == Retry::No {
                return;
            }
            sleep(pause.mul_f64(1.0 + fastrand::f64()).max(grpc::retry_after(&status).unwrap_or_default())).await;
            pause = pause.saturating_mul(2);
        }
    };
    if timeout(GOODBYE, tries).await.is_err() {
        tracing::error!(
            task = id,
            "nobody has confirmed that a task that was dropped has ended; the node agent tells the issuer, or its deadline passes"
        );
    }
}

#[cfg(test)]
mod tests;
