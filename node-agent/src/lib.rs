//! The node side of Mayfly: proves which node this is, attests the workloads on it, and streams them their identities.
//!
//! ```text
//! issuer <── link (attest, sync, renew) ──> holdings ──┐
//!               └── mint (batches) ── identity ────────┼─> workload_api ──> listener ──> workload
//!                                                      │
//!                                     workload (facts)─┘
//! ```
//!
//! Each component owns what it changes, shows it as a snapshot that others watch, and runs until it is told to stop.

pub mod config;

pub mod hardening;
pub mod listener;
pub mod workload;

mod directory;
#[cfg(test)]
mod fake_issuer;
pub mod holdings;
mod identity;
mod link;
pub mod metrics;
mod revocations;
mod run;
mod streams;
mod tasks;
#[cfg(test)]
mod test_node;
mod warm;
mod workload_api;

pub use config::Config;
pub use directory::DirectoryError;
pub use link::LinkError;
pub use run::{RunError, run};
pub use workload_api::{ServeError, fuzz_secret_requests};

/// 16 random bytes, as requests to the issuer carry them.
///
/// # Errors
/// [`mayfly_sdk::Reason::RandomnessUnavailable`].
fn random_id() -> Result<[u8; 16], mayfly_sdk::Refusal> {
    let mut id = [0; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut id)
        .map_err(|ring::error::Unspecified| mayfly_sdk::Refusal::no_randomness())?;
    Ok(id)
}
