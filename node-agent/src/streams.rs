//! Which workload streams are open, and what each of them was last written with: what an acknowledgement stands on.
//!
//! A revision is acknowledged once every open stream was written with it. A stream counts as written when the client's flow control has
//! taken the message, which is when it is asked for the next one. One that has not taken it within [`TAKE_WITHIN`] is told to close and no
//! longer counts: a workload that does not read must not hold back the rotation of everybody's keys.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use mayfly_sdk::Revision;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a client may take to accept a message.
pub(crate) const TAKE_WITHIN: Duration = Duration::from_secs(10);

/// The open workload streams of this agent.
#[derive(Debug, Clone)]
pub(crate) struct Streams(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    /// The newest revision that every stream was written with.
    written: watch::Sender<Revision>,
}

#[derive(Debug, Default)]
struct Inner {
    /// What the agent holds.
    held: Revision,
    next: u64,
    open: HashMap<u64, Stream>,
    /// How many open streams stand at each revision.
    standing: BTreeMap<Revision, usize>,
}

#[derive(Debug)]
struct Stream {
    written: Revision,
    /// When a message was handed out that has not been taken yet, on tokio's clock.
    offered: Option<tokio::time::Instant>,
    close: CancellationToken,
}

/// One open stream; counts until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenStream {
    id: u64,
    streams: Streams,
    close: CancellationToken,
}

impl Streams {
    pub(crate) fn new() -> Self {
        let (written, _) = watch::channel(Revision::NONE);
        Self(Arc::new(Shared { inner: Mutex::default(), written }))
    }

    /// Opens a stream. Its first message will be of what is held now or newer.
    pub(crate) fn open(&self) -> OpenStream {
        let mut inner = self.0.inner.lock();
        let id = inner.next;
        inner.next += 1;
        let (written, close) = (inner.held, CancellationToken::new());
        *inner.standing.entry(written).or_default() += 1;
        inner.open.insert(id, Stream { written, offered: None, close: close.clone() });
        OpenStream { id, streams: self.clone(), close }
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.0.inner.lock().open.len()
    }

    /// What can be acknowledged, as it grows.
    pub(crate) fn written(&self) -> watch::Receiver<Revision> {
        self.0.written.subscribe()
    }

    /// Says what the agent holds now.
    pub(crate) fn holds(&self, revision: Revision) {
        let mut inner = self.0.inner.lock();
        inner.held = revision;
        self.publish(&inner);
    }

    /// Tells every stream to close that was handed a message more than [`TAKE_WITHIN`] ago, or has not come for one in that time,
    /// and stops counting it. Returns how many.
    pub(crate) fn close_slow(&self) -> usize {
        let now = tokio::time::Instant::now();
        let mut inner = self.0.inner.lock();
        let late: Vec<u64> = inner
            .open
            .iter()
            .filter(|(_, stream)| stream.offered.is_some_and(|at| now.duration_since(at) >= TAKE_WITHIN))
            .map(|(id, _)| *id)
            .collect();
        for id in &late {
            if let Some(stream) = inner.remove(*id) {
                stream.close.cancel();
            }
        }
        self.publish(&inner);
        late.len()
    }

    /// Runs until `stop`: closes slow streams.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TAKE_WITHIN / 5);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            let closed = self.close_slow();
            if closed > 0 {
                tracing::warn!(closed, reason = "stream_not_read", "closed workload streams whose clients do not read");
            }
        }
    }

    fn publish(&self, inner: &Inner) {
        let lowest = inner.standing.keys().next().copied().unwrap_or(inner.held).min(inner.held);
        self.0.written.send_if_modified(|written| {
            let newer = lowest > *written;
            if newer {
                *written = lowest;
            }
            newer
        });
    }
}

impl OpenStream {
    /// A message was handed to the connection.
    pub(crate) fn offered(&self) {
        if let Some(stream) = self.streams.0.inner.lock().open.get_mut(&self.id) {
            stream.offered = Some(tokio::time::Instant::now());
        }
    }

    /// The client has taken everything up to this revision, or nothing in it concerns the client.
    pub(crate) fn written(&self, revision: Revision) {
        let mut inner = self.streams.0.inner.lock();
        let Some(stream) = inner.open.get_mut(&self.id) else { return };
        stream.offered = None;
        let before = std::mem::replace(&mut stream.written, revision);
        if before != revision {
            inner.leave(before);
            *inner.standing.entry(revision).or_default() += 1;
            self.streams.publish(&inner);
        }
    }

    /// Resolves when the stream must close because its client does not read.
    pub(crate) async fn told_to_close(&self) {
        self.close.cancelled().await;
    }

    /// Whether the stream must close because its client did not read.
    pub(crate) fn is_told_to_close(&self) -> bool {
        self.close.is_cancelled()
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut inner = self.streams.0.inner.lock();
        if inner.remove(self.id).is_some() {
            self.streams.publish(&inner);
        }
    }
}

impl Inner {
    fn remove(&mut self, id: u64) -> Option<Stream> {
        let stream = self.open.remove(&id)?;
        self.leave(stream.written);
        Some(stream)
    }

    fn leave(&mut self, revision: Revision) {
        if let Some(count) = self.standing.get_mut(&revision) {
            *count -= 1;
            if *count == 0 {
                self.standing.remove(&revision);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u64) -> Revision {
        Revision { epoch: 1, n }
    }

    #[tokio::test]
    async fn a_revision_is_acknowledged_when_the_last_stream_has_it() {
        let streams = Streams::new();
        let written = streams.written();
        let (a, b) = (streams.open(), streams.open());
        streams.holds(at(1));
        a.written(at(1));
        assert_eq!(*written.borrow(), Revision::NONE);
        b.written(at(1));
        assert_eq!(*written.borrow(), at(1));
    }

    #[tokio::test]
    async fn without_streams_what_is_held_is_acknowledged() {
        let streams = Streams::new();
        let written = streams.written();
        streams.holds(at(3));
        assert_eq!(*written.borrow(), at(3));
    }

    #[tokio::test]
    async fn a_stream_that_ends_no_longer_holds_anything_back() {
        let streams = Streams::new();
        let written = streams.written();
        let behind = streams.open();
        streams.holds(at(2));
        assert_eq!(*written.borrow(), Revision::NONE);
        drop(behind);
        assert_eq!(*written.borrow(), at(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_for_ten_seconds_no_longer_counts() {
        let streams = Streams::new();
        let written = streams.written();
        let stuck = streams.open();
        streams.holds(at(2));
        stuck.offered();
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert_eq!((streams.close_slow(), stuck.is_told_to_close()), (0, false));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!((streams.close_slow(), stuck.is_told_to_close()), (1, true));
        assert_eq!(*written.borrow(), at(2));
    }
}
