//! TLS beneath tonic's client.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::Uri;
use tower::Service;

use super::{ClientTls, TlsConnection, connect};
use crate::reason::{Reason, Refusal};

/// How long the TCP connection may take; the handshake has its own limit.
const CONNECT: Duration = Duration::from_secs(10);

/// Dials the host and port of a URI and shakes hands: what `connect_with_connector` of tonic takes. The URI's scheme
/// must be `http`, or tonic asks for a TLS of its own.
#[derive(Debug, Clone)]
pub struct Connector {
    tls: ClientTls,
}

impl Connector {
    /// Connects as `tls` says.
    #[must_use]
    pub const fn new(tls: ClientTls) -> Self {
        Self { tls }
    }

    /// One connection to `host` (a name or an IP address) and `port`.
    ///
    /// # Errors
    /// `peer_unreachable`, or as [`connect`].
    pub async fn dial(&self, host: &str, port: u16) -> Result<TlsConnection, Refusal> {
        let unreachable =
            |error: io::Error| Refusal::new(Reason::PeerUnreachable, format!("{host}:{port} does not answer: {error}"));
        let tcp = match timeout(CONNECT, TcpStream::connect((host, port))).await {
            Ok(connected) => connected.map_err(unreachable)?,
            Err(_elapsed) => return Err(unreachable(io::ErrorKind::TimedOut.into())),
        };
        super::tcp::keep(&tcp).map_err(unreachable)?;
        let address = tcp.peer_addr().map_err(unreachable)?;
        Ok(connect(tcp, &self.tls).await?.with_address(address))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsConnection>;
    type Error = Refusal;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Refusal>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
                return Err(Refusal::new(Reason::EndpointInvalid, format!("{uri} does not name a host and a port")));
            };
            // A URI writes an IPv6 address in brackets.
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Ok(TokioIo::new(this.dial(host, port).await?))
        })
    }
}
