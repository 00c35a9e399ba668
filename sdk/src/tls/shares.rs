//! Nobody holds every connection: one SPIFFE ID has at most so many of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::SpiffeId;

/// Who holds how many. Shared by its clones.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    most: usize,
    held: Arc<Mutex<HashMap<SpiffeId, usize>>>,
}

/// One connection's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    of: Shares,
    who: SpiffeId,
}

impl Shares {
    /// At most so many for each SPIFFE ID.
    pub(super) fn new(most: usize) -> Self {
        Self { most, held: Arc::default() }
    }

    /// A place for one more; none if this SPIFFE ID has as many as it may.
    pub(super) fn take(&self, who: &SpiffeId) -> Option<Share> {
        let mut held = self.held();
        let count = held.entry(who.clone()).or_default();
        if *count >= self.most.max(1) {
            return None;
        }
        *count += 1;
        Some(Share { of: self.clone(), who: who.clone() })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<SpiffeId, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.of.held();
        if let Some(count) = held.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spiffe_id_has_its_share_of_the_places_and_gives_them_back() {
        let shares = Shares::new(2);
        let [one, other] = ["spiffe://example.org/one", "spiffe://example.org/other"].map(|id| id.parse().unwrap());
        let mut held: Vec<_> = (0..2).map(|_| shares.take(&one).unwrap()).collect();
        assert!(shares.take(&one).is_none());
        let others = shares.take(&other).unwrap();
        held.pop();
        held.push(shares.take(&one).unwrap());
        drop((held, others));
        assert!(shares.held().is_empty());
    }
}
