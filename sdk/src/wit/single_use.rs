use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ring::digest::{SHA256, digest};

use super::ProofError;
use crate::key::PublicKey;
use crate::time::Timestamp;

/// The part of the room that is left which one key may have in use: a quarter. So one that takes all it can leaves four fifths,
/// and sixteen of them leave a fortieth, in which everybody else still has the same right.
const SHARE: usize = 4;
/// What a key may have in use while there is any room: a memory for few is for few keys.
const LEAST_SHARE: usize = 16;

/// Remembers proofs until they have expired, so that each is good once. Bounded: when it is full of proofs that may still
/// be used, further ones are refused, because nobody could tell whether they were used before. No key fills it alone.
#[derive(Debug)]
pub(crate) struct SingleUse {
    most: usize,
    used: Mutex<Used>,
}

/// Half of a SHA-256: nobody makes a key, or an id, that is taken for another one's.
type Name = [u8; 16];

#[derive(Debug, Default)]
struct Used {
    /// By key and id. Ids of different keys are different ids: nobody uses up those of another.
    until: HashMap<(Name, Name), Timestamp>,
    /// How many there are of each key.
    of_key: HashMap<Name, usize>,
    /// When the first of those that are remembered is forgotten.
    first: Option<Timestamp>,
}

impl SingleUse {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, used: Mutex::default() }
    }

    /// Notes that this key has used this id, which is good until then.
    pub(crate) fn note(&self, key: &PublicKey, id: &str, until: Timestamp, now: Timestamp) -> Result<(), ProofError> {
        let key = half(&key.spki_sha256());
        let name = (key, half(digest(&SHA256, id.as_bytes()).as_ref()));
        // What is behind a poisoned lock is a whole map all the same.
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.until.contains_key(&name) {
            return Err(ProofError::Used);
        }
        // Times are whole seconds: whoever is refused without end has the memory searched once in each.
        if !used.has_room(&key, self.most) && used.first.is_none_or(|first| first <= now) {
            used.forget(now);
        }
        if !used.has_room(&key, self.most) {
            return Err(ProofError::TooManyInUse);
        }
        used.until.insert(name, until);
        *used.of_key.entry(key).or_default() += 1;
        used.first = Some(used.first.map_or(until, |first| first.min(until)));
        Ok(())
    }
}

impl Used {
    fn has_room(&self, key: &Name, most: usize) -> bool {
        let left = most.saturating_sub(self.until.len());
        let own = self.of_key.get(key).copied().unwrap_or(0);
        left > 0 && own < (left / SHARE).max(LEAST_SHARE)
    }

    fn forget(&mut self, now: Timestamp) {
        self.until.retain(|_, until| *until > now);
        self.first = self.until.values().min().copied();
        self.of_key.clear();
        for (key, _) in self.until.keys() {
            *self.of_key.entry(*key).or_default() += 1;
        }
    }
}

/// The first half of a digest.
fn half(digest: &[u8]) -> Name {
    let mut name = Name::default();
    name.iter_mut().zip(digest).for_each(|(own, byte)| *own = *byte);
    name
}
