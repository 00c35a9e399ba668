//! How long to wait before a stream is opened again.

use std::time::Duration;

/// The first pause is between this and twice this.
const MIN: Duration = Duration::from_millis(200);
/// No pause is longer.
const MAX: Duration = Duration::from_secs(10);
/// A stream that delivered and lasted this long was a good one: its end is the first failure again.
const LASTED: Duration = Duration::from_secs(1);

/// Once at once (row WA-7), then exponential with jitter, from 200 ms to 10 s. A stream that delivers and ends at once,
/// over and over, is a failing one.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// A stream ended after `lasted` (`None`: it delivered nothing).
    pub(super) fn ended(&mut self, lasted: Option<Duration>) {
        if lasted.is_some_and(|lasted| lasted >= LASTED) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
    }

    /// Failures in a row.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// The pause before the next attempt; `random` is in 0..1, `asked` is what the server asked for.
    pub(super) fn pause(&self, random: f64, asked: Option<Duration>) -> Duration {
        let own = match self.failures {
            0 | 1 => Duration::ZERO,
            failures => {
                let doubled = MIN.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(MAX);
                (doubled / 2).mul_f64(1.0 + random.clamp(0.0, 1.0))
            }
        };
        own.max(asked.unwrap_or_default()).min(MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(random: f64) -> Vec<u128> {
        let mut backoff = Backoff::default();
        std::iter::repeat_with(|| {
            backoff.ended(None);
            backoff.pause(random, None).as_millis()
        })
        .take(9)
        .collect()
    }

    #[test]
    fn it_tries_at_once_then_ever_later_up_to_ten_seconds() {
        assert_eq!(pauses(0.0), [0, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
        assert_eq!(pauses(1.0), [0, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000, 10_000]);
        let mut old = Backoff { failures: u32::MAX };
        old.ended(None);
        assert_eq!(old.pause(1.0, None), MAX);
    }

    #[test]
    fn a_stream_that_lasted_starts_over_and_one_that_only_delivered_does_not() {
        let mut backoff = Backoff { failures: 5 };
        backoff.ended(Some(Duration::from_millis(10)));
        assert_eq!(backoff.failures(), 6);
        backoff.ended(Some(LASTED));
        assert_eq!((backoff.failures(), backoff.pause(1.0, None)), (1, Duration::ZERO));
    }

    #[test]
    fn what_the_server_asks_for_is_heeded_within_bounds() {
        let mut backoff = Backoff::default();
        backoff.ended(None);
        assert_eq!(backoff.pause(0.0, Some(Duration::from_secs(1))), Duration::from_secs(1));
        assert_eq!(backoff.pause(0.0, Some(Duration::from_hours(1))), MAX);
    }
}
