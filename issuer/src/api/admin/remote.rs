//! Administration over the network: only holders of grants finish a handshake, and whoever holds none any more is cut off.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _};
use mayfly_sdk::{
    SpiffeId,
    tls::{Authorizer, Incoming, PeerInfo, TlsConnection},
};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::authorize::Grants;
use crate::directory::Directory;

/// How often the clock is asked whether a grant has ended; edits are heard of at once.
const LOOK: Duration = Duration::from_secs(1);

/// The open connections of remote administrators.
#[derive(Debug)]
pub struct Connections {
    directory: Arc<Directory>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    by_number: HashMap<u64, (SpiffeId, CancellationToken)>,
}

impl Connections {
    /// None yet. Grants are those of `directory`.
    #[must_use]
    pub fn new(directory: Arc<Directory>) -> Self {
        Self { directory, open: Mutex::default() }
    }

    /// Lets those finish a handshake who hold a grant at that moment. Every workload of the trust domain has an SVID, and
    /// none of them may take an administrator's place.
    #[must_use]
    pub fn authorizer(&self) -> Authorizer {
        let directory = Arc::clone(&self.directory);
        Authorizer::matcher(move |id| holds_grants(&directory, id))
    }

    /// The connections, each known as long as it is open.
    pub fn admit(
        self: &Arc<Self>,
        incoming: Incoming,
    ) -> impl Stream<Item = Result<RemoteConnection, Infallible>> + use<> {
        let this = Arc::clone(self);
        incoming.map(move |tls| tls.map(|tls| this.keep(tls)))
    }

    /// Closes the connections of those who hold no grant any more, until `stop`.
    pub async fn watch(&self, stop: CancellationToken) {
        let mut edits = self.directory.edits();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = edits.changed() => if changed.is_err() { return },
                // Grants end by the clock, too.
                () = tokio::time::sleep(LOOK) => {}
            }
            self.close_those_without_grants();
        }
    }

    fn keep(self: &Arc<Self>, tls: TlsConnection) -> RemoteConnection {
        let mut open = self.open.lock();
        let number = open.next;
        open.next += 1;
        if let Some(peer) = tls.info().peer() {
            open.by_number.insert(number, (peer.spiffe_id().clone(), tls.info().close().clone()));
        }
        RemoteConnection { tls, _known: Known { number, connections: Arc::clone(self) } }
    }

    fn close_those_without_grants(&self) {
        let open: Vec<_> = self.open.lock().by_number.values().cloned().collect();
        for (id, close) in open {
            if !holds_grants(&self.directory, &id) {
                tracing::info!(spiffe_id = %id, "a connection was closed: its peer holds no grant any more");
                close.cancel();
            }
        }
    }
}

fn holds_grants(directory: &Directory, id: &SpiffeId) -> bool {
    let now = directory.clock().now();
    directory.with_registry(|registry| !Grants::of(registry, id, now).is_empty())
}

/// A connection of a remote administrator.
#[derive(Debug)]
pub struct RemoteConnection {
    tls: TlsConnection,
    _known: Known,
}

/// Forgets its connection when it goes.
#[derive(Debug)]
struct Known {
    number: u64,
    connections: Arc<Connections>,
}

impl Drop for Known {
    fn drop(&mut self) {
        self.connections.open.lock().by_number.remove(&self.number);
    }
}

impl Connected for RemoteConnection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.tls.info().clone()
    }
}

impl AsyncRead for RemoteConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for RemoteConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
