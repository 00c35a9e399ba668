//! One supervised, self-reconnecting source for every kind of material that the Workload API streams.
//!
//! The rules (Workload Endpoint 6, Workload API 4; rows WE-15 to WE-17, WA-7 to WA-11), in one table:
//!
//! | what happens | material | then |
//! |---|---|---|
//! | a good message | replaced as a whole | the stream goes on |
//! | a message that does not hold | kept; counted and reported | the stream goes on |
//! | the stream ends in any other way, OK included; nobody answers | kept | once at once, then with backoff, for ever |
//! | `PermissionDenied` | **dropped**: nothing of it may be used any more | as above, for it may be granted again |
//! | `InvalidArgument`, `Unimplemented` | kept | never again: [`Phase::Failed`] |
//!
//! What is kept stays in use until it expires at the peer's clock: an agent that is down makes nothing worse.

mod backoff;
pub(super) mod supervisor;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use self::supervisor::Subscriber;
use super::{Endpoint, WorkloadClient, X509Context};
use crate::bundle::X509BundleSet;
use crate::reason::{Reason, Refusal};
use crate::tls::{Credentials, Trust};

/// How long [`Source::shutdown`] waits for the supervisor before it aborts it.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// A kind of material that a stream of the Workload API carries: how to open the stream, and how to read a message.
pub trait Material: fmt::Debug + Send + Sync + Sized + 'static {
    /// The message on the wire: always the full state, never a delta (Workload API 4.3).
    type Message: Send + 'static;

    /// The name of the call, for logs.
    const CALL: &'static str;

    /// Opens the stream.
    fn open(client: &WorkloadClient) -> impl Future<Output = Result<Streaming<Self::Message>, Status>> + Send;

    /// Reads a message as a whole.
    ///
    /// # Errors
    /// `message_invalid`: the message is discarded and what was there before it stays.
    fn decode(message: Self::Message) -> Result<Self, Refusal>;
}

/// Follows one stream of the Workload API and holds the last known good material. It costs nothing while nothing
/// changes: no timer runs on an open stream. Dropping it ends it; [`Source::shutdown`] also waits for the end.
pub struct Source<M> {
    shared: Arc<Shared<M>>,
    stop: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
}

impl<M: Material> Source<M> {
    /// Begins to follow the Workload API at this address. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(endpoint: Endpoint) -> Self {
        let shared = Arc::new(Shared::new());
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(supervisor::supervise(Arc::clone(&shared), endpoint, stop.clone()));
        Self { shared, stop, tasks: Mutex::new(tasks) }
    }

    /// The material, as soon as there is any.
    ///
    /// # Errors
    /// Why there is none: after `within` (the last refusal, or `source_not_ready`), or at once when the source failed
    /// for good or was shut down.
    pub async fn ready(&self, within: Duration) -> Result<Arc<M>, Refusal> {
        let mut status = self.shared.status.subscribe();
        let settled = status.wait_for(|status| status.available || status.phase.is_final());
        // An elapsed time and a closed channel answer the same: what is there, or why it is not.
        drop(timeout(within, settled).await);
        self.current()
    }

    /// The last known good material.
    ///
    /// # Errors
    /// Why there is none: nothing came yet, it was withdrawn (`no_identity`, `permission_denied`), or the source was shut
    /// down.
    pub fn current(&self) -> Result<Arc<M>, Refusal> {
        self.shared.current.load_full().ok_or_else(|| self.shared.why_not())
    }

    /// Follows the changes from here on; the present material, if any, comes first.
    #[must_use]
    pub fn changes(&self) -> Changes<M> {
        Changes { shared: Arc::clone(&self.shared), status: self.shared.status.subscribe(), seen: 0 }
    }

    /// How it fares: for health checks.
    #[must_use]
    pub fn status(&self) -> SourceStatus {
        self.shared.status.borrow().clone()
    }

    /// How it fares, as it changes.
    #[must_use]
    pub fn watch_status(&self) -> watch::Receiver<SourceStatus> {
        self.shared.status.subscribe()
    }

    /// Ends the source within 5 s: the stream is closed, the material dropped (TLS configurations that follow it present
    /// nothing and trust nobody from now on), and nothing of it runs when this returns.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        let mut tasks = self.tasks.lock().await;
        let drained = timeout(SHUTDOWN, async { while tasks.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tasks.shutdown().await;
        }
        self.shared.shut();
    }
}

impl Source<X509Context> {
    /// The default SVID of every moment, for TLS.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        let shared = Arc::clone(&self.shared);
        Credentials::from_svids(move || shared.current.load().as_ref().map(|context| context.default_svid().clone()))
    }

    /// The SVID with this hint of every moment, for TLS; none while there is none.
    #[must_use]
    pub fn credentials_by_hint(&self, hint: impl Into<String>) -> Credentials {
        let (shared, hint) = (Arc::clone(&self.shared), hint.into());
        Credentials::from_svids(move || shared.current.load().as_ref()?.by_hint(&hint).cloned())
    }

    /// The bundles of every moment, for TLS; empty, which trusts nobody, while there are none.
    #[must_use]
    pub fn trust(&self) -> Trust {
        let shared = Arc::clone(&self.shared);
        let nobody = Arc::new(X509BundleSet::new());
        Trust::from_fn(move || {
            shared.current.load().as_ref().map_or_else(|| Arc::clone(&nobody), |context| Arc::clone(context.bundles()))
        })
    }
}

