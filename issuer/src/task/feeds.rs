//! A feed for each resource of whose tasks something is to be told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mayfly_sdk::task::{Feed, TaskEvent, Update};
use mayfly_sdk::{Revision, Timestamp};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::table::Table;

/// Whoever follows a feed is told something at least this often, so that silence is noticed.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);

/// The feeds, by audience. One with nothing to tell and nobody to tell it is not kept.
#[derive(Debug)]
pub(super) struct Feeds {
    by_audience: HashMap<Arc<str>, Audience>,
    /// Larger than every epoch that was ever used, also before this process was started.
    next_epoch: u64,
}

#[derive(Debug)]
struct Audience {
    feed: Feed,
    changed: watch::Sender<()>,
}

/// A resource's feed, followed from here.
#[derive(Debug)]
pub struct Following {
    table: Arc<Mutex<Table>>,
    audience: Arc<str>,
    changed: watch::Receiver<()>,
}

impl Feeds {
    /// None yet; `now_ms`: Unix milliseconds, at which no issuer of this store was running.
    pub(super) fn new(now_ms: i64) -> Self {
        Self { by_audience: HashMap::new(), next_epoch: u64::try_from(now_ms).unwrap_or(1) }
    }

    pub(super) fn tell(&mut self, audience: &str, event: TaskEvent) {
        let audience = self.of(audience);
        audience.feed.tell(event);
        audience.changed.send_replace(());
    }

    fn of(&mut self, audience: &str) -> &mut Audience {
        let next_epoch = &mut self.next_epoch;
        self.by_audience.entry(audience.into()).or_insert_with(|| {
            *next_epoch += 1;
            Audience { feed: Feed::new(*next_epoch), changed: watch::Sender::new(()) }
        })
    }

    /// Forgets what can matter no more.
    pub(super) fn forget(&mut self, now: Timestamp) {
        self.by_audience.retain(|_, audience| {
            audience.feed.forget(now);
            !audience.feed.is_empty() || audience.changed.receiver_count() > 0
        });
    }
}

impl Following {
    pub(super) fn new(table: &Arc<Mutex<Table>>, audience: &str) -> Self {
        let changed = table.lock().feeds.of(audience).changed.subscribe();
        Self { table: Arc::clone(table), audience: audience.into(), changed }
    }

    /// What somebody needs who holds this place.
    #[must_use]
    pub fn after(&mut self, held: Option<Revision>) -> Update {
        self.changed.mark_unchanged();
        self.table.lock().feeds.of(&self.audience).feed.after(held)
    }

    /// Waits until there is more. Cancel safe.
    pub async fn changed(&mut self) {
        // The sender stays for as long as somebody follows.
        if self.changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
