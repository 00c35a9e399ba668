use tonic::Status;

use super::*;
use crate::client::{Phase, Subscriber as _};
use crate::guard::feed::Feed;
use crate::reason::Reason;
use crate::task::{Standing, WhenStale};
use crate::x509::fixture::{Domain, NOW, leaf};

fn standing(guard: &Guard, task: i64) -> Standing {
    guard.0.feed.verifier().standing_of(serial(task))
}

#[tokio::test]
async fn the_feed_is_opened_for_the_audience_and_followed() {
    let (agent, authority) = (FakeTasks::start(), Authority::new());
    let (clock, _hand) = Clock::manual(NOW);
    let (guard, feed) = guard(&agent, &authority, &clock).await;
    agent.seen(|seen| *seen == crate::fake_tasks::Seen::Feed(AUDIENCE.to_owned())).await;
    assert_eq!((standing(&guard, 1), guard.is_fresh()), (Standing::Open, true));
    feed.send(Ok(ended(1, 1))).unwrap();
    until(&guard, |status| status.updates == 2).await;
    assert_eq!(standing(&guard, 1), Standing::Ended);
    let document = guard.resource_metadata(&["read"]).unwrap();
    assert_eq!((&document["resource"], &document["authorization_servers"][0]), (&AUDIENCE.into(), &ISSUER.into()));
    guard.shutdown().await;
    assert_eq!(guard.status().phase, Phase::Closed);
}

#[tokio::test]
async fn a_gap_opens_the_feed_anew_and_what_was_known_stays_known() {
    let (agent, authority) = (FakeTasks::start(), Authority::new());
    let (clock, _hand) = Clock::manual(NOW);
    let (guard, feed) = guard(&agent, &authority, &clock).await;
    feed.send(Ok(ended(1, 1))).unwrap();
    until(&guard, |status| status.updates == 2).await;
    agent.refuse_feed(Status::unavailable("the agent restarts"));
    let again = agent.feed();
    feed.send(Ok(ended(2, 3))).unwrap();
    agent.fed(3).await;
    assert_eq!((standing(&guard, 1), standing(&guard, 2)), (Standing::Ended, Standing::Open));
    again.send(Ok(whole(&authority, 9))).unwrap();
    until(&guard, |status| status.phase == Phase::Live && status.updates == 3).await;
    assert_eq!(standing(&guard, 1), Standing::Ended);
    assert_eq!(guard.status().discarded, 1);
}

#[tokio::test]
async fn messages_that_cannot_be_read_are_never_half_believed() {
    let (agent, authority) = (FakeTasks::start(), Authority::new());
    let (clock, _hand) = Clock::manual(NOW);
    let (guard, mut feed) = guard(&agent, &authority, &clock).await;
    let unreadable = |change: fn(&mut wire::Revocations)| {
        let mut message = ended(7, 1);
        change(&mut message);
        message
    };
    let messages = [
        unreadable(|message| message.events[0].task = "x".to_owned()),
        unreadable(|message| message.events[0].state = "finished".to_owned()),
        unreadable(|message| message.issuer = Some(wire::TaskIssuer { iss: ISSUER.to_owned(), jwks: "[]".to_owned() })),
    ];
    for (n, message) in messages.into_iter().enumerate() {
        let again = agent.feed();
        feed.send(Ok(message)).unwrap();
        until(&guard, |status| status.discarded == n as u64 + 1).await;
        assert_eq!(standing(&guard, 7), Standing::Open);
        again.send(Ok(whole(&authority, 0))).unwrap();
        until(&guard, |status| status.phase == Phase::Live && status.updates == n as u64 + 2).await;
        feed = again;
    }
    feed.send(Ok(ended(7, 1))).unwrap();
    until(&guard, |status| status.updates == 5).await;
    assert_eq!(standing(&guard, 7), Standing::Ended);
}

#[tokio::test]
async fn who_may_not_follow_an_audience_is_told_so() {
    let agent = FakeTasks::start();
    agent.refuse_feed(Status::from(crate::Refusal::new(Reason::AudienceNotServed, "no entry of it serves that")));
    let (clock, _hand) = Clock::manual(NOW);
    let guard = Guard::start(agent.endpoint(), TaskVerifier::new(AUDIENCE, &clock));
    until(&guard, |status| status.refusal.as_ref().is_some_and(|why| why.reason == Reason::AudienceNotServed)).await;
    assert!(!guard.is_fresh());
    assert!(guard.ready(Duration::ZERO).await.is_err());
}

