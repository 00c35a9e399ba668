//! A validator that decides by itself: what it is told, what it remembers, and what it does when it is told nothing.

use std::time::Duration;

use super::super::fixture::{AUDIENCE, Authority, claims, serial};
use crate::revision::Revision;
use crate::task::*;
use crate::time::{Clock, ClockHand, Timestamp};
use crate::x509::VerifiedPeer;
use crate::x509::fixture::{Domain, NOW, leaf};

const AGENT: &str = "spiffe://td/agent";

struct World {
    authority: Authority,
    domain: Domain,
    peer: VerifiedPeer,
    clock: Clock,
    hand: ClockHand,
}

impl World {
    fn new() -> Self {
        let domain = Domain::new();
        let peer = domain.verdict_as(leaf(AGENT), crate::x509::Usage::Client).unwrap();
        let (clock, hand) = Clock::manual(NOW);
        Self { authority: Authority::new(), domain, peer, clock, hand }
    }

    fn verifier(&self) -> TaskVerifier {
        let verifier = TaskVerifier::new(AUDIENCE, &self.clock);
        verifier.set_keys(self.authority.keys());
        verifier
    }

    fn claims(&self, n: i64) -> TaskClaims {
        claims(&AGENT.parse().unwrap(), self.peer.certificate(), n, NOW)
    }

    fn token(&self, n: i64) -> String {
        self.authority.token(&self.claims(n))
    }

    fn verdict(&self, verifier: &TaskVerifier, token: &str) -> Result<(), TaskTokenError> {
        verifier.decide(token, Shown::Peer(&self.peer)).verdict.map(drop)
    }
}

fn whole(epoch: u64, n: u64, events: Vec<TaskEvent>) -> Update {
    Update { whole: true, at: Revision { epoch, n }, events }
}

fn news(epoch: u64, n: u64, events: Vec<TaskEvent>) -> Update {
    Update { whole: false, ..whole(epoch, n, events) }
}

fn event(n: i64, state: TaskState) -> TaskEvent {
    let forget_at = (state != TaskState::Suspended).then(|| Timestamp::from_unix_s(NOW.unix_s() + 300));
    TaskEvent { task: serial(n), state, forget_at }
}

#[test]
fn nothing_is_admitted_before_the_first_message_and_everything_open_after_it() {
    let world = World::new();
    let unfed = TaskVerifier::new(AUDIENCE, &world.clock);
    assert_eq!(world.verdict(&unfed, &world.token(1)), Err(TaskTokenError::StandingUnknown));
    let verifier = world.verifier();
    assert_eq!(world.verdict(&verifier, &world.token(1)), Err(TaskTokenError::StandingUnknown));
    verifier.take(&whole(1, 5, vec![event(2, TaskState::Completed)]), 0).unwrap();
    assert_eq!(world.verdict(&verifier, &world.token(1)), Ok(()));
    assert_eq!(world.verdict(&verifier, &world.token(2)), Err(TaskTokenError::Ended));
}

#[test]
fn a_task_is_refused_from_the_event_on_and_a_resumed_one_admitted_again() {
    let world = World::new();
    let (verifier, token) = (world.verifier(), world.token(1));
    verifier.take(&whole(1, 0, vec![]), 0).unwrap();
    assert_eq!(world.verdict(&verifier, &token), Ok(()));
    verifier.take(&news(1, 1, vec![event(1, TaskState::Suspended)]), 0).unwrap();
    assert_eq!(world.verdict(&verifier, &token), Err(TaskTokenError::Suspended));
    verifier.take(&news(1, 2, vec![event(1, TaskState::Open)]), 0).unwrap();
    assert_eq!(world.verdict(&verifier, &token), Ok(()));
    verifier.take(&news(1, 3, vec![event(1, TaskState::Abandoned)]), 0).unwrap();
    assert_eq!(world.verdict(&verifier, &token), Err(TaskTokenError::Ended));
}

#[test]
fn a_tree_dies_with_its_top_although_only_the_top_was_named() {
    let world = World::new();
    let verifier = world.verifier();
    let mut below = world.claims(2);
    let other =
        Actor { spiffe_id: "spiffe://td/planner".parse().unwrap(), instance: [9; 16].as_slice().try_into().unwrap() };
    below.subject = Subject::Workload(other.spiffe_id.clone());
    below.chain.insert(0, other);
    below.task = TaskLink { root: serial(1), parent: Some(serial(1)), hop: 1, ..below.task };
    below.parent_digest = Some([1; 32]);
    let token = world.authority.token(&below);
    verifier.take(&whole(1, 0, vec![]), 0).unwrap();
    assert_eq!(world.verdict(&verifier, &token), Ok(()));
    verifier.take(&news(1, 1, vec![event(1, TaskState::Revoked)]), 0).unwrap();
    assert_eq!(world.verdict(&verifier, &token), Err(TaskTokenError::Ended));
}

