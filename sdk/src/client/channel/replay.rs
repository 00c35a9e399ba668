//! A body that can be sent a second time, as long as not too much of it was sent.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::HeaderMap;
use http_body::Frame;
use tokio_util::bytes::Bytes;
use tonic::body::Body;

/// The most that is kept of what was sent, bytes.
const KEPT: usize = 64 * 1024;

/// What was sent of a body, and the rest of it.
#[derive(Debug, Clone)]
pub(super) struct Replay(Arc<Mutex<Sent>>);

#[derive(Debug)]
struct Sent {
    rest: Body,
    kept: Vec<Piece>,
    bytes: usize,
    over: bool,
    /// Which attempt reads on: one before it gets nothing more, so that no byte goes to two.
    attempt: u32,
}

#[derive(Debug, Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Piece {
    fn frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

impl Replay {
    pub(super) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Sent { rest: body, kept: Vec::new(), bytes: 0, over: false, attempt: 0 })))
    }

    /// The body, for the first attempt.
    pub(super) fn body(&self) -> Body {
        Body::new(Attempt { sent: self.clone(), number: 0, first: VecDeque::new() })
    }

    /// The body, for another attempt; none when too much of it was sent. The attempt before ends where it is.
    pub(super) fn again(&self) -> Option<Body> {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.over {
            return None;
        }
        sent.attempt += 1;
        let (attempt, first) = (sent.attempt, sent.kept.clone().into());
        drop(sent);
        Some(Body::new(Attempt { sent: self.clone(), number: attempt, first }))
    }
}

struct Attempt {
    sent: Replay,
    number: u32,
    first: VecDeque<Piece>,
}

impl http_body::Body for Attempt {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let this = self.get_mut();
        if let Some(piece) = this.first.pop_front() {
            return Poll::Ready(Some(Ok(piece.frame())));
        }
        let mut sent = this.sent.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.attempt != this.number {
            return Poll::Ready(Some(Err(tonic::Status::cancelled("the call is made anew"))));
        }
        let polled = Pin::new(&mut sent.rest).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            sent.keep(frame);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let sent = self.sent.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.first.is_empty() && sent.attempt == self.number && sent.rest.is_end_stream()
    }
}

impl Sent {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let piece = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Piece::Data(data.clone()),
            (_, Some(trailers)) => Piece::Trailers(trailers.clone()),
            _ => return,
        };
        if let Piece::Data(data) = &piece {
            self.bytes = self.bytes.saturating_add(data.len());
        }
        self.over |= self.bytes > KEPT;
        if self.over {
            self.kept = Vec::new();
        } else {
            self.kept.push(piece);
        }
    }
}