#[tokio::test]
async fn a_service_whose_audience_is_withdrawn_takes_no_token_until_it_is_given_back() {
    let (agent, authority, domain) = (FakeTasks::start(), Authority::new(), Domain::new());
    let (clock, _hand) = Clock::manual(NOW);
    let feed = agent.feed();
    feed.send(Ok(whole(&authority, 0))).unwrap();
    let verifier = TaskVerifier::new(AUDIENCE, &clock).when_stale(WhenStale::OpenUntilExpiry);
    let guard = Guard::start(agent.endpoint(), verifier);
    guard.ready(Duration::from_secs(20)).await.unwrap();
    let peer = domain.verdict_as(leaf("spiffe://td/a"), crate::x509::Usage::Client).unwrap();
    let claims = crate::task::fixture::claims(&"spiffe://td/a".parse().unwrap(), peer.certificate(), 1, clock.now());
    let token = authority.token(&claims);
    let decided = || guard.decide(&token, Shown::Peer(&peer)).verdict.map(drop);
    assert_eq!(decided(), Ok(()));
    // An agent that is away takes nothing back.
    let again = agent.feed();
    again.send(Ok(whole(&authority, 0))).unwrap();
    feed.send(Err(Status::unavailable("the agent restarts"))).unwrap();
    until(&guard, |status| status.updates == 2).await;
    assert_eq!((decided(), guard.status().available), (Ok(()), true));

    let withdrawn = || Status::from(crate::Refusal::new(Reason::AudienceNotServed, "no entry of it serves that"));
    again.send(Err(withdrawn())).unwrap();
    until(&guard, |status| !status.available).await;
    assert_eq!(decided(), Err(TaskTokenError::StandingUnknown));
    assert_eq!(guard.ready(Duration::ZERO).await.unwrap_err().reason, Reason::AudienceNotServed);
    assert!(!guard.is_fresh());

    let back = agent.feed();
    back.send(Ok(whole(&authority, 0))).unwrap();
    guard.ready(Duration::from_secs(20)).await.unwrap();
    assert_eq!((decided(), guard.is_fresh()), (Ok(()), true));
}

#[tokio::test(start_paused = true)]
async fn a_silent_feed_is_opened_anew_after_thirty_seconds() {
    let (agent, authority) = (FakeTasks::start(), Authority::new());
    let clock = Clock::anchored_to_tokio(NOW);
    let (guard, feed) = guard(&agent, &authority, &clock).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        feed.send(Ok(beat(0))).unwrap();
        let beats = guard.status().updates + 1;
        until(&guard, |status| status.updates == beats).await;
        assert!(guard.is_fresh());
    }
    let again = agent.feed();
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert_eq!((guard.status().phase, guard.is_fresh()), (Phase::Live, true));
    tokio::time::sleep(Duration::from_secs(2)).await;
    agent.fed(2).await;
    assert!(!guard.is_fresh());
    again.send(Ok(whole(&authority, 0))).unwrap();
    until(&guard, |status| status.phase == Phase::Live && status.updates == 12).await;
    assert!(guard.is_fresh());
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_opens_the_feed_anew_at_most_every_thirty_seconds() {
    let (agent, authority) = (FakeTasks::start(), Authority::new());
    let clock = Clock::anchored_to_tokio(NOW);
    let (guard, feed) = guard(&agent, &authority, &clock).await;
    let claims = crate::task::fixture::claims(&"spiffe://td/a".parse().unwrap(), b"", 1, clock.now());
    let unknown = Authority::new().token(&claims);
    let ask = || {
        let verdict = guard.decide(&unknown, Shown::Proof([0; 32])).verdict.map(drop);
        assert_eq!(verdict, Err(TaskTokenError::UnknownKey));
    };
    let again = agent.feed();
    for _ in 0..5 {
        ask();
        tokio::time::sleep(Duration::from_secs(5)).await;
        feed.send(Ok(beat(0))).unwrap();
    }
    assert_eq!(guard.status().phase, Phase::Live);
    agent.fed(2).await;
    again.send(Ok(whole(&authority, 0))).unwrap();
    until(&guard, |status| status.phase == Phase::Live).await;
}

#[test]
fn what_has_ended_is_refused_at_every_moment_of_a_snapshot_of_several_messages() {
    let (authority, domain) = (Authority::new(), Domain::new());
    let (clock, _hand) = Clock::manual(NOW);
    let peer = domain.verdict_as(leaf("spiffe://td/a"), crate::x509::Usage::Client).unwrap();
    let claims = crate::task::fixture::claims(&"spiffe://td/a".parse().unwrap(), peer.certificate(), 1, clock.now());
    let token = authority.token(&claims);
    let verifier = TaskVerifier::new(AUDIENCE, &clock).when_stale(WhenStale::OpenUntilExpiry);
    let feed = Feed::new(verifier);
    let decided = || feed.verifier().decide(&token, Shown::Peer(&peer)).verdict.map(drop);
    let first = wire::Revocations { more: true, events: ended(2, 1).events, ..whole(&authority, 1) };
    feed.take(first).unwrap();
    assert_eq!(decided(), Err(TaskTokenError::StandingUnknown));
    feed.take(wire::Revocations { whole: true, ..ended(1, 1) }).unwrap();
    assert_eq!(decided(), Err(TaskTokenError::Ended));
}
