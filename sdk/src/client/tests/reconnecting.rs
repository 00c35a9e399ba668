//! Streams that end, and agents that are not there. The clock is tokio's, paused: it moves only where nothing else does.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::Status;

use super::agent::{FakeAgent, message, next, status};
use crate::client::{Phase, Source, X509Context};
use crate::grpc;
use crate::reason::{Reason, Refusal};
use crate::x509::fixture::Domain;

const ID: &str = "spiffe://td/workload";

/// Rows: WE-15, WE-17.
#[tokio::test(start_paused = true)]
async fn invalid_argument_and_unimplemented_are_not_tried_again() {
    for (status, reason) in [
        (Status::invalid_argument("security header missing"), Reason::InvalidArgument),
        (Status::unimplemented("the profile is off"), Reason::Unimplemented),
    ] {
        let agent = FakeAgent::new();
        agent.refuse(status);
        let source = Source::<X509Context>::start(agent.endpoint());
        let begin = Instant::now();
        assert_eq!(source.ready(Duration::from_mins(1)).await.unwrap_err().reason, reason);
        assert_eq!(begin.elapsed(), Duration::ZERO, "who waits is told at once");
        sleep(Duration::from_secs(5)).await;
        assert_eq!(agent.calls(), 1, "WE-15, WE-17");
        assert_eq!(source.status().phase, Phase::Failed);
        assert!(next(&mut source.changes()).await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_failed_for_good_keeps_what_it_has() {
    let (agent, domain) = (FakeAgent::new(), Domain::new());
    let stream = agent.stream();
    let source = Source::<X509Context>::start(agent.endpoint());
    stream.send(Ok(message(&domain, &[(ID, "")]))).unwrap();
    let mut changes = source.changes();
    next(&mut changes).await.unwrap().unwrap();
    stream.send(Err(Status::invalid_argument("no more"))).unwrap();
    assert!(next(&mut changes).await.is_none());
    assert_eq!(source.status().phase, Phase::Failed);
    assert!(source.current().is_ok());
}

/// Rows: WE-16.
#[tokio::test(start_paused = true)]
async fn refusals_that_may_pass_are_tried_again_with_growing_pauses() {
    let (agent, domain) = (FakeAgent::new(), Domain::new());
    for status in
        [Status::unavailable("starting"), Status::permission_denied("no identity issued"), Status::internal("?")]
    {
        agent.refuse(status);
    }
    let stream = agent.stream();
    stream.send(Ok(message(&domain, &[(ID, "")]))).unwrap();
    let begin = Instant::now();
    let source = Source::<X509Context>::start(agent.endpoint());
    source.ready(Duration::from_mins(1)).await.unwrap();
    assert_eq!(agent.calls(), 4, "WE-16");
    // At once, then 200 to 400 ms, then 400 to 800 ms.
    let waited = begin.elapsed();
    assert!((600..=1_300).contains(&waited.as_millis()), "{waited:?}");
}

/// Rows: WE-16.
#[tokio::test(start_paused = true)]
async fn an_agent_that_keeps_refusing_is_called_ever_less_often() {
    let agent = FakeAgent::new();
    let source = Source::<X509Context>::start(agent.endpoint());
    assert_eq!(source.ready(Duration::from_mins(2)).await.unwrap_err().reason, Reason::Unavailable);
    // 0, 0, then six pauses up to 12.8 s, then one every 5 to 10 s.
    assert!((15..=35).contains(&agent.calls()), "{}", agent.calls());
    let status = source.status();
    assert_eq!((status.available, status.failures as usize >= agent.calls() - 1), (false, true));
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_the_agent_asks_for_is_kept() {
    let (agent, domain) = (FakeAgent::new(), Domain::new());
    let busy = Refusal::new(Reason::Overloaded, "too many calls");
    agent.refuse(grpc::status(&busy, Some(Duration::from_secs(3))));
    agent.stream().send(Ok(message(&domain, &[(ID, "")]))).unwrap();
    let begin = Instant::now();
    let source = Source::<X509Context>::start(agent.endpoint());
    source.ready(Duration::from_mins(1)).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(3), "{:?}", begin.elapsed());
}

/// Rows: WA-7.
#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_is_opened_again_at_once_and_nothing_is_lost_meanwhile() {
    for end in [None, Some(Status::unavailable("shutting down")), Some(Status::cancelled("?"))] {
        let (agent, domain) = (FakeAgent::new(), Domain::new());
        let first = agent.stream();
        let source = Source::<X509Context>::start(agent.endpoint());
        first.send(Ok(message(&domain, &[(ID, "")]))).unwrap();
        let mut changes = source.changes();
        next(&mut changes).await.unwrap().unwrap();
        // An hour of silence costs nothing and changes nothing.
        sleep(Duration::from_hours(1)).await;
        assert_eq!((agent.calls(), source.status().phase), (1, Phase::Live));
        let second = agent.stream();
        let begin = Instant::now();
        if let Some(status) = end {
            first.send(Err(status)).unwrap();
        }
        drop(first);
        agent.called(2).await;
        assert_eq!(begin.elapsed(), Duration::ZERO, "WA-7");
        assert!(source.current().is_ok());
        second.send(Ok(message(&domain, &[(ID, "")]))).unwrap();
        next(&mut changes).await.unwrap().unwrap();
        assert_eq!(source.status().refusal, None);
    }
}

/// Rows: WA-7.
#[tokio::test(start_paused = true)]
async fn streams_that_deliver_and_end_at_once_do_not_become_a_hot_loop() {
    let (agent, domain) = (FakeAgent::new(), Domain::new());
    for _ in 0..100 {
        agent.stream().send(Ok(message(&domain, &[(ID, "")]))).unwrap();
    }
    let source = Source::<X509Context>::start(agent.endpoint());
    source.ready(Duration::from_secs(5)).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    assert!(agent.calls() < 20, "{}", agent.calls());
}

/// Rows: WE-16.
#[tokio::test]
async fn an_agent_that_comes_late_or_comes_back_is_found() {
    let (mut agent, domain) = (FakeAgent::absent(), Domain::new());
    let source = Source::<X509Context>::start(agent.endpoint());
    let refusal = source.ready(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::PeerUnreachable);
    assert!(refusal.what.contains("api.sock") && refusal.what.contains("No such file"), "{refusal}");
    let first = agent.stream();
    agent.start_apart();
    first.send(Ok(message(&domain, &[(ID, "")]))).unwrap();
    let mut changes = source.changes();
    let before = next(&mut changes).await.unwrap().unwrap();
    agent.kill();
    status(&source, |status| status.phase == Phase::Retrying).await;
    assert_eq!(source.current().unwrap().default_svid().serial(), before.default_svid().serial());
    let second = agent.stream();
    agent.start_apart();
    second.send(Ok(message(&domain, &[(ID, "")]))).unwrap();
    let after = next(&mut changes).await.unwrap().unwrap();
    assert_ne!(after.default_svid().serial(), before.default_svid().serial());
}

#[tokio::test(start_paused = true)]
async fn a_source_can_be_shut_down_while_it_waits() {
    let agent = FakeAgent::absent();
    let source = Source::<X509Context>::start(agent.endpoint());
    sleep(Duration::from_secs(30)).await;
    let begin = Instant::now();
    source.shutdown().await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(source.status().phase, Phase::Closed);
}
