//! Dual refresh: before a token ends, and when a server refuses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{Barrier, Mutex};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{BearerToken, Fetch, Presents as _, Refreshing};
use crate::reason::{Reason, Refusal};
use crate::time::{Clock, Timestamp, Ttl};

const START: Timestamp = Timestamp::from_unix_s(1_790_000_000);

/// An endpoint that counts, and may be told to fail.
#[derive(Clone)]
struct Endpoint {
    clock: Clock,
    life: Ttl,
    fetched: Arc<Mutex<Vec<i64>>>,
    failing: Arc<AtomicU32>,
}

impl Endpoint {
    fn new(life_s: u32) -> Self {
        let clock = Clock::anchored_to_tokio(START);
        Self { clock, life: Ttl::from_s(life_s), fetched: Arc::default(), failing: Arc::default() }
    }

    fn refreshing(&self) -> Refreshing<Self> {
        Refreshing::start(self.clone(), &self.clock)
    }

    async fn count(&self) -> usize {
        self.fetched.lock().await.len()
    }
}

impl Fetch for Endpoint {
    async fn fetch(&self) -> Result<BearerToken, Refusal> {
        // As long as a call takes, so that callers pile up.
        sleep(Duration::from_millis(50)).await;
        let mut fetched = self.fetched.lock().await;
        fetched.push(self.clock.now_ms());
        if self.failing.load(Ordering::Relaxed) > 0 {
            self.failing.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::new(Reason::Unavailable, "not now"));
        }
        let now = self.clock.now();
        Ok(BearerToken::new(format!("token-{}", fetched.len()), now, now.saturating_add(self.life)))
    }
}

