//! The client side: identities from the SPIFFE Workload API, kept current for as long as the process lives.
//!
//! ```text
//! SPIFFE_ENDPOINT_SOCKET ─> Endpoint ─> WorkloadClient ──one call──> JWT-SVIDs, validations
//!                                            │
//!                                            └─stream─> Source<M: Material> ─> current() / changes() / status()
//!                                                          │ X509Context, WitContext, bundles
//!                                                          └─> Credentials, Trust ─> tls::ClientTls, tls::ServerTls
//! ```
//!
//! A workload's whole set-up:
//!
//! ```no_run
//! use std::time::Duration;
//! use mayfly_sdk::client::{Endpoint, Source, X509Context};
//! use mayfly_sdk::tls::{Authorizer, ClientTls, Options};
//! use mayfly_sdk::{Clock, Refusal};
//!
//! # async fn example() -> Result<(), Refusal> {
//! let source = Source::<X509Context>::start(Endpoint::from_env()?);
//! source.ready(Duration::from_secs(10)).await?;
//! let peer = Authorizer::exact("spiffe://example.org/db".parse()?);
//! let tls = ClientTls::new(source.credentials(), source.trust(), peer, &Clock::system(), &Options::default())?;
//! # let _ = tls;
//! source.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod bundles;
mod context;
mod endpoint;
mod jwt;
mod source;
mod wit;
mod workload;

pub use context::{HintedSvid, X509Context};
pub use endpoint::Endpoint;
pub use jwt::{FetchedJwt, ValidatedJwt};
pub use source::{Changes, Material, Phase, Source, SourceStatus};
pub use wit::{HintedWit, WitContext};
pub use workload::WorkloadClient;

#[cfg(test)]
mod tests;
