//! How many connections a listener holds, of peers that showed who they are and of those that did not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::TlsConnection;
use super::shares::{Share, Shares};
use crate::id::SpiffeId;

/// How long one of them lasts: enough to attest, or to be issued something, once.
const ANONYMOUS_LASTS: Duration = Duration::from_secs(30);
/// How long one is left alone when others wait for its place.
const GRACE: Duration = Duration::from_secs(2);

/// A connection's place; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
    _share: Option<Share>,
}

/// Places for connections. An anonymous connection lasts 30 s; when their places are taken, the oldest gives way once it
/// is 2 s old.
#[derive(Debug, Clone)]
pub(super) struct Places {
    known: Arc<Semaphore>,
    shares: Shares,
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
    /// So many for peers that showed a certificate, of which each SPIFFE ID has at most `share`, and for those that did not.
    pub(super) fn new(known: usize, share: usize, anonymous: usize) -> Self {
        let places = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Self { known: places(known), shares: Shares::new(share), anonymous: places(anonymous), by_age: Arc::default() }
    }

    /// Gives a connection its place; none: there is none.
    pub(super) async fn take<S>(&self, connection: TlsConnection<S>) -> Option<TlsConnection<S>> {
        if let Some(peer) = connection.info().peer() {
            let place = self.known(peer.spiffe_id())?;
            return Some(connection.with_place(place));
        }
        let place = Arc::new(self.anonymous().await?);
        let (since, close) = (Instant::now(), connection.info().close().clone());
        let mut by_age = self.by_age.lock().unwrap_or_else(PoisonError::into_inner);
        by_age.retain(|other| other.place.strong_count() > 0);
        by_age.push_back(Anonymous { since, close, place: Arc::downgrade(&place) });
        drop(by_age);
        Some(connection.ends_within(ANONYMOUS_LASTS).with_place(Place { _permit: place, _share: None }))
    }

    fn known(&self, who: &SpiffeId) -> Option<Place> {
        let Some(share) = self.shares.take(who) else {
            tracing::warn!(spiffe_id = %who, "a connection was closed: its peer has as many as it may");
            return None;
        };
        let Ok(permit) = Arc::clone(&self.known).try_acquire_owned() else {
            tracing::warn!("a connection was closed: all places are taken");
            return None;
        };
        Some(Place { _permit: Arc::new(permit), _share: Some(share) })
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
