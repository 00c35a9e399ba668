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
pub mod holdings;
mod link;
mod streams;

pub use config::Config;

use tokio_util::sync::CancellationToken;

/// Why the node agent did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A directory or file of the agent cannot be used. The operator's to mend; the text says which and how.
    #[error("{0}")]
    Files(String),
}

/// Runs the node agent until `stop`. It returns early only for what an operator must mend on this machine; whatever the issuer or the
/// network does is waited out.
///
/// # Errors
/// [`RunError`].
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    tracing::info!(trust_domain = %config.trust_domain, "node agent starting");
    stop.cancelled().await;
    Ok(())
}

/// 16 random bytes, as requests to the issuer carry them.
///
/// # Errors
/// [`mayfly_sdk::Reason::RandomnessUnavailable`].
fn random_id() -> Result<[u8; 16], mayfly_sdk::Refusal> {
    let mut id = [0; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut id)
        .map_err(|_| mayfly_sdk::Refusal::no_randomness())?;
    Ok(id)
}
