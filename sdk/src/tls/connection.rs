//! One connection after its handshake, and who is at the other end.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::{DnsName, ServerName};
use rustls::{CommonState, Side};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tokio_util::sync::CancellationToken;

use super::places::Place;
use super::verifier::Verifier;
use super::{ClientTls, ExpiringIo, ServerTls, Trust};
use crate::reason::{Reason, Refusal};
use crate::time::Timestamp;
use crate::x509::{self, Usage, VerifiedPeer};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The TLS exporter (RFC 8446 7.5) by which an attestation is bound to its connection.
pub const ATTESTATION_EXPORTER: &[u8] = b"EXPORTER-mayfly-node-attestation";

/// rustls wants a name; it is neither sent (no SNI) nor checked.
const NO_NAME: &str = "spiffe.invalid";

tokio::task_local! {
    /// What the verifier found during the handshake that this scope encloses.
    static VERIFIED: Cell<Option<VerifiedPeer>>;
}

/// A TLS connection whose peer was verified in its handshake. It ends at the moment when a certificate of the peer's
/// path expires, or when [`PeerInfo::close`] is cancelled.
#[derive(Debug)]
pub struct TlsConnection<S = TcpStream> {
    io: ExpiringIo<TlsStream<S>>,
    info: PeerInfo,
    /// Held until the connection is dropped.
    place: Option<Place>,
}

/// What a connection knows about its other end. tonic's handlers find it in the request's extensions.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    peer: Option<Arc<VerifiedPeer>>,
    address: Option<SocketAddr>,
    alpn: Option<Arc<[u8]>>,
    binding: Option<[u8; 32]>,
    close: CancellationToken,
}

impl PeerInfo {
    /// Who it is; `None` only where a server does not require a certificate and the client presented none.
    #[must_use]
    pub fn peer(&self) -> Option<&Arc<VerifiedPeer>> {
        self.peer.as_ref()
    }

    /// Where it is, if the transport knows.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The application protocol that was agreed on.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// The value of [`ATTESTATION_EXPORTER`] on this connection: both ends have it, and nobody else.
    #[must_use]
    pub const fn binding(&self) -> Option<&[u8; 32]> {
        self.binding.as_ref()
    }

    /// Cancelling it ends the connection at once, with every stream on it.
    #[must_use]
    pub const fn close(&self) -> &CancellationToken {
        &self.close
    }
}

impl<S> TlsConnection<S> {
    /// What is known about the other end.
    #[must_use]
    pub const fn info(&self) -> &PeerInfo {
        &self.info
    }

    /// When the connection ends because a certificate of the peer's path expires; `None` where there is no peer.
    #[must_use]
    pub const fn ends_at(&self) -> Option<Instant> {
        self.io.deadline()
    }

    /// The rustls connection: version, suite, key exchange.
    #[must_use]
    pub fn common_state(&self) -> &CommonState {
        common_state(self.io.get_ref())
    }

    pub(super) const fn with_address(mut self, address: SocketAddr) -> Self {
        self.info.address = Some(address);
        self
    }

