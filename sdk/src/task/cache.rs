//! Tokens that were believed, so that the second sight of one costs no second verification of its signature.

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use ring::digest::{SHA256, digest};

use super::claims::TaskClaims;
use super::token::{TaskKeys, TaskTokenError};

/// The claims of tokens whose signature held, by the digest of the token.
///
/// Only what never changes is remembered: times, audience, binding and standing are judged at each sight. What the keys of
/// another moment have signed is forgotten when the keys change. Only signed tokens get in, so nobody fills it with noise.
pub(super) struct Believed {
    capacity: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    keys: Option<Arc<TaskKeys>>,
    /// Those seen since the last turn, and those of the turn before: when the first are as many as half the capacity, they
    /// take the place of the second. So the oldest go, at no cost.
    young: HashMap<[u8; 32], Arc<TaskClaims>>,
    old: HashMap<[u8; 32], Arc<TaskClaims>>,
}

impl Believed {
    /// For so many tokens at most.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, inner: Mutex::default() }
    }

    /// The claims of a token that these keys signed.
    ///
    /// # Errors
    /// As [`TaskKeys::authentic`].
    pub(super) fn claims(&self, keys: &Arc<TaskKeys>, token: &str) -> Result<Arc<TaskClaims>, TaskTokenError> {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some(claims) = self.with(keys, |inner| inner.find(&key, self.capacity)) {
            return Ok(claims);
        }
        let claims = Arc::new(keys.authentic(token)?);
        self.with(keys, |inner| inner.put(key, Arc::clone(&claims), self.capacity));
        Ok(claims)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.young.len() + inner.old.len()
    }

    fn with<T>(&self, keys: &Arc<TaskKeys>, work: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // The held set of keys keeps its address, so another one cannot be taken for it.
        if !inner.keys.as_ref().is_some_and(|held| Arc::ptr_eq(held, keys)) {
            *inner = Inner { keys: Some(Arc::clone(keys)), ..Inner::default() };
        }
        work(&mut inner)
    }
}

impl Inner {
    fn find(&mut self, key: &[u8; 32], capacity: usize) -> Option<Arc<TaskClaims>> {
        if let Some(claims) = self.young.get(key) {
            return Some(Arc::clone(claims));
        }
        let claims = self.old.remove(key)?;
        self.put(*key, Arc::clone(&claims), capacity);
        Some(claims)
    }

    fn put(&mut self, key: [u8; 32], claims: Arc<TaskClaims>, capacity: usize) {
        if self.young.len() >= (capacity / 2).max(1) {
            self.old = mem::take(&mut self.young);
        }
        if capacity > 0 {
            self.young.insert(key, claims);
        }
    }
}

impl fmt::Debug for Believed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Believed(at most {})", self.capacity)
    }
}