impl<M> Drop for Source<M> {
    fn drop(&mut self) {
        self.stop.cancel();
        self.shared.shut();
    }
}

impl<M> fmt::Debug for Source<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({:?})", *self.shared.status.borrow())
    }
}

/// Where a source is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// It opens the stream.
    Connecting,
    /// The stream is open and has delivered.
    Live,
    /// The stream ended; it is opened again after a pause.
    Retrying,
    /// The agent will never answer this call: the source has given up. What it held it still holds.
    Failed,
    /// It was shut down.
    Closed,
}

impl Phase {
    pub(crate) const fn is_final(self) -> bool {
        matches!(self, Self::Failed | Self::Closed)
    }
}

/// How a source fares.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceStatus {
    /// Where it is in its life.
    pub phase: Phase,
    /// Whether there is material to use.
    pub available: bool,
    /// Good messages received since the start.
    pub updates: u64,
    /// Messages that did not hold and were discarded.
    pub discarded: u64,
    /// Streams that ended since the last one that lasted.
    pub failures: u32,
    /// Why the last stream ended or the last message was discarded; `None` when all is well.
    pub refusal: Option<Refusal>,
    /// Counts what [`Changes`] shows: new material, and its withdrawal.
    generation: u64,
}

impl SourceStatus {
    /// Of a source that has only just begun.
    pub(crate) const fn connecting() -> Self {
        Self {
            phase: Phase::Connecting,
            available: false,
            updates: 0,
            discarded: 0,
            failures: 0,
            refusal: None,
            generation: 0,
        }
    }
}

/// The changes of a source. A slow reader sees the latest state and not every one between.
#[derive(Debug)]
pub struct Changes<M> {
    shared: Arc<Shared<M>>,
    status: watch::Receiver<SourceStatus>,
    seen: u64,
}

impl<M: Material> Changes<M> {
    /// Waits for the next change: new material, or the reason why there is none any more. `None` when no more will come.
    pub async fn next(&mut self) -> Option<Result<Arc<M>, Refusal>> {
        let seen = self.seen;
        let changed = self.status.wait_for(|status| status.generation != seen || status.phase.is_final()).await;
        let (generation, phase) = changed.map(|status| (status.generation, status.phase)).ok()?;
        if phase == Phase::Closed || generation == seen {
            return None;
        }
        self.seen = generation;
        Some(self.shared.current.load_full().ok_or_else(|| self.shared.why_not()))
    }
}

/// What the supervisor writes and everybody reads.
#[derive(Debug)]
struct Shared<M> {
    current: ArcSwapOption<M>,
    status: watch::Sender<SourceStatus>,
}

impl<M> Shared<M> {
    fn new() -> Self {
        Self { current: ArcSwapOption::empty(), status: watch::Sender::new(SourceStatus::connecting()) }
    }

    fn publish(&self, material: M) {
        self.status.send_modify(|status| {
            // Under the lock of the status, so that who sees the generation sees the material; a source that was closed
            // in the meantime stays empty.
            if status.phase == Phase::Closed {
                return;
            }
            self.current.store(Some(Arc::new(material)));
            status.phase = Phase::Live;
            status.available = true;
            status.updates += 1;
            status.refusal = None;
            status.generation += 1;
        });
    }

    fn discard(&self, refusal: Refusal) {
        self.status.send_modify(|status| {
            status.discarded += 1;
            status.refusal = Some(refusal);
        });
    }

    fn shut(&self) {
        self.status.send_modify(|status| {
            self.current.store(None);
            status.phase = Phase::Closed;
            status.available = false;
        });
    }

    fn why_not(&self) -> Refusal {
        let status = self.status.borrow();
        match (&status.refusal, status.phase) {
            (_, Phase::Closed) => Refusal::new(Reason::SourceClosed, "the source was shut down"),
            (Some(refusal), _) => refusal.clone(),
            (None, _) => Refusal::new(Reason::SourceNotReady, "the agent has not sent anything yet"),
        }
    }
}

impl<M: Material> Subscriber for Shared<M> {
    type Message = M::Message;
    const CALL: &'static str = M::CALL;

    fn open(&self, client: &WorkloadClient) -> impl Future<Output = Result<Streaming<Self::Message>, Status>> + Send {
        M::open(client)
    }

    /// A message that does not hold is discarded: the next one is whole again.
    fn take(&self, message: M::Message) -> Result<(), Refusal> {
        match M::decode(message) {
            Ok(material) => self.publish(material),
            Err(refusal) => {
                tracing::warn!(call = M::CALL, error = refusal.what, "message discarded");
                self.discard(refusal);
            }
        }
        Ok(())
    }

    fn ended(&self, phase: Phase, refusal: Refusal, failures: u32, withdraw: bool) {
        self.status.send_modify(|status| {
            if status.phase == Phase::Closed {
                return;
            }
            if withdraw && self.current.swap(None).is_some() {
                status.available = false;
                status.generation += 1;
            }
            status.phase = phase;
            status.failures = failures;
            status.refusal = Some(refusal);
        });
    }

    fn connecting(&self) {
        self.status.send_modify(|status| {
            if status.phase != Phase::Closed {
                status.phase = Phase::Connecting;
            }
        });
    }

    fn close(&self) {
        self.shut();
    }
}
