//! Public keys that are certified now, and for whom: one key never stands for two nodes, entries or instances.
//!
//! Kept in memory only. After a restart it fills again as SVIDs are renewed; until then a key that another holder had
//! registered is noticed no longer than that holder's SVID lives.

use std::collections::HashMap;

use mayfly_sdk::{
    reason::{Reason, Refusal},
    time::Timestamp,
};
use parking_lot::Mutex;
use ring::digest::{Context, SHA256};

const SHARDS: usize = 16;

/// Who holds a key: a digest of node, entry and instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder([u8; 16]);

impl Holder {
    /// The holder named by these parts, in this order.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        Self(first_half(context.finish().as_ref()))
    }
}

/// The set of live keys.
#[derive(Debug)]
pub struct LiveKeys {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    keys: HashMap<[u8; 16], Live>,
    sweep_at: usize,
}

#[derive(Clone, Copy, Debug)]
struct Live {
    holder: Holder,
    until: Timestamp,
}

impl Default for LiveKeys {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::new(Shard::default())) }
    }
}

impl LiveKeys {
    /// Notes that `holder` uses the key with this SHA-256 of its `SubjectPublicKeyInfo` until `until`.
    ///
    /// # Errors
    /// [`Reason::KeyInUse`] when another holder does.
    pub fn claim(&self, key: &[u8; 32], holder: Holder, until: Timestamp, now: Timestamp) -> Result<(), Refusal> {
        let id = first_half(key);
        let shard = usize::from(id.first().copied().unwrap_or_default()) % SHARDS;
        let Some(shard) = self.shards.get(shard) else { return Ok(()) };
        let mut shard = shard.lock();
        if shard.keys.len() >= shard.sweep_at {
            shard.keys.retain(|_, live| live.until >= now);
            shard.sweep_at = (shard.keys.len() * 2).max(1024);
        }
        match shard.keys.get_mut(&id) {
            Some(live) if live.holder != holder && live.until >= now => Err(Refusal::new(
                Reason::KeyInUse,
                "this public key is certified already, for another node, entry or instance",
            )),
            Some(live) => {
                *live = Live { holder, until: live.until.max(until) };
                Ok(())
            }
            None => {
                shard.keys.insert(id, Live { holder, until });
                Ok(())
            }
        }
    }
}

fn first_half(digest: &[u8]) -> [u8; 16] {
    let mut half = [0; 16];
    half.iter_mut().zip(digest).for_each(|(to, from)| *to = *from);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_s(1_800_000_000);
    const LATER: Timestamp = Timestamp::from_unix_s(1_800_000_900);

    #[test]
    fn a_key_belongs_to_one_holder_while_it_is_certified() {
        let keys = LiveKeys::default();
        let (ours, other) = (Holder::of(&[b"node-a", b"entry"]), Holder::of(&[b"node-b", b"entry"]));
        keys.claim(&[7; 32], ours, LATER, NOW).unwrap();
        keys.claim(&[7; 32], ours, LATER, NOW).unwrap();
        assert_eq!(keys.claim(&[7; 32], other, LATER, NOW).unwrap_err().reason, Reason::KeyInUse);
        keys.claim(&[8; 32], other, LATER, NOW).unwrap();
        keys.claim(&[7; 32], other, LATER, Timestamp::from_unix_s(LATER.unix_s() + 1)).unwrap();
    }

    #[test]
    fn parts_of_a_holder_do_not_run_into_each_other() {
        assert_ne!(Holder::of(&[b"ab", b"c"]), Holder::of(&[b"a", b"bc"]));
    }

    #[test]
    fn expired_keys_are_forgotten() {
        let keys = LiveKeys::default();
        let holder = Holder::of(&[b"node"]);
        for n in 0..200_000_u32 {
            let mut key = [0; 32];
            key.iter_mut().zip(n.wrapping_mul(2_654_435_761).to_be_bytes()).for_each(|(to, from)| *to = from);
            let now = Timestamp::from_unix_s(i64::from(n));
            keys.claim(&key, holder, Timestamp::from_unix_s(i64::from(n) + 10), now).unwrap();
        }
        let held: usize = keys.shards.iter().map(|shard| shard.lock().keys.len()).sum();
        assert!(held <= SHARDS * 2048, "{held}");
    }
}
