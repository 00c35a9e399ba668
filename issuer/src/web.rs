//! The HTTPS listener that never asks for a client certificate: the bundle endpoint (SPIFFE Federation 5), and whatever
//! else others fetch without being known to us.
//!
//! ```text
//! TCP ──Acceptor (handshakes, places, 30 s)──> TLS 1.2 or 1.3 ──HTTP/1.1 (bounded)──> path ──> BundleEndpoint
//!            presents: the issuer's own SVID (https_spiffe) or the files' certificate (https_web)
//! ```
//!
//! Decisions:
//! - One listener presents one certificate, so the profile is the listener's. It is set, and never guessed from what else is
//!   configured: a federated trust domain must know which of the two it is to verify.
//! - HTTP/1.1 alone: a few small documents gain nothing from HTTP/2, and everybody who asks is a stranger.
//! - TLS 1.2 is spoken beside 1.3, with AEAD suites only, since the askers are other people's software (row FD-4).

mod bundle;
mod certificate;
mod serve;

use std::{io, net::SocketAddr, sync::Arc};

use mayfly_sdk::{
    Refusal, X509BundleSet,
    tls::{Acceptor, ClientAuth, Credentials, Incoming, Options, ServerTls, Trust},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::{bundle::BundleEndpoint, certificate::Files};
use crate::{
    config::{Config, Profile},
    directory::Directory,
    metrics::Metrics,
};

pub use certificate::CertificateError;

/// Why the listener could not be had: the operator's move.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebError {
    /// The address cannot be bound.
    #[error(
        "cannot listen on {address} for HTTPS: {source}; set `web.listen` to an address of this machine that is free, or to \"\" for none"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The certificate and key of `https_web` cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// TLS cannot be set up, which would be a bug.
    #[error("{}; {}", .0.what, .0.reason.remedy())]
    Tls(#[from] Refusal),
}

/// The listener, bound and not yet serving.
#[derive(Debug)]
pub struct Web {
    incoming: Incoming,
    endpoint: Arc<BundleEndpoint>,
    files: Option<Files>,
}

impl Web {
    /// Binds the address of the settings; none: there is to be no such listener. `own` is the issuer's SVID, which is
    /// presented in the profile `https_spiffe`.
    ///
    /// # Errors
    /// [`WebError`] says what to change.
    pub async fn bind(
        config: &Config,
        own: Credentials,
        directory: &Arc<Directory>,
        metrics: &Arc<Metrics>,
        stop: &CancellationToken,
    ) -> Result<Option<Self>, WebError> {
        let Some(address) = config.web.address() else { return Ok(None) };
        let files = match (config.bundle_endpoint.profile, &config.web.certificate, &config.web.key) {
            (Profile::HttpsWeb, Some(certificate), Some(key)) => Some(Files::open(certificate, key).await?),
            // The settings were checked: the profile has both files, or needs none.
            _ => None,
        };
        let listener = TcpListener::bind(address).await.map_err(|source| WebError::Listen { address, source })?;
        let tls = ServerTls::new(
            files.as_ref().map_or(own, Files::credentials),
            Trust::fixed(X509BundleSet::default()),
            ClientAuth::Off,
            directory.clock(),
            &Options::default().alpn(["http/1.1"]).allow_tls12(),
        )?;
        let acceptor = Acceptor::new(listener, tls)
            .max_handshakes(config.limits.handshakes)
            .max_anonymous(config.web.connections)
            .max_connections(0);
        let endpoint = BundleEndpoint::new(Arc::clone(directory), &config.bundle_endpoint, Arc::clone(metrics));
        Ok(Some(Self { incoming: acceptor.incoming(stop.clone()), endpoint: Arc::new(endpoint), files }))
    }
}
