//! Tokens that a client fetches itself, refreshed in two ways: before they end, and when a server refuses one.
//!
//! | what happens | then |
//! |---|---|
//! | a token was fetched | the next is fetched between 70 and 80 % of its life, at a moment drawn once |
//! | that fails, or takes over 30 s | the one that is held is used to its end; again with a pause that doubles, with jitter |
//! | there is no token | whoever wants one is told why, until that pause is over |
//! | a server refuses the token | one fetch, for however many callers; who comes later gets its result |
//! | the server refuses what that brought, too | the next such fetch only after a pause that doubles; of at least 5 s, if the token was taken elsewhere |

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex as Plain, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{BearerToken, FetchedJwt, Pass, Presents, WorkloadClient};
use crate::id::SpiffeId;
use crate::jwt::Audience;
use crate::reason::{Reason, Refusal};
use crate::time::{Clock, Timestamp};

/// The first pause after a failure is between this and twice this.
const MIN_PAUSE: Duration = Duration::from_millis(500);
/// No pause is longer than twice this.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// How long a fetch may take.
const FETCH_WITHIN: Duration = Duration::from_secs(30);
/// The least pause between two fetches for refusals, where the token is taken by some and refused by others.
const LEAST_PAUSE: Duration = Duration::from_secs(5);
/// A timer sleeps no longer before it looks at the clock again: the wall clock may jump.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// Fetches a token: from an OAuth token endpoint, from the node agent, or from wherever they come.
pub trait Fetch: Send + Sync + 'static {
    /// A token that was issued just now.
    ///
    /// # Errors
    /// Why there is none.
    fn fetch(&self) -> impl Future<Output = Result<BearerToken, Refusal>> + Send;
}

/// JWT-SVIDs for one audience, from the node agent.
#[derive(Debug, Clone)]
pub struct FetchJwt {
    client: WorkloadClient,
    audience: Audience,
    id: Option<SpiffeId>,
}

impl FetchJwt {
    /// Of this identity of the process, or of its default one.
    #[must_use]
    pub const fn new(client: WorkloadClient, audience: Audience, id: Option<SpiffeId>) -> Self {
        Self { client, audience, id }
    }
}

impl Fetch for FetchJwt {
    async fn fetch(&self) -> Result<BearerToken, Refusal> {
        let audiences = std::slice::from_ref(&self.audience);
        let fetched = self.client.fetch_jwt_svids(audiences, self.id.as_ref()).await?;
        let none = || Refusal::new(Reason::MessageInvalid, "the agent sent no JWT-SVID");
        let svid: FetchedJwt = fetched.into_iter().next().ok_or_else(none)?;
        let issued_at = svid.claims().issued_at().unwrap_or_else(|| Clock::system().now());
        Ok(BearerToken::new(svid.expose_token(), issued_at, svid.claims().expires_at()))
    }
}

/// A token that is always fresh. It begins to fetch when it is made; dropping it ends that.
pub struct Refreshing<F> {
    inner: Arc<Inner<F>>,
    _tasks: JoinSet<()>,
}

struct Inner<F> {
    fetch: F,
    clock: Clock,
    held: watch::Sender<Held>,
    /// Held by whoever fetches; the others wait and take what that brought.
    turn: Mutex<()>,
    refused: Plain<Refused>,
}

#[derive(Debug, Clone, Default)]
struct Held {
    pass: Option<Arc<Pass>>,
    /// Counts tries, so that who waited for one sees that it was made.
    tries: u64,
    failures: u32,
    refusal: Option<Refusal>,
    /// After a failure: no try before.
    again: Option<Instant>,
}

/// Servers' refusals since one of them took a token.
#[derive(Debug, Default)]
struct Refused {
    in_a_row: u32,
    /// The last fetch for one.
    fetched: Option<Instant>,
    not_before: Option<Instant>,
}

impl<F: Fetch> Refreshing<F> {
    /// Keeps a token of `fetch` fresh. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(fetch: F, clock: &Clock) -> Self {
        let inner = Arc::new(Inner {
            fetch,
            clock: clock.clone(),
            held: watch::Sender::new(Held::default()),
            turn: Mutex::new(()),
            refused: Plain::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&inner).keep_fresh());
        Self { inner, _tasks: tasks }
    }
}

impl<F: Fetch> Presents for Refreshing<F> {
    async fn present(&self) -> Result<Arc<Pass>, Refusal> {
        match self.inner.good() {
            Some(pass) => Ok(pass),
            None => self.inner.refresh(|held| held.filter(|pass| !pass.has_expired(self.inner.clock.now()))).await,
        }
    }

    async fn after(&self, refused: &Pass) -> Option<Arc<Pass>> {
        let newer = |held: Option<Arc<Pass>>| held.filter(|held| held.token() != refused.token());
        if let Some(pass) = newer(self.inner.good()) {
            return Some(pass);
        }
        self.inner.refresh_refused(newer).await
    }

    fn accepted(&self, pass: &Pass) {
        let newest = self.inner.held.borrow().pass.as_ref().is_some_and(|held| held.token() == pass.token());
        // That an older one was good still says nothing about what the refusals brought.
        if newest {
            let mut refused = self.inner.refused();
            refused.in_a_row = 0;
            refused.not_before = refused.fetched.map(|fetched| fetched + LEAST_PAUSE);
        }
    }
}

