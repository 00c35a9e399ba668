//! The HTTPS listeners. One never asks for a client certificate: the bundle endpoint (SPIFFE Federation 5), and whatever
//! else others fetch without being known to us. The other always does: OAuth for workloads.
//!
//! ```text
//! TCP ──Acceptor (handshakes, places, 30 s)──> TLS 1.2 or 1.3 ──HTTP/1.1 (bounded)──> path ──> BundleEndpoint, Discovery, Logouts
//!            presents: the issuer's own SVID (https_spiffe) or the files' certificate (https_web)
//! TCP ──Acceptor──> TLS with an X.509-SVID of this trust domain ──HTTP/1.1 (bounded)──> path ──> OAuth
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
mod logout;
mod oauth;
mod receive;
mod serve;
mod status;

use std::{io, net::SocketAddr, sync::Arc};

use axum::body::Body;
use http::{Request, Response, StatusCode};
use mayfly_sdk::{
    Refusal, X509BundleSet,
    tls::{Acceptor, Authorizer, ClientAuth, Credentials, Incoming, Options, ServerTls, Trust},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::{
    bundle::BundleEndpoint, certificate::Files, discovery::Discovery, document::text, logout::Logouts, oauth::OAuth,
    status::StatusLists,
};
use crate::{
    config::{Config, Profile},
    metrics::Metrics,
    mint::Minter,
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

/// The listeners, bound and not yet serving.
#[derive(Debug)]
pub struct Web {
    incoming: Option<Incoming>,
    site: Arc<Site>,
    workloads: Option<Incoming>,
    oauth: Arc<OAuth>,
    files: Option<Files>,
}

/// What the listeners are made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The settings.
    pub config: &'a Config,
    /// The issuer's SVID, which is presented in the profile `https_spiffe`.
    pub own: Credentials,
    /// Whose X.509-SVIDs are believed: the trust domain's own.
    pub trust: Trust,
    /// What mints, and knows the tasks.
    pub minter: Arc<Minter>,
    /// Counts answers.
    pub metrics: Arc<Metrics>,
}

/// What there is to be read.
#[derive(Debug)]
struct Site {
    bundle: BundleEndpoint,
    /// Only where the issuer has a public URL: nobody else is named by one.
    discovery: Option<Discovery>,
    statuses: Option<StatusLists>,
    logouts: Logouts,
    metrics: Arc<Metrics>,
}

impl Site {
    /// The answer to one request.
    async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if let Some(name) = self.logouts.at(request.uri().path()).map(str::to_owned) {
            let response = self.logouts.answer(&name, request).await;
            self.metrics.web_answered(response.status().as_u16());
            return response;
        }
        // Only its head counts, and is kept while the answer is made.
        let (request, _body) = request.into_parts();
        let path = request.uri.path();
        let response = if path == self.bundle.path() {
            match self.bundle.document() {
                Some(document) => document.answer(&request.method, &request.headers),
                None => text(StatusCode::SERVICE_UNAVAILABLE, "the bundle cannot be read\n"),
            }
        } else if let Some(document) = self.discovery.as_ref().and_then(|discovery| discovery.at(path)) {
            document.answer(&request.method, &request.headers)
        } else {
            let status = match &self.statuses {
                Some(statuses) => statuses.answer(&request.method, path).await,
                None => None,
            };
            status.unwrap_or_else(|| text(StatusCode::NOT_FOUND, "there is nothing at this path\n"))
        };
        self.metrics.web_answered(response.status().as_u16());
        response
    }
}

impl Web {
    /// Binds the addresses of the settings; none: there is to be no such listener.
    ///
    /// # Errors
    /// [`WebError`] says what to change.
    pub async fn bind(parts: Parts<'_>, stop: &CancellationToken) -> Result<Option<Self>, WebError> {
        let Parts { config, own, trust, minter, metrics } = parts;
        let (address, mtls) = (config.web.address(), config.web.mtls());
        if address.is_none() && mtls.is_none() {
            return Ok(None);
        }
        let files = match (config.bundle_endpoint.profile, &config.web.certificate, &config.web.key) {
            (Profile::HttpsWeb, Some(certificate), Some(key)) => Some(Files::open(certificate, key).await?),
            // The settings were checked: the profile has both files, or needs none.
            _ => None,
        };
        let credentials = || files.as_ref().map_or_else(|| own.clone(), Files::credentials);
        let (directory, options) = (&minter.directory, Options::default().alpn(["http/1.1"]).allow_tls12());
        let listen = async |address, trust, auth| {
            let listener = TcpListener::bind(address).await.map_err(|source| WebError::Listen { address, source })?;
            let tls = ServerTls::new(credentials(), trust, auth, directory.clock(), &options)?;
            Ok::<_, WebError>(Acceptor::new(listener, tls).max_handshakes(config.limits.handshakes))
        };
        let incoming = match address {
            Some(address) => {
                let acceptor = listen(address, Trust::fixed(X509BundleSet::default()), ClientAuth::Off).await?;
                Some(acceptor.max_anonymous(config.web.connections).max_connections(0).incoming(stop.clone()))
            }
            None => None,
        };
        let workloads = match &mtls {
            Some((address, _)) => {
                let members = Authorizer::member_of(directory.trust_domain().clone());
                let acceptor = listen(*address, trust, ClientAuth::Required(members)).await?;
                let connections = config.web.connections;
                let acceptor = acceptor.max_connections(connections).max_of_one(connections.div_ceil(2));
                Some(acceptor.max_anonymous(0).incoming(stop.clone()))
            }
            None => None,
        };
        let url = Some(config.web.public_url.as_str()).filter(|url| !url.is_empty());
        let mtls_url = mtls.map(|(_, url)| url);
        let site = Site {
            bundle: BundleEndpoint::new(Arc::clone(directory), &config.bundle_endpoint),
            discovery: url.map(|url| Discovery::new(minter.authorities.clone(), url, mtls_url)),
            statuses: url.map(|url| StatusLists::new(Arc::clone(&minter), url)),
            logouts: Logouts::new(Arc::clone(&minter)),
            metrics: Arc::clone(&metrics),
        };
        let oauth = OAuth::new(minter, metrics, stop.clone(), url.filter(|_| address.is_some()));
        Ok(Some(Self { incoming, site: Arc::new(site), workloads, oauth, files }))
    }
}
