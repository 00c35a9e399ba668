//! What the services of this node are told of the tasks whose tokens they may meet.
//!
//! ```text
//! issuer ──WatchAudience, one stream for each audience──> AudienceFeed ──> WatchRevocations of every service that serves it
//! ```
//!
//! A feed is followed while a service of this node listens to it. What the issuer says is passed on with the issuer's own time, and a
//! sign of life only when there was one: who hears nothing knows that nothing is known.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use mayfly_proto::node::{Subject, WatchAudienceRequest};
use mayfly_proto::task::{Revocations as Message, TaskIssuer};
use mayfly_sdk::task::{Feed, Update, UpdateParts};
use mayfly_sdk::{Clock, Reason, Refusal, Revision, Timestamp};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::link::{Backoff, LinkStatus, LinkView, NodeClient};

/// The most audiences that are followed at a time; the issuer bounds the streams of a connection.
const MOST_AUDIENCES: usize = 32;
/// Without a sign of life for so long, the stream is begun anew.
const SILENCE: Duration = Duration::from_secs(15);
/// Whoever comes is told nothing that was heard before that: it takes it for what holds now, and the issuer gives a sign of life
/// every 5 s.
const RECENT: Duration = Duration::from_secs(6);
/// How long the issuer may take to begin a stream.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The bounds of the pause before a stream is begun anew.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The feeds that are followed at the moment. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Revocations(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    feeds: Mutex<HashMap<Arc<str>, Weak<AudienceFeed>>>,
    issuer: watch::Receiver<Option<NodeClient>>,
    status: watch::Receiver<LinkStatus>,
    clock: Clock,
}

/// One audience's feed, followed for as long as somebody holds this.
#[derive(Debug)]
pub(crate) struct AudienceFeed {
    held: Arc<Held>,
    clock: Clock,
    /// Ends with it.
    _relay: JoinSet<()>,
}

#[derive(Debug)]
struct Held {
    audience: Arc<str>,
    /// For which workload the issuer is asked: the one that asked last.
    service: Mutex<Subject>,
    known: Mutex<Known>,
    /// Counts signs of life.
    beat: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Known {
    feed: Feed,
    issuer: Option<TaskIssuer>,
    /// Counts the changes of `issuer`.
    issuers: u64,
    said_at: i64,
    heard: Option<Heard>,
    /// Why nothing is heard.
    trouble: Option<Refusal>,
}

/// When something was heard, by both clocks: the wall clock may jump, and the other one stands still while a machine is suspended.
#[derive(Debug, Clone, Copy)]
struct Heard {
    monotonic: Duration,
    wall: Timestamp,
}

impl Heard {
    fn now(clock: &Clock) -> Self {
        Self { monotonic: clock.monotonic(), wall: clock.now() }
    }

    fn is_recent(self, clock: &Clock) -> bool {
        let wall = clock.now().seconds_since(self.wall);
        clock.monotonic().saturating_sub(self.monotonic) <= RECENT && wall <= RECENT.as_secs().cast_signed()
    }
}

/// What a listener has been told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Told {
    at: Option<Revision>,
    issuers: u64,
}

/// What a listener is to be told.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) update: Update,
    /// Absent: as before.
    pub(crate) issuer: Option<TaskIssuer>,
    pub(crate) said_at: i64,
    pub(crate) told: Told,
}

impl Revocations {
    pub(crate) fn new(link: &LinkView, clock: &Clock) -> Self {
        Self(Arc::new(Shared {
            feeds: Mutex::default(),
            issuer: link.issuer.clone(),
            status: link.status.clone(),
            clock: clock.clone(),
        }))
    }

