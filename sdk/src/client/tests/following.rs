//! A stream that stays open.

use std::time::Duration;

use tonic::Status;

use super::agent::{FakeAgent, message, next, status};
use super::contexts::SPOILS;
use crate::client::{Phase, Source, X509Context};
use crate::reason::Reason;
use crate::time::Clock;
use crate::tls::{Authorizer, ClientAuth, ClientTls, Options, ServerTls};
use crate::x509::fixture::{Domain, NOW};

const ID: &str = "spiffe://td/workload";
const SOON: Duration = Duration::from_secs(5);

fn serial(context: &X509Context) -> Vec<u8> {
    context.default_svid().serial().to_vec()
}

/// Rows: WA-8.
#[tokio::test]
async fn every_message_replaces_the_one_before_it() {
    let (agent, domain) = (FakeAgent::new(), Domain::new());
    let stream = agent.stream();
    let source = Source::<X509Context>::start(agent.endpoint());
    assert_eq!(source.current().unwrap_err().reason, Reason::SourceNotReady);
    let mut changes = source.changes();
    let mut sent = message(&domain, &[(ID, "")]);
    sent.federated_bundles.insert("spiffe://other".to_owned(), domain.root.der.clone().into());
    stream.send(Ok(sent)).unwrap();
    let first = source.ready(SOON).await.unwrap();
    assert_eq!(first.bundles().len(), 2);
    assert_eq!(serial(&next(&mut changes).await.unwrap().unwrap()), serial(&first));
    stream.send(Ok(message(&domain, &[(ID, "")]))).unwrap();
    let second = next(&mut changes).await.unwrap().unwrap();
    assert_ne!(serial(&second), serial(&first));
    assert_eq!(second.bundles().len(), 1, "WA-8: what a message leaves out is gone");
    assert_eq!(serial(&source.current().unwrap()), serial(&second));
    let status = source.status();
    assert_eq!((status.phase, status.available, status.updates, status.refusal), (Phase::Live, true, 2, None));
    // Who comes later sees the present first.
    assert_eq!(serial(&next(&mut source.changes()).await.unwrap().unwrap()), serial(&second));
}

/// Rows: WA-11.
#[tokio::test]
async fn a_bad_message_is_reported_and_the_one_before_it_stays_in_use() {
    let (agent, domain) = (FakeAgent::new(), Domain::new());
    let stream = agent.stream();
    let source = Source::<X509Context>::start(agent.endpoint());
    let mut changes = source.changes();
    for (discarded, (what, spoil)) in (1..).zip(SPOILS) {
        let good = message(&domain, &[(ID, "")]);
        let mut bad = message(&domain, &[(ID, "")]);
        spoil(&mut bad, &domain);
        stream.send(Ok(good)).unwrap();
        let before = next(&mut changes).await.unwrap().unwrap();
        stream.send(Ok(bad)).unwrap();
        let after = status(&source, |status| status.discarded == discarded).await;
        assert_eq!(serial(&source.current().unwrap()), serial(&before), "WA-11: {what}");
        assert_eq!((after.phase, after.refusal.unwrap().reason), (Phase::Live, Reason::MessageInvalid));
    }
    assert_eq!(agent.calls(), 1, "the stream goes on");
}

/// Rows: WA-9.
#[tokio::test(start_paused = true)]
async fn permission_denied_withdraws_everything_until_it_is_granted_again() {
    let (agent, domain) = (FakeAgent::new(), Domain::new());
    let first = agent.stream();
    let source = Source::<X509Context>::start(agent.endpoint());
    let mut changes = source.changes();
    first.send(Ok(message(&domain, &[(ID, "")]))).unwrap();
    next(&mut changes).await.unwrap().unwrap();
    let (credentials, trust) = (source.credentials(), source.trust());
    assert!(credentials.current().is_some() && !trust.current().is_empty());
    agent.refuse(Status::permission_denied("no identity issued"));
    agent.refuse(Status::permission_denied("no identity issued"));
    let again = agent.stream();
    first.send(Err(Status::permission_denied("no identity issued"))).unwrap();
    let refusal = next(&mut changes).await.unwrap().unwrap_err();
    assert_eq!(refusal.reason, Reason::PermissionDenied, "WA-9");
    assert_eq!(source.current().unwrap_err(), refusal);
    assert!(credentials.current().is_none() && trust.current().is_empty());
    again.send(Ok(message(&domain, &[(ID, "")]))).unwrap();
    next(&mut changes).await.unwrap().unwrap();
    assert!(credentials.current().is_some() && !trust.current().is_empty());
    assert_eq!(agent.calls(), 4);
}

#[tokio::test]
async fn tls_follows_the_source_through_a_rotation_of_the_root() {
    let (agent, old, new) = (FakeAgent::new(), Domain::new(), Domain::new());
    let stream = agent.stream();
    let source = Source::<X509Context>::start(agent.endpoint());
    let mut changes = source.changes();
    stream.send(Ok(message(&old, &[(ID, ""), ("spiffe://td/other", "other")]))).unwrap();
    let before = next(&mut changes).await.unwrap().unwrap();
    let (clock, options) = (Clock::manual(NOW).0, Options::default());
    let itself = Authorizer::exact(ID.parse().unwrap());
    let client = ClientTls::new(source.credentials(), source.trust(), itself.clone(), &clock, &options).unwrap();
    let clients = ClientAuth::Required(itself);
    let server = ServerTls::new(source.credentials(), source.trust(), clients, &clock, &options).unwrap();
    let meet = async || {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (client, server) = tokio::join!(crate::tls::connect(near, &client), crate::tls::accept(far, &server));
        client.unwrap();
        server.unwrap().info().peer().unwrap().serial().to_vec()
    };
    assert_eq!(meet().await, serial(&before));
    stream.send(Ok(message(&new, &[(ID, "")]))).unwrap();
    let after = next(&mut changes).await.unwrap().unwrap();
    assert_eq!(meet().await, serial(&after));
    assert!(source.credentials_by_hint("other").current().is_none());
}

#[tokio::test]
async fn shutting_down_closes_the_stream_and_drops_the_material() {
    let (agent, domain) = (FakeAgent::new(), Domain::new());
    let stream = agent.stream();
    let source = Source::<X509Context>::start(agent.endpoint());
    let mut changes = source.changes();
    stream.send(Ok(message(&domain, &[(ID, "")]))).unwrap();
    source.ready(SOON).await.unwrap();
    let (credentials, trust) = (source.credentials(), source.trust());
    tokio::time::timeout(SOON, source.shutdown()).await.unwrap();
    tokio::time::timeout(SOON, stream.closed()).await.expect("the agent sees the end");
    assert_eq!(source.current().unwrap_err().reason, Reason::SourceClosed);
    assert_eq!(source.ready(SOON).await.unwrap_err().reason, Reason::SourceClosed);
    assert!(next(&mut changes).await.is_none());
    assert!(credentials.current().is_none() && trust.current().is_empty());
    assert_eq!(source.status().phase, Phase::Closed);
    source.shutdown().await;
}

#[tokio::test]
async fn dropping_a_source_ends_it_too() {
    let (agent, domain) = (FakeAgent::new(), Domain::new());
    let stream = agent.stream();
    let source = Source::<X509Context>::start(agent.endpoint());
    stream.send(Ok(message(&domain, &[(ID, "")]))).unwrap();
    source.ready(SOON).await.unwrap();
    let credentials = source.credentials();
    drop(source);
    tokio::time::timeout(SOON, stream.closed()).await.expect("the agent sees the end");
    assert!(credentials.current().is_none());
}
