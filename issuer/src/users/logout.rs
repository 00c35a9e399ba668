//! What a logout token says (OpenID Connect Back-Channel Logout 1.0, 2.4 and 2.6).

use mayfly_sdk::{Refusal, Timestamp, jws::Object};
use serde_json::Value;

use super::{config::UserProvider, session, subject::check_audience, user};
use crate::{
    mint::sha256,
    oidc::{Claims, LEEWAY, MAX_ID, Times, invalid, text},
    store::UsedToken,
    task::Logout,
};

/// The event that makes a token a logout token.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Checks the claims of a token whose signature holds.
///
/// # Errors
/// [`mayfly_sdk::Reason::WrongAudience`], [`mayfly_sdk::Reason::Expired`], [`mayfly_sdk::Reason::NotYetValid`],
/// [`mayfly_sdk::Reason::TokenInvalid`].
pub(super) fn check(claims: Claims, provider: &UserProvider, now: Timestamp) -> Result<Logout, Refusal> {
    let all = claims.all;
    if text(&all, "iss", MAX_ID)? != Some(provider.oidc.issuer()) {
        return Err(invalid("the token is of another issuer"));
    }
    check_audience(&all, &provider.audience)?;
    let Times { expires_at, issued_at } = Times::check(&all, provider.oidc.token_life(), now)?;
    let at = issued_at.ok_or_else(|| invalid("the token does not say when it was issued (iat)"))?;
    let subject = text(&all, "sub", MAX_ID)?.map(|subject| user(&provider.oidc, subject)).transpose()?;
    let session = session(&all)?.map(|session| session.to_string());
    if subject.is_none() && session.is_none() {
        return Err(invalid("the logout token names neither a user (sub) nor a session (sid)"));
    }
    if !is_logout(&all) {
        return Err(invalid("the token has no event of a logout (events)"));
    }
    // What has a nonce is an ID token that somebody shows for a logout.
    if all.contains_key("nonce") {
        return Err(invalid("a logout token has no nonce"));
    }
    let id = text(&all, "jti", MAX_ID)?.ok_or_else(|| invalid("the logout token has no id (jti)"))?;
    let issuer = sha256(&[provider.oidc.issuer().as_bytes()]);
    Ok(Logout {
        provider: provider.oidc.name().clone(),
        subject,
        session,
        at,
        // It must be remembered for as long as it is accepted.
        token: UsedToken {
            sha256: sha256(&[&issuer, b"logout", id.as_bytes()]),
            expires_at: expires_at.saturating_add(LEEWAY),
        },
    })
}

fn is_logout(claims: &Object) -> bool {
    matches!(claims.get("events"), Some(Value::Object(events)) if events.get(EVENT).is_some_and(Value::is_object))
}
