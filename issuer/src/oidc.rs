//! Tokens of other people's identity providers: read within bounds, believed only by the provider's own keys.
//!
//! ```text
//! token ──bounds, form──> Presented ──provider (by `iss`), algorithm, key, signature──> Claims
//! ```
//!
//! - Nothing of a token is believed before its signature holds; what is read before only chooses the provider and its key.
//! - Keys are fetched every few minutes, and once in half a minute at the most for a key id that is not known, whatever ids
//!   strangers invent; one caller waits for that, and the others are told to come back.
//! - What the claims must say depends on what a token is for: that is up to `agentless` and `users`.

mod claims;
mod config;
mod fetch;
mod keys;
mod provider;
mod token;

pub(crate) use claims::{LEEWAY, MAX_ID, Times, invalid, text};
pub(crate) use config::{Described, default_algorithms};
#[cfg(test)]
pub(crate) use fetch::JwksUrl;
#[cfg(test)]
pub(crate) use keys::ProviderKey;
pub(crate) use keys::ProviderKeys;
pub(crate) use provider::Provider;
pub(crate) use token::{Claims, JWT, Presented};

/// As much of a text of a stranger as is repeated.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(128).collect()
}
