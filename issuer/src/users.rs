//! Users on whose behalf agents begin tasks, and the identity providers that vouch for them.
//!
//! ```text
//! subject token ──bounds, form──> provider (by `iss`), signature──> claims ──> VerifiedUser ──permit(agent, entry)──> task
//! logout token  ──bounds, form──> provider (by path), signature ──> claims ──> Logout ──> tasks suspended, older tokens barred
//! ```
//!
//! - A user's token is taken for no more than what it says: who the user is, when that was said, and who may act. It is looked
//!   at when a task is begun, and never kept. Its own end limits no task; a logout does, an administrator, and
//!   `longest_deadline`.
//! - The agent is always attested. A token that somebody acts with already (`act`) is that somebody's, and `may_act` says who
//!   alone may: neither is undone by what an entry allows.
//! - A token of another kind is no user's token: logout tokens, task tokens, tokens that a client got for itself.
//! - A user's name is never read as anything else than that provider's name for a user.

mod config;
mod logout;
mod subject;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use mayfly_sdk::{Clock, Reason, Refusal, task::User};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

pub use config::{Own, UserProviderConfig};
pub use subject::VerifiedUser;

use crate::{
    oidc::{self, JWT, Presented, invalid, shown},
    task::Logout,
};
use config::UserProvider;

/// Tokens that are looked at at a time; above it callers are told to come back.
const CALLERS: usize = 64;
/// The `typ` of access tokens (RFC 9068) and of logout tokens (OpenID Connect Back-Channel Logout 1.0).
const ACCESS_TOKEN: &str = "at+jwt";
const LOGOUT_TOKEN: &str = "logout+jwt";

/// The identity providers of users. Shared behind an `Arc`.
#[derive(Debug)]
pub struct Users {
    providers: Vec<UserProvider>,
    callers: Semaphore,
    clock: Clock,
}

impl Users {
    /// Sets the providers up; `audience` is what their tokens are for where they are configured for no other. Nothing is
    /// fetched yet.
    ///
    /// # Errors
    /// What [`UserProviderConfig::problems`] says, or TLS cannot be set up.
    pub fn new(
        configured: &BTreeMap<String, UserProviderConfig>,
        audience: &str,
        clock: Clock,
    ) -> Result<Self, Refusal> {
        let providers = configured.iter().map(|(name, config)| UserProvider::new(name, config, audience, &clock));
        let providers = providers.collect::<Result<_, Refusal>>()?;
        Ok(Self { providers, callers: Semaphore::new(CALLERS), clock })
    }

    /// Who a subject token is of: its form, its signature by a key of its provider, and its claims.
    ///
    /// # Errors
    /// The first thing that does not hold; [`Reason::Overloaded`].
    pub async fn verify(&self, token: &str) -> Result<VerifiedUser, Refusal> {
        let _place = self.enter()?;
        let presented = Presented::read(token, &[JWT, ACCESS_TOKEN])?;
        let issuer = presented.claimed_issuer()?;
        let provider = self.providers.iter().find(|provider| provider.oidc.issuer() == issuer).ok_or_else(|| {
            let what = format!("no identity provider of users with the issuer {:?} is configured", shown(&issuer));
            Refusal::new(Reason::IdentityProviderUnknown, what)
        })?;
        let claims = provider.oidc.verify(presented).await?;
        subject::check(claims, provider, self.clock.now())
    }

    /// What a logout token says that was sent for this provider (OpenID Connect Back-Channel Logout 1.0, 2.6).
    ///
    /// # Errors
    /// [`Reason::NotFound`] where there is no such provider; the first thing that does not hold; [`Reason::Overloaded`].
    pub async fn verify_logout(&self, name: &str, token: &str) -> Result<Logout, Refusal> {
        let provider = self.providers.iter().find(|provider| **provider.oidc.name() == *name);
        let provider = provider.ok_or_else(|| Refusal::new(Reason::NotFound, "no such provider is configured"))?;
        let _place = self.enter()?;
        let presented = Presented::read(token, &[JWT, LOGOUT_TOKEN])?;
        if presented.claimed_issuer()? != provider.oidc.issuer() {
            return Err(invalid("the token is of another issuer"));
        }
        let claims = provider.oidc.verify(presented).await?;
        logout::check(claims, provider, self.clock.now())
    }

    /// Whether a provider is known by this name.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.providers.iter().any(|provider| **provider.oidc.name() == *name)
    }

    /// Keeps the keys of the providers current, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let all = self.providers.iter().map(|provider| provider.oidc.run(&stop));
        futures_util::future::join_all(all).await;
        stop.cancelled().await;
    }

    fn enter(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        let full = |_| Refusal::new(Reason::Overloaded, "as many tokens of users as are looked at come at once");
        self.callers.try_acquire().map_err(full)
    }
}

/// The issuer that a token names, whoever made it; none of a text that is no token. Good for choosing how to look at it.
pub(crate) fn claimed_issuer(token: &str) -> Option<String> {
    Presented::read(token, &[JWT, ACCESS_TOKEN]).ok()?.claimed_issuer().ok()
}

/// A user by a provider's name for it.
fn user(provider: &oidc::Provider, subject: &str) -> Result<User, Refusal> {
    let what = "the user's name (sub) has more than 255 bytes";
    User::new(provider.name(), subject).map_err(|_error| invalid(what))
}

/// The session that a token names.
fn session(claims: &mayfly_sdk::jws::Object) -> Result<Option<Arc<str>>, Refusal> {
    Ok(oidc::text(claims, "sid", MAX_SESSION)?.map(Arc::from))
}

/// The longest name of a session, bytes.
const MAX_SESSION: usize = 255;
