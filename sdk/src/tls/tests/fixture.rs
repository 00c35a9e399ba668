//! Two ends of a connection in one trust domain, and a way to change any part of either.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use rcgen::CertificateParams;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use crate::bundle::X509BundleSet;
use crate::reason::{Reason, Refusal};
use crate::time::Clock;
use crate::tls::{
    Authorizer, ClientAuth, ClientTls, Credentials, Options, ServerTls, TlsConnection, Trust, accept, certified_key,
    connect,
};
use crate::x509::fixture::{Domain, Made, NOW, leaf, signed};

pub(super) const CLIENT: &str = "spiffe://td/client";
pub(super) const SERVER: &str = "spiffe://td/server";

/// What one end presents and trusts; either can be replaced under a running configuration.
pub(super) struct End {
    pub(super) presents: Arc<ArcSwapOption<CertifiedKey>>,
    pub(super) trusts: Arc<ArcSwap<X509BundleSet>>,
}

impl End {
    pub(super) fn new(presents: Arc<CertifiedKey>, trusts: &X509BundleSet) -> Self {
        Self {
            presents: Arc::new(ArcSwapOption::new(Some(presents))),
            trusts: Arc::new(ArcSwap::from_pointee(trusts.clone())),
        }
    }

    pub(super) fn in_domain(domain: &Domain, id: &str) -> Self {
        Self::new(chain_of(domain, leaf(id)), &domain.bundles)
    }

    pub(super) fn present(&self, key: Arc<CertifiedKey>) {
        self.presents.store(Some(key));
    }

    pub(super) fn trust(&self, bundles: &X509BundleSet) {
        self.trusts.store(Arc::new(bundles.clone()));
    }

    pub(super) fn client(&self, authorizer: Authorizer, clock: &Clock, options: &Options) -> ClientTls {
        let (credentials, trust) = self.follow();
        ClientTls::new(credentials, trust, authorizer, clock, options).unwrap()
    }

    pub(super) fn server(&self, clients: ClientAuth, clock: &Clock, options: &Options) -> ServerTls {
        let (credentials, trust) = self.follow();
        ServerTls::new(credentials, trust, clients, clock, options).unwrap()
    }

    fn follow(&self) -> (Credentials, Trust) {
        (Credentials::following(Arc::clone(&self.presents)), Trust::following(Arc::clone(&self.trusts)))
    }
}

/// A client and a server of the trust domain `td` that get along.
pub(super) struct Pair {
    pub(super) domain: Domain,
    pub(super) client: End,
    pub(super) server: End,
    pub(super) clock: Clock,
    pub(super) options: Options,
    pub(super) expects: Authorizer,
    pub(super) clients: ClientAuth,
}

impl Pair {
    pub(super) fn new() -> Self {
        let domain = Domain::new();
        Self {
            client: End::in_domain(&domain, CLIENT),
            server: End::in_domain(&domain, SERVER),
            domain,
            clock: Clock::manual(NOW).0,
            options: Options::default(),
            expects: Authorizer::exact(SERVER.parse().unwrap()),
            clients: ClientAuth::Required(Authorizer::exact(CLIENT.parse().unwrap())),
        }
    }

    pub(super) fn client_tls(&self) -> ClientTls {
        self.client.client(self.expects.clone(), &self.clock, &self.options)
    }

    pub(super) fn server_tls(&self) -> ServerTls {
        self.server.server(self.clients.clone(), &self.clock, &self.options)
    }

    /// With another server in the place of this one's.
    pub(super) async fn meet_as(&self, server: &End) -> Met {
        meet(&self.client_tls(), &server.server(self.clients.clone(), &self.clock, &self.options)).await
    }

    pub(super) async fn meet(&self) -> Met {
        meet(&self.client_tls(), &self.server_tls()).await
    }
}

/// What either end thinks of the other, after both have tried to say something.
pub(super) struct Met {
    pub(super) client: Result<TlsConnection<DuplexStream>, Refusal>,
    pub(super) server: Result<TlsConnection<DuplexStream>, Refusal>,
}

impl Met {
    /// Both are content.
    pub(super) fn well(self) -> (TlsConnection<DuplexStream>, TlsConnection<DuplexStream>) {
        (self.client.unwrap(), self.server.unwrap())
    }

    /// The client refused the server, which learned of it.
    pub(super) fn refused_by_client(self) -> Reason {
        assert_eq!(self.server.unwrap_err().reason, Reason::HandshakeFailed);
        self.client.unwrap_err().reason
    }

    /// The server refused the client, which learned of it.
    pub(super) fn refused_by_server(self) -> Reason {
        assert_eq!(self.client.unwrap_err().reason, Reason::HandshakeFailed);
        self.server.unwrap_err().reason
    }
}

/// One handshake over a pipe. A client of TLS 1.3 learns the server's verdict only when it reads, so it reads.
pub(super) async fn meet(client: &ClientTls, server: &ServerTls) -> Met {
    let (near, far) = duplex(64 * 1024);
    let (client, server) = tokio::join!(
        async {
            let mut connection = connect(near, client).await?;
            let mut greeting = [0; 5];
            match connection.read_exact(&mut greeting).await {
                Ok(_) => Ok(connection),
                Err(error) => Err(Refusal::new(Reason::HandshakeFailed, error.to_string())),
            }
        },
        async {
            let mut connection = accept(far, server).await?;
            connection.write_all(b"hello").await.unwrap();
            connection.flush().await.unwrap();
            Ok(connection)
        }
    );
    Met { client, server }
}

/// A leaf by the domain's intermediate, with its chain and key.
pub(super) fn chain_of(domain: &Domain, params: CertificateParams) -> Arc<CertifiedKey> {
    let leaf = signed(params, &domain.intermediate);
    chain(&[&leaf, &domain.intermediate])
}

/// These certificates in this order, with the key of the first.
pub(super) fn chain(certificates: &[&Made]) -> Arc<CertifiedKey> {
    let der = certificates.iter().map(|made| CertificateDer::from(made.der.clone())).collect();
    certified_key(der, &certificates[0].private_key()).unwrap()
}