    /// The feed of an audience, asked for by a workload that serves it.
    ///
    /// # Errors
    /// [`Reason::Overloaded`]: as many are followed as may be.
    pub(crate) fn of(&self, audience: &str, service: Subject) -> Result<Arc<AudienceFeed>, Refusal> {
        let mut feeds = self.0.feeds.lock();
        if let Some(feed) = feeds.get(audience).and_then(Weak::upgrade) {
            return Ok(feed);
        }
        feeds.retain(|_, feed| feed.strong_count() > 0);
        if feeds.len() >= MOST_AUDIENCES {
            let what = format!("this node agent follows {MOST_AUDIENCES} audiences already");
            return Err(Refusal::new(Reason::Overloaded, what));
        }
        let held = Arc::new(Held {
            audience: audience.into(),
            service: Mutex::new(service),
            known: Mutex::default(),
            beat: watch::Sender::new(0),
        });
        let mut relaying = JoinSet::new();
        relaying.spawn(relay(Arc::clone(&self.0), Arc::clone(&held)));
        let feed = Arc::new(AudienceFeed { held, clock: self.0.clock.clone(), _relay: relaying });
        feeds.insert(Arc::clone(&feed.held.audience), Arc::downgrade(&feed));
        Ok(feed)
    }
}

impl AudienceFeed {
    /// For whom the issuer is asked from now on.
    pub(crate) fn serve(&self, service: Subject) {
        *self.held.service.lock() = service;
    }

    /// Changes with each sign of life.
    pub(crate) fn beats(&self) -> watch::Receiver<u64> {
        self.held.beat.subscribe()
    }

    /// What somebody has to be told who was told this.
    ///
    /// # Errors
    /// Why nothing was heard yet, where that is known.
    pub(crate) fn after(&self, told: Told) -> Result<News, Option<Refusal>> {
        let known = self.held.known.lock();
        // Whoever comes now would take what was heard long ago for what holds now.
        let is_old = told.at.is_none() && !known.heard.is_some_and(|heard| heard.is_recent(&self.clock));
        if known.feed.at() == Revision::NONE || is_old {
            return Err(known.trouble.clone());
        }
        let update = known.feed.after(told.at);
        let issuer = known.issuer.clone().filter(|_| told.issuers != known.issuers);
        let told = Told { at: Some(update.at), issuers: known.issuers };
        Ok(News { update, issuer, said_at: known.said_at, told })
    }
}

/// Follows the issuer's feed for as long as it is wanted.
async fn relay(shared: Arc<Shared>, held: Arc<Held>) {
    let (mut issuer, mut backoff) = (shared.issuer.clone(), Backoff::new(FIRST_PAUSE, LONGEST_PAUSE));
    loop {
        let client = issuer.borrow_and_update().clone();
        let refusal = match client {
            Some(client) => {
                let ended = follow(&shared, &held, client, &mut backoff).await;
                tracing::info!(audience = %held.audience, reason = ended.reason.code(), "the feed of revocations was interrupted");
                ended
            }
            None => shared.status.borrow().why(),
        };
        held.known.lock().trouble = Some(refusal);
        tokio::select! {
            () = tokio::time::sleep(backoff.failed(None)) => {}
            changed = issuer.changed() => if changed.is_err() {
                return;
            }
        }
    }
}

/// Until the stream ends: why.
async fn follow(shared: &Shared, held: &Held, mut client: NodeClient, backoff: &mut Backoff) -> Refusal {
    let at = held.known.lock().feed.at();
    let service = Some(held.service.lock().clone());
    let request = WatchAudienceRequest { service, audience: held.audience.to_string(), epoch: at.epoch, n: at.n };
    let silent = || Refusal::new(Reason::Unavailable, "the issuer is silent");
    let mut answers = match tokio::time::timeout(ANSWER_WITHIN, client.watch_audience(request)).await {
        Ok(Ok(answers)) => answers.into_inner(),
        Ok(Err(status)) => return Refusal::from_status(&status),
        Err(_elapsed) => return silent(),
    };
    let mut parts = UpdateParts::default();
    loop {
        let message = match tokio::time::timeout(SILENCE, answers.message()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return Refusal::new(Reason::ConnectionClosed, "the issuer ended the feed"),
            Ok(Err(status)) => return Refusal::from_status(&status),
            Err(_elapsed) => return silent(),
        };
        match held.take(message, &mut parts, &shared.clock) {
            Ok(()) => backoff.succeeded(),
            Err(refusal) => return refusal,
        }
    }
}

