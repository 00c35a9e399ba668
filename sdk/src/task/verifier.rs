//! A validator that decides by itself, from keys and standings that somebody feeds it.
//!
//! ```text
//! feed ──Update, TaskKeys──> TaskVerifier <──token, what was shown── service
//!                                   └──> Decision: a caller or the rule that failed, and what the record of it says
//! ```

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use super::cache::Believed;
use super::caller::TaskCaller;
use super::claims::TaskClaims;
use super::feed::Update;
use super::standings::{NewsError, Standings};
use super::token::{Shown, Standing, TaskKeys, TaskTokenError, Validator};
use crate::time::Clock;

/// Tokens that are remembered, unless [`TaskVerifier::remember`] says otherwise: about 2 KiB each.
const REMEMBERED: usize = 10_000;

/// What to do with tokens while nothing was heard of the tasks for over 30 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenStale {
    /// Refuse them all: whoever revoked something has a right to be heard.
    #[default]
    FailClosed,
    /// Take them until they expire, unless their task is known to have ended. Before anything was heard at all, refuse them.
    OpenUntilExpiry,
}

/// Verifies the task tokens of one audience, and remembers those that it has believed.
pub struct TaskVerifier {
    audience: String,
    when_stale: WhenStale,
    sensitive: bool,
    clock: Clock,
    keys: RwLock<Option<Arc<TaskKeys>>>,
    standings: RwLock<Standings>,
    believed: Believed,
}

/// What was decided about one token, and what is known of it.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Who calls, or the check that failed.
    pub verdict: Result<TaskCaller, TaskTokenError>,
    /// What the token says; none where its signature did not hold, so that nothing of it may be believed.
    pub claims: Option<Arc<TaskClaims>>,
}

impl TaskVerifier {
    /// For the resource that calls itself `audience`, by this clock. It refuses everything until it is fed.
    #[must_use]
    pub fn new(audience: impl Into<String>, clock: &Clock) -> Self {
        Self {
            audience: audience.into(),
            when_stale: WhenStale::default(),
            sensitive: false,
            clock: clock.clone(),
            keys: RwLock::default(),
            standings: RwLock::default(),
            believed: Believed::new(REMEMBERED),
        }
    }

    /// What to do while the feed is stale.
    #[must_use]
    pub const fn when_stale(mut self, what: WhenStale) -> Self {
        self.when_stale = what;
        self
    }

    /// Refuse a token the moment it ends, whatever the clocks.
    #[must_use]
    pub const fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }

    /// How many believed tokens are remembered; 0: none.
    #[must_use]
    pub fn remember(mut self, tokens: usize) -> Self {
        self.believed = Believed::new(tokens);
        self
    }

    /// How many believed tokens it remembers now.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.believed.len()
    }

    /// The resource that it decides for.
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// Takes these keys in place of those before; tokens of keys that are gone are refused from now on.
    pub fn set_keys(&self, keys: TaskKeys) {
        let mut held = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        // The same keys once more are no reason to forget what they have signed.
        if held.as_deref() != Some(&keys) {
            *held = Some(Arc::new(keys));
        }
    }

    /// Takes no token any more, whatever it does while it is stale, until it has keys again. What has ended it still knows.
    pub fn forget_keys(&self) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whose tokens it takes; none before there are keys.
    #[must_use]
    pub fn issuer(&self) -> Option<String> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.as_ref().map(|keys| keys.issuer().to_owned())
    }

    /// Takes in what a feed says of tasks, and when the issuer said it ([`Standings::take`]).
    ///
    /// # Errors
    /// [`NewsError`]: the feed has to be opened anew.
    pub fn take(&self, news: &Update, said_at: i64) -> Result<(), NewsError> {
        self.standings.write().unwrap_or_else(PoisonError::into_inner).take(news, said_at, &self.clock)
    }

    /// Whether something was heard of the tasks within 30 s, and there are keys.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).is_some();
        keys && self.standings.read().unwrap_or_else(PoisonError::into_inner).is_fresh(&self.clock)
    }

    /// Decides about a token, in the order of [`TaskTokenError`]'s variants.
    #[must_use]
    pub fn decide(&self, token: &str, shown: Shown<'_>) -> Decision {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(keys) = keys else {
            return Decision { verdict: Err(TaskTokenError::StandingUnknown), claims: None };
        };
        let claims = match self.believed.claims(&keys, token) {
            Ok(claims) => claims,
            Err(error) => return Decision { verdict: Err(error), claims: None },
        };
        let validator = Validator { audience: &self.audience, keys: &keys, sensitive: self.sensitive };
        let verdict = validator.judge(&claims, shown, |claims| self.standing(claims), self.clock.now());
        Decision { verdict: verdict.map(|caller| caller.by(&keys)), claims: Some(claims) }
    }

    /// Whether a caller whom it has admitted would be admitted still: for what lasts longer than a request. The token is judged
    /// by its times, its key and how its task stands now; what was shown with it is not looked at again.
    ///
    /// # Errors
    /// The first check that does not hold any more.
    pub fn still_good(&self, caller: &TaskCaller) -> Result<(), TaskTokenError> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        let keys = keys.ok_or(TaskTokenError::StandingUnknown)?;
        if !caller.is_signed_by(&keys) {
            return Err(TaskTokenError::UnknownKey);
        }
        let validator = Validator { audience: &self.audience, keys: &keys, sensitive: self.sensitive };
        validator.believe(caller.claims(), self.clock.now())?;
        self.standing(caller.claims()).require()
    }

    /// What was heard of a task, for tests.
    #[cfg(all(test, feature = "guard"))]
    pub(crate) fn standing_of(&self, task: crate::serial::Serial) -> Standing {
        self.standings.read().unwrap_or_else(PoisonError::into_inner).of(task)
    }

    fn standing(&self, claims: &TaskClaims) -> Standing {
        let standings = self.standings.read().unwrap_or_else(PoisonError::into_inner);
        // A tree dies with its top, whether or not the feed of this audience names each part of it.
        let tree = [Some(claims.task.root), claims.task.parent, Some(claims.task.id)];
        let worst = tree.into_iter().flatten().map(|task| standings.of(task)).max_by_key(|standing| match standing {
            Standing::Open => 0,
            Standing::Suspended | Standing::Unknown => 1,
            Standing::Ended => 2,
        });
        match worst.unwrap_or(Standing::Unknown) {
            // Whoever has never heard anything does not know what has ended.
            Standing::Open if standings.place().is_none() => Standing::Unknown,
            Standing::Open if self.when_stale == WhenStale::FailClosed && !standings.is_fresh(&self.clock) => {
                Standing::Unknown
            }
            known => known,
        }
    }
}

impl fmt::Debug for TaskVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskVerifier({}, {:?})", self.audience, self.when_stale)
    }
}
