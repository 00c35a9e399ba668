use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Timestamp;

/// Where loops read the time. Cheap to clone; clones read the same clock.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    /// The machine's clocks.
    System { started: Instant },
    /// Stands still until its hand is moved.
    Manual { wall_ms: AtomicI64, monotonic_ms: AtomicI64 },
    /// Follows tokio's clock, so that pausing tokio moves certificate time too.
    #[cfg(feature = "tokio-clock")]
    Tokio { wall_ms: i64, started: tokio::time::Instant },
}

impl Clock {
    /// The machine's own clocks. One is made for each process.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn system() -> Self {
        Self(Arc::new(Source::System { started: Instant::now() }))
    }

    /// A clock that stands at `start` until somebody moves its hand. For tests.
    #[must_use]
    pub fn manual(start: Timestamp) -> (Self, ClockHand) {
        let wall_ms = AtomicI64::new(start.unix_s().saturating_mul(1000));
        let clock = Self(Arc::new(Source::Manual { wall_ms, monotonic_ms: AtomicI64::new(0) }));
        (clock.clone(), ClockHand(clock))
    }

    /// A clock that starts at `start` and then follows tokio's, which tests pause and advance.
    #[cfg(feature = "tokio-clock")]
    #[must_use]
    pub fn anchored_to_tokio(start: Timestamp) -> Self {
        let wall_ms = start.unix_s().saturating_mul(1000);
        Self(Arc::new(Source::Tokio { wall_ms, started: tokio::time::Instant::now() }))
    }

    /// The wall clock, in whole seconds.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_unix_s(self.now_ms().div_euclid(1000))
    }

    /// The wall clock, in Unix milliseconds.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn now_ms(&self) -> i64 {
        match &*self.0 {
            Source::System { .. } => match SystemTime::now().duration_since(UNIX_EPOCH) {
                Ok(since) => whole_ms(since),
                Err(before) => whole_ms(before.duration()).saturating_neg(),
            },
            Source::Manual { wall_ms, .. } => wall_ms.load(Ordering::Relaxed),
            #[cfg(feature = "tokio-clock")]
            Source::Tokio { wall_ms, started } => wall_ms.saturating_add(whole_ms(started.elapsed())),
        }
    }

    /// Time since the clock was made. Never goes back; stands still while the machine is suspended.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        match &*self.0 {
            Source::System { started } => started.elapsed(),
            Source::Manual { monotonic_ms, .. } => {
                Duration::from_millis(u64::try_from(monotonic_ms.load(Ordering::Relaxed)).unwrap_or(0))
            }
            #[cfg(feature = "tokio-clock")]
            Source::Tokio { started, .. } => started.elapsed(),
        }
    }
}

/// Moves a clock made by [`Clock::manual`].
#[derive(Debug)]
pub struct ClockHand(Clock);

impl ClockHand {
    /// Lets time pass: both the wall and the monotonic clock go forward.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { wall_ms, monotonic_ms } = &*self.0.0 {
            wall_ms.fetch_add(whole_ms(by), Ordering::Relaxed);
            monotonic_ms.fetch_add(whole_ms(by), Ordering::Relaxed);
        }
    }

    /// Sets the wall clock, as an administrator or NTP does; the monotonic clock does not notice.
    pub fn set_wall(&self, to: Timestamp) {
        if let Source::Manual { wall_ms, .. } = &*self.0.0 {
            wall_ms.store(to.unix_s().saturating_mul(1000), Ordering::Relaxed);
        }
    }
}

fn whole_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_s(1_760_000_000);

    #[test]
    fn a_manual_clock_stands_still_until_it_is_moved() {
        let (clock, hand) = Clock::manual(START);
        assert_eq!((clock.now(), clock.monotonic()), (START, Duration::ZERO));
        hand.advance(Duration::from_millis(1500));
        assert_eq!((clock.now_ms(), clock.monotonic()), (1_760_000_001_500, Duration::from_millis(1500)));
        hand.set_wall(START);
        assert_eq!((clock.now(), clock.monotonic()), (START, Duration::from_millis(1500)));
    }

    #[test]
    fn the_system_clock_reads_a_time_after_this_was_written() {
        let clock = Clock::system();
        assert!(clock.now() > Timestamp::from_unix_s(1_700_000_000));
        assert_eq!(clock.now().unix_s() / 10, clock.now_ms() / 10_000);
    }

    #[cfg(feature = "tokio-clock")]
    #[tokio::test(start_paused = true)]
    async fn an_anchored_clock_follows_tokio() {
        let clock = Clock::anchored_to_tokio(START);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!((clock.now().unix_s(), clock.monotonic()), (START.unix_s() + 5, Duration::from_secs(5)));
    }
}
