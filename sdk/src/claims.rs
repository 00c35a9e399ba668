//! Claims that several kinds of token have, read in one way.

use serde_json::Value;

use crate::id::{IdError, SpiffeId};
use crate::json::Object;
use crate::time::Timestamp;

/// Why a claim cannot be read. Each kind of token says it in its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClaimError {
    /// `sub` is missing, empty, or not a string.
    NoSubject,
    /// `sub` is not a SPIFFE ID.
    BadSubject(IdError),
    /// A time is not a number of seconds.
    BadTime,
}

/// The SPIFFE ID in `sub`.
pub(crate) fn subject(claims: &Object) -> Result<SpiffeId, ClaimError> {
    let subject = claims.get("sub").and_then(Value::as_str).ok_or(ClaimError::NoSubject)?;
    if subject.is_empty() {
        return Err(ClaimError::NoSubject);
    }
    subject.parse().map_err(ClaimError::BadSubject)
}

/// A `NumericDate` (RFC 7519 2): a number of seconds, of which a fraction is dropped.
pub(crate) fn time(claims: &Object, name: &str) -> Result<Option<Timestamp>, ClaimError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_i64().or_else(|| value.as_f64().and_then(whole)).ok_or(ClaimError::BadTime)?;
    if seconds < 0 { Err(ClaimError::BadTime) } else { Ok(Some(Timestamp::from_unix_s(seconds))) }
}

fn whole(seconds: f64) -> Option<i64> {
    // Within 2^53 every whole number is exact; a time beyond it is no time.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "within 2^53, and the fraction is to be dropped")]
    (0.0..EXACT).contains(&seconds).then_some(seconds as i64)
}
