//! What a token says: whether it is for here and now, and what it makes its bearer.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use mayfly_sdk::{Reason, Refusal, Selector, Timestamp, TrustDomain, jws::Object};
use serde_json::Value;

use super::{VerifiedToken, provider::Provider};
use crate::{
    mint::sha256,
    oidc::{Claims, LEEWAY, MAX_ID, Times, invalid, shown, text},
    registry::AgentlessCaller,
    store::UsedToken,
};

/// The longest value that becomes a selector, bytes; a longer one becomes none.
const MAX_VALUE: usize = 1024;
/// The most selectors of one token.
const MAX_SELECTORS: usize = 256;
/// Claims about the token and not about its bearer.
const ABOUT_THE_TOKEN: [&str; 6] = ["aud", "exp", "iat", "nbf", "jti", "auth_time"];

/// Checks the claims of a token whose signature holds.
///
/// # Errors
/// [`Reason::WrongAudience`], [`Reason::Expired`], [`Reason::NotYetValid`], [`Reason::TokenInvalid`].
pub(super) fn check(
    claims: Claims,
    provider: &Provider,
    trust_domain: &TrustDomain,
    now: Timestamp,
) -> Result<VerifiedToken, Refusal> {
    let Claims { all, signed_sha256 } = claims;
    // The issuer chose the key before the signature was checked; now it counts.
    if text(&all, "iss", MAX_ID)? != Some(provider.issuer()) {
        return Err(invalid("the token is of another issuer"));
    }
    check_audience(&all, trust_domain)?;
    let times = Times::check(&all, provider.token_life(), now)?;
    // It must be remembered for as long as it is accepted.
    let expires_at = times.expires_at.saturating_add(LEEWAY);
    let subject = text(&all, "sub", MAX_ID)?.ok_or_else(|| invalid("the token does not say who it is for (sub)"))?;
    let id = text(&all, "jti", MAX_ID)?;
    // One name space for each provider, and the two kinds of id cannot be taken for each other.
    let issuer = sha256(&[provider.issuer().as_bytes()]);
    let used = match id {
        Some(id) => sha256(&[&issuer, b"jti", id.as_bytes()]),
        None if provider.requires_jti() => {
            return Err(invalid("the token has no id (jti), so that it could be used twice"));
        }
        None => sha256(&[&issuer, b"signed", &signed_sha256]),
    };
    let actor = Arc::from(format!("oidc:{}:{subject}", provider.name()));
    let caller = AgentlessCaller {
        origin: provider.origin().clone(),
        issuer: Arc::clone(provider.name()),
        claims: selectors(&all)?.into(),
    };
    Ok(VerifiedToken { caller, used: UsedToken { sha256: used, expires_at }, actor })
}

/// One audience, and that is this trust domain: a token that others were given too might come from one of them.
fn check_audience(claims: &Object, trust_domain: &TrustDomain) -> Result<(), Refusal> {
    let audience = match claims.get("aud") {
        Some(Value::String(one)) => Some(one.as_str()),
        Some(Value::Array(all)) => match all.as_slice() {
            [one] => one.as_str(),
            _ => None,
        },
        _ => None,
    };
    let name = audience.map(|audience| audience.strip_prefix("spiffe://").unwrap_or(audience));
    if name == Some(trust_domain.as_str()) {
        return Ok(());
    }
    let what = match audience {
        Some(other) => format!("the token is for {:?}, and not for {trust_domain} alone", shown(other)),
        None => format!("the token must be for {trust_domain}, and for nobody else"),
    };
    Err(Refusal::new(Reason::WrongAudience, what))
}

/// The claims as selectors: texts, whole numbers and booleans, and lists of them. What cannot be a selector is none, and then
/// no entry that asks for it matches: conditions only ever ask for what is there.
fn selectors(claims: &Object) -> Result<Vec<Selector>, Refusal> {
    let mut selectors = Vec::new();
    for (name, value) in claims.iter().filter(|(name, _)| !ABOUT_THE_TOKEN.contains(&name.as_str())) {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values.iter().filter_map(scalar).filter(|value| value.len() <= MAX_VALUE) {
            if let Ok(selector) = Selector::new("oidc", name, &value)
                && !selectors.contains(&selector)
            {
                if selectors.len() >= MAX_SELECTORS {
                    return Err(invalid(format!("the token has more than {MAX_SELECTORS} claims")));
                }
                selectors.push(selector);
            }
        }
    }
    Ok(selectors)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => {
            number.as_i64().map(|n| n.to_string()).or_else(|| number.as_u64().map(|n| n.to_string()))
        }
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
