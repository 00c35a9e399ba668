//! Times, lifetimes, and the one place that reads the clock.
//!
//! Decisions take `now` as an argument. Loops hold a [`Clock`]; renewal runs on [`Clock::monotonic`], because the wall
//! clock may jump, and looks at the wall clock at least every 60 s, because the monotonic one stands still while a
//! machine is suspended.

mod clock;
mod ttl;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use clock::{Clock, ClockHand};
pub use ttl::{Ttl, TtlError};

use crate::reason::{Reason, Refusal};

/// A moment of the wall clock, in whole Unix seconds. `Display` and serde write RFC 3339 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment this many seconds after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_unix_s(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn unix_s(self) -> i64 {
        self.0
    }

    /// The moment `ttl` later, or `None` beyond the end of time.
    #[must_use]
    pub const fn checked_add(self, ttl: Ttl) -> Option<Self> {
        match self.0.checked_add(ttl.as_s() as i64) {
            Some(seconds) => Some(Self(seconds)),
            None => None,
        }
    }

    /// The moment `ttl` later, at most the end of time.
    #[must_use]
    pub const fn saturating_add(self, ttl: Ttl) -> Self {
        Self(self.0.saturating_add(ttl.as_s() as i64))
    }

    /// The moment `ttl` earlier, at least the beginning of time.
    #[must_use]
    pub const fn saturating_sub(self, ttl: Ttl) -> Self {
        Self(self.0.saturating_sub(ttl.as_s() as i64))
    }

    /// Seconds from `earlier` to this moment; negative if it is in fact later.
    #[must_use]
    pub const fn seconds_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The time from now until this moment, or zero once it has passed. At most `u32::MAX` seconds.
    #[must_use]
    pub fn remaining(self, now: Self) -> Ttl {
        Ttl::from_s(u32::try_from(self.seconds_since(now).max(0)).unwrap_or(u32::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = OffsetDateTime::from_unix_timestamp(self.0).ok().and_then(|at| at.format(&Rfc3339).ok());
        match text {
            Some(text) => f.write_str(&text),
            // RFC 3339 ends with the year 9999.
            None => write!(f, "@{}", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not a time, or a span ends before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimeError {
    /// Not RFC 3339.
    #[error("a time is written as RFC 3339, for example 2026-01-31T12:00:00Z")]
    NotRfc3339,
    /// `not_after` lies before `not_before`.
    #[error("the validity ends before it begins")]
    EndsBeforeItBegins,
}

impl From<TimeError> for Refusal {
    fn from(error: TimeError) -> Self {
        Refusal::new(Reason::InvalidArgument, error.to_string())
    }
}

/// Reads RFC 3339 with any offset; a fraction of a second is dropped. `@seconds` is read too.
impl FromStr for Timestamp {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        if let Some(seconds) = text.strip_prefix('@') {
            return seconds.parse().ok().map(Self).ok_or(TimeError::NotRfc3339);
        }
        let at = OffsetDateTime::parse(text, &Rfc3339).ok().ok_or(TimeError::NotRfc3339)?;
        Ok(Self(at.unix_timestamp()))
    }
}

impl TryFrom<String> for Timestamp {
    type Error = TimeError;

    fn try_from(text: String) -> Result<Self, TimeError> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(at: Timestamp) -> String {
        at.to_string()
    }
}

/// The span in which a certificate, token or key may be used; both ends belong to it (RFC 5280 4.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Validity {
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Validity {
    /// The span from `not_before` to `not_after`.
    ///
    /// # Errors
    /// [`TimeError::EndsBeforeItBegins`].
    pub fn new(not_before: Timestamp, not_after: Timestamp) -> Result<Self, TimeError> {
        if not_after < not_before {
            return Err(TimeError::EndsBeforeItBegins);
        }
        Ok(Self { not_before, not_after })
    }

    /// The first moment of the span.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last moment of the span.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether `now` lies in the span.
    #[must_use]
    pub fn contains(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// Whether the span lies in `other`.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        other.not_before <= self.not_before && self.not_after <= other.not_after
    }

    /// The length of the span. At most `u32::MAX` seconds.
    #[must_use]
    pub fn lifetime(&self) -> Ttl {
        self.not_after.remaining(self.not_before)
    }

    /// What is left of the span at `now`; zero once it has passed.
    #[must_use]
    pub fn remaining(&self, now: Timestamp) -> Ttl {
        self.not_after.remaining(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_unix_s(1_760_000_000);

    #[test]
    fn a_time_is_written_as_rfc_3339_and_read_back() {
        assert_eq!(AT.to_string(), "2025-10-09T08:53:20Z");
        assert_eq!("2025-10-09T08:53:20Z".parse(), Ok(AT));
        assert_eq!("2025-10-09T10:53:20.9+02:00".parse(), Ok(AT));
        assert_eq!("2025-10-09".parse::<Timestamp>(), Err(TimeError::NotRfc3339));
        let far = Timestamp::from_unix_s(i64::MAX);
        assert_eq!(far.to_string().parse(), Ok(far));
    }

    #[test]
    fn both_ends_belong_to_a_validity() {
        let end = AT.checked_add(Ttl::from_s(900)).unwrap();
        let validity = Validity::new(AT, end).unwrap();
        assert!(validity.contains(AT) && validity.contains(end));
        assert!(!validity.contains(AT.saturating_sub(Ttl::from_s(1))));
        assert!(!validity.contains(end.saturating_add(Ttl::from_s(1))));
        assert_eq!(validity.lifetime().as_s(), 900);
        assert_eq!(validity.remaining(end), Ttl::ZERO);
        let span = |from: i64, until: i64| {
            let at = |seconds| Timestamp::from_unix_s(AT.unix_s() + seconds);
            Validity::new(at(from), at(until)).unwrap()
        };
        assert!(span(0, 900).is_within(&validity) && span(1, 899).is_within(&validity));
        assert!(!span(-1, 900).is_within(&validity) && !span(0, 901).is_within(&validity));
        assert_eq!(Validity::new(end, AT), Err(TimeError::EndsBeforeItBegins));
    }

    #[test]
    fn arithmetic_stops_at_the_ends_of_time() {
        let last = Timestamp::from_unix_s(i64::MAX);
        assert_eq!(last.checked_add(Ttl::from_s(1)), None);
        assert_eq!(last.saturating_add(Ttl::from_s(1)), last);
        assert_eq!(last.remaining(Timestamp::from_unix_s(i64::MIN)), Ttl::from_s(u32::MAX));
    }
}
