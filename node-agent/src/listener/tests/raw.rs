//! An HTTP/2 client that sends whatever it is told to.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

pub(super) const PATH: &str = "/grpc.health.v1.Health/Check";
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A message came.
    Answered,
    /// A status came, and no message.
    Refused,
    /// The stream was reset with this code.
    Reset(u32),
    /// The connection was given up with this code.
    GoAway(u32),
    /// The connection ended.
    Closed,
}

pub(super) struct Client {
    pub(super) stream: UnixStream,
    next: u32,
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A literal field, not indexed.
pub(super) fn literal(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name.as_bytes(), value] {
        let length = u8::try_from(text.len()).unwrap();
        out.extend(if length < 127 { vec![length] } else { vec![127, length - 127] });
        out.extend(text);
    }
    out
}

/// The fields of a gRPC call, with these octets in place of `:authority`.
pub(super) fn call(authority: &[u8]) -> Vec<u8> {
    let mut block = [&[0x83, 0x86][..], &literal(":path", PATH.as_bytes())].concat();
    block.extend(authority);
    block.extend(literal("content-type", b"application/grpc"));
    block.extend(literal("te", b"trailers"));
    block
}

impl Client {
    /// Takes over a connection and greets.
    pub(super) async fn greet(mut stream: UnixStream) -> Self {
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        Self { stream, next: 1 }
    }

    pub(super) async fn connect(path: &std::path::Path) -> Self {
        Self::greet(UnixStream::connect(path).await.unwrap()).await
    }

    /// Sends octets; that nobody takes them is no error.
    pub(super) async fn send(&mut self, octets: &[u8]) {
        drop(self.stream.write_all(octets).await);
    }

    pub(super) fn stream_id(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// Sends a request with this header block, and waits.
    pub(super) async fn request(&mut self, block: &[u8]) -> Outcome {
        let stream = self.stream_id();
        self.send(&frame(1, END_HEADERS, stream, block)).await;
        self.finish(stream).await
    }

    /// Sends the empty message that ends a request, and waits.
    pub(super) async fn finish(&mut self, stream: u32) -> Outcome {
        self.send(&frame(0, END_STREAM, stream, &[0; 5])).await;
        self.outcome(stream).await
    }

    /// Waits for what becomes of a stream.
    pub(super) async fn outcome(&mut self, stream: u32) -> Outcome {
        let code = |payload: &[u8], at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        let mut answered = false;
        loop {
            let Some((kind, flags, of, payload)) = self.frame().await else { return Outcome::Closed };
            match kind {
                0 if of == stream => answered = true,
                1 if of == stream && flags & END_STREAM != 0 => {
                    return if answered { Outcome::Answered } else { Outcome::Refused };
                }
                3 if of == stream => return Outcome::Reset(code(&payload, 0)),
                7 => return Outcome::GoAway(code(&payload, 4)),
                _ => {}
            }
        }
    }

    async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }
}
