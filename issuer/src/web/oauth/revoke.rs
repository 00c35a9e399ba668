//! RFC 7009: who holds a task, or handed a part of it on, ends it by its token.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use mayfly_sdk::task::TaskState;
use mayfly_sdk::{Reason, Refusal, Serial};

use super::{Call, error::OAuthError, form::Form};
use crate::task::By;

pub(super) async fn answer(State(call): State<Call>, headers: HeaderMap, body: Bytes) -> Result<Response, OAuthError> {
    let client = call.client().await?;
    let form = Form::read(&headers, &body)?;
    let minter = &call.oauth.minter;
    let now = minter.directory.clock().now();
    // A token that is no good needs no revoking (RFC 7009 2.2).
    if let Ok(claims) = minter.task_keys().read(form.required("token")?, now) {
        let own = client.actor()?;
        if !claims.chain.contains(&own) {
            let what = "the client neither holds this token's task nor handed it on";
            return Err(Refusal::new(Reason::TaskTokenNotBound, what).into());
        }
        let by = By {
            node: Some(client.node.spiffe_id.clone()),
            request_id: Some(*Serial::generate(minter.directory.clock().now_ms())?.as_bytes()),
            actor: Some(Arc::from(own.spiffe_id.as_str())),
        };
        minter.tasks.set_state(claims.task.id, TaskState::Revoked, by).await?;
    }
    Ok(StatusCode::OK.into_response())
}
