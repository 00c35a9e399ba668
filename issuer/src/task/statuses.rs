//! How tasks stand, as status lists say it: of each task that has an index, whether its tokens are refused.

use std::collections::{BTreeMap, BTreeSet};

use mayfly_sdk::Timestamp;
use mayfly_sdk::task::TaskState;

/// Tasks of one list. A list of them all takes 16 KiB before it is compressed.
pub const PER_LIST: u64 = 65_536;

/// What is not open, by index, until no token can be valid any more.
#[derive(Debug, Default)]
pub(super) struct Statuses {
    /// The next index that is given out. They are not used again: lists fill up, and new ones begin.
    next: u64,
    refused: BTreeMap<u64, Refused>,
    forget: BTreeSet<(Timestamp, u64)>,
    /// Of each list, how often it has changed.
    changes: BTreeMap<u64, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    suspended: bool,
    forget_at: Option<Timestamp>,
}

/// The tasks of one list that are not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusListed {
    /// Changes when the list does.
    pub version: u64,
    /// Places in the list, and whether the task may be resumed.
    pub refused: Vec<(usize, bool)>,
}

impl Statuses {
    pub(super) fn next_index(&mut self) -> u64 {
        let index = self.next;
        self.next += 1;
        index
    }

    /// An index that was given out before this process was started.
    pub(super) fn seen(&mut self, index: u64) {
        self.next = self.next.max(index.saturating_add(1));
    }

    pub(super) fn tell(&mut self, index: u64, state: TaskState, forget_at: Option<Timestamp>) {
        let now = Refused { suspended: state == TaskState::Suspended, forget_at };
        let before = match state {
            TaskState::Open => self.refused.remove(&index),
            _ => self.refused.insert(index, now),
        };
        if let Some(at) = before.and_then(|before| before.forget_at) {
            self.forget.remove(&(at, index));
        }
        if let Some(at) = forget_at.filter(|_| state != TaskState::Open) {
            self.forget.insert((at, index));
        }
        *self.changes.entry(index / PER_LIST).or_default() += 1;
    }

    /// Forgets what can matter no more.
    pub(super) fn forget(&mut self, now: Timestamp) {
        while let Some((at, index)) = self.forget.first().copied()
            && at <= now
        {
            self.forget.pop_first();
            self.refused.remove(&index);
        }
    }

    /// How often a list has changed; `None` where no task has an index in it.
    pub(super) fn version(&self, list: u64) -> Option<u64> {
        list.checked_mul(PER_LIST).filter(|first| *first < self.next)?;
        Some(self.changes.get(&list).copied().unwrap_or_default())
    }

    /// A list; `None` where no task has an index in it.
    pub(super) fn list(&self, list: u64) -> Option<StatusListed> {
        let version = self.version(list)?;
        let first = list.checked_mul(PER_LIST)?;
        let within = self.refused.range(first..first.saturating_add(PER_LIST));
        let place =
            |(index, refused): (&u64, &Refused)| Some((usize::try_from(index - first).ok()?, refused.suspended));
        Some(StatusListed { version, refused: within.filter_map(place).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_what_is_refused_in_it_until_that_matters_no_more() {
        let mut statuses = Statuses::default();
        assert_eq!(statuses.list(0), None);
        statuses.seen(PER_LIST + 1);
        assert_eq!(statuses.next_index(), PER_LIST + 2);
        statuses.tell(PER_LIST, TaskState::Suspended, None);
        statuses.tell(PER_LIST + 2, TaskState::Completed, Some(Timestamp::from_unix_s(100)));
        assert_eq!(statuses.list(0), Some(StatusListed { version: 0, refused: Vec::new() }));
        assert_eq!(statuses.list(1), Some(StatusListed { version: 2, refused: vec![(0, true), (2, false)] }));
        assert_eq!((statuses.list(2), statuses.list(u64::MAX)), (None, None));
        statuses.tell(PER_LIST, TaskState::Open, None);
        statuses.forget(Timestamp::from_unix_s(99));
        assert_eq!(statuses.list(1).unwrap().refused, [(2, false)]);
        statuses.forget(Timestamp::from_unix_s(100));
        assert_eq!(statuses.list(1).unwrap().refused, []);
    }
}
