//! The life of one held task, from its begin until it is forgotten.

use std::sync::Arc;
use std::time::Duration;

use mayfly_proto::node::TaskOutcome;
use mayfly_sdk::grpc::retry_after;
use mayfly_sdk::task::TaskState;
use mayfly_sdk::{Reason, Refusal, Retry};
use tonic::Status;

use super::calls::is_gone;
use super::held::{HeldTask, Standing, last_part};
use super::{Tasks, accept};
use crate::identity::{Lease, X509};
use crate::link::Backoff;

/// The bounds of pauses after a failure.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(250);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Two renewals of a task are never closer to each other.
const LEAST_BETWEEN: Duration = Duration::from_millis(500);
/// A token that ends this close to its task's deadline is the last one: the issuer makes none that is shorter.
const AT_THE_DEADLINE_S: i64 = 5;
/// The wall clock is asked again at least this often, for a machine that was suspended.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// For how long it is known how a task has ended.
const KEEP_ENDED: Duration = Duration::from_mins(1);

/// When a renewal is tried.
struct Turn {
    backoff: Backoff,
    /// Not before then, on the monotonic clock.
    not_before: Option<Duration>,
    /// Not before then either, whatever has changed since the last one.
    floor: Option<Duration>,
    /// What a failure may have rested on: the certificate's serial number, and whether the task was open.
    seen: Option<(Option<String>, bool)>,
}

impl Tasks {
    /// Renews the token of a task until the task ends, and forgets it then.
    pub(super) async fn keep_up(self, task: Arc<HeldTask>, lease: Lease<X509>) {
        self.keep_open(&task, lease).await;
        tracing::info!(task = %task.id(), state = %task.state(), "a task has ended");
        self.note_change();
        self.let_go(task.owner());
        task.wait_until_told().await;
        tokio::time::sleep(KEEP_ENDED).await;
        self.forget(&task);
    }

    async fn keep_open(&self, task: &Arc<HeldTask>, mut lease: Lease<X509>) {
        let (mut changes, mut issuer) = (task.follow(), self.0.issuer.clone());
        let mut turn = Turn::new();
        loop {
            lease.mark_seen();
            issuer.mark_unchanged();
            let standing = changes.borrow_and_update().clone();
            let now = self.0.clock.monotonic();
            if standing.state.is_final() {
                return;
            }
            if now >= task.deadline() {
                // The issuer says the same, if it is within reach.
                return task.set_state(TaskState::Expired);
            }
            turn.see(lease.held().map(|held| held.accepted.serial.clone()), standing.state == TaskState::Open);
            let due = self.is_due(task, &standing, &lease);
            if due && turn.not_before.is_none_or(|at| now >= at) {
                match self.renew(task, &lease).await {
                    Ok(()) => turn.succeeded(self.0.clock.monotonic()),
                    Err(status) => self.failed(task, &standing, &status, &mut turn),
                }
                task.note_what_is_left(&self.0.clock);
                continue;
            }
            task.note_what_is_left(&self.0.clock);
            let wake_in = self.wake_in(task, &standing, due, &turn);
            tokio::select! {
                () = lease.changed() => {}
                Ok(()) = changes.changed() => {}
                // Another connection stands: what failed may be tried again at once.
                Ok(()) = issuer.changed() => turn.at_once(),
                () = tokio::time::sleep(wake_in) => {}
            }
        }
    }

    /// Whether the token is to be renewed now: it is time, or the certificate that it is bound to was replaced.
    fn is_due(&self, task: &HeldTask, standing: &Standing, lease: &Lease<X509>) -> bool {
        if standing.state != TaskState::Open {
            return false;
        }
        // Its token has ended while the agent was down.
        let Some(bound) = &standing.bound else { return true };
        let replaced = lease.held().is_some_and(|held| held.accepted.serial != bound.svid().accepted.serial);
        // One that ends with the task has nothing to gain.
        let last = bound.expires_at().saturating_add(AT_THE_DEADLINE_S) >= task.issued().deadline;
        replaced || (!last && bound.life().must_be_renewed(&self.0.clock))
    }

    async fn renew(&self, task: &HeldTask, lease: &Lease<X509>) -> Result<(), Status> {
        let none = || Refusal::new(Reason::Unavailable, "the instance has no X.509-SVID at the moment");
        let svid = lease.held().ok_or_else(none)?;
        let _turn = self.0.turns.acquire().await;
        let issue = self.renew_task(task.id(), lease, &svid).await?;
        let bound = accept::fresh(issue, task.id(), task.owner(), svid, &self.0.clock)?;
        tracing::debug!(task = %task.id(), ttl_s = bound.life().lifetime().as_secs(), "a task token was renewed");
        self.0.counters.renewed.inc();
        task.take(bound);
        self.note_change();
        Ok(())
    }