#[test]
fn a_gap_a_change_of_nothing_and_an_older_state_are_refused_and_change_nothing() {
    let world = World::new();
    let (verifier, token) = (world.verifier(), world.token(1));
    let done = || vec![event(1, TaskState::Completed)];
    assert_eq!(verifier.take(&news(1, 1, done()), 0), Err(NewsError::NothingToChange));
    verifier.take(&whole(2, 7, vec![]), 0).unwrap();
    for missing in [news(2, 9, done()), news(2, 7, done()), news(3, 8, done()), news(2, 8, vec![]), news(2, 6, vec![])]
    {
        assert_eq!(verifier.take(&missing, 0), Err(NewsError::Gap), "{missing:?}");
    }
    assert_eq!(verifier.take(&whole(2, 6, done()), 0), Err(NewsError::Older));
    assert_eq!(world.verdict(&verifier, &token), Ok(()));
    verifier.take(&news(2, 7, vec![]), 0).unwrap();
    verifier.take(&news(2, 8, done()), 0).unwrap();
    assert_eq!(world.verdict(&verifier, &token), Err(TaskTokenError::Ended));
}

#[test]
fn an_end_is_never_taken_back_and_a_suspension_is() {
    let world = World::new();
    let verifier = world.verifier();
    let both = vec![event(1, TaskState::Completed), event(2, TaskState::Suspended)];
    verifier.take(&whole(1, 9, both), 0).unwrap();
    assert_eq!(world.verdict(&verifier, &world.token(2)), Err(TaskTokenError::Suspended));
    // A store that was restored from before the end.
    verifier.take(&whole(2, 1, vec![]), 0).unwrap();
    assert_eq!(world.verdict(&verifier, &world.token(1)), Err(TaskTokenError::Ended));
    assert_eq!(world.verdict(&verifier, &world.token(2)), Ok(()));
    verifier.take(&news(2, 2, vec![event(1, TaskState::Open)]), 0).unwrap();
    assert_eq!(world.verdict(&verifier, &world.token(1)), Err(TaskTokenError::Ended));
}

#[test]
fn silence_of_more_than_thirty_seconds_refuses_all_or_only_what_is_known_to_have_ended() {
    let world = World::new();
    let (closed, open) = (world.verifier(), world.verifier().when_stale(WhenStale::OpenUntilExpiry));
    for verifier in [&closed, &open] {
        verifier.take(&whole(1, 1, vec![event(2, TaskState::Completed)]), 0).unwrap();
    }
    world.hand.advance(Duration::from_secs(30));
    assert!(closed.is_fresh());
    assert_eq!(world.verdict(&closed, &world.token(1)), Ok(()));
    world.hand.advance(Duration::from_secs(1));
    assert!(!closed.is_fresh());
    assert_eq!(world.verdict(&closed, &world.token(1)), Err(TaskTokenError::StandingUnknown));
    assert_eq!(world.verdict(&closed, &world.token(2)), Err(TaskTokenError::Ended));
    assert_eq!(world.verdict(&open, &world.token(1)), Ok(()));
    assert_eq!(world.verdict(&open, &world.token(2)), Err(TaskTokenError::Ended));
    closed.take(&news(1, 1, vec![]), 0).unwrap();
    assert_eq!(world.verdict(&closed, &world.token(1)), Ok(()));
    // A machine that slept: only the wall clock went on.
    world.hand.set_wall(Timestamp::from_unix_s(NOW.unix_s() + 31 + 31));
    assert_eq!(world.verdict(&closed, &world.token(1)), Err(TaskTokenError::StandingUnknown));
}

#[test]
fn what_has_ended_is_forgotten_only_when_nothing_of_it_can_be_valid() {
    let (clock, hand) = Clock::manual(NOW);
    let mut standings = Standings::default();
    let events = vec![event(1, TaskState::Completed), event(2, TaskState::Failed), event(3, TaskState::Suspended)];
    standings.take(&whole(1, 3, events), 0, &clock).unwrap();
    hand.advance(Duration::from_secs(330));
    standings.take(&news(1, 3, vec![]), 0, &clock).unwrap();
    assert_eq!(standings.len(), 3);
    hand.advance(Duration::from_secs(1));
    standings.take(&news(1, 3, vec![]), 0, &clock).unwrap();
    assert_eq!((standings.len(), standings.of(serial(3))), (1, Standing::Suspended));
    standings
        .take(&news(1, 4, vec![TaskEvent { forget_at: None, ..event(4, TaskState::Expired) }]), 0, &clock)
        .unwrap();
    hand.advance(Duration::from_hours(1000));
    standings.take(&news(1, 4, vec![]), 0, &clock).unwrap();
    assert_eq!(standings.of(serial(4)), Standing::Ended);
}

