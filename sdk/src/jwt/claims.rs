use serde_json::Value;

use super::{JwtError, MAX_AUDIENCES};
use crate::id::SpiffeId;
use crate::json::Object;
use crate::time::Timestamp;

/// The claims of a token that nobody has checked. Only its holder may rely on them.
#[derive(Debug, Clone)]
pub struct UnverifiedJwt {
    spiffe_id: SpiffeId,
    audience: Vec<String>,
    expires_at: Timestamp,
    not_before: Option<Timestamp>,
    issued_at: Option<Timestamp>,
    claims: Object,
}

impl UnverifiedJwt {
    pub(super) fn from_claims(claims: Object) -> Result<Self, JwtError> {
        Ok(Self {
            spiffe_id: subject(&claims)?,
            audience: audience(&claims)?,
            expires_at: time(&claims, "exp")?.ok_or(JwtError::NoExpiry)?,
            not_before: time(&claims, "nbf")?,
            issued_at: time(&claims, "iat")?,
            claims,
        })
    }

    /// Who it names.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    /// All its audiences, in the order of the token.
    #[must_use]
    pub fn audience(&self) -> &[String] {
        &self.audience
    }

    /// From when on it is not valid.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// From when on it is valid, if it says so.
    #[must_use]
    pub fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }

    /// When it was issued, if it says so.
    #[must_use]
    pub fn issued_at(&self) -> Option<Timestamp> {
        self.issued_at
    }

    /// All its claims.
    #[must_use]
    pub fn claims(&self) -> &Object {
        &self.claims
    }
}

pub(super) fn subject(claims: &Object) -> Result<SpiffeId, JwtError> {
    let subject = claims.get("sub").and_then(Value::as_str).ok_or(JwtError::NoSubject)?;
    if subject.is_empty() {
        return Err(JwtError::NoSubject);
    }
    subject.parse().map_err(JwtError::BadSubject)
}

/// One text, or a list of texts (decision K6); none of them empty.
fn audience(claims: &Object) -> Result<Vec<String>, JwtError> {
    let one = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        _ => Err(JwtError::BadAudience),
    };
    match claims.get("aud") {
        Some(Value::Array(list)) if (1..=MAX_AUDIENCES).contains(&list.len()) => list.iter().map(one).collect(),
        Some(text @ Value::String(_)) => Ok(vec![one(text)?]),
        _ => Err(JwtError::BadAudience),
    }
}

/// A `NumericDate` (RFC 7519 2): a number of seconds, of which a fraction is dropped.
fn time(claims: &Object, name: &str) -> Result<Option<Timestamp>, JwtError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_i64().or_else(|| value.as_f64().and_then(whole)).ok_or(JwtError::BadTime)?;
    if seconds < 0 { Err(JwtError::BadTime) } else { Ok(Some(Timestamp::from_unix_s(seconds))) }
}

fn whole(seconds: f64) -> Option<i64> {
    // Within 2^53 every whole number is exact; a time beyond it is no time.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "within 2^53, and the fraction is to be dropped")]
    (0.0..EXACT).contains(&seconds).then_some(seconds as i64)
}
