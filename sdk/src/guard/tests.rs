//! A guarded service from the outside: real connections, a real feed.

mod following;
#[cfg(all(feature = "axum", feature = "serve"))]
mod routes;
#[cfg(all(feature = "axum", feature = "serve"))]
mod serving;
#[cfg(all(feature = "axum", feature = "serve"))]
mod streams;

use std::time::Duration;

use mayfly_proto::task as wire;

use super::*;
use crate::fake_tasks::{FakeTasks, Messages};
use crate::task::fixture::{AUDIENCE, Authority, ISSUER, serial};
use crate::time::Clock;

fn whole(authority: &Authority, n: u64) -> wire::Revocations {
    let issuer = wire::TaskIssuer { iss: ISSUER.to_owned(), jwks: authority.jwks() };
    wire::Revocations { whole: true, epoch: 1, n, events: Vec::new(), issuer: Some(issuer), ..Default::default() }
}

fn ended(task: i64, n: u64) -> wire::Revocations {
    became(task, "completed", n)
}

fn became(task: i64, state: &str, n: u64) -> wire::Revocations {
    let event = wire::TaskEvent { task: serial(task).to_string(), state: state.to_owned(), forget_at: i64::MAX };
    wire::Revocations { whole: false, epoch: 1, n, events: vec![event], ..Default::default() }
}

fn beat(n: u64) -> wire::Revocations {
    wire::Revocations { whole: false, epoch: 1, n, events: Vec::new(), ..Default::default() }
}

/// A guard with a feed that has said that nothing has happened yet.
async fn guard(agent: &FakeTasks, authority: &Authority, clock: &Clock) -> (Guard, Messages<wire::Revocations>) {
    let feed = agent.feed();
    feed.send(Ok(whole(authority, 0))).unwrap();
    let guard = Guard::start(agent.endpoint(), TaskVerifier::new(AUDIENCE, clock));
    guard.ready(Duration::from_secs(20)).await.unwrap();
    (guard, feed)
}

/// Waits until the status is like this.
async fn until(guard: &Guard, like: impl Fn(&SourceStatus) -> bool) -> SourceStatus {
    let mut status = guard.0.feed.watch_status();
    let found = tokio::time::timeout(Duration::from_secs(20), status.wait_for(|status| like(status))).await;
    found.expect("such a status within 20 s").unwrap().clone()
}
