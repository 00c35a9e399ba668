//! Client and server configurations. They are made once; what they present and what they trust is asked for at every
//! handshake.

use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoClientAuth, NoServerSessionStorage};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};

use super::verifier::{Anchors, Verifier};
use super::{Authorizer, Credentials, SpkiPin, Trust};
use crate::id::TrustDomain;
use crate::reason::{Reason, Refusal};
use crate::time::Clock;

/// Certificates in a chain that are read, unless [`Options::max_chain`] says otherwise.
const MAX_CHAIN: usize = 8;

const TLS13_ONLY: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// The one provider of cryptography for TLS. It is passed explicitly, so that no feature of another crate can swap it.
pub(super) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    &PROVIDER
}

/// What may differ between connections. The default: TLS 1.3 only, no ALPN, chains of up to 8 certificates.
#[derive(Debug, Clone)]
pub struct Options {
    alpn: Vec<Vec<u8>>,
    tls12: bool,
    max_chain: usize,
}

impl Options {
    /// For gRPC: the default with the protocol `h2`.
    #[must_use]
    pub fn grpc() -> Self {
        Self::default().alpn(["h2"])
    }

    /// Application protocols, the preferred one first (RFC 7301).
    #[must_use]
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Accept TLS 1.2 too, for foreign peers that have nothing newer.
    #[must_use]
    pub const fn allow_tls12(mut self) -> Self {
        self.tls12 = true;
        self
    }

    /// How many certificates of a peer's chain are read, leaf included.
    #[must_use]
    pub const fn max_chain(mut self, certificates: usize) -> Self {
        self.max_chain = certificates;
        self
    }

    fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        if self.tls12 { rustls::ALL_VERSIONS } else { TLS13_ONLY }
    }

    fn verifier(&self, anchors: Anchors, authorizer: Authorizer, clock: &Clock, mandatory: bool) -> Arc<Verifier> {
        Arc::new(Verifier {
            anchors,
            authorizer,
            clock: clock.clone(),
            algorithms: provider().signature_verification_algorithms,
            mandatory,
            max_chain: self.max_chain,
        })
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { alpn: Vec::new(), tls12: false, max_chain: MAX_CHAIN }
    }
}

/// The client's side of TLS between SPIFFE identities.
#[derive(Debug, Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    pub(super) verifier: Arc<Verifier>,
}

impl ClientTls {
    /// Presents `credentials`, and connects to the servers that `authorizer` allows.
    ///
    /// # Errors
    /// `tls_setup`, which would be a bug: the parts are fixed.
    pub fn new(
        credentials: Credentials,
        trust: Trust,
        authorizer: Authorizer,
        clock: &Clock,
        options: &Options,
    ) -> Result<Self, Refusal> {
        Self::build(credentials, Anchors::Bundles(trust), authorizer, clock, options)
    }

    /// For the first contact with an issuer of `trust_domain`, and only for that: presents nothing, and accepts a chain
    /// of which one certificate has the pinned key. That certificate is then the sole trust anchor of a full
    /// verification: path, times, and a leaf `spiffe://T/mayfly/issuer/<name>`.
    ///
    /// # Errors
    /// `tls_setup`, which would be a bug: the parts are fixed.
    pub fn first_contact(
        pin: SpkiPin,
        trust_domain: TrustDomain,
        clock: &Clock,
        options: &Options,
    ) -> Result<Self, Refusal> {
        let authorizer = Authorizer::issuer_of(trust_domain.clone());
        Self::build(Credentials::none(), Anchors::Pinned { pin, trust_domain }, authorizer, clock, options)
    }

    /// For other libraries on rustls. Give [`super::peer_identity`] what they connect.
    #[must_use]
    pub fn rustls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    fn build(
        credentials: Credentials,
        anchors: Anchors,
        authorizer: Authorizer,
        clock: &Clock,
        options: &Options,
    ) -> Result<Self, Refusal> {
        let verifier = options.verifier(anchors, authorizer, clock, true);
        let mut config = ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(options.versions())
            .map_err(setup_failed)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_client_cert_resolver(Arc::new(credentials));
        config.alpn_protocols.clone_from(&options.alpn);
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(Self { config: Arc::new(config), verifier })
    }
}

/// What a server wants to see of its clients.
#[derive(Debug, Clone)]
pub enum ClientAuth {
    /// Every client presents an SVID that the authorizer allows.
    Required(Authorizer),
    /// A client may present nothing; if it presents a chain, that must verify and be allowed. What it may then call is
    /// decided call by call.
    Optional(Authorizer),
    /// No certificate is asked for.
    Off,
}

/// The server's side of TLS between SPIFFE identities.
#[derive(Debug, Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    pub(super) verifier: Arc<Verifier>,
}

impl ServerTls {
    /// Presents `credentials` and treats clients as `clients` says.
    ///
    /// # Errors
    /// `tls_setup`, which would be a bug: the parts are fixed.
    pub fn new(
        credentials: Credentials,
        trust: Trust,
        clients: ClientAuth,
        clock: &Clock,
        options: &Options,
    ) -> Result<Self, Refusal> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(options.versions())
            .map_err(setup_failed)?;
        let (asked, mandatory, authorizer) = match clients {
            ClientAuth::Required(authorizer) => (true, true, authorizer),
            ClientAuth::Optional(authorizer) => (true, false, authorizer),
            ClientAuth::Off => (false, false, Authorizer::one_of([])),
        };
        let verifier = options.verifier(Anchors::Bundles(trust), authorizer, clock, mandatory);
        let mut config = if asked {
            builder.with_client_cert_verifier(Arc::clone(&verifier) as _)
        } else {
            builder.with_client_cert_verifier(Arc::new(NoClientAuth))
        }
        .with_cert_resolver(Arc::new(credentials));
        config.alpn_protocols.clone_from(&options.alpn);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), verifier })
    }

    /// For other libraries on rustls. Give [`super::peer_identity`] what they accept.
    #[must_use]
    pub fn rustls(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn setup_failed(error: rustls::Error) -> Refusal {
    Refusal::new(Reason::TlsSetup, format!("TLS cannot be set up: {error}"))
}