/// Shown by 5: a server that revokes early, 200 concurrent callers, exactly one refresh.
#[tokio::test(start_paused = true)]
async fn two_hundred_callers_that_are_refused_at_once_make_one_refresh() {
    let endpoint = Endpoint::new(300);
    let tokens = Arc::new(endpoint.refreshing());
    let revoked = tokens.present().await.unwrap();
    assert_eq!(endpoint.count().await, 1);
    let (barrier, mut callers) = (Arc::new(Barrier::new(200)), JoinSet::new());
    for n in 0..200_u64 {
        let (tokens, barrier) = (Arc::clone(&tokens), Arc::clone(&barrier));
        callers.spawn(async move {
            let held = tokens.present().await.unwrap();
            barrier.wait().await;
            // Some hear of it while the refresh runs, some after it.
            sleep(Duration::from_millis(n)).await;
            let other = tokens.after(&held).await.unwrap();
            (held.expose_token().to_owned(), other.expose_token().to_owned())
        });
    }
    let seen = callers.join_all().await;
    assert_eq!(endpoint.count().await, 2, "exactly one refresh");
    assert!(seen.iter().all(|(held, other)| held == revoked.expose_token() && other == "token-2"), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_every_token_cannot_make_a_client_fetch_without_end() {
    let endpoint = Endpoint::new(300);
    let tokens = endpoint.refreshing();
    let mut held = tokens.present().await.unwrap();
    let until = endpoint.clock.now_ms() + 60_000;
    while endpoint.clock.now_ms() < until {
        match tokens.after(&held).await {
            Some(other) => held = other,
            None => sleep(Duration::from_millis(10)).await,
        }
    }
    let fetched = endpoint.count().await;
    assert!((4..=10).contains(&fetched), "{fetched} in a minute");
    // A server that takes one is trusted again.
    tokens.accepted(&held);
    sleep(Duration::from_secs(5)).await;
    assert!(tokens.after(&held).await.is_some());
}

/// Shown by 5: over 10,000 simulated tokens no proactive refresh outside 0.70 to 0.80 of their lives.
#[tokio::test(start_paused = true)]
async fn ten_thousand_tokens_are_renewed_between_seventy_and_eighty_percent_of_their_lives() {
    let mut running = Vec::new();
    for n in 0..10_000_u32 {
        let endpoint = Endpoint::new(60 + n % 840);
        let tokens = endpoint.refreshing();
        running.push((endpoint, tokens));
    }
    sleep(Duration::from_secs(899)).await;
    let (mut least, mut most, mut seen) = (f64::MAX, f64::MIN, 0);
    for (endpoint, _tokens) in &running {
        let fetched = endpoint.fetched.lock().await;
        let life_ms = f64::from(endpoint.life.as_s()) * 1000.0;
        for pair in fetched.windows(2) {
            // A fetch takes 50 ms, and a token says when it was issued in whole seconds.
            let issued_ms = pair[0] / 1000 * 1000;
            let part = f64::from(i32::try_from(pair[1] - 50 - issued_ms).unwrap()) / life_ms;
            (least, most, seen) = (least.min(part), most.max(part), seen + 1);
        }
    }
    assert!(seen >= 10_000, "{seen}");
    // A timer has a resolution of a millisecond, and a life 60 s at the least.
    assert!(least >= 0.70 && most <= 0.800_04, "{least} to {most}");
    assert!(least < 0.71 && most > 0.79, "spread: {least} to {most}");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_leaves_the_token_in_use_and_is_tried_again_ever_more_rarely() {
    let endpoint = Endpoint::new(300);
    let tokens = endpoint.refreshing();
    let first = tokens.present().await.unwrap();
    endpoint.failing.store(u32::MAX, Ordering::Relaxed);
    sleep(Duration::from_secs(290)).await;
    assert_eq!(tokens.present().await.unwrap().expose_token(), first.expose_token());
    let tries = endpoint.fetched.lock().await.clone();
    let pauses: Vec<i64> = tries.windows(2).skip(1).map(|pair| pair[1] - pair[0] - 50).collect();
    for (n, pause) in pauses.iter().enumerate() {
        let least = (500 << n.min(6)).min(30_000);
        assert!((least..=2 * least + 2).contains(pause), "{pauses:?}");
    }
    sleep(Duration::from_secs(20)).await;
    assert_eq!(tokens.present().await.unwrap_err().reason, Reason::Unavailable);
    endpoint.failing.store(0, Ordering::Relaxed);
    sleep(Duration::from_secs(61)).await;
    assert!(tokens.present().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn callers_without_a_token_do_not_fetch_more_often_than_the_pauses_allow() {
    let endpoint = Endpoint::new(300);
    endpoint.failing.store(u32::MAX, Ordering::Relaxed);
    let tokens = endpoint.refreshing();
    let until = endpoint.clock.now_ms() + 60_000;
    while endpoint.clock.now_ms() < until {
        assert_eq!(tokens.present().await.unwrap_err().reason, Reason::Unavailable);
        sleep(Duration::from_millis(10)).await;
    }
    let fetched = endpoint.count().await;
    assert!((4..=10).contains(&fetched), "{fetched} in a minute");
}

#[tokio::test(start_paused = true)]
async fn one_route_that_always_refuses_does_not_make_a_client_fetch_at_each_call() {
    let endpoint = Endpoint::new(3600);
    let tokens = endpoint.refreshing();
    let first = tokens.present().await.unwrap();
    let until = endpoint.clock.now_ms() + 60_000;
    while endpoint.clock.now_ms() < until {
        let held = tokens.present().await.unwrap();
        tokens.accepted(&held);
        tokens.after(&held).await;
        sleep(Duration::from_millis(10)).await;
    }
    let fetched = endpoint.count().await;
    assert!((4..=14).contains(&fetched), "{fetched} in a minute");
    // Nor does it help that some service still takes the first one.
    let before = endpoint.count().await;
    let held = loop {
        let held = tokens.present().await.unwrap();
        match tokens.after(&held).await {
            Some(other) => break other,
            None => sleep(Duration::from_millis(100)).await,
        }
    };
    tokens.accepted(&first);
    assert!(tokens.after(&held).await.is_none());
    assert_eq!(endpoint.count().await, before + 1);
}

/// An endpoint that does not answer once.
struct Silent(AtomicU32, Endpoint);

impl Fetch for Silent {
    async fn fetch(&self) -> Result<BearerToken, Refusal> {
        if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
            std::future::pending::<()>().await;
        }
        self.1.fetch().await
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_does_not_answer_is_given_up_after_thirty_seconds_and_asked_again() {
    let endpoint = Endpoint::new(300);
    let tokens = Refreshing::start(Silent(AtomicU32::new(0), endpoint.clone()), &endpoint.clock);
    let answer = tokio::time::timeout(Duration::from_secs(31), tokens.present()).await.expect("within 31 s");
    assert_eq!(answer.unwrap_err().reason, Reason::Unavailable);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(tokens.present().await.unwrap().expose_token(), "token-1");
}
