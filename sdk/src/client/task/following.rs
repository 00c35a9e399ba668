//! What is known of a task, and the stream that says so.

use std::sync::Arc;
use std::time::Duration;

use mayfly_proto::task as wire;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{Pass, TaskStatus};
use crate::client::{Phase, Subscriber, WorkloadClient};
use crate::reason::{Reason, Refusal};
use crate::task::TaskState;
use crate::time::Clock;

/// How long a timer sleeps before it looks at the clock again: the wall clock may jump.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// The task, as far as it was heard.
#[derive(Debug, Clone)]
pub(super) struct Now {
    state: TaskState,
    pass: Option<Arc<Pass>>,
    no_new_work: bool,
    /// Why there is no pass although the state is open.
    refusal: Option<Refusal>,
    closed: bool,
}

impl Now {
    pub(super) const fn status(&self) -> TaskStatus {
        TaskStatus { state: self.state, no_new_work: self.no_new_work }
    }

    #[cfg(test)]
    pub(super) const fn pass(&self) -> Option<&Arc<Pass>> {
        self.pass.as_ref()
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }
}

pub(in crate::client) struct Followed {
    id: String,
    clock: Clock,
    now: watch::Sender<Now>,
}

impl Followed {
    /// What the begin has brought.
    pub(super) fn new(task: &wire::Task, token: wire::TaskToken, clock: &Clock) -> Result<Self, Refusal> {
        let pass = Some(Arc::new(Pass::read(token, None)?));
        let now = Now { state: state_of(task)?, pass, no_new_work: false, refusal: None, closed: false };
        Ok(Self { id: task.id.clone(), clock: clock.clone(), now: watch::Sender::new(now) })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn watch(&self) -> watch::Receiver<Now> {
        self.now.subscribe()
    }

    pub(super) fn status(&self) -> TaskStatus {
        let now = self.now.borrow();
        let last = now.pass.as_ref().is_some_and(|pass| pass.token().is_at_its_last(self.clock.now_ms()));
        TaskStatus { no_new_work: now.state == TaskState::Open && (now.no_new_work || last), ..now.status() }
    }

    /// It has ended by our own doing, and nobody needs to say so.
    pub(super) fn finish(&self, state: TaskState) {
        self.now.send_if_modified(|now| {
            let open = !now.state.is_final();
            if open {
                *now = Now { state, pass: None, no_new_work: false, refusal: None, closed: now.closed };
            }
            open
        });
    }

    pub(in crate::client) fn current(&self) -> Result<Arc<Pass>, Refusal> {
        let now = self.now.borrow();
        let refused = |reason, what: &str| Err(Refusal::new(reason, what));
        match (now.state, &now.pass, &now.refusal) {
            (TaskState::Suspended, ..) => refused(Reason::TaskSuspended, "the task is suspended"),
            (state, ..) if state.is_final() => refused(Reason::TaskEnded, "the task has ended"),
            (_, Some(pass), _) if !pass.has_expired(self.clock.now()) => Ok(Arc::clone(pass)),
            (_, Some(_), _) => refused(Reason::Expired, "the token has ended, and could not be renewed"),
            (_, None, Some(refusal)) => Err(refusal.clone()),
            (_, None, None) => refused(Reason::SourceNotReady, "the agent has sent no token"),
        }
    }

    /// Waits until there is another pass than this one; at most so long.
    pub(in crate::client) async fn other_than(&self, pass: &Pass, within: Duration) -> Option<Arc<Pass>> {
        let mut now = self.now.subscribe();
        let other = |now: &Now| {
            now.closed || now.state.is_final() || now.pass.as_ref().is_some_and(|held| held.token() != pass.token())
        };
        drop(timeout(within, now.wait_for(other)).await);
        self.current().ok().filter(|held| held.token() != pass.token())
    }

    /// Says in time that a token was not renewed, whether or not the agent still says anything.
    pub(super) async fn warn(self: Arc<Self>, stop: CancellationToken) {
        let mut changes = self.now.subscribe();
        let work = async {
            loop {
                let pass = changes.borrow_and_update().pass.clone();
                let left = pass.map_or(LOOK_AGAIN, |pass| {
                    let ms = pass.token().at_its_last_ms().saturating_add(1).saturating_sub(self.clock.now_ms());
                    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
                });
                if left.is_zero() {
                    self.now.send_if_modified(|now| !std::mem::replace(&mut now.no_new_work, true));
                    changes.borrow_and_update();
                }
                let pause = if left.is_zero() { LOOK_AGAIN } else { left.min(LOOK_AGAIN) };
                tokio::select! {
                    more = changes.changed() => if more.is_err() { return },
                    () = sleep(pause) => {}
                }
            }
        };
        stop.run_until_cancelled(work).await;
    }
}

impl Subscriber for Followed {
    type Message = wire::WatchResponse;
    const CALL: &'static str = "Watch";

    async fn open(&self, client: &WorkloadClient) -> Result<Streaming<wire::WatchResponse>, Status> {
        let request = wire::WatchRequest { id: self.id.clone() };
        client.task_api().watch(request).await.map(tonic::Response::into_inner)
    }

    fn take(&self, message: wire::WatchResponse) -> Result<(), Refusal> {
        let invalid = || Refusal::new(Reason::MessageInvalid, "the agent's message has no task");
        let state = state_of(&message.task.ok_or_else(invalid)?)?;
        let before = self.now.borrow().pass.clone();
        let pass = message.token.map(|token| Pass::read(token, before.as_deref()).map(Arc::new)).transpose()?;
        let no_new_work =
            message.no_new_work || pass.as_ref().is_some_and(|pass| pass.token().is_at_its_last(self.clock.now_ms()));
        self.now.send_modify(|now| {
            // What has ended stays so, whatever comes late.
            if !now.state.is_final() {
                *now = Now { state, pass, no_new_work, refusal: None, closed: now.closed };
            }
        });
        Ok(())
    }

    fn finished(&self) -> bool {
        self.now.borrow().state.is_final()
    }

    fn connecting(&self) {}

    /// What is held is used to its end: an agent that is away makes nothing worse.
    fn ended(&self, _phase: Phase, refusal: Refusal, _failures: u32, withdraw: bool) {
        self.now.send_if_modified(|now| {
            let gone = withdraw && now.pass.take().is_some();
            now.refusal = Some(refusal);
            gone
        });
    }

    fn close(&self) {
        self.now.send_modify(|now| now.closed = true);
    }
}

fn state_of(task: &wire::Task) -> Result<TaskState, Refusal> {
    let invalid = |_unknown| Refusal::new(Reason::MessageInvalid, "the agent names a state that no task has");
    task.state.parse().map_err(invalid)
}
