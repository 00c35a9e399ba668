use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ring::digest::{Context, SHA256};

use super::ProofError;
use crate::key::PublicKey;
use crate::time::Timestamp;

/// Remembers proofs until they have expired, so that each is good once. Bounded: when it is full of proofs that may still
/// be used, further ones are refused, because nobody could tell whether they were used before.
#[derive(Debug)]
pub(crate) struct SingleUse {
    most: usize,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    until: HashMap<[u8; 32], Timestamp>,
    /// When the first of those that are remembered is forgotten.
    first: Option<Timestamp>,
}

impl SingleUse {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, used: Mutex::default() }
    }

    /// Notes that this key has used this id, which is good until then. Ids of different keys are different ids: nobody
    /// uses up those of another.
    pub(crate) fn note(&self, key: &PublicKey, id: &str, until: Timestamp, now: Timestamp) -> Result<(), ProofError> {
        let mut context = Context::new(&SHA256);
        context.update(&key.spki_sha256());
        context.update(id.as_bytes());
        let mut name = [0; 32];
        name.copy_from_slice(context.finish().as_ref());
        // What is behind a poisoned lock is a whole map all the same.
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.until.contains_key(&name) {
            return Err(ProofError::Used);
        }
        if used.until.len() >= self.most && used.first.is_none_or(|first| first <= now) {
            used.until.retain(|_, until| *until > now);
            used.first = used.until.values().min().copied();
        }
        if used.until.len() >= self.most {
            return Err(ProofError::TooManyInUse);
        }
        used.until.insert(name, until);
        used.first = Some(used.first.map_or(until, |first| first.min(until)));
        Ok(())
    }
}
