use proptest::prelude::*;

use crate::revision::Revision;
use crate::serial::Serial;
use crate::task::{Feed, FeedGap, TaskEvent, TaskState, Update};
use crate::time::Timestamp;

fn serial(n: u8) -> Serial {
    Serial::try_from([n.max(1); 16]).unwrap()
}

fn event(task: u8, state: TaskState) -> TaskEvent {
    let forget_at = state.is_final().then(|| Timestamp::from_unix_s(1_000 + i64::from(task)));
    TaskEvent { task: serial(task), state, forget_at }
}

/// What is refused, as whoever holds nothing is told.
fn refused(feed: &Feed) -> Vec<(u8, TaskState)> {
    let mut refused = feed.after(None).events;
    refused.sort_by_key(|event| event.task);
    refused.into_iter().map(|event| ((1..6).find(|n| serial(*n) == event.task).unwrap(), event.state)).collect()
}

proptest! {
    /// However rarely each of them listens, a relay and whoever listens to it come to stand where the issuer stands.
    #[test]
    fn who_listens_at_the_end_of_a_chain_knows_what_the_issuer_knows(
        told in prop::collection::vec((1_u8..6, prop::sample::select(TaskState::ALL.to_vec()), any::<[bool; 3]>()), 1..200),
    ) {
        let (mut issuer, mut relay, mut service) = (Feed::new(7), Feed::default(), Feed::default());
        let follow = |from: &Feed, to: &mut Feed| {
            let held = Some(to.at()).filter(|at| *at != Revision::NONE);
            to.apply(from.after(held)).unwrap();
        };
        for (task, state, [relays, serves, restarts]) in told {
            issuer.tell(event(task, state));
            if relays {
                follow(&issuer, &mut relay);
            }
            if restarts && serves {
                relay = Feed::default();
                follow(&issuer, &mut relay);
            }
            if serves && relay.at() != Revision::NONE {
                follow(&relay, &mut service);
                prop_assert_eq!(refused(&service), refused(&relay));
            }
        }
        follow(&issuer, &mut relay);
        follow(&relay, &mut service);
        prop_assert_eq!(service.at(), issuer.at());
        prop_assert_eq!(refused(&service), refused(&issuer));
    }
}

#[test]
fn a_gap_is_noticed_and_nothing_is_taken_over() {
    let mut issuer = Feed::new(7);
    issuer.tell(event(1, TaskState::Completed));
    let mut service = Feed::default();
    service.apply(issuer.after(None)).unwrap();
    issuer.tell(event(2, TaskState::Revoked));
    issuer.tell(event(3, TaskState::Suspended));
    let missed = Update { events: vec![event(3, TaskState::Suspended)], ..issuer.after(Some(service.at())) };
    let held = service.at();
    assert_eq!(service.apply(missed), Err(FeedGap { held }));
    assert_eq!((service.at(), refused(&service)), (held, vec![(1, TaskState::Completed)]));
    // Another epoch is another feed.
    let elsewhere =
        Update { whole: false, at: Revision { epoch: 8, n: 2 }, events: vec![event(2, TaskState::Revoked)] };
    assert_eq!(service.apply(elsewhere), Err(FeedGap { held }));
    service.apply(issuer.after(Some(held))).unwrap();
    assert_eq!(refused(&service)[1..], [(2, TaskState::Revoked), (3, TaskState::Suspended)]);
}

#[test]
fn who_is_too_far_behind_or_ahead_is_sent_everything() {
    let mut feed = Feed::new(7);
    for _ in 0..5_000 {
        feed.tell(event(1, TaskState::Suspended));
        feed.tell(event(1, TaskState::Open));
    }
    let at = feed.at();
    let behind = |n: u64| feed.after(Some(Revision { n: at.n - n, ..at }));
    assert_eq!((behind(4_096).whole, behind(4_096).events.len()), (false, 4_096));
    assert_eq!(behind(4_097), Update { whole: true, at, events: Vec::new() });
    assert!(feed.after(Some(at.next())).whole && feed.after(Some(Revision { epoch: 6, ..at })).whole);
}

#[test]
fn what_can_matter_no_more_is_forgotten_and_a_suspension_never() {
    let mut feed = Feed::new(7);
    feed.tell(event(1, TaskState::Suspended));
    feed.tell(event(2, TaskState::Completed));
    feed.tell(event(3, TaskState::Expired));
    feed.forget(Timestamp::from_unix_s(1_002));
    assert_eq!(refused(&feed), [(1, TaskState::Suspended), (3, TaskState::Expired)]);
    feed.tell(event(3, TaskState::Open));
    feed.tell(event(3, TaskState::Suspended));
    feed.forget(Timestamp::from_unix_s(9_999));
    assert_eq!(refused(&feed)[1], (3, TaskState::Suspended), "its older end counts no more");
}
