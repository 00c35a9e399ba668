//! Mayfly's vocabulary and verification, and the client side that stands on them.
//!
//! Without features this crate is the vocabulary alone: names, times, keys, and the kinds of SVID with the rules
//! that decide whether to believe one. `tls` adds rustls verifiers that authorize by SPIFFE ID, `client` adds the
//! sources that follow the Workload API.
//!
//! ```text
//! bytes ──parse──> unverified ──verify(bundles, now)──> verified ──authorize(SPIFFE ID)──> a decision
//! ```
//!
//! Verified values are of other types than unverified ones and have private constructors. No function here reads the
//! clock: `now` is an argument, and [`time::Clock`] is the only place where the wall clock is read.

// Words.
pub mod id;
pub mod instance;
pub mod revision;
pub mod selector;
pub mod serial;
pub mod time;

// Refusals: every stable reason code has its one home here.
pub mod reason;

// Keys, and how they are written down.
mod der;
pub mod jwk;
pub mod key;
pub mod pem;

// SVIDs, and what decides whether to believe them.
pub mod bundle;
mod claims;
pub mod dpop;
pub mod json;
pub mod jws;
pub mod jwt;
pub mod wit;
pub mod x509;

// Tasks: what agents do for a while, and hand on.
pub mod task;

// At the edges: TLS between SPIFFE IDs, and refusals on gRPC.
#[cfg(feature = "client")]
pub mod client;
#[cfg(test)]
#[cfg(feature = "client")]
mod fake_tasks;
#[cfg(feature = "grpc")]
pub mod grpc;
#[cfg(feature = "guard")]
pub mod guard;
#[cfg(feature = "tls")]
pub mod tls;

// For the daemons: strict settings, sockets bound safely, the service manager, and the loopback listener for metrics and health.
#[cfg(feature = "daemon")]
pub mod ops;
#[cfg(feature = "daemon")]
pub mod settings;
#[cfg(feature = "daemon")]
pub mod socket;
#[cfg(feature = "daemon")]
pub mod supervisor;

pub use bundle::{Bundle, JwtBundle, JwtBundleSet, WitBundle, WitBundleSet, X509Bundle, X509BundleSet};
pub use id::{SpiffeId, TrustDomain};
pub use instance::InstanceId;
pub use jwt::JwtSvid;
pub use key::{KeyAlgorithm, PrivateKey, PublicKey, SignatureAlgorithm};
pub use reason::{Reason, Refusal, Retry, Whose};
pub use revision::Revision;
pub use selector::{Selector, SelectorIndex};
pub use serial::Serial;
pub use time::{Clock, Timestamp, Ttl, Validity};
pub use wit::WitSvid;
pub use x509::{VerifiedPeer, X509Svid};
