use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mayfly_proto::{node, task as wire};
use mayfly_sdk::task::TaskState;
use mayfly_sdk::{Clock, InstanceId};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::identity::{Held, Life, SubjectKey, X509};

/// The most, and the part of its life, that a token has left when watchers are told to begin nothing new under it.
const NO_NEW_WORK: Duration = Duration::from_mins(2);
const NO_NEW_WORK_PERCENT: u32 = 40;

/// Whose a task is.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub(crate) instance: InstanceId,
    /// The user of that process.
    pub(crate) uid: u32,
    /// The entry by which it was begun and the facts that it was rendered with, and what it was rendered to.
    pub(crate) subject: SubjectKey,
    pub(crate) spiffe_id: String,
    /// It lives on when the instance ends, and every process with this identity has a part in it.
    pub(crate) detached: bool,
}

/// A token, and the X.509-SVID that it is bound to.
pub(crate) struct Bound {
    token: Zeroizing<String>,
    /// By the issuer's clock, Unix seconds: for people, and for nothing that is decided here.
    expires_at: i64,
    life: Life,
    svid: Arc<Held<X509>>,
}

/// How a task stands.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) state: TaskState,
    /// The newest token; none once the task has ended, nor after a restart in which it ended.
    pub(crate) bound: Option<Arc<Bound>>,
    pub(crate) no_new_work: bool,
}

/// One task of an instance of this node.
#[derive(Debug)]
pub(crate) struct HeldTask {
    id: Arc<str>,
    owner: Owner,
    /// As the issuer gave it; its state of now is in `standing`.
    task: node::Task,
    /// On the monotonic clock.
    begun: Duration,
    deadline: Duration,
    standing: watch::Sender<Standing>,
    /// Its holder has ended it, and the issuer does not know.
    untold: watch::Sender<bool>,
}

impl HeldTask {
    /// `left`: until its deadline.
    pub(super) fn new(owner: Owner, task: node::Task, bound: Bound, left: Duration, clock: &Clock) -> Self {
        let begun = clock.monotonic();
        let standing = Standing { state: TaskState::Open, bound: Some(Arc::new(bound)), no_new_work: false };
        Self {
            id: task.id.as_str().into(),
            owner,
            task,
            begun,
            deadline: begun + left,
            standing: watch::Sender::new(standing),
            untold: watch::Sender::new(false),
        }
    }

    /// One that was begun before a restart, as it stood then; `left`: until its deadline. If it had ended, the issuer was not told.
    pub(super) fn restored(
        owner: Owner,
        task: node::Task,
        state: TaskState,
        bound: Option<Bound>,
        left: Duration,
        clock: &Clock,
    ) -> Self {
        let now = clock.monotonic();
        let standing = Standing { state, bound: bound.map(Arc::new), no_new_work: false };
        let id = task.id.as_str().into();
        let (standing, untold) = (watch::Sender::new(standing), watch::Sender::new(state.is_final()));
        Self { id, owner, task, begun: now, deadline: now + left, standing, untold }
    }

    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// As the issuer gave it when it was begun.
    pub(super) fn issued(&self) -> &node::Task {
        &self.task
    }

    /// When the issuer's answer came, or it was taken up after a restart, on the monotonic clock.
    pub(super) fn begun(&self) -> Duration {
        self.begun
    }

