use std::time::Duration;

use mayfly_sdk::{Clock, Timestamp, Ttl};

/// The times of a credential, relative to the moment when it came: the monotonic clock decides, and the wall clock can only make a renewal
/// earlier (the monotonic one stands still while the machine is suspended). A wall clock that jumps never discards anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    lifetime: Duration,
    ends: Duration,
    renew: Duration,
    renew_wall: Timestamp,
}

/// At most this long before it is due may a renewal ride along with another one.
const EARLIEST: Duration = Duration::from_secs(2);

impl Life {
    /// What the issuer said when it sent the credential, seconds from then.
    pub(crate) fn begin(lifetime_s: u32, renew_after_s: u32, clock: &Clock) -> Self {
        let (now, lifetime) = (clock.monotonic(), Duration::from_secs(lifetime_s.into()));
        let renew_after = Ttl::from_s(renew_after_s.min(lifetime_s));
        Self {
            lifetime,
            ends: now + lifetime,
            renew: now + renew_after.duration(),
            renew_wall: clock.now().saturating_add(renew_after),
        }
    }

    /// A life of which nothing is left, until somebody says otherwise.
    pub(crate) fn ended() -> Self {
        let never = Duration::ZERO;
        Self { lifetime: never, ends: never, renew: never, renew_wall: Timestamp::from_unix_s(0) }
    }

    /// The rest of a life that began before a restart.
    pub(crate) fn restored(lifetime: Duration, remaining: Duration, renew_in: Duration, clock: &Clock) -> Self {
        let now = clock.monotonic();
        let renew_in_s = u32::try_from(renew_in.as_secs()).unwrap_or(u32::MAX);
        Self {
            lifetime,
            ends: now + remaining,
            renew: now + renew_in,
            renew_wall: clock.now().saturating_add(Ttl::from_s(renew_in_s)),
        }
    }

    /// When it ends, on the monotonic clock.
    pub(crate) fn ends(&self) -> Duration {
        self.ends
    }

    /// When to renew it, on the monotonic clock.
    pub(crate) fn renew(&self) -> Duration {
        self.renew
    }

    /// How much earlier it may be renewed, so that several renewals become one call.
    pub(crate) fn slack(&self) -> Duration {
        (self.lifetime / 20).min(EARLIEST)
    }

    pub(crate) fn remaining(&self, now: Duration) -> Duration {
        self.ends.saturating_sub(now)
    }

    pub(crate) fn must_be_renewed(&self, clock: &Clock) -> bool {
        clock.monotonic() >= self.renew || clock.now() >= self.renew_wall
    }

    /// Whether it may be handed out by somebody who wants `floor` left of it at least.
    pub(crate) fn has_left(&self, floor: Duration, now: Duration) -> bool {
        let remaining = self.remaining(now);
        !remaining.is_zero() && remaining >= floor
    }

    /// The least that a cached token is handed out with: a minute, or a fifth of its life if that is less.
    pub(crate) fn floor(&self) -> Duration {
        (self.lifetime / 5).min(Duration::from_mins(1))
    }

    /// The whole of it.
    pub(crate) fn lifetime(&self) -> Duration {
        self.lifetime
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_s(1_760_000_000);

    #[test]
    fn a_wall_clock_that_jumps_renews_early_and_discards_nothing() {
        let (clock, hand) = Clock::manual(START);
        let life = Life::begin(900, 450, &clock);
        assert!(!life.must_be_renewed(&clock));
        hand.set_wall(START.saturating_add(Ttl::from_s(3600)));
        assert!(life.must_be_renewed(&clock));
        assert_eq!(life.remaining(clock.monotonic()), Duration::from_mins(15));
        hand.set_wall(START.saturating_sub(Ttl::from_s(3600)));
        assert!(!life.must_be_renewed(&clock));
        hand.advance(Duration::from_secs(450));
        assert!(life.must_be_renewed(&clock), "the monotonic clock does not care for the jump back");
    }

    #[test]
    fn a_token_is_not_handed_out_near_its_end() {
        let (clock, hand) = Clock::manual(START);
        let life = Life::begin(300, 150, &clock);
        hand.advance(Duration::from_mins(4));
        assert!(life.has_left(life.floor(), clock.monotonic()));
        hand.advance(Duration::from_secs(1));
        assert!(!life.has_left(life.floor(), clock.monotonic()));
        assert_eq!(Life::begin(20, 10, &clock).floor(), Duration::from_secs(4));
    }
}
