//! Callers without a node agent: a job of a CI system, a function of a cloud. They prove who they are by a token of an
//! identity provider that the operator has configured, and that they have a key by signing a request with it.
//!
//! ```text
//! token ──bounds, form──> Presented ──provider, key, signature, claims──> VerifiedToken ──> mint (where it is used up)
//! ```
//!
//! - Nothing of a token is believed before its signature holds; what is read before only chooses the provider and its key.
//! - Everything before that is bounded: bytes, the number of callers at a time, one signature a call, and one fetch of a
//!   provider's keys in half a minute, whatever key ids strangers invent.
//! - A token is for this trust domain alone (one audience), lives for a bounded time, and is good for one credential: it is
//!   used up in the transaction that records the credential, so that of any number of callers with one token one wins, also
//!   across restarts.
//! - Its claims become selectors (`oidc:<claim>:<value>`); who gets what is the registry's, as for nodes.

mod claims;
mod config;
mod provider;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use mayfly_sdk::{Clock, Reason, Refusal, SpiffeId, TrustDomain};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

pub use config::ProviderConfig;

use crate::{
    oidc::{JWT, Presented, ProviderKeys, shown},
    registry::AgentlessCaller,
    store::UsedToken,
};
use provider::Provider;

/// Callers that are looked at at a time; above it they are told to come back.
const CALLERS: usize = 64;

/// The identity providers whose tokens are accepted, by the issuer that their tokens name. Shared behind an `Arc`.
#[derive(Debug)]
pub struct Agentless {
    trust_domain: TrustDomain,
    providers: Vec<Provider>,
    callers: Semaphore,
    clock: Clock,
}

/// A token whose signature holds, for this trust domain, now. Whether it was used before is found out when it is used.
#[derive(Debug)]
pub struct VerifiedToken {
    /// Who presents it.
    pub caller: AgentlessCaller,
    /// What is remembered of it.
    pub used: UsedToken,
    /// Who that is, for the ledger: `oidc:<issuer name>:<sub>`.
    pub actor: Arc<str>,
}

impl Agentless {
    /// Sets the providers up. Nothing is fetched yet.
    ///
    /// # Errors
    /// What [`ProviderConfig::problems`] says, or TLS cannot be set up.
    pub fn new(
        configured: &BTreeMap<String, ProviderConfig>,
        trust_domain: &TrustDomain,
        clock: Clock,
    ) -> Result<Self, Refusal> {
        let providers = configured.iter().map(|(name, config)| {
            let origin = SpiffeId::from_path(trust_domain, &format!("/mayfly/agentless/{name}"))?;
            Provider::new(name, origin, config, &clock)
        });
        let providers = providers.collect::<Result<_, Refusal>>()?;
        Ok(Self { trust_domain: trust_domain.clone(), providers, callers: Semaphore::new(CALLERS), clock })
    }

    /// A place among those who are looked at.
    ///
    /// # Errors
    /// [`Reason::Unimplemented`] where no provider is configured, [`Reason::Overloaded`].
    pub fn enter(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        if self.providers.is_empty() {
            return Err(Refusal::new(Reason::Unimplemented, "this issuer serves no callers without a node agent"));
        }
        let full =
            |_| Refusal::new(Reason::Overloaded, "as many callers without a node agent as are served come at once");
        self.callers.try_acquire().map_err(full)
    }

    /// Verifies a token: its form, its signature by a key of its provider, and its claims.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub async fn verify(&self, token: &str) -> Result<VerifiedToken, Refusal> {
        let presented = Presented::read(token, &[JWT])?;
        let issuer = presented.claimed_issuer()?;
        let provider = self.providers.iter().find(|provider| provider.issuer() == issuer).ok_or_else(|| {
            let what = format!("no identity provider with the issuer {:?} is configured", shown(&issuer));
            Refusal::new(Reason::IdentityProviderUnknown, what)
        })?;
        let claims = provider.oidc().verify(presented).await?;
        claims::check(claims, provider, &self.trust_domain, self.clock.now())
    }

    /// Keeps the keys of the providers current, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let all = self.providers.iter().map(|provider| provider.oidc().run(&stop));
        futures_util::future::join_all(all).await;
        stop.cancelled().await;
    }
}

/// Reads bytes as a token and as the keys of a provider, for a fuzz target: whatever they are, it returns.
pub fn fuzz_token_and_keys(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(presented) = Presented::read(text, &[JWT])
    {
        presented.claimed_issuer().ok();
    }
    ProviderKeys::parse(bytes).ok();
}
