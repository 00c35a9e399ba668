//! What a node has to hear of the tasks of its instances.

use std::collections::BTreeMap;

use mayfly_sdk::Serial;
use mayfly_sdk::task::TaskState;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Above this many changes a node is told everything anew.
const PENDING: usize = 10_000;

/// A node's connected stream, as the tasks see it.
#[derive(Debug)]
pub struct Watch {
    pending: Mutex<Option<News>>,
    wake: Notify,
}

/// What a node has to be sent next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Every task of the node that has not ended, as they stand when it is sent.
    Whole,
    /// Of each task its newest state.
    Changes(BTreeMap<Serial, TaskState>),
}

impl Watch {
    /// A stream that has to be told everything first.
    pub(super) fn new() -> Self {
        Self { pending: Mutex::new(Some(News::Whole)), wake: Notify::new() }
    }

    pub(super) fn tell(&self, id: Serial, state: TaskState) {
        let mut pending = self.pending.lock();
        match &mut *pending {
            Some(News::Whole) => {}
            Some(News::Changes(changes)) => {
                changes.insert(id, state);
                if changes.len() > PENDING {
                    *pending = Some(News::Whole);
                }
            }
            none => *none = Some(News::Changes(BTreeMap::from([(id, state)]))),
        }
        drop(pending);
        self.wake.notify_one();
    }

    /// Waits until there is something to send.
    pub async fn next(&self) -> News {
        loop {
            if let Some(news) = self.pending.lock().take() {
                return news;
            }
            self.wake.notified().await;
        }
    }
}
