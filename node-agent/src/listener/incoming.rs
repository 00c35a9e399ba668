//! Accepts, and says who it is.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use nix::sys::resource::{Resource, getrlimit};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Sleep;

use super::connection::Connection;
use super::limits::{Full, Limits, Slots};
use crate::workload::{HeldProcess, HoldError};
use mayfly_sdk::socket::{self, Access, BindError};

/// How long to wait when the process is out of descriptors or memory before accepting again.
const OUT_OF_RESOURCES: Duration = Duration::from_millis(100);

/// A bound local socket.
///
/// The socket's file is left in place when the listener is dropped: a client that is made while the node agent restarts then waits and tries again,
/// where some libraries give up at once if the file is missing. The next start replaces it.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    limits: Limits,
}

impl Listener {
    /// Binds `path` so that every local user may connect (mode 0777), making directories that are missing (0755).
    ///
    /// What is at `path` is replaced only if it is a socket that nobody serves any more; the new one takes its place in one step.
    ///
    /// # Errors
    /// [`BindError`] says which rule the path breaks and what to do.
    pub fn bind(path: impl AsRef<Path>, limits: Limits) -> Result<Self, BindError> {
        let path = path.as_ref().to_owned();
        let socket = socket::bind(&path, Access::Everybody)?;
        let open_files = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        Ok(Self { socket, path, limits: limits.within(open_files) })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The limits in force: as asked for, within what the open-files limit allows.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The connections, for `serve_with_incoming`. It never ends and never yields an error.
    #[must_use]
    pub fn incoming(self) -> Incoming {
        Incoming { socket: self.socket, slots: Slots::new(self.limits), handshake: self.limits.handshake, pause: None }
    }
}

/// The stream of accepted connections. Callers that are over a limit, dead already, or not to be identified are closed and do not appear.
#[derive(Debug)]
pub struct Incoming {
    socket: UnixListener,
    slots: Arc<Slots>,
    handshake: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Stream for Incoming {
    type Item = Result<Connection, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match std::task::ready!(self.socket.poll_accept(cx)) {
                Ok((stream, _)) => {
                    if let Some(connection) = self.identify(stream) {
                        return Poll::Ready(Some(Ok(connection)));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept on the local socket");
                    self.pause = Some(Box::pin(tokio::time::sleep(OUT_OF_RESOURCES)));
                }
            }
        }
    }
}

impl Incoming {
    fn identify(&self, stream: UnixStream) -> Option<Connection> {
        let process = match HeldProcess::of_peer(&stream) {
            Ok(process) => Arc::new(process),
            Err(HoldError::Dead) => return None,
            Err(error) => {
                tracing::warn!(%error, "closed a connection whose process could not be identified");
                return None;
            }
        };
        let (uid, pid) = (process.uid(), process.pid());
        let slot = match self.slots.take(uid) {
            Ok(slot) => slot,
            Err(full) => {
                let limit = if full == Full::Uid { "connections_per_uid" } else { "connections" };
                tracing::warn!(uid, pid, limit, "closed a connection over the limit");
                return None;
            }
        };
        match Connection::new(stream, process, slot, self.handshake) {
            Ok(connection) => Some(connection),
            Err(error) => {
                tracing::warn!(%error, uid, pid, "closed a connection that could not be watched");
                None
            }
        }
    }
}
