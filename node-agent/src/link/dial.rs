//! One connection to one issuer. It is never made anew behind anybody's back: when it ends, the link decides what follows.
//!
//! The handshake is our own and not `mayfly_sdk::tls::connect`, whose connections end with the certificate of the peer: an issuer renews its
//! own long before, and this connection would be cut on a timer for nothing. The issuer ends it with *our* certificate.

use std::io;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use mayfly_sdk::tls::{ATTESTATION_EXPORTER, ClientTls};
use mayfly_sdk::{Reason, Refusal};
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// How long a handshake may take at most, TCP and TLS each.
pub(super) const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// An idle connection is asked for a sign of life this often, so that an issuer that hangs is noticed; a machine that vanished
/// is noticed sooner, by the kernel.
const KEEPALIVE: Duration = Duration::from_mins(2);

/// A fresh connection.
#[derive(Debug)]
pub(super) struct Dialed {
    pub(super) channel: Channel,
    /// 32 bytes of keying material that only the two ends of this very connection have (RFC 8446 7.5).
    pub(super) exporter: [u8; 32],
}

/// Connects to `address` (`host:port`); TCP and TLS may take `within` each.
///
/// # Errors
/// [`Reason::PeerUnreachable`], [`Reason::HandshakeTimeout`], [`Reason::HandshakeFailed`], or the reason why the issuer's chain is not
/// believed.
pub(super) async fn dial(address: &str, tls: &ClientTls, within: Duration) -> Result<Dialed, Refusal> {
    let unreachable = |error: io::Error| {
        Refusal::new(Reason::PeerUnreachable, format!("cannot connect to the issuer at {address}: {error}"))
    };
    let late = |_| Refusal::new(Reason::HandshakeTimeout, format!("the issuer at {address} did not answer in time"));
    let tcp = tokio::time::timeout(within, TcpStream::connect(address)).await.map_err(late)?.map_err(unreachable)?;
    mayfly_sdk::tls::tcp::keep(&tcp).map_err(unreachable)?;
    // Not sent (the configuration switches SNI off) and not compared: the issuer is authorized by its SPIFFE ID.
    let name =
        ServerName::try_from("issuer.invalid").map_err(|error| Refusal::new(Reason::TlsSetup, error.to_string()))?;
    let handshake = TlsConnector::from(tls.rustls()).connect(name, tcp);
    let stream =
        tokio::time::timeout(within, handshake).await.map_err(late)?.map_err(|error| refusal_of(address, &error))?;
    let mut exporter = [0; 32];
    stream
        .get_ref()
        .1
        .export_keying_material(&mut exporter, ATTESTATION_EXPORTER, None)
        .map_err(|error| Refusal::new(Reason::TlsSetup, format!("no keying material: {error}")))?;
    let channel = channel_over(stream).await.map_err(|error| {
        Refusal::new(Reason::HandshakeFailed, format!("the issuer at {address} does not speak HTTP/2: {error}"))
    })?;
    Ok(Dialed { channel, exporter })
}

/// A channel over this one stream.
async fn channel_over(stream: tokio_rustls::client::TlsStream<TcpStream>) -> Result<Channel, tonic::transport::Error> {
    let stream = Mutex::new(Some(TokioIo::new(stream)));
    let connector = tower::service_fn(move |_| {
        let stream = stream.lock().take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        std::future::ready(stream)
    });
    // `http`: tonic would ask for a TLS of its own otherwise.
    Endpoint::from_static("http://issuer.invalid")
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(HANDSHAKE_WITHIN)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
}

/// The refusal that a failed handshake stands for: our own verifier's, if it was that.
fn refusal_of(address: &str, error: &io::Error) -> Refusal {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other))) = inner
        && let Some(refusal) = other.0.downcast_ref::<Refusal>()
    {
        return Refusal::new(refusal.reason, format!("the issuer at {address} is not believed: {}", refusal.what));
    }
    Refusal::new(Reason::HandshakeFailed, format!("the handshake with the issuer at {address} failed: {error}"))
}
