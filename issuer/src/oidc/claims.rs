//! Claims of tokens of other people, read within bounds.

use mayfly_sdk::{Reason, Refusal, Timestamp, Ttl, jws::Object};
use serde_json::Value;

/// How far the clocks of provider and issuer may differ.
pub(crate) const LEEWAY: Ttl = Ttl::from_s(30);
/// The longest `jti` and `sub`, bytes.
pub(crate) const MAX_ID: usize = 1024;

/// When a token was made and when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// `exp`.
    pub(crate) expires_at: Timestamp,
    /// `iat`, if it says so.
    pub(crate) issued_at: Option<Timestamp>,
}

impl Times {
    /// Looks whether a token is valid now, and has no more than `longest` left.
    ///
    /// # Errors
    /// [`Reason::Expired`], [`Reason::NotYetValid`], [`Reason::TokenInvalid`].
    pub(crate) fn check(claims: &Object, longest: Ttl, now: Timestamp) -> Result<Self, Refusal> {
        let expires_at = time(claims, "exp")?.ok_or_else(|| invalid("the token does not say when it ends (exp)"))?;
        if expires_at.saturating_add(LEEWAY) < now {
            return Err(Refusal::new(Reason::Expired, format!("the token ended at {expires_at}")));
        }
        if expires_at > now.saturating_add(longest).saturating_add(LEEWAY) {
            let what = format!("the token ends at {expires_at}, and at most {longest} are accepted");
            return Err(invalid(what));
        }
        for name in ["nbf", "iat"] {
            if time(claims, name)?.is_some_and(|begins| begins > now.saturating_add(LEEWAY)) {
                return Err(Refusal::new(Reason::NotYetValid, format!("the token is not valid yet ({name})")));
            }
        }
        Ok(Self { expires_at, issued_at: time(claims, "iat")? })
    }
}

/// A claim that is text, and neither empty nor long.
pub(crate) fn text<'c>(claims: &'c Object, name: &str, most: usize) -> Result<Option<&'c str>, Refusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() && text.len() <= most => Ok(Some(text)),
        Some(_) => Err(invalid(format!("the claim {name} is not a text of 1 to {most} bytes"))),
    }
}

/// A claim that is a moment: whole seconds.
pub(crate) fn time(claims: &Object, name: &str) -> Result<Option<Timestamp>, Refusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => {
            let seconds = number.as_i64().filter(|seconds| (0..=253_402_300_799).contains(seconds));
            let seconds = seconds.ok_or_else(|| invalid(format!("the claim {name} is no moment in whole seconds")))?;
            Ok(Some(Timestamp::from_unix_s(seconds)))
        }
        Some(_) => Err(invalid(format!("the claim {name} is not a number"))),
    }
}

/// A token is not what it has to be.
pub(crate) fn invalid(what: impl Into<String>) -> Refusal {
    Refusal::new(Reason::TokenInvalid, what)
}
