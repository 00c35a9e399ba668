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
mod channel;
mod context;
mod endpoint;
#[cfg(feature = "reqwest")]
mod http;
mod jwt;
mod presents;
mod refresh;
mod source;
mod task;
mod wit;
mod workload;

pub use channel::TaskChannel;
pub use context::{HintedSvid, X509Context};
pub use endpoint::Endpoint;
#[cfg(feature = "reqwest")]
pub use http::{HttpError, TaskHttp};
pub use jwt::{FetchedJwt, ValidatedJwt};
pub use presents::{Presents, TaskPasses};
pub use refresh::{Fetch, FetchJwt, Refreshing};
pub(crate) use source::supervisor::{Subscriber, supervise};
pub use source::{Changes, Material, Phase, Source, SourceStatus};
pub use task::{BearerToken, ParentToken, Pass, SubjectToken, Task, TaskChanges, TaskRequest, TaskStatus};
pub use wit::{HintedWit, WitContext};
pub use workload::WorkloadClient;

#[cfg(test)]
mod tests;
