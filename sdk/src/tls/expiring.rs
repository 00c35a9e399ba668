//! A byte stream that ends at a deadline, or when it is told to.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::reason::{Reason, Refusal};

/// Ends the stream beneath it at a deadline on the monotonic clock, or when its token is cancelled: from then on every
/// read and write fails with [`io::ErrorKind::ConnectionAborted`] around a [`Refusal`], and pending ones wake.
///
/// It is how a connection does not outlive the certificate that it was authenticated by. A machine that sleeps does not
/// advance the monotonic clock: there the connection ends later by as much.
#[derive(Debug)]
pub struct ExpiringIo<S> {
    io: S,
    deadline: Option<Instant>,
    close: CancellationToken,
    // One for each direction: after a split the two halves are polled by different tasks, and a timer wakes only the
    // last one that asked.
    read_end: End,
    write_end: End,
    ended: Option<Ended>,
}

impl<S> ExpiringIo<S> {
    /// Ends `io` at `deadline` (`None`: never) or on `close`, whichever is first.
    pub fn new(io: S, deadline: Option<Instant>, close: CancellationToken) -> Self {
        let (read_end, write_end) = (End::default(), End::default());
        Self { io, deadline, close, read_end, write_end, ended: None }
    }

    /// Brings the deadline forward. For a stream that nobody has read or written yet.
    pub(super) fn ends_at_the_latest(&mut self, latest: Instant) {
        self.deadline = Some(self.deadline.map_or(latest, |deadline| deadline.min(latest)));
    }

    /// When the stream ends by itself.
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The stream beneath.
    pub const fn get_ref(&self) -> &S {
        &self.io
    }

    fn poll_end(&mut self, direction: Direction, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Some(ended) = self.ended {
            return Poll::Ready(ended.into());
        }
        let end = match direction {
            Direction::Read => &mut self.read_end,
            Direction::Write => &mut self.write_end,
        };
        let waiting = end.0.get_or_insert_with(|| Box::pin(ended(self.deadline, self.close.clone())));
        let ended = ready!(waiting.as_mut().poll(cx));
        self.ended = Some(ended);
        // Wakes the other direction.
        self.close.cancel();
        Poll::Ready(ended.into())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ExpiringIo<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(error) = this.poll_end(Direction::Read, cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut this.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ExpiringIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Poll::Ready(error) = this.poll_end(Direction::Write, cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut this.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Poll::Ready(error) = this.poll_end(Direction::Write, cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut this.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(error) = this.poll_end(Direction::Write, cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A goodbye may still be said after the end.
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Read,
    Write,
}

#[derive(Debug, Clone, Copy)]
enum Ended {
    Deadline,
    Told,
}

impl From<Ended> for io::Error {
    fn from(ended: Ended) -> Self {
        let refusal = match ended {
            Ended::Deadline => Refusal::new(Reason::Expired, "the peer's certificate expired while it was connected"),
            Ended::Told => Refusal::new(Reason::ConnectionClosed, "the connection was closed on this side"),
        };
        Self::new(io::ErrorKind::ConnectionAborted, refusal)
    }
}

/// Waits for the end of one direction; made at the first poll.
#[derive(Default)]
struct End(Option<Pin<Box<dyn Future<Output = Ended> + Send>>>);

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("End(..)")
    }
}

async fn ended(deadline: Option<Instant>, close: CancellationToken) -> Ended {
    let at_deadline = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = close.cancelled() => Ended::Told,
        () = at_deadline => Ended::Deadline,
    }
}
