//! How often something may happen, for each of many.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;

/// Above so many, those that have all they may have again are forgotten.
const LOOKED_AT: usize = 1024;

/// So many at once, and then so many a second, for each key.
#[derive(Debug)]
pub(crate) struct Rate<K> {
    per_s: f64,
    burst: f64,
    buckets: Mutex<Buckets<K>>,
}

#[derive(Debug)]
struct Buckets<K> {
    of: HashMap<K, Bucket>,
    /// At this size it is looked which can be forgotten.
    look_at: usize,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Duration,
}

impl<K: Hash + Eq + Clone> Rate<K> {
    /// `burst` at once, and `per_s` a second after that.
    pub(crate) fn new(per_s: f64, burst: f64) -> Self {
        Self { per_s, burst, buckets: Mutex::new(Buckets { of: HashMap::new(), look_at: LOOKED_AT }) }
    }

    /// One more, at a moment of the monotonic clock.
    ///
    /// # Errors
    /// After which time there is room again.
    pub(crate) fn take(&self, key: &K, now: Duration) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock();
        let refilled =
            |bucket: &Bucket| (bucket.left + now.saturating_sub(bucket.at).as_secs_f64() * self.per_s).min(self.burst);
        if buckets.of.len() >= buckets.look_at {
            buckets.of.retain(|_, bucket| refilled(bucket) < self.burst);
            buckets.look_at = LOOKED_AT.max(buckets.of.len() * 2);
        }
        let left = buckets.of.get(key).map_or(self.burst, refilled);
        if left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - left) / self.per_s));
        }
        buckets.of.insert(key.clone(), Bucket { left: left - 1.0, at: now });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_burst_and_then_its_rate_and_is_told_when_to_come_back() {
        let (rate, start) = (Rate::new(2.0, 3.0), Duration::from_secs(9));
        for _ in 0..3 {
            rate.take(&"a", start).unwrap();
        }
        assert_eq!(rate.take(&"a", start), Err(Duration::from_millis(500)));
        rate.take(&"b", start).unwrap();
        assert!(rate.take(&"a", start + Duration::from_millis(499)).is_err());
        rate.take(&"a", start + Duration::from_millis(500)).unwrap();
        // A refusal costs nothing, and an hour gives no more than the burst.
        let later = start + Duration::from_hours(1);
        for _ in 0..3 {
            rate.take(&"a", later).unwrap();
        }
        rate.take(&"a", later).unwrap_err();
    }

    #[test]
    fn whoever_comes_under_ever_new_names_takes_no_room_for_long() {
        let rate = Rate::new(1.0, 1.0);
        for n in 0..100_000_u32 {
            rate.take(&n, Duration::from_millis(u64::from(n))).unwrap();
        }
        assert!(rate.buckets.lock().of.len() <= 2 * LOOKED_AT, "{}", rate.buckets.lock().of.len());
    }
}
