//! The local socket of administration: who is at the other end is told by the kernel.

use std::{
    io,
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::Stream;
use mayfly_sdk::socket::{self, Access, BindError};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream},
};
use tonic::transport::server::Connected;

/// Who calls, by `SO_PEERCRED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalCaller {
    uid: u32,
    own: u32,
}

impl LocalCaller {
    /// A caller with user id `uid`, at a daemon that runs as `own`.
    #[must_use]
    pub const fn new(uid: u32, own: u32) -> Self {
        Self { uid, own }
    }

    /// His user id.
    #[must_use]
    pub const fn uid(&self) -> u32 {
        self.uid
    }

    /// Root and the daemon's own user may.
    #[must_use]
    pub const fn may_administrate(&self) -> bool {
        self.uid == 0 || self.uid == self.own
    }
}

/// One connection.
#[derive(Debug)]
pub struct AdminConnection {
    stream: UnixStream,
    caller: Option<LocalCaller>,
}

/// Binds the socket in a directory that is closed to others, and accepts.
///
/// # Errors
/// [`BindError`] says which rule the path breaks and what to do.
pub fn incoming(path: &Path) -> Result<impl Stream<Item = io::Result<AdminConnection>> + use<>, BindError> {
    let own = nix::unistd::geteuid().as_raw();
    Ok(Incoming { listener: socket::bind(path, Access::Owner)?, own })
}

struct Incoming {
    listener: UnixListener,
    own: u32,
}

impl Stream for Incoming {
    type Item = io::Result<AdminConnection>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let accepted = std::task::ready!(self.listener.poll_accept(cx));
        let own = self.own;
        Poll::Ready(Some(accepted.map(|(stream, _)| {
            let caller = stream.peer_cred().ok().map(|peer| LocalCaller::new(peer.uid(), own));
            AdminConnection { stream, caller }
        })))
    }
}

impl Connected for AdminConnection {
    type ConnectInfo = Option<LocalCaller>;

    fn connect_info(&self) -> Option<LocalCaller> {
        self.caller
    }
}

impl AsyncRead for AdminConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for AdminConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
