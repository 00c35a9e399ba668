//! What the newest commits touched, so that an agent that was away for a moment hears what it missed and not everything.

use std::collections::{BTreeSet, VecDeque};

use mayfly_sdk::{Revision, TrustDomain};

use crate::registry::Uid;

/// What one commit touched, as far as nodes need to hear of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Entries that were put or removed.
    pub entries: BTreeSet<Uid>,
    /// Trust domains whose bundle changed or is gone.
    pub bundles: BTreeSet<TrustDomain>,
    /// Whether the denials changed.
    pub denials: bool,
}

/// The newest commits, bounded.
#[derive(Debug)]
pub struct Recent {
    commits: VecDeque<(Revision, Touched)>,
    /// Every commit after this one is here.
    floor: Revision,
    entries: usize,
}

/// How many touched entries are kept.
const KEPT_ENTRIES: usize = 100_000;
/// How many commits are kept.
const KEPT_COMMITS: usize = 10_000;

impl Recent {
    /// Nothing yet; what comes next is the successor of `floor`.
    #[must_use]
    pub fn new(floor: Revision) -> Self {
        Self { commits: VecDeque::new(), floor, entries: 0 }
    }

    /// Adds the next commit, and forgets the oldest ones beyond the bound.
    pub fn push(&mut self, revision: Revision, touched: Touched) {
        self.entries += touched.entries.len();
        self.commits.push_back((revision, touched));
        while self.commits.len() > KEPT_COMMITS || self.entries > KEPT_ENTRIES {
            let Some((oldest, touched)) = self.commits.pop_front() else { break };
            self.entries -= touched.entries.len();
            self.floor = oldest;
        }
    }

    /// Everything that was touched after `held`, or none when that is not known any more: a snapshot is needed.
    #[must_use]
    pub fn after(&self, held: Revision) -> Option<Touched> {
        if held.epoch != self.floor.epoch || held < self.floor {
            return None;
        }
        let mut all = Touched::default();
        for (_, touched) in self.commits.iter().rev().take_while(|(revision, _)| *revision > held) {
            all.entries.extend(touched.entries.iter().copied());
            all.bundles.extend(touched.bundles.iter().cloned());
            all.denials |= touched.denials;
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u64) -> Revision {
        Revision { epoch: 1, n }
    }

    fn touched(entry: u8) -> Touched {
        Touched { entries: [Uid::from_bytes([entry; 16])].into(), ..Touched::default() }
    }

    #[test]
    fn what_was_missed_is_complete_or_not_given_at_all() {
        let mut recent = Recent::new(at(5));
        for n in 6..=8_u8 {
            recent.push(at(n.into()), touched(n));
        }
        let missed = |held| recent.after(held).map(|touched| touched.entries.len());
        assert_eq!(missed(at(8)), Some(0));
        assert_eq!(missed(at(6)), Some(2));
        assert_eq!(missed(at(5)), Some(3));
        assert_eq!(missed(at(4)), None);
        assert_eq!(missed(Revision { epoch: 2, n: 6 }), None);
    }

    #[test]
    fn the_oldest_are_forgotten_beyond_the_bound() {
        let mut recent = Recent::new(at(0));
        for n in 1..=KEPT_COMMITS as u64 + 10 {
            recent.push(at(n), touched(1));
        }
        assert!(recent.after(at(9)).is_none());
        assert!(recent.after(at(10)).is_some());
    }
}
