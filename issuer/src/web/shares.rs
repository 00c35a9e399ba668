//! Nobody holds every connection: the workloads of one SPIFFE ID have at most half of them.

use std::{collections::HashMap, sync::Arc};

use mayfly_sdk::SpiffeId;
use parking_lot::Mutex;

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
    /// Of so many connections.
    pub(super) fn of(connections: usize) -> Self {
        Self { most: connections.div_ceil(2), held: Arc::default() }
    }

    /// A place for one more; none if this SPIFFE ID has its half.
    pub(super) fn take(&self, who: &SpiffeId) -> Option<Share> {
        let mut held = self.held.lock();
        let count = held.entry(who.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share { of: self.clone(), who: who.clone() })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.of.held.lock();
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
    fn one_spiffe_id_has_half_of_the_places_and_gives_them_back() {
        let shares = Shares::of(3);
        let [one, other] = ["spiffe://example.org/one", "spiffe://example.org/other"].map(|id| id.parse().unwrap());
        let mut held: Vec<_> = (0..2).map(|_| shares.take(&one).unwrap()).collect();
        assert!(shares.take(&one).is_none());
        let others = shares.take(&other).unwrap();
        held.pop();
        held.push(shares.take(&one).unwrap());
        drop((held, others));
        assert!(shares.held.lock().is_empty());
    }
}
