//! A task against a node agent that answers as the test has laid out.

#[cfg(all(feature = "axum", feature = "reqwest", feature = "serve"))]
mod presenting;

use serde_json::json;
use tonic::Status;

use super::*;
use crate::client::Presents as _;
use crate::fake_tasks::{FakeTasks, Messages, Seen};
use crate::task::fixture::{AUDIENCE, Authority, claims, serial};
use crate::time::Ttl;
use crate::x509::fixture::{Domain, Made, NOW, leaf, signed};

const AGENT: &str = "spiffe://td/agent";

struct World {
    domain: Domain,
    authority: Authority,
    agent: FakeTasks,
    clock: Clock,
}

impl World {
    fn new() -> Self {
        let clock = Clock::anchored_to_tokio(NOW);
        Self { domain: Domain::new(), authority: Authority::new(), agent: FakeTasks::start(), clock }
    }

    fn instance(&self) -> Made {
        signed(leaf(AGENT), &self.domain.intermediate)
    }

    /// A token of this length, from now on, with what it is bound to.
    fn token(&self, of: &Made, life_s: u32) -> wire::TaskToken {
        let mut claims = claims(&AGENT.parse().unwrap(), &of.der, 1, self.clock.now());
        claims.expires_at = claims.issued_at.saturating_add(Ttl::from_s(life_s));
        wire::TaskToken {
            token: self.authority.token(&claims),
            expires_at: claims.expires_at.unix_s(),
            x509_svid: [of.der.as_slice(), &self.domain.intermediate.der].concat().into(),
            x509_svid_key: of.key.serialize_der().into(),
            bundle: self.domain.root.der.clone().into(),
        }
    }

    async fn task(&self, token: wire::TaskToken) -> (Task, Messages<wire::WatchResponse>) {
        self.agent.begin(Ok(wire::BeginResponse { task: Some(task("open")), token: Some(token) }));
        let watch = self.agent.watch();
        let request = TaskRequest::new("to read the reports", AUDIENCE).scope(["read"]).delegable([AUDIENCE]);
        (Task::begin_at(&self.agent.endpoint(), request, &self.clock).await.unwrap(), watch)
    }
}

fn task(state: &str) -> wire::Task {
    wire::Task {
        id: serial(1).to_string(),
        root: serial(1).to_string(),
        state: state.to_owned(),
        deadline: NOW.unix_s() + 3600,
        grant: json!({"audience": AUDIENCE, "scope": ["read"]}).to_string(),
        ..wire::Task::default()
    }
}

fn says(state: &str, token: Option<wire::TaskToken>) -> wire::WatchResponse {
    wire::WatchResponse { task: Some(task(state)), token, no_new_work: false }
}

/// The next status; nothing here takes long.
async fn next(changes: &mut TaskChanges) -> Option<TaskStatus> {
    timeout(Duration::from_secs(400), changes.next()).await.expect("a change in time")
}

fn status(state: TaskState, no_new_work: bool) -> TaskStatus {
    TaskStatus { state, no_new_work }
}

#[tokio::test]
async fn a_task_is_begun_with_what_was_asked_for_and_completed() {
    let world = World::new();
    let of = world.instance();
    let (task, _watch) = world.task(world.token(&of, 300)).await;
    let pass = task.current().unwrap();
    assert_eq!(pass.svid().unwrap().chain()[0].as_ref(), of.der);
    assert_eq!(
        (task.id(), task.root(), task.deadline().unix_s()),
        (&*serial(1).to_string(), task.id(), NOW.unix_s() + 3600)
    );
    assert_eq!(task.delegate().unwrap().expose(), pass.expose_token());
    let grant = json!({"audience": AUDIENCE, "delegable": [AUDIENCE], "scope": ["read"]}).to_string();
    let begun =
        wire::BeginRequest { purpose: "to read the reports".to_owned(), grant, ..wire::BeginRequest::default() };
    let seen = world.agent.seen(|seen| matches!(seen, Seen::Watch(_))).await;
    assert_eq!(seen[0], Seen::Begin(begun));
    let passes = task.passes();
    assert_eq!(task.complete().await.unwrap(), 1);
    assert_eq!(passes.present().await.unwrap_err().reason, Reason::TaskEnded);
    let done = Seen::Complete(serial(1).to_string(), false);
    let seen = world.agent.seen(|seen| *seen == done).await;
    assert_eq!(seen.iter().filter(|seen| **seen == done).count(), 1);
}

#[tokio::test]
async fn a_part_is_taken_over_with_the_token_that_was_handed_on() {
    let world = World::new();
    let token = world.token(&world.instance(), 300);
    world.agent.begin(Ok(wire::BeginResponse { task: Some(task("open")), token: Some(token) }));
    let part = TaskRequest::new("one page", AUDIENCE)
        .below(ParentToken::new("the.parent.token"))
        .max_hops(1)
        .deadline(Ttl::from_s(60));
    let task = Task::begin(&world.agent.endpoint(), part).await.unwrap();
    let seen = world.agent.seen(|seen| matches!(seen, Seen::Delegate(_))).await;
    let Some(Seen::Delegate(asked)) = seen.into_iter().next() else { panic!("no delegation") };
    assert_eq!((asked.parent_token.as_str(), asked.max_hops, asked.deadline_s), ("the.parent.token", Some(1), 60));
    task.fail().await.unwrap();
    world.agent.seen(|seen| matches!(seen, Seen::Complete(_, true))).await;
}