    /// When it ends by itself, on the monotonic clock.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(crate) fn state(&self) -> TaskState {
        self.standing.borrow().state
    }

    /// How it stands, and how it changes.
    pub(crate) fn follow(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// What workloads are told of it.
    pub(crate) fn shown(&self, state: TaskState) -> wire::Task {
        let task = &self.task;
        wire::Task {
            id: task.id.clone(),
            root: task.root.clone(),
            parent: task.parent.clone(),
            state: state.to_string(),
            purpose: task.purpose.clone(),
            deadline: task.deadline,
            grant: task.grant.clone(),
            subject: task.subject.clone(),
            spiffe_id: task.spiffe_id.clone(),
            hop: task.hop,
            max_hops: task.max_hops,
            detached: task.detached,
        }
    }

    /// Takes a state, unless the task has ended: that is for good. The token of one that ends is wiped.
    pub(super) fn set_state(&self, state: TaskState) {
        self.standing.send_if_modified(|standing| {
            if standing.state.is_final() || standing.state == state {
                return false;
            }
            standing.state = state;
            if state.is_final() {
                standing.bound = None;
                standing.no_new_work = false;
            }
            true
        });
    }

    /// Ends it before the issuer knows. Whether it was this that ended it.
    pub(super) fn end_untold(&self, state: TaskState) -> bool {
        // First, so that whoever sees the end sees this, too.
        let first = self.untold.send_if_modified(|untold| !std::mem::replace(untold, true));
        if !first {
            return false;
        }
        self.set_state(state);
        let ended = self.state() == state;
        if !ended {
            self.told();
        }
        ended
    }

    /// The issuer knows, or need not any more.
    pub(super) fn told(&self) {
        self.untold.send_replace(false);
    }

    /// Whether its holder has ended it, and the issuer does not know.
    pub(super) fn is_untold(&self) -> bool {
        *self.untold.borrow()
    }

    /// Waits until the issuer need not be told of its end.
    pub(super) async fn wait_until_told(&self) {
        // The sender is here.
        self.untold.subscribe().wait_for(|untold| !untold).await.ok();
    }

    /// Takes a fresh token, unless the task has ended meanwhile.
    pub(super) fn take(&self, bound: Bound) {
        self.standing.send_if_modified(|standing| {
            let open = !standing.state.is_final();
            if open {
                standing.bound = Some(Arc::new(bound));
                standing.no_new_work = false;
            }
            open
        });
    }

    /// Tells watchers if the token should have been renewed by now and ends soon.
    pub(super) fn note_what_is_left(&self, clock: &Clock) {
        self.standing.send_if_modified(|standing| {
            let ends_soon = standing.bound.as_ref().is_some_and(|bound| ends_soon(&bound.life, clock));
            let news = ends_soon && standing.state == TaskState::Open && !standing.no_new_work;
            standing.no_new_work |= news;
            news
        });
    }
}

impl Bound {
    pub(super) fn new(token: String, expires_at: i64, life: Life, svid: Arc<Held<X509>>) -> Self {
        Self { token: Zeroizing::new(token), expires_at, life, svid }
    }

    pub(super) fn life(&self) -> &Life {
        &self.life
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn expires_at(&self) -> i64 {
        self.expires_at
    }

    pub(crate) fn svid(&self) -> &Held<X509> {
        &self.svid
    }

    /// What workloads are given.
    pub(crate) fn handed_out(&self, bundle: bytes::Bytes) -> wire::TaskToken {
        wire::TaskToken {
            token: self.token.as_str().to_owned(),
            expires_at: self.expires_at,
            x509_svid: self.svid.credential().chain().clone(),
            x509_svid_key: self.svid.credential().key().clone(),
            bundle,
        }
    }
}

/// How much a token has left when `no_new_work` is said, if it was not renewed by then.
pub(super) fn last_part(life: &Life) -> Duration {
    (life.lifetime() * NO_NEW_WORK_PERCENT / 100).min(NO_NEW_WORK)
}

fn ends_soon(life: &Life, clock: &Clock) -> bool {
    life.must_be_renewed(clock) && life.remaining(clock.monotonic()) < last_part(life)
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").field("life", &self.life).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use mayfly_sdk::Timestamp;

    use super::*;

    /// Issue 4, shown by 5.
    #[test]
    fn nothing_new_is_to_be_begun_at_119_seconds_and_not_at_121() {
        let (clock, hand) = Clock::manual(Timestamp::from_unix_s(1_760_000_000));
        let life = Life::begin(900, 450, &clock);
        hand.advance(Duration::from_secs(900 - 121));
        assert!(!ends_soon(&life, &clock));
        hand.advance(Duration::from_secs(1));
        assert!(!ends_soon(&life, &clock), "two minutes are not less than two minutes");
        hand.advance(Duration::from_secs(1));
        assert!(ends_soon(&life, &clock));
    }

    #[test]
    fn of_a_short_life_it_is_the_last_two_fifths_and_only_if_it_should_have_been_renewed() {
        let (clock, hand) = Clock::manual(Timestamp::from_unix_s(1_760_000_000));
        let (life, late) = (Life::begin(60, 30, &clock), Life::begin(60, 50, &clock));
        hand.advance(Duration::from_secs(36));
        assert!(!ends_soon(&life, &clock));
        hand.advance(Duration::from_millis(1));
        assert!(ends_soon(&life, &clock) && !ends_soon(&late, &clock));
    }
}
