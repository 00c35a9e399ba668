//! TLS between SPIFFE identities: rustls configurations that read the SVID and the bundles of the moment at every
//! handshake, so that rotation needs no restart, and that authorize the peer by its SPIFFE ID, never by a host name.
//!
//! ```text
//! Credentials (own chain and key) ─┐
//! Trust (bundles)                 ─┼─> ClientTls / ServerTls ──handshake──> TlsConnection { peer: VerifiedPeer }
//! Authorizer (which SPIFFE IDs)   ─┘                                        ends at the peer's notAfter, or when told
//! ```
//!
//! - The peer's chain is verified by [`crate::x509::verify`] against the bundle of the leaf's own trust domain
//!   (X509-SVID 5, Workload API 4.6) and by nothing else: webpki checks only the handshake's signature.
//! - No session is ever resumed: a resumed one would skip the check of the chain (SPIRE 1.14.3, #6715).
//! - TLS 1.3 only, unless [`Options::allow_tls12`] is asked for, for foreign peers; X25519MLKEM768 is preferred. The
//!   provider is aws-lc-rs, passed explicitly.

mod accept;
mod authorize;
mod bootstrap;
mod config;
mod connection;
#[cfg(feature = "client")]
mod connector;
mod credentials;
mod expiring;
mod places;
#[cfg(feature = "serve")]
mod serve;
mod shares;
pub mod tcp;
mod trust;
mod verifier;

pub use accept::{Acceptor, Incoming};
pub use authorize::Authorizer;
pub use bootstrap::SpkiPin;
pub use config::{ClientAuth, ClientTls, Options, ServerTls};
pub use connection::{ATTESTATION_EXPORTER, PeerInfo, TlsConnection, accept, connect, peer_identity};
#[cfg(feature = "client")]
pub use connector::Connector;
pub use credentials::{Credentials, certified_key};
pub use expiring::ExpiringIo;
pub use trust::Trust;

#[cfg(test)]
mod tests;