impl Held {
    fn take(&self, message: Message, parts: &mut UpdateParts, clock: &Clock) -> Result<(), Refusal> {
        let update = parts.take(&message)?;
        let mut known = self.known.lock();
        if let Some(issuer) = message.issuer {
            known.issuer = Some(issuer);
            known.issuers += 1;
        }
        let Some(update) = update else { return Ok(()) };
        if let Err(gap) = known.feed.apply(update) {
            // From nothing: the issuer answers with the whole.
            known.feed = Feed::default();
            return Err(Refusal::new(Reason::Stale, gap.to_string()));
        }
        // By the clock that says when: this node's may have jumped.
        known.feed.forget(if message.said_at == 0 {
            clock.now()
        } else {
            Timestamp::from_unix_s(message.said_at / 1000)
        });
        (known.said_at, known.heard) = (message.said_at, Some(Heard::now(clock)));
        known.trouble = None;
        drop(known);
        self.beat.send_modify(|beat| *beat += 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mayfly_proto::task::TaskEvent;
    use mayfly_sdk::Serial;

    use super::*;

    const START_S: i64 = 1_760_000_000;

    fn held() -> Held {
        Held {
            audience: "https://files.example.org/".into(),
            service: Mutex::default(),
            known: Mutex::default(),
            beat: watch::Sender::new(0),
        }
    }

    #[test]
    fn who_comes_new_is_told_only_what_was_heard_a_moment_ago_by_both_clocks() {
        let (clock, hand) = Clock::manual(Timestamp::from_unix_s(START_S));
        let feed = AudienceFeed { held: Arc::new(held()), clock: clock.clone(), _relay: JoinSet::new() };
        assert!(feed.after(Told::default()).is_err(), "nothing was heard yet");
        let hear = || {
            let whole = Message { whole: true, epoch: 1, n: 1, said_at: START_S * 1000, ..Message::default() };
            feed.held.take(whole, &mut UpdateParts::default(), &clock).unwrap();
        };
        hear();
        hand.advance(Duration::from_secs(6));
        let told = feed.after(Told::default()).unwrap().told;
        hand.advance(Duration::from_secs(1));
        assert!(feed.after(Told::default()).is_err());
        assert!(feed.after(told).is_ok(), "who listens knows when it heard something");
        hear();
        assert!(feed.after(Told::default()).is_ok());
        // A machine that slept: only the wall clock went on.
        hand.set_wall(Timestamp::from_unix_s(clock.now().unix_s() + 7));
        assert!(feed.after(Told::default()).is_err());
    }

    #[test]
    fn what_was_revoked_is_forgotten_by_the_issuers_clock_whatever_this_one_says() {
        let (clock, hand) = Clock::manual(Timestamp::from_unix_s(START_S));
        let held = held();
        let task = Serial::generate(START_S * 1000).unwrap().to_string();
        let ended = TaskEvent { task, state: "revoked".to_owned(), forget_at: START_S + 300 };
        let whole = Message { whole: true, epoch: 1, n: 1, said_at: START_S * 1000, ..Message::default() };
        let beat = |after_s: i64| Message { whole: false, said_at: (START_S + after_s) * 1000, ..whole.clone() };
        let mut parts = UpdateParts::default();
        held.take(Message { events: vec![ended], ..whole.clone() }, &mut parts, &clock).unwrap();
        hand.set_wall(Timestamp::from_unix_s(START_S + 100_000));
        held.take(beat(5), &mut parts, &clock).unwrap();
        assert!(!held.known.lock().feed.is_empty());
        held.take(beat(301), &mut parts, &clock).unwrap();
        assert!(held.known.lock().feed.is_empty());
    }
}
