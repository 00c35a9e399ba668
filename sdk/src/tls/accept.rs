//! Accepting: many handshakes at a time, none of which can hold up another.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;

use super::places::Places;
use super::{ServerTls, TlsConnection, accept};

/// Handshakes at a time, unless [`Acceptor::max_handshakes`] says otherwise.
const MAX_HANDSHAKES: usize = 256;

/// Connections at a time, unless [`Acceptor::max_connections`] says otherwise.
const MAX_CONNECTIONS: usize = 20_000;

/// Connections at a time of peers that showed no certificate, unless [`Acceptor::max_anonymous`] says otherwise.
const MAX_ANONYMOUS: usize = 256;

/// How long a handshake is left alone when others wait for its place. Well-behaved ones take milliseconds.
const GRACE: Duration = Duration::from_secs(2);

/// The pause when the process has no file descriptor or memory for another connection.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Accepts TCP connections and shakes hands with at most 256 of them at a time, 10 s each.
///
/// When all places are taken, the oldest handshake gives way once it is 2 s old, so that clients who open connections
/// and say nothing cannot keep the others out, and a crowd that comes at once is served in its order.
///
/// A connection whose peer showed no certificate lasts 30 s; there are at most 256 of them, and the oldest gives way in the same manner.
/// Of the others there are at most 20,000; one more is closed.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    tls: ServerTls,
    max_handshakes: usize,
    max_connections: usize,
    max_of_one: usize,
    max_anonymous: usize,
}

impl Acceptor {
    /// Serves `tls` on `listener`.
    #[must_use]
    pub const fn new(listener: TcpListener, tls: ServerTls) -> Self {
        Self {
            listener,
            tls,
            max_handshakes: MAX_HANDSHAKES,
            max_connections: MAX_CONNECTIONS,
            max_of_one: usize::MAX,
            max_anonymous: MAX_ANONYMOUS,
        }
    }

    /// How many connections there are at a time of peers that showed a certificate.
    #[must_use]
    pub const fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// How many of these connections one SPIFFE ID has at a time; one more of it is closed. Unless this says so, as many as there are.
    #[must_use]
    pub const fn max_of_one(mut self, connections: usize) -> Self {
        self.max_of_one = connections;
        self
    }

    /// How many connections there are at a time of peers that showed none.
    #[must_use]
    pub const fn max_anonymous(mut self, connections: usize) -> Self {
        self.max_anonymous = connections;
        self
    }

    /// How many handshakes are worked on at a time.
    #[must_use]
    pub const fn max_handshakes(mut self, handshakes: usize) -> Self {
        self.max_handshakes = handshakes;
        self
    }

    /// The connections whose handshake succeeded, until `stop` is cancelled; those already handed out live on. It is
    /// what `serve_with_incoming` of tonic takes. Must be called within a tokio runtime.
    #[must_use]
    pub fn incoming(self, stop: CancellationToken) -> Incoming {
        let (deliver, connections) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(self.run(deliver, stop));
        Incoming { connections, _tasks: tasks }
    }

    async fn run(self, deliver: mpsc::Sender<TlsConnection>, stop: CancellationToken) {
        let mut handshakes = Handshakes { tasks: JoinSet::new(), by_age: VecDeque::new() };
        let places = Places::new(self.max_connections, self.max_of_one, self.max_anonymous);
        loop {
            let full = handshakes.tasks.len() >= self.max_handshakes;
            let oldest_gives_way = handshakes.oldest_gives_way_at();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(done) = handshakes.tasks.join_next() => {
                    if let Err(error) = done && error.is_panic() {
                        tracing::error!("handshake task panicked");
                    }
                }
                () = sleep_until(oldest_gives_way), if full => handshakes.evict_oldest(),
                accepted = self.listener.accept(), if !full => match accepted {
                    Ok((tcp, address)) => {
                        let (tls, deliver, places) = (self.tls.clone(), deliver.clone(), places.clone());
                        handshakes.add(async move {
                            match shake_hands(tcp, &tls).await {
                                Ok(connection) => {
                                    if let Some(connection) = places.take(connection.with_address(address)).await {
                                        // It fails only when nobody takes connections any more.
                                        deliver.send(connection).await.ok();
                                    }
                                }
                                Err(refusal) => tracing::debug!(
                                    %address, reason = refusal.reason.code(), error = refusal.what, "handshake refused"
                                ),
                            }
                        });
                    }
                    Err(error) => pause_after(&error).await,
                },
            }
        }
    }
}

/// Accepted connections, as a stream. Dropping it ends the accepting and every unfinished handshake.
#[derive(Debug)]
pub struct Incoming {
    connections: mpsc::Receiver<TlsConnection>,
    _tasks: JoinSet<()>,
}

impl Incoming {
    /// The next connection; `None` after the acceptor was told to stop.
    pub async fn accept(&mut self) -> Option<TlsConnection> {
        self.connections.recv().await
    }
}

impl Stream for Incoming {
    type Item = Result<TlsConnection, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().connections.poll_recv(cx).map(|connection| connection.map(Ok))
    }
}

struct Handshakes {
    tasks: JoinSet<()>,
    by_age: VecDeque<(Instant, AbortHandle)>,
}

impl Handshakes {
    fn add(&mut self, handshake: impl Future<Output = ()> + Send + 'static) {
        while self.by_age.front().is_some_and(|(_, task)| task.is_finished()) {
            self.by_age.pop_front();
        }
        // One that lingers at the front must not let the finished ones behind it pile up.
        if self.by_age.len() > 2 * self.tasks.len() + 16 {
            self.by_age.retain(|(_, task)| !task.is_finished());
        }
        self.by_age.push_back((Instant::now(), self.tasks.spawn(handshake)));
    }

    fn oldest_gives_way_at(&self) -> Instant {
        let oldest = self.by_age.iter().find(|(_, task)| !task.is_finished());
        oldest.map_or_else(Instant::now, |(since, _)| *since) + GRACE
    }

    fn evict_oldest(&mut self) {
        if let Some(at) = self.by_age.iter().position(|(_, task)| !task.is_finished())
            && let Some((_, task)) = self.by_age.remove(at)
        {
            task.abort();
        }
    }
}

async fn shake_hands(tcp: TcpStream, tls: &ServerTls) -> Result<TlsConnection, crate::Refusal> {
    if let Err(error) = super::tcp::keep(&tcp) {
        tracing::debug!(%error, "socket options are not to be had");
    }
    accept(tcp, tls).await
}

/// A connection that broke before it was accepted is its own affair; a process without descriptors must wait for some.
async fn pause_after(error: &io::Error) {
    match error.kind() {
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => {}
        _ => {
            tracing::warn!(%error, "connections cannot be accepted");
            sleep(EXHAUSTED).await;
        }
    }
}
