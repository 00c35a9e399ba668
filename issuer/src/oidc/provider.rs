//! One identity provider, and its keys as they are known.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use mayfly_sdk::{Clock, Reason, Refusal, Ttl, jws::JwsAlgorithm};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    config::{Described, read_algorithm},
    fetch::KeySource,
    keys::{ProviderKey, ProviderKeys},
    shown,
    token::{Claims, Presented},
};

/// How often keys are fetched anew, so that one which was withdrawn is believed no longer.
const REFRESH: Duration = Duration::from_mins(5);
/// How often they are fetched for a key id that is not known, at the most.
const UNKNOWN_ID: Duration = Duration::from_secs(30);

/// That keys were asked for.
#[derive(Debug)]
struct Asked {
    /// On the monotonic clock.
    at: Duration,
    outcome: Result<(), String>,
}

/// One identity provider.
#[derive(Debug)]
pub(crate) struct Provider {
    /// The table that configures it: `agentless` or `users`.
    table: &'static str,
    name: Arc<str>,
    issuer: String,
    algorithms: Vec<JwsAlgorithm>,
    token_life: Ttl,
    source: KeySource,
    keys: ArcSwap<ProviderKeys>,
    /// How keys were last asked for. Held while they are.
    asked: Mutex<Option<Asked>>,
    clock: Clock,
}

impl Provider {
    pub(crate) fn new(table: &'static str, name: &str, config: &Described<'_>, clock: &Clock) -> Result<Self, Refusal> {
        let algorithms: BTreeSet<&str> = config.algorithms.iter().map(String::as_str).collect();
        Ok(Self {
            table,
            name: name.into(),
            issuer: config.issuer.to_owned(),
            algorithms: algorithms.into_iter().filter_map(read_algorithm).collect(),
            token_life: config.token_life,
            source: KeySource::new(config)
                .map_err(|what| Refusal::new(Reason::InvalidArgument, format!("{table}.{name}: {what}")))?,
            keys: ArcSwap::default(),
            asked: Mutex::new(None),
            clock: clock.clone(),
        })
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(crate) fn token_life(&self) -> Ttl {
        self.token_life
    }

    /// What a token says that names this provider as its issuer: its algorithm is one of those that are allowed, and a key of
    /// the provider signed it. What the claims say is not looked at.
    ///
    /// # Errors
    /// [`Reason::TokenInvalid`], [`Reason::TokenUntrusted`], [`Reason::IdentityProviderUnavailable`].
    pub(crate) async fn verify(&self, presented: Presented<'_>) -> Result<Claims, Refusal> {
        let algorithm = presented.algorithm();
        if !self.algorithms.contains(&algorithm) {
            let what = format!("tokens of {}:{} are not signed with {algorithm}", self.table, self.name);
            return Err(Refusal::new(Reason::TokenInvalid, what));
        }
        let key = self.key(presented.key_id()).await?;
        presented.verify(&key)
    }

    /// The key with this id. One that is not known is asked for, but not often, and by one caller at a time: the others are
    /// told to come back, so that a slow provider holds nobody up but the one who waits for it.
    ///
    /// # Errors
    /// [`Reason::TokenUntrusted`], or [`Reason::IdentityProviderUnavailable`] while nobody can say.
    pub(crate) async fn key(&self, id: &str) -> Result<ProviderKey, Refusal> {
        if let Some(key) = self.keys.load().get(id) {
            return Ok(key.clone());
        }
        let Ok(mut asked) = self.asked.try_lock() else {
            return Err(self.unavailable("its keys are being fetched at this moment"));
        };
        let now = self.clock.monotonic();
        let outcome = match &*asked {
            Some(asked) if now.saturating_sub(asked.at) < UNKNOWN_ID => asked.outcome.clone(),
            _ => {
                // Whoever is cut off while asking has asked.
                *asked = Some(Asked { at: now, outcome: Err("nobody waited for them".to_owned()) });
                let outcome = self.refresh().await;
                *asked = Some(Asked { at: now, outcome: outcome.clone() });
                outcome
            }
        };
        drop(asked);
        match (self.keys.load().get(id), outcome) {
            (Some(key), _) => Ok(key.clone()),
            (None, Err(what)) => Err(self.unavailable(&what)),
            (None, Ok(())) if self.keys.load().len() == 0 => Err(self.unavailable("its keys were not fetched yet")),
            (None, Ok(())) => {
                let what = format!("{}:{} has no key {:?}", self.table, self.name, shown(id));
                Err(Refusal::new(Reason::TokenUntrusted, what))
            }
        }
    }

    /// Fetches the keys now and every few minutes. What was known stays while nothing new is to be had.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        loop {
            let fetched = async {
                let mut asked = self.asked.lock().await;
                let at = self.clock.monotonic();
                *asked = Some(Asked { at, outcome: self.refresh().await });
            };
            if stop.run_until_cancelled(fetched).await.is_none() {
                return;
            }
            let pause = REFRESH.mul_f64(1.0 + fastrand::f64() / 4.0);
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    async fn refresh(&self) -> Result<(), String> {
        let fetched = self.source.fetch().await.and_then(|document| ProviderKeys::parse(&document));
        match fetched {
            Ok(keys) => {
                if **self.keys.load() != keys {
                    tracing::info!(table = self.table, provider = %self.name, keys = keys.len(), "the keys of an identity provider changed");
                    self.keys.store(Arc::new(keys));
                }
                Ok(())
            }
            Err(what) => {
                let kept = self.keys.load().len();
                tracing::warn!(table = self.table, provider = %self.name, what, kept, "the keys of an identity provider are not to be had");
                Err(what)
            }
        }
    }

    fn unavailable(&self, what: &str) -> Refusal {
        let what = format!("the keys of {}:{} are not known: {what}", self.table, self.name);
        Refusal::new(Reason::IdentityProviderUnavailable, what)
    }
}
