//! One accepted connection: bytes for tonic, for as long as the process that made it lives and runs the same program.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::Sleep;
use tonic::transport::server::Connected;

use super::authority::LegalAuthority;
use super::limits::Slot;
use crate::workload::{Death, HeldProcess, Program};

/// Who is at the other end.
#[derive(Debug)]
pub struct Peer {
    process: Arc<HeldProcess>,
}

impl Peer {
    /// A caller that was identified elsewhere (`HeldProcess::of_pid`), as tests of handlers need it.
    #[must_use]
    pub fn new(process: Arc<HeldProcess>) -> Self {
        Self { process }
    }

    /// The process that connected.
    #[must_use]
    pub fn process(&self) -> &Arc<HeldProcess> {
        &self.process
    }

    /// Its effective user id when it connected.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.process.uid()
    }

    /// Its effective group id when it connected.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.process.gid()
    }
}

/// A connection of the local socket.
///
/// It ends with an error when the process dies, when it has not greeted in time, and before anything is written to a process that
/// now runs another executable. Where the node agent may not see the executable, that last check is left to attestation.
#[derive(Debug)]
pub struct Connection {
    stream: LegalAuthority<UnixStream>,
    peer: Arc<Peer>,
    death: Death,
    greeting: Option<Pin<Box<Sleep>>>,
    _slot: Slot,
}

impl Connection {
    pub(super) fn new(
        stream: UnixStream,
        process: Arc<HeldProcess>,
        slot: Slot,
        handshake: Duration,
    ) -> io::Result<Self> {
        Ok(Self {
            stream: LegalAuthority::new(stream),
            death: Death::of(Arc::clone(&process))?,
            peer: Arc::new(Peer { process }),
            greeting: Some(Box::pin(tokio::time::sleep(handshake))),
            _slot: slot,
        })
    }

    /// Fails once the process is dead, or late; else has the task woken when it is.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.death.poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the process that connected has ended"));
        }
        if self.stream.greeted() {
            self.greeting = None;
        }
        match self.greeting.as_mut().map(|greeting| greeting.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => Err(io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 preface in time")),
            _ => Ok(()),
        }
    }

    /// As [`check`](Self::check), and fails if the process runs another program now.
    fn check_program(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.check(cx)?;
        match self.peer.process.same_executable() {
            Program::Same | Program::Undetermined(_) => Ok(()),
            Program::Changed => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the process runs another program than the one that connected",
            )),
            Program::Dead => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the process that connected has ended"))
            }
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Self::ConnectInfo {
        Arc::clone(&self.peer)
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_program(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_program(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
