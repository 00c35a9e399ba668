use std::collections::HashMap;
use std::hash::Hash;

use super::Selector;

/// Finds every key whose selectors all hold, without looking at the others.
///
/// Each key waits under one of its selectors: the one under which the fewest keys wait when it comes in. A match looks
/// only under the facts at hand, so its cost follows the number of facts and candidates and not the number of keys
/// (figure P9). Used by the issuer for nodes and by the node agent for workloads.
///
/// A key without selectors matches nothing: an entry that names no condition must not serve everybody.
#[derive(Debug, Clone)]
pub struct SelectorIndex<K> {
    ids: HashMap<Selector, u32>,
    places: Vec<Place<K>>,
    free: Vec<u32>,
    sets: HashMap<K, Set>,
}

/// A selector that some key uses.
#[derive(Debug, Clone)]
struct Place<K> {
    selector: Selector,
    /// How many keys have it among their selectors.
    uses: u32,
    /// The keys that wait under it.
    waiting: Vec<K>,
}

/// What one key asks for, and where it waits.
#[derive(Debug, Clone)]
struct Set {
    selectors: Box<[u32]>,
    under: u32,
    at: u32,
}

impl<K: Clone + Eq + Hash> SelectorIndex<K> {
    /// An empty index.
    #[must_use]
    pub fn new() -> Self {
        Self { ids: HashMap::new(), places: Vec::new(), free: Vec::new(), sets: HashMap::new() }
    }

    /// The number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// Whether no key is in the index.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Puts a key in, in the place of what it had before. Selectors that occur twice count once.
    pub fn insert<'a>(&mut self, key: K, selectors: impl IntoIterator<Item = &'a Selector>) {
        self.remove(&key);
        let mut ids: Vec<u32> = selectors.into_iter().map(|selector| self.place_of(selector)).collect();
        ids.sort_unstable();
        ids.dedup();
        for id in &ids {
            if let Some(place) = self.place(*id) {
                place.uses += 1;
            }
        }
        let mut set = Set { selectors: ids.into(), under: 0, at: 0 };
        let rarest = set.selectors.iter().min_by_key(|id| self.places.get(**id as usize).map(|p| p.waiting.len()));
        if let Some(under) = rarest.copied()
            && let Some(place) = self.place(under)
        {
            set.under = under;
            set.at = index_of(place.waiting.len());
            if place.waiting.is_empty() {
                // Most selectors have one key: room for four would be most of the memory of a large index.
                place.waiting.reserve_exact(1);
            }
            place.waiting.push(key.clone());
        }
        self.sets.insert(key, set);
    }

    /// Takes a key out. Whether it was in.
    pub fn remove(&mut self, key: &K) -> bool {
        let Some(set) = self.sets.remove(key) else {
            return false;
        };
        if let Some(place) = self.places.get_mut(set.under as usize)
            && place.waiting.get(set.at as usize) == Some(key)
        {
            place.waiting.swap_remove(set.at as usize);
            let moved = place.waiting.get(set.at as usize);
            if let Some(moved) = moved.and_then(|moved| self.sets.get_mut(moved)) {
                moved.at = set.at;
            }
        }
        for id in set.selectors {
            self.release(id);
        }
        true
    }

    /// Every key whose selectors are all among `facts`, in no particular order.
    #[must_use]
    pub fn matches<'a>(&self, facts: impl IntoIterator<Item = &'a Selector>) -> Vec<K> {
        let mut held: Vec<u32> = facts.into_iter().filter_map(|fact| self.ids.get(fact).copied()).collect();
        held.sort_unstable();
        held.dedup();
        let all_hold = |key: &K| {
            self.sets.get(key).is_some_and(|set| set.selectors.iter().all(|id| held.binary_search(id).is_ok()))
        };
        let places = held.iter().filter_map(|id| self.places.get(*id as usize));
        places.flat_map(|place| &place.waiting).filter(|key| all_hold(key)).cloned().collect()
    }

    fn place(&mut self, id: u32) -> Option<&mut Place<K>> {
        self.places.get_mut(id as usize)
    }

    fn place_of(&mut self, selector: &Selector) -> u32 {
        if let Some(id) = self.ids.get(selector) {
            return *id;
        }
        let place = Place { selector: selector.clone(), uses: 0, waiting: Vec::new() };
        let id = self.free.pop().unwrap_or_else(|| index_of(self.places.len()));
        match self.places.get_mut(id as usize) {
            Some(free) => *free = place,
            None => self.places.push(place),
        }
        self.ids.insert(selector.clone(), id);
        id
    }

    /// One key fewer uses the selector; one that nobody uses is forgotten and its place given away.
    fn release(&mut self, id: u32) {
        let Some(place) = self.places.get_mut(id as usize) else {
            return;
        };
        place.uses = place.uses.saturating_sub(1);
        if place.uses == 0 {
            place.waiting = Vec::new();
            self.ids.remove(&place.selector);
            self.free.push(id);
        }
    }
}

impl<K: Clone + Eq + Hash> Default for SelectorIndex<K> {
    fn default() -> Self {
        Self::new()
    }
}

/// 2^32 places or keys do not fit into any memory that this runs in.
fn index_of(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
