use serde_json::Value;

use super::{JwtError, MAX_AUDIENCES};
use crate::claims::{subject, time};
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
