//! How many connections a listener holds, of peers that showed who they are and of those that did not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::TlsConnection;

/// How long one of them lasts: enough to attest, or to be issued something, once.
const ANONYMOUS_LASTS: Duration = Duration::from_secs(30);
/// How long one is left alone when others wait for its place.
const GRACE: Duration = Duration::from_secs(2);

/// A connection's place; free again when it is dropped.
pub(super) type Place = Arc<OwnedSemaphorePermit>;

/// Places for connections. An anonymous connection lasts 30 s; when their places are taken, the oldest gives way once it
/// is 2 s old.
#[derive(Debug, Clone)]
pub(super) struct Places {
    known: Arc<Semaphore>,
    anonymous: Arc<Semaphore>,
    by_age: Arc<Mutex<VecDeque<Anonymous>>>,
}

#[derive(Debug)]
struct Anonymous {
    since: Instant,
    close: CancellationToken,
    place: Weak<OwnedSemaphorePermit>,
}

impl Places {
    /// So many for peers that showed a certificate, and for those that did not.
    pub(super) fn new(known: usize, anonymous: usize) -> Self {
        let places = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Self { known: places(known), anonymous: places(anonymous), by_age: Arc::default() }
    }

    /// Gives a connection its place; none: there is none.
    pub(super) async fn take<S>(&self, connection: TlsConnection<S>) -> Option<TlsConnection<S>> {
        if connection.info().peer().is_some() {
            let place = Arc::clone(&self.known).try_acquire_owned().ok();
            if place.is_none() {
                tracing::warn!("a connection was closed: all places are taken");
            }
            return place.map(|place| connection.with_place(Arc::new(place)));
        }
        let place = Arc::new(self.anonymous().await?);
        let (since, close) = (Instant::now(), connection.info().close().clone());
        let mut by_age = self.by_age.lock().unwrap_or_else(PoisonError::into_inner);
        by_age.retain(|other| other.place.strong_count() > 0);
        by_age.push_back(Anonymous { since, close, place: Arc::downgrade(&place) });
        drop(by_age);
        Some(connection.ends_within(ANONYMOUS_LASTS).with_place(place))
    }

    async fn anonymous(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.anonymous).try_acquire_owned() {
            return Some(place);
        }
        if let Some(oldest) = self.oldest() {
            tokio::time::sleep_until(oldest.since + GRACE).await;
            oldest.close.cancel();
        }
        timeout(GRACE, Arc::clone(&self.anonymous).acquire_owned()).await.ok()?.ok()
    }

    /// The oldest that is still open and that nobody has sent away yet.
    fn oldest(&self) -> Option<Anonymous> {
        let mut by_age = self.by_age.lock().unwrap_or_else(PoisonError::into_inner);
        by_age.retain(|other| other.place.strong_count() > 0);
        by_age.pop_front()
    }
}