impl<F: Fetch> Inner<F> {
    fn good(&self) -> Option<Arc<Pass>> {
        self.held.borrow().pass.clone().filter(|pass| !pass.has_expired(self.clock.now()))
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `suits` of what is held, else of what one fetch brings, whoever makes it.
    async fn refresh(&self, suits: impl Fn(Option<Arc<Pass>>) -> Option<Arc<Pass>>) -> Result<Arc<Pass>, Refusal> {
        let before = self.held.borrow().tries;
        let _turn = self.turn.lock().await;
        let held = self.held.borrow().clone();
        if held.tries == before && held.again.is_none_or(|again| Instant::now() >= again) {
            self.fetch_once().await;
        }
        let held = self.held.borrow().clone();
        let why = held.refusal.unwrap_or_else(|| Refusal::new(Reason::SourceNotReady, "no token was fetched yet"));
        suits(held.pass).ok_or(why)
    }

    /// The same after a server's refusal: not as often as anybody likes.
    async fn refresh_refused(&self, suits: impl Fn(Option<Arc<Pass>>) -> Option<Arc<Pass>>) -> Option<Arc<Pass>> {
        let before = self.held.borrow().tries;
        let _turn = self.turn.lock().await;
        if self.held.borrow().tries == before {
            {
                let mut refused = self.refused();
                let now = Instant::now();
                if refused.not_before.is_some_and(|not_before| now < not_before) {
                    return None;
                }
                refused.fetched = Some(now);
                refused.not_before = Some(now + pause(refused.in_a_row, fastrand::f64()));
                refused.in_a_row = refused.in_a_row.saturating_add(1);
            }
            self.fetch_once().await;
        }
        suits(self.good())
    }

    /// Whoever calls this holds the turn.
    async fn fetch_once(&self) {
        let silent = || Refusal::new(Reason::Unavailable, "no token was fetched within 30 s");
        let fetched = timeout(FETCH_WITHIN, self.fetch.fetch()).await.unwrap_or_else(|_elapsed| Err(silent()));
        self.held.send_modify(|held| {
            held.tries += 1;
            match fetched {
                Ok(token) => {
                    held.pass = Some(Arc::new(Pass::unbound(token)));
                    (held.failures, held.refusal, held.again) = (0, None, None);
                }
                Err(refusal) => {
                    tracing::warn!(reason = refusal.reason.code(), what = refusal.what, "a token was not fetched");
                    held.again = Some(Instant::now() + pause(held.failures, fastrand::f64()));
                    held.failures = held.failures.saturating_add(1);
                    held.refusal = Some(refusal);
                }
            }
        });
    }

    async fn keep_fresh(self: Arc<Self>) {
        let mut changes = self.held.subscribe();
        let (mut drawn, mut random) = (None, fastrand::f64());
        loop {
            let held = changes.borrow_and_update().clone();
            // Drawn once for each token, so that looking again moves nothing.
            if drawn != Some(held.tries) {
                (drawn, random) = (Some(held.tries), fastrand::f64());
            }
            let wait = match (held.again, &held.pass) {
                (Some(again), _) => again.saturating_duration_since(Instant::now()),
                (None, Some(pass)) => due_in(pass.token(), random, self.clock.now_ms()),
                (None, None) => Duration::ZERO,
            };
            if wait <= LOOK_AGAIN {
                tokio::select! {
                    Ok(()) = changes.changed() => continue,
                    () = sleep(wait) => {}
                }
                let _turn = self.turn.lock().await;
                if self.held.borrow().tries == held.tries {
                    self.fetch_once().await;
                }
            } else {
                tokio::select! {
                    Ok(()) = changes.changed() => {}
                    () = sleep(LOOK_AGAIN) => {}
                }
            }
        }
    }
}

/// When the next token is fetched: between 70 and 80 % of this one's life.
pub(super) fn due_in(token: &BearerToken, random: f64, now_ms: i64) -> Duration {
    let life = token.life().duration().mul_f64(random.clamp(0.0, 1.0).mul_add(0.1, 0.7));
    let due_ms = token
        .issued_at()
        .unix_s()
        .saturating_mul(1000)
        .saturating_add(i64::try_from(life.as_millis()).unwrap_or(i64::MAX));
    Duration::from_millis(u64::try_from(due_ms.saturating_sub(now_ms)).unwrap_or(0))
}

/// The pause after so many earlier failures: exponential, with jitter.
pub(super) fn pause(earlier: u32, random: f64) -> Duration {
    let doubled = MIN_PAUSE.saturating_mul(2_u32.saturating_pow(earlier)).min(MAX_PAUSE);
    doubled.mul_f64(1.0 + random.clamp(0.0, 1.0))
}

impl<F> fmt::Debug for Refreshing<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.inner.held.borrow();
        let until: Option<Timestamp> = held.pass.as_ref().map(|pass| pass.token().expires_at());
        write!(f, "Refreshing(until {until:?}, {} failures)", held.failures)
    }
}
