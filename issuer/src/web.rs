//! The HTTPS listener that never asks for a client certificate: the bundle endpoint (SPIFFE Federation 5), and whatever
//! else others fetch without being known to us.
//!
//! ```text
//! TCP ──Acceptor (handshakes, places, 30 s)──> TLS 1.2 or 1.3 ──HTTP/1.1 (bounded)──> path ──> BundleEndpoint, Discovery
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
mod discovery;
mod document;
mod serve;

use std::{io, net::SocketAddr, sync::Arc};

use axum::body::Body;
use http::{Request, Response, StatusCode};
use mayfly_sdk::{
    Refusal, X509BundleSet,
    tls::{Acceptor, ClientAuth, Credentials, Incoming, Options, ServerTls, Trust},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::{bundle::BundleEndpoint, certificate::Files, discovery::Discovery, document::text};
use crate::{
    authority::Authorities,
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
    site: Arc<Site>,
    files: Option<Files>,
}

/// What there is to be read.
#[derive(Debug)]
struct Site {
    bundle: BundleEndpoint,
    /// Only where the issuer has a public URL: nobody else is named by one.
    discovery: Option<Discovery>,
    metrics: Arc<Metrics>,
}

impl Site {
    /// The answer to one request. Its body, if it has one, is not looked at.
    fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        let path = request.uri().path();
        let response = if path == self.bundle.path() {
            match self.bundle.document() {
                Some(document) => document.answer(request.method(), request.headers()),
                None => text(StatusCode::SERVICE_UNAVAILABLE, "the bundle cannot be read\n"),
            }
        } else {
            match self.discovery.as_ref().and_then(|discovery| discovery.at(path)) {
                Some(document) => document.answer(request.method(), request.headers()),
                None => text(StatusCode::NOT_FOUND, "there is nothing at this path\n"),
            }
        };
        self.metrics.web_answered(response.status().as_u16());
        response
    }
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
        authorities: &Authorities,
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
        let url = Some(config.web.public_url.as_str()).filter(|url| !url.is_empty());
        let site = Site {
            bundle: BundleEndpoint::new(Arc::clone(directory), &config.bundle_endpoint),
            discovery: url.map(|url| Discovery::new(authorities.clone(), url)),
            metrics: Arc::clone(metrics),
        };
        Ok(Some(Self { incoming: acceptor.incoming(stop.clone()), site: Arc::new(site), files }))
    }
}
