//! How far a wall clock has proved itself.

use std::time::Duration;

use mayfly_sdk::{Clock, Timestamp};

use super::due::Moment;

/// A jump forward up to this is what NTP does and sleeping takes.
const TOLERATED_MS: i64 = 5_000;

/// Follows the wall clock. After a jump forward it catches up at double speed, so that a jump of an hour takes an hour
/// to be believed, and one that is taken back in that time never was. It goes backwards with the clock at once.
#[derive(Debug)]
pub(super) struct Settling {
    settled_ms: i64,
    at: Duration,
}

impl Settling {
    /// At start there is nothing to compare the clock with: it is believed.
    pub(super) fn new(clock: &Clock) -> Self {
        Self { settled_ms: clock.now_ms(), at: clock.monotonic() }
    }

    pub(super) fn read(&mut self, clock: &Clock) -> Moment {
        let (now_ms, at) = (clock.now_ms(), clock.monotonic());
        let elapsed_ms = i64::try_from(at.saturating_sub(self.at).as_millis()).unwrap_or(i64::MAX);
        let expected = self.settled_ms.saturating_add(elapsed_ms);
        let jumped = now_ms > expected.saturating_add(TOLERATED_MS);
        self.settled_ms = if jumped { expected.saturating_add(elapsed_ms) } else { now_ms };
        self.at = at;
        let seconds = |ms: i64| Timestamp::from_unix_s(ms.div_euclid(1000));
        Moment { now: seconds(now_ms), settled: seconds(self.settled_ms.min(now_ms)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_s(1_800_000_000);
    const HOUR: i64 = 3600;

    fn after(seconds: i64) -> Timestamp {
        Timestamp::from_unix_s(START.unix_s() + seconds)
    }

    #[test]
    fn a_steady_clock_is_believed() {
        let (clock, hand) = Clock::manual(START);
        let mut settling = Settling::new(&clock);
        for minute in 1..=60 {
            hand.advance(Duration::from_mins(1));
            assert_eq!(settling.read(&clock), Moment::certain(after(minute * 60)));
        }
    }

    #[test]
    fn a_jump_of_an_hour_takes_an_hour_to_be_believed() {
        let (clock, hand) = Clock::manual(START);
        let mut settling = Settling::new(&clock);
        hand.set_wall(after(HOUR));
        assert_eq!(settling.read(&clock), Moment { now: after(HOUR), settled: START });
        hand.advance(Duration::from_mins(30));
        assert_eq!(settling.read(&clock), Moment { now: after(HOUR + 1800), settled: after(HOUR) });
        hand.advance(Duration::from_mins(30));
        assert_eq!(settling.read(&clock), Moment::certain(after(2 * HOUR)));
    }

    #[test]
    fn a_jump_that_is_taken_back_never_was() {
        let (clock, hand) = Clock::manual(START);
        let mut settling = Settling::new(&clock);
        hand.set_wall(after(HOUR));
        settling.read(&clock);
        hand.set_wall(after(-10));
        assert_eq!(settling.read(&clock), Moment::certain(after(-10)));
    }
}
