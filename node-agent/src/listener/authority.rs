//! Lets clients in whose `:authority` is a path.
//!
//! gRPC clients over a Unix socket send the socket's path as `:authority`: `run%2Fmayfly%2Fagent%2Fapi.sock` (gRPC's C core: Python, C++, Ruby)
//! or `/run/mayfly/agent/api.sock` (Java). The h2 crate refuses both (hyperium/h2 pull request 487), so stock tonic resets each of their
//! streams, and py-spiffe hangs. On this socket the value means nothing: who calls is known from the kernel.
//!
//! So this adapter between socket and h2 reads along and writes a legal value **over** an illegal one, chosen so that nothing else
//! changes: as many octets on the wire, and as many when decoded. Hence frames keep their length, both HPACK tables stay in step (an entry's size
//! is that of its decoded name and value), and an entry that a later request names by its index is legal already. Where the value is Huffman-coded,
//! the other one is made of characters whose codes have lengths that add up (`huffman::fill`). What is legal is what `http::uri::Authority`,
//! which h2 asks, calls legal; a legal value is left alone.
//!
//! - An **empty** `:authority` stays empty, and h2 resets that stream (`PROTOCOL_ERROR`) and no other: there is no non-empty value of length zero. RFC 9113
//!   8.3.1 forbids it to clients, and no known client sends one. An absent one is legal.
//! - What is not HTTP/2 or not HPACK is handed on as it came, and h2 closes the connection.
//! - Only an unfinished value of at most 512 octets is ever held back (with frame headers: 1 KiB); a longer one passes unchanged.

mod frames;
mod hpack;
mod huffman;
#[cfg(test)]
mod tests;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use frames::Scanner;

/// A byte stream whose reading half is an HTTP/2 client's, with every illegal `:authority` made legal.
#[derive(Debug)]
pub struct LegalAuthority<T> {
    inner: T,
    rewriter: Rewriter,
}

/// The adapter without its stream, for tests and the fuzzer.
#[derive(Debug, Default)]
pub struct Rewriter {
    scanner: Scanner,
    /// Octets that were taken and not yet given: the first `ready` are final.
    held: Vec<u8>,
    ready: usize,
}

impl Rewriter {
    /// Takes the next octets of the connection and returns those that are final: all so far, but for an `:authority` that is not complete.
    pub fn feed(&mut self, octets: &[u8]) -> Vec<u8> {
        self.take(octets);
        let rest = self.held.split_off(self.ready);
        self.ready = 0;
        std::mem::replace(&mut self.held, rest)
    }

    /// The connection has ended: returns what was held back, unchanged.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.held
    }

    /// Whether as many octets as an HTTP/2 connection preface (24) have come.
    #[must_use]
    pub fn greeted(&self) -> bool {
        self.scanner.greeted()
    }

    fn take(&mut self, octets: &[u8]) {
        let from = self.held.len();
        self.held.extend_from_slice(octets);
        self.ready = self.scanner.scan(&mut self.held, from);
    }

    /// Scans what `buf` holds from `before` on, in place, and takes out of it what is not final.
    fn take_in_place(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let window = buf.filled_mut().get_mut(before..).unwrap_or_default();
        let last = self.scanner.scan(window, 0);
        self.held.extend_from_slice(window.get(last..).unwrap_or_default());
        buf.set_filled(before + last);
    }

    /// Gives octets that are final to `buf`. False if there are none.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let some = self.ready.min(buf.remaining());
        buf.put_slice(self.held.get(..some).unwrap_or_default());
        self.held.drain(..some);
        self.ready -= some;
        if self.held.is_empty() {
            self.held = Vec::new();
        }
        some > 0
    }
}

impl<T> LegalAuthority<T> {
    /// Wraps a stream from which nothing was read yet.
    pub fn new(inner: T) -> Self {
        Self { inner, rewriter: Rewriter::default() }
    }

    /// The wrapped stream.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Whether as many octets as an HTTP/2 connection preface (24) have come.
    pub fn greeted(&self) -> bool {
        self.rewriter.greeted()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for LegalAuthority<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { inner, rewriter } = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if rewriter.give(buf) {
                return Poll::Ready(Ok(()));
            }
            if rewriter.held.is_empty() {
                let before = buf.filled().len();
                ready!(Pin::new(&mut *inner).poll_read(cx, buf))?;
                if buf.filled().len() == before {
                    return Poll::Ready(Ok(()));
                }
                rewriter.take_in_place(buf, before);
                if buf.filled().len() > before {
                    return Poll::Ready(Ok(()));
                }
            } else {
                let mut piece = [0; 512];
                let mut piece = ReadBuf::new(&mut piece);
                ready!(Pin::new(&mut *inner).poll_read(cx, &mut piece))?;
                rewriter.take(piece.filled());
                if piece.filled().is_empty() {
                    rewriter.ready = rewriter.held.len();
                }
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for LegalAuthority<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// What the fuzzer calls: octets of a connection, in pieces whose sizes the first octet chooses.
///
/// # Panics
/// If the adapter changes the number of octets, holds back more than 1 KiB, or answers differently to other pieces.
pub fn fuzz(data: &[u8]) {
    let Some((size, octets)) = data.split_first() else { return };
    let rewrite = |size: usize| {
        let (mut rewriter, mut out, mut taken) = (Rewriter::default(), Vec::new(), 0);
        for piece in octets.chunks(size.max(1)) {
            out.extend(rewriter.feed(piece));
            taken += piece.len();
            assert!(taken - out.len() <= 1024, "holds back {} octets", taken - out.len());
        }
        out.extend(rewriter.finish());
        out
    };
    let whole = rewrite(octets.len());
    assert_eq!(whole.len(), octets.len(), "the number of octets changed");
    assert_eq!(whole, rewrite(usize::from(*size)), "the pieces matter");
}

/// What to write over the encoded value of an `:authority`; `None` to leave it.
fn replacement(encoded: &[u8], huffman: bool) -> Option<Vec<u8>> {
    let legal = |value: &[u8]| http::uri::Authority::try_from(value).is_ok();
    if huffman {
        let decoded = huffman::decode(encoded).ok().filter(|decoded| !legal(decoded))?;
        huffman::fill(decoded.len(), encoded.len())
    } else {
        let plain = |octet: &u8| if octet.is_ascii_alphanumeric() || b"-._~".contains(octet) { *octet } else { b'-' };
        (!legal(encoded)).then(|| encoded.iter().map(plain).collect())
    }
}