    pub(super) fn with_place(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Ends after this time, if not before.
    pub(super) fn ends_within(mut self, time: Duration) -> Self {
        self.io.ends_at_the_latest(Instant::now() + time);
        self
    }

    fn established(stream: TlsStream<S>, peer: Option<VerifiedPeer>, now_ms: i64) -> Self {
        let deadline = peer.as_ref().map(|peer| {
            // A certificate holds through its last second (RFC 5280 4.1.2.5).
            let end_ms = peer.valid_until().unix_s().saturating_add(1).saturating_mul(1000);
            Instant::now() + Duration::from_millis(u64::try_from(end_ms.saturating_sub(now_ms)).unwrap_or(0))
        });
        let info = PeerInfo {
            peer: peer.map(Arc::new),
            address: None,
            alpn: common_state(&stream).alpn_protocol().map(Arc::from),
            binding: binding(&stream),
            close: CancellationToken::new(),
        };
        Self { io: ExpiringIo::new(stream, deadline, info.close.clone()), info, place: None }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsConnection<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsConnection<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// The client's handshake over `io`, within 10 s. In TLS 1.3 it ends before the server has judged our certificate: a
/// server that refuses it says so at the first read.
///
/// # Errors
/// What the verifier or the authorizer said about the server; `handshake_failed` or `handshake_timeout` otherwise.
pub async fn connect<S>(io: S, tls: &ClientTls) -> Result<TlsConnection<S>, Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = DnsName::try_from(NO_NAME).map_err(|error| Refusal::new(Reason::TlsSetup, error.to_string()))?;
    let handshake = TlsConnector::from(tls.rustls()).connect(ServerName::DnsName(name), io);
    let (stream, peer) = shake_hands(handshake).await?;
    // rustls took the server for verified, so there is a peer; were there none, nobody would have been authenticated.
    if peer.is_none() {
        return Err(Refusal::new(Reason::HandshakeFailed, "the server presented no certificate"));
    }
    Ok(TlsConnection::established(TlsStream::Client(stream), peer, tls.verifier.now_ms()))
}

/// The server's handshake over `io`, within 10 s.
///
/// # Errors
/// What the verifier or the authorizer said about the client; `handshake_failed` or `handshake_timeout` otherwise.
pub async fn accept<S>(io: S, tls: &ServerTls) -> Result<TlsConnection<S>, Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (stream, peer) = shake_hands(TlsAcceptor::from(tls.rustls()).accept(io)).await?;
    Ok(TlsConnection::established(TlsStream::Server(stream), peer, tls.verifier.now_ms()))
}

/// Who is at the other end of a rustls connection that some other library made, verified anew against the bundles of
/// this moment. [`TlsConnection`] already knows its peer; this is for connections made with [`ClientTls::rustls`] or
/// [`ServerTls::rustls`].
///
/// # Errors
/// `unauthenticated` when the peer presented nothing; else what [`x509::verify`] says.
pub fn peer_identity(
    connection: &CommonState,
    trust: &Trust,
    now: Timestamp,
    own: Side,
) -> Result<VerifiedPeer, Refusal> {
    let Some(chain) = connection.peer_certificates() else {
        return Err(Refusal::new(Reason::Unauthenticated, "the peer presented no certificate"));
    };
    let usage = match own {
        Side::Client => Usage::Server,
        Side::Server => Usage::Client,
    };
    Ok(x509::verify(chain, &trust.current(), now, usage)?)
}

impl Verifier {
    /// Hands what it found to the handshake that it serves, if that is one of [`connect`] or [`accept`].
    pub(super) fn hand_over(peer: VerifiedPeer) {
        // Outside of such a scope somebody else drives rustls, and asks `peer_identity` afterwards.
        if VERIFIED.try_with(|slot| slot.set(Some(peer))).is_err() {
            tracing::trace!("handshake of another library");
        }
    }
}

/// The verifier runs within a poll of the handshake's own future, so what it found is found in that future's scope.
async fn shake_hands<T>(handshake: impl Future<Output = io::Result<T>>) -> Result<(T, Option<VerifiedPeer>), Refusal> {
    let verified = VERIFIED.scope(Cell::new(None), async {
        let stream = handshake.await;
        (stream, VERIFIED.with(Cell::take))
    });
    match timeout(HANDSHAKE, verified).await {
        Ok((Ok(stream), peer)) => Ok((stream, peer)),
        Ok((Err(error), _)) => Err(refusal_of(&error)),
        Err(_elapsed) => Err(Refusal::new(Reason::HandshakeTimeout, "the handshake took longer than 10 s")),
    }
}

/// The refusal inside an error of rustls or of [`ExpiringIo`], or one that repeats its words.
fn refusal_of(error: &io::Error) -> Refusal {
    let inner = error.get_ref();
    if let Some(refusal) = inner.and_then(|inner| inner.downcast_ref::<Refusal>()) {
        return refusal.clone();
    }
    if let Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other))) =
        inner.and_then(|inner| inner.downcast_ref::<rustls::Error>())
        && let Some(refusal) = other.0.downcast_ref::<Refusal>()
    {
        return refusal.clone();
    }
    Refusal::new(Reason::HandshakeFailed, format!("the handshake failed: {error}"))
}

fn common_state<S>(stream: &TlsStream<S>) -> &CommonState {
    match stream {
        TlsStream::Client(stream) => stream.get_ref().1,
        TlsStream::Server(stream) => stream.get_ref().1,
    }
}

fn binding<S>(stream: &TlsStream<S>) -> Option<[u8; 32]> {
    let binding = [0; 32];
    let exported = match stream {
        TlsStream::Client(stream) => stream.get_ref().1.export_keying_material(binding, ATTESTATION_EXPORTER, None),
        TlsStream::Server(stream) => stream.get_ref().1.export_keying_material(binding, ATTESTATION_EXPORTER, None),
    };
    exported.ok()
}