#[tokio::test]
async fn a_task_on_behalf_of_a_user_shows_the_users_token_once_and_to_nobody_else() {
    let world = World::new();
    let token = world.token(&world.instance(), 300);
    world.agent.begin(Ok(wire::BeginResponse { task: Some(task("open")), token: Some(token) }));
    let wish = TaskRequest::new("one page", AUDIENCE).on_behalf_of(SubjectToken::new("the.users.token"));
    assert!(!format!("{wish:?}").contains("the.users"), "{wish:?}");
    let part = wish.clone().below(ParentToken::new("the.parent.token"));
    let refused = Task::begin(&world.agent.endpoint(), part).await.unwrap_err();
    assert_eq!(refused.reason, Reason::InvalidArgument);
    let task = Task::begin(&world.agent.endpoint(), wish).await.unwrap();
    let seen = world.agent.seen(|seen| matches!(seen, Seen::Begin(_))).await;
    let Some(Seen::Begin(asked)) = seen.into_iter().next() else { panic!("no begin") };
    assert_eq!(asked.subject_token, "the.users.token");
    task.complete().await.unwrap();
}

#[tokio::test]
async fn a_wrong_grant_costs_no_call_and_a_refusal_says_why() {
    let world = World::new();
    let wrong = Task::begin(&world.agent.endpoint(), TaskRequest::new("p", "files")).await.unwrap_err();
    assert_eq!(wrong.reason, Reason::InvalidGrant);
    world.agent.begin(Err(Status::from(Refusal::new(Reason::TaskExceedsEntry, "not this audience"))));
    let refused = Task::begin(&world.agent.endpoint(), TaskRequest::new("p", AUDIENCE)).await.unwrap_err();
    assert_eq!(refused.reason, Reason::TaskExceedsEntry);
    assert_eq!(world.agent.seen(|_| true).await.len(), 1);
}

#[tokio::test]
async fn token_and_certificate_are_swapped_together_and_only_a_new_certificate_needs_a_new_connection() {
    let world = World::new();
    let (first, second) = (world.instance(), world.instance());
    let (task, watch) = world.task(world.token(&first, 300)).await;
    let begun = task.current().unwrap();
    let mut passes = task.followed.watch();
    let mut send = async |token: wire::TaskToken| {
        watch.send(Ok(says("open", Some(token.clone())))).unwrap();
        let there = |now: &Now| now.pass().is_some_and(|pass| pass.expose_token() == token.token);
        timeout(Duration::from_secs(20), passes.wait_for(there)).await.unwrap().unwrap();
        task.current().unwrap()
    };
    let renewed = send(world.token(&first, 280)).await;
    assert_ne!(renewed.expose_token(), begun.expose_token());
    assert_eq!(renewed.connection_key(), begun.connection_key());
    let rebound = send(world.token(&second, 270)).await;
    assert_ne!(rebound.connection_key(), begun.connection_key());
    assert_eq!(rebound.svid().unwrap().chain()[0].as_ref(), second.der);
    assert_eq!(begun.svid().unwrap().chain()[0].as_ref(), first.der, "who holds a pass holds both");
}

#[tokio::test]
async fn there_is_no_token_while_suspended_and_none_after_the_end() {
    let world = World::new();
    let of = world.instance();
    let (task, watch) = world.task(world.token(&of, 300)).await;
    let mut changes = task.changes();
    assert_eq!(next(&mut changes).await, Some(status(TaskState::Open, false)));
    watch.send(Ok(says("suspended", None))).unwrap();
    assert_eq!(next(&mut changes).await, Some(status(TaskState::Suspended, false)));
    assert_eq!(task.current().unwrap_err().reason, Reason::TaskSuspended);
    watch.send(Ok(says("open", Some(world.token(&of, 290))))).unwrap();
    assert_eq!(next(&mut changes).await, Some(status(TaskState::Open, false)));
    assert!(task.current().is_ok());
    watch.send(Ok(says("revoked", None))).unwrap();
    // Whatever comes late.
    watch.send(Ok(says("open", Some(world.token(&of, 280))))).unwrap();
    drop(watch);
    assert_eq!(next(&mut changes).await, Some(status(TaskState::Revoked, false)));
    assert_eq!(next(&mut changes).await, None);
    timeout(Duration::from_secs(20), task.followed.watch().wait_for(Now::is_closed)).await.unwrap().unwrap();
    assert_eq!(task.current().unwrap_err().reason, Reason::TaskEnded);
    drop(task);
    let seen = world.agent.seen(|_| true).await;
    assert!(!seen.iter().any(|seen| matches!(seen, Seen::Complete(..))), "it had ended: {seen:?}");
}

