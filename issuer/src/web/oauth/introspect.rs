//! RFC 7662: whether a token is good at this moment, for a service whose entry serves its audience.

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use mayfly_sdk::task::TaskClaims;
use serde_json::{Value, json};

use super::{Call, error::OAuthError, form::Form};

/// What is said of a token that is not good, or not for the service that asks: nothing (RFC 7662 2.2).
fn inactive() -> Value {
    json!({"active": false})
}

pub(super) async fn answer(State(call): State<Call>, headers: HeaderMap, body: Bytes) -> Result<Response, OAuthError> {
    let client = call.client().await?;
    let form = Form::read(&headers, &body)?;
    let (token, minter) = (form.required("token")?, &call.oauth.minter);
    let claims = minter.task_keys().read(token, minter.directory.clock().now()).ok();
    let Some(claims) = claims.filter(|claims| client.entry.serves(claims.grant.audience())) else {
        return Ok(super::json(StatusCode::OK, &inactive()));
    };
    // Who presented it is the service's to compare with `cnf`, which is in the answer.
    let body = match minter.inspect(token, claims.grant.audience(), None) {
        Ok(claims) => active(&claims),
        Err(_refused) => inactive(),
    };
    Ok(super::json(StatusCode::OK, &body))
}

/// The claims. `act` is always there: whoever reads an answer never takes a delegate for the one on whose behalf it acts.
fn active(claims: &TaskClaims) -> Value {
    let mut members = claims.to_json();
    if !members.contains_key("act")
        && let Some(holder) = claims.holder()
    {
        members.insert("act".to_owned(), json!({"sub": holder.spiffe_id, "instance": holder.instance.to_string()}));
    }
    let token_type = if matches!(claims.binding, mayfly_sdk::task::Binding::Key(_)) { "DPoP" } else { "Bearer" };
    members.insert("active".to_owned(), true.into());
    members.insert("token_type".to_owned(), token_type.into());
    Value::Object(members)
}
