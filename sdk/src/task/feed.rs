//! What one resource is told of the tasks whose tokens it may meet: a gap-free count of changes, and what follows from them.
//!
//! ```text
//! issuer ──tell──> Feed ──after(held)──> Update ──apply──> Feed (node agent) ──after──> Update ──apply──> Feed (service)
//! ```
//!
//! The same value at each of the three, so that each can give the next one a whole state, or what changed since.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::state::TaskState;
use crate::revision::Revision;
use crate::serial::Serial;
use crate::time::Timestamp;

/// Whoever is behind by no more changes than these is sent the changes, and else everything.
const RECENT: usize = 4096;

/// A task whose tokens are refused from now on, or no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskEvent {
    /// Which.
    pub task: Serial,
    /// How it stands now; [`TaskState::Open`]: what was suspended was resumed.
    pub state: TaskState,
    /// When nothing that was issued for it can be valid any more; `None` while it may be resumed.
    pub forget_at: Option<Timestamp>,
}

/// What brings a [`Feed`] to another place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// It replaces everything that is held.
    pub whole: bool,
    /// The place after it.
    pub at: Revision,
    /// The events, each of which counts for one; of a whole update, the tasks that are refused.
    pub events: Vec<TaskEvent>,
}

/// An update does not follow what is held: ask for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the update begins at another place than {held}")]
pub struct FeedGap {
    /// What is held.
    pub held: Revision,
}

/// One resource's feed, at the place where it is held.
#[derive(Debug, Clone, Default)]
pub struct Feed {
    at: Revision,
    refused: BTreeMap<Serial, TaskEvent>,
    forget: BTreeSet<(Timestamp, Serial)>,
    recent: VecDeque<TaskEvent>,
}

impl Feed {
    /// One that begins here, with nothing refused. No two feeds of a resource may have the same epoch.
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        Self { at: Revision { epoch, n: 0 }, ..Self::default() }
    }

    /// The place that it has come to; [`Revision::NONE`]: it has heard nothing yet.
    #[must_use]
    pub fn at(&self) -> Revision {
        self.at
    }

    /// Whether no task is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.refused.is_empty()
    }

    /// Adds an event where the feed begins.
    pub fn tell(&mut self, event: TaskEvent) {
        self.at = self.at.next();
        self.take(event);
    }

    /// What somebody needs who holds this place; `None`: who holds nothing.
    #[must_use]
    pub fn after(&self, held: Option<Revision>) -> Update {
        let behind = held.filter(|held| held.epoch == self.at.epoch).and_then(|held| self.at.n.checked_sub(held.n));
        let behind = behind.and_then(|behind| usize::try_from(behind).ok());
        match behind.and_then(|behind| self.recent.len().checked_sub(behind)) {
            Some(from) => Update { whole: false, at: self.at, events: self.recent.range(from..).copied().collect() },
            None => Update { whole: true, at: self.at, events: self.refused.values().copied().collect() },
        }
    }

    /// Follows.
    ///
    /// # Errors
    /// [`FeedGap`], and nothing is changed, if this is neither whole nor what follows next.
    pub fn apply(&mut self, update: Update) -> Result<(), FeedGap> {
        if update.whole {
            *self = Self { at: update.at, ..Self::default() };
        } else {
            let count = u64::try_from(update.events.len()).unwrap_or(u64::MAX);
            if update.at.epoch != self.at.epoch || self.at.n.checked_add(count) != Some(update.at.n) {
                return Err(FeedGap { held: self.at });
            }
            self.at = update.at;
        }
        for event in update.events {
            self.take(event);
        }
        if update.whole {
            // These events did not count.
            self.recent.clear();
        }
        Ok(())
    }

    /// Forgets what can matter no more.
    pub fn forget(&mut self, now: Timestamp) {
        while let Some((at, task)) = self.forget.first().copied()
            && at <= now
        {
            self.forget.pop_first();
            self.refused.remove(&task);
        }
    }

    fn take(&mut self, event: TaskEvent) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(event);
        let before = match event.state {
            TaskState::Open => self.refused.remove(&event.task),
            _ => self.refused.insert(event.task, event),
        };
        if let Some(at) = before.and_then(|before| before.forget_at) {
            self.forget.remove(&(at, event.task));
        }
        if event.state != TaskState::Open
            && let Some(at) = event.forget_at
        {
            self.forget.insert((at, event.task));
        }
    }
}