#[tokio::test]
async fn an_agent_that_is_away_takes_nothing_back_and_one_that_denies_does() {
    let world = World::new();
    let (task, watch) = world.task(world.token(&world.instance(), 300)).await;
    let again = world.agent.watch();
    watch.send(Err(Status::unavailable("the agent restarts"))).unwrap();
    world.agent.seen_times(|seen| matches!(seen, Seen::Watch(_)), 2).await;
    assert!(task.current().is_ok());
    again.send(Err(Status::permission_denied("no identity issued"))).unwrap();
    world.agent.seen_times(|seen| matches!(seen, Seen::Watch(_)), 3).await;
    assert_eq!(task.current().unwrap_err().reason, Reason::PermissionDenied);
}

/// Shown by 5: `no_new_work` at 119 s left and not at 121 s; of a shorter life, below 40 % of it.
#[tokio::test(start_paused = true)]
async fn no_new_work_begins_when_less_than_two_minutes_are_left_of_a_token_that_was_not_renewed() {
    for (life_s, still_s, no_more_s) in [(300, 121, 119), (900, 121, 119), (100, 41, 39)] {
        let world = World::new();
        let (task, watch) = world.task(world.token(&world.instance(), life_s)).await;
        let mut changes = task.changes();
        assert_eq!(next(&mut changes).await, Some(status(TaskState::Open, false)));
        sleep(Duration::from_secs((life_s - still_s).into())).await;
        assert_eq!(task.status(), status(TaskState::Open, false), "{life_s}");
        sleep(Duration::from_secs((still_s - no_more_s).into())).await;
        assert_eq!(task.status(), status(TaskState::Open, true), "{life_s}");
        assert_eq!(next(&mut changes).await, Some(status(TaskState::Open, true)));
        assert!(task.current().is_ok(), "what runs may finish");
        // Renewed after all.
        watch.send(Ok(says("open", Some(world.token(&world.instance(), life_s))))).unwrap();
        assert_eq!(next(&mut changes).await, Some(status(TaskState::Open, false)));
        sleep(Duration::from_secs(life_s.into())).await;
        assert_eq!(task.current().unwrap_err().reason, Reason::Expired);
    }
}

#[tokio::test]
async fn a_task_that_is_dropped_is_completed_and_a_detached_one_lives_on() {
    let world = World::new();
    let (task, _watch) = world.task(world.token(&world.instance(), 300)).await;
    let passes = task.passes();
    assert!(passes.present().await.is_ok());
    drop(task);
    assert_eq!(passes.present().await.unwrap_err().reason, Reason::TaskEnded);
    world.agent.seen(|seen| *seen == Seen::Complete(serial(1).to_string(), false)).await;

    let other = World::new();
    let token = other.token(&other.instance(), 300);
    other.agent.begin(Ok(wire::BeginResponse { task: Some(self::task("open")), token: Some(token) }));
    let request = TaskRequest::new("p", AUDIENCE).detached();
    drop(Task::begin_at(&other.agent.endpoint(), request, &other.clock).await.unwrap());
    // A later call of the same connection's server stands behind whatever the drop would have sent.
    let (next, _watch) = other.task(other.token(&other.instance(), 300)).await;
    next.complete().await.unwrap();
    let seen = other.agent.seen(|seen| matches!(seen, Seen::Complete(..))).await;
    assert_eq!(seen.iter().filter(|seen| matches!(seen, Seen::Complete(..))).count(), 1, "{seen:?}");
}

#[tokio::test]
async fn a_task_that_is_dropped_on_a_thread_without_a_runtime_is_completed() {
    let world = World::new();
    let (task, _watch) = world.task(world.token(&world.instance(), 300)).await;
    std::thread::spawn(move || drop(task)).join().unwrap();
    world.agent.seen(|seen| *seen == Seen::Complete(serial(1).to_string(), false)).await;
}

#[tokio::test]
async fn neither_token_nor_key_shows_in_debug() {
    let world = World::new();
    let of = world.instance();
    let (task, _watch) = world.task(world.token(&of, 300)).await;
    let (pass, parent) = (task.current().unwrap(), task.delegate().unwrap());
    let secret = pass.expose_token();
    let signature = secret.rsplit_once('.').unwrap().1;
    let request = TaskRequest::new("p", AUDIENCE).below(parent.clone());
    let shown =
        format!("{task:?} {pass:?} {parent:?} {request:?} {:?} {:?} {:?}", pass.token(), task.passes(), task.changes());
    let key = format!("{:?}", of.key.serialize_der());
    assert!(!shown.contains(signature) && !shown.contains(&key[1..40]), "{shown}");
    assert!(shown.contains(task.id()));
}

#[tokio::test(start_paused = true)]
async fn whoever_was_refused_gets_the_newer_token_or_is_told_that_there_is_none() {
    let world = World::new();
    let of = world.instance();
    let (task, watch) = world.task(world.token(&of, 300)).await;
    let passes = task.passes();
    let first = passes.present().await.unwrap();
    assert!(passes.after(&first).await.is_none());
    let newer = world.token(&of, 290);
    watch.send(Ok(says("open", Some(newer.clone())))).unwrap();
    let second = loop {
        if let Some(pass) = passes.after(&first).await {
            break pass;
        }
    };
    assert_eq!(second.expose_token(), newer.token);
}