#[test]
fn before_anything_was_heard_no_token_is_taken_whatever_holds_later() {
    let world = World::new();
    let (verifier, token) = (world.verifier().when_stale(WhenStale::OpenUntilExpiry), world.token(1));
    assert_eq!(world.verdict(&verifier, &token), Err(TaskTokenError::StandingUnknown));
    verifier.take(&whole(1, 0, vec![]), 0).unwrap();
    assert_eq!(world.verdict(&verifier, &token), Ok(()));
}

#[test]
fn a_wall_clock_that_jumps_ahead_and_back_makes_no_dead_token_live() {
    let world = World::new();
    let (verifier, token) = (world.verifier(), world.token(1));
    let said_at = NOW.unix_s() * 1000;
    let ended =
        TaskEvent { forget_at: Some(Timestamp::from_unix_s(NOW.unix_s() + 300)), ..event(1, TaskState::Completed) };
    verifier.take(&whole(1, 1, vec![ended]), said_at).unwrap();
    world.hand.set_wall(Timestamp::from_unix_s(NOW.unix_s() + 100_000));
    verifier.take(&news(1, 1, vec![]), said_at + 5_000).unwrap();
    world.hand.set_wall(NOW);
    verifier.take(&news(1, 1, vec![]), said_at + 10_000).unwrap();
    assert_eq!(world.verdict(&verifier, &token), Err(TaskTokenError::Ended));
}

#[test]
fn a_remembered_token_is_judged_anew_at_each_sight() {
    let world = World::new();
    let (verifier, token) = (world.verifier().when_stale(WhenStale::OpenUntilExpiry), world.token(1));
    verifier.take(&whole(1, 0, vec![]), 0).unwrap();
    assert_eq!(world.verdict(&verifier, &token), Ok(()));
    // On another connection, of another instance of the same SPIFFE ID and of somebody else.
    for id in [AGENT, "spiffe://td/other"] {
        let other = world.domain.verdict_as(leaf(id), crate::x509::Usage::Client).unwrap();
        let verdict = verifier.decide(&token, Shown::Peer(&other)).verdict.map(drop);
        assert_eq!(verdict, Err(TaskTokenError::NotBound), "{id}");
    }
    world.hand.advance(Duration::from_secs(310));
    assert_eq!(world.verdict(&verifier, &token), Err(TaskTokenError::Expired));
}

#[test]
fn what_withdrawn_keys_have_signed_is_forgotten_with_them() {
    let world = World::new();
    let (verifier, token) = (world.verifier(), world.token(1));
    verifier.take(&whole(1, 0, vec![]), 0).unwrap();
    assert_eq!(world.verdict(&verifier, &token), Ok(()));
    verifier.set_keys(world.authority.keys());
    assert_eq!(world.verdict(&verifier, &token), Ok(()));
    verifier.set_keys(Authority::new().keys());
    assert_eq!(world.verdict(&verifier, &token), Err(TaskTokenError::UnknownKey));
}

#[test]
fn a_token_that_differs_in_one_byte_is_not_the_one_that_was_believed() {
    let world = World::new();
    let (verifier, token) = (world.verifier(), world.token(1));
    verifier.take(&whole(1, 0, vec![]), 0).unwrap();
    assert_eq!(world.verdict(&verifier, &token), Ok(()));
    for at in [5, token.find('.').unwrap() + 40, token.len() - 20] {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(bytes).unwrap();
        let decision = verifier.decide(&forged, Shown::Peer(&world.peer));
        assert!(decision.verdict.is_err() && decision.claims.is_none(), "byte {at}");
    }
}

#[test]
fn the_memory_is_bounded_and_the_oldest_go() {
    let world = World::new();
    for capacity in [0, 1, 4] {
        let verifier = world.verifier().remember(capacity);
        verifier.take(&whole(1, 0, vec![]), 0).unwrap();
        for n in 1..20 {
            assert_eq!(world.verdict(&verifier, &world.token(n)), Ok(()));
            assert!(verifier.remembered() <= if capacity == 1 { 2 } else { capacity }, "{capacity}");
        }
        assert_eq!(verifier.remembered() > 0, capacity > 0);
    }
}

#[test]
fn what_a_relay_repeats_is_no_sign_of_life() {
    let world = World::new();
    let verifier = world.verifier();
    verifier.take(&whole(1, 1, vec![]), 1_000).unwrap();
    world.hand.advance(Duration::from_secs(20));
    verifier.take(&whole(1, 1, vec![]), 1_000).unwrap();
    world.hand.advance(Duration::from_secs(11));
    assert_eq!(world.verdict(&verifier, &world.token(1)), Err(TaskTokenError::StandingUnknown));
    // The issuer's clock was set back: it spoke all the same.
    verifier.take(&news(1, 1, vec![]), 900).unwrap();
    assert_eq!(world.verdict(&verifier, &world.token(1)), Ok(()));
}