    /// A failure leaves the token as it is.
    fn failed(&self, task: &HeldTask, standing: &Standing, status: &Status, turn: &mut Turn) {
        let refusal = Refusal::from_status(status);
        self.0.counters.failed.inc();
        tracing::warn!(task = %task.id(), reason = refusal.reason.code(), what = refusal.what, "a task token was not renewed");
        if is_gone(&refusal) {
            // How it ended was said while this agent did not hear it.
            return task.set_state(TaskState::Revoked);
        }
        let now = self.0.clock.monotonic();
        let pause = match refusal.reason.retry() {
            Retry::No => LONGEST_PAUSE,
            Retry::Later | Retry::Now => turn.backoff.failed(None),
        };
        // While the token is good, its end is what counts; but never less than the issuer asks for.
        let left = standing.bound.as_ref().map(|bound| bound.life().remaining(now)).filter(|left| !left.is_zero());
        let pause = left.map_or(pause, |left| pause.min((left / 8).max(FIRST_PAUSE)));
        let asked = retry_after(status).unwrap_or_default();
        turn.floor = Some(now + asked.max(LEAST_BETWEEN));
        turn.not_before = Some(now + asked + pause);
    }

    /// How long until there is something to do for this task, if nothing changes.
    fn wake_in(&self, task: &HeldTask, standing: &Standing, due: bool, turn: &Turn) -> Duration {
        let now = self.0.clock.monotonic();
        let open = standing.bound.as_ref().filter(|_| standing.state == TaskState::Open);
        let renew = if due { Some(now) } else { open.map(|bound| bound.life().renew()) };
        let renew = renew.map(|at| at.max(turn.not_before.unwrap_or_default()));
        let warn = open.filter(|_| !standing.no_new_work).map(|bound| {
            let last_part = bound.life().ends().saturating_sub(last_part(bound.life()));
            // Less than the last part is left a moment later only.
            last_part + Duration::from_millis(1)
        });
        let next = [Some(task.deadline()), renew, warn].into_iter().flatten().filter(|at| *at > now).min();
        next.map_or(LOOK_AGAIN, |at| at.saturating_sub(now).min(LOOK_AGAIN))
    }

    /// Tells the issuer that a task's instance has ended, until it has answered or the task's deadline has passed.
    pub(super) async fn abandon(self, task: Arc<HeldTask>) {
        task.set_state(TaskState::Abandoned);
        self.tell_of_end(task.id(), TaskOutcome::Abandoned, Some(task.deadline())).await;
    }

    /// Tells the issuer how the holder of a task has ended it.
    pub(super) async fn tell(self, task: Arc<HeldTask>, outcome: TaskOutcome) {
        self.tell_of_end(task.id(), outcome, Some(task.deadline())).await;
        task.told();
        self.note_change();
    }

    /// The same for any task of this node, by its id.
    pub(super) async fn tell_of_end(&self, id: &str, outcome: TaskOutcome, deadline: Option<Duration>) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut issuer = self.0.issuer.clone();
        while deadline.is_none_or(|deadline| self.0.clock.monotonic() < deadline) {
            issuer.mark_unchanged();
            let ended = {
                let _turn = self.0.turns.acquire().await;
                self.end_task(id, outcome).await
            };
            let Err(status) = ended else {
                return tracing::info!(task = id, "the issuer knows that a task has ended");
            };
            let refusal = Refusal::from_status(&status);
            if is_gone(&refusal) {
                return;
            }
            tracing::warn!(
                task = id,
                reason = refusal.reason.code(),
                what = refusal.what,
                "the issuer does not know yet that a task has ended"
            );
            if refusal.reason.retry() == Retry::No {
                return;
            }
            let pause = backoff.failed(retry_after(&status));
            tokio::select! {
                Ok(()) = issuer.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

impl Turn {
    fn new() -> Self {
        Self { backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), not_before: None, floor: None, seen: None }
    }

    fn succeeded(&mut self, now: Duration) {
        self.backoff.succeeded();
        // Whatever the issuer says of when to come again.
        self.floor = Some(now + LEAST_BETWEEN);
        self.not_before = self.floor;
    }

    /// What failed may be tried again with another certificate, and once the task is open again.
    fn see(&mut self, serial: Option<String>, open: bool) {
        let now = (serial, open);
        let news = self.seen.as_ref().is_some_and(|seen| seen.0 != now.0 || (now.1 && !seen.1));
        if news {
            self.backoff.succeeded();
            self.not_before = self.floor;
        }
        self.seen = Some(now);
    }

    /// With another issuer, or the same one anew.
    fn at_once(&mut self) {
        self.backoff.succeeded();
        (self.not_before, self.floor) = (None, None);
    }
}
