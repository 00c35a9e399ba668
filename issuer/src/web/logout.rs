//! Back-channel logout: an identity provider says that a user, or a session, has ended (OpenID Connect Back-Channel Logout 1.0).
//!
//! `POST /users/NAME/logout` with `logout_token`, from whoever has a token that the provider signed. Anybody may ask, so that
//! everything is bounded: the body, the time that it takes, one signature a call.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use mayfly_sdk::{
    Reason, Refusal,
    reason::{Retry, Whose},
};
use serde_json::json;

use super::{document::text, oauth::Form, receive::receive};
use crate::mint::Minter;

/// The endpoint of each provider.
#[derive(Debug)]
pub(super) struct Logouts {
    minter: Arc<Minter>,
}

impl Logouts {
    pub(super) fn new(minter: Arc<Minter>) -> Self {
        Self { minter }
    }

    /// The provider whose endpoint this path is.
    pub(super) fn at<'p>(&self, path: &'p str) -> Option<&'p str> {
        let name = path.strip_prefix("/users/")?.strip_suffix("/logout")?;
        self.minter.users.knows(name).then_some(name)
    }

    /// The answer to one request: 200 once the tasks are suspended; 400 for whatever is no good logout (2.8).
    pub(super) async fn answer<B>(&self, name: &str, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if *request.method() != Method::POST {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "a logout token is sent by POST\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        let (head, body) = request.into_parts();
        let mut response = match receive(body).await {
            Ok(body) => match self.log_out(name, &head.headers, &body).await {
                Ok(()) => Response::new(Body::empty()),
                Err(refusal) => refused(name, &refusal),
            },
            Err(response) => response,
        };
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    async fn log_out(&self, name: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), Refusal> {
        let form = Form::read(headers, body)?;
        let logout = self.minter.users.verify_logout(name, form.required("logout_token")?).await?;
        let suspended = self.minter.tasks.log_out(logout).await?;
        tracing::info!(provider = name, tasks = suspended.len(), "a user logged out");
        Ok(())
    }
}

fn refused(name: &str, refusal: &Refusal) -> Response<Body> {
    let reason = refusal.reason.code();
    tracing::warn!(provider = name, reason, what = refusal.what, "logout refused");
    // A provider that is told that its token is bad does not say it again.
    let status = match (refusal.reason, refusal.reason.whose(), refusal.reason.retry()) {
        (Reason::Internal | Reason::StoreCorrupt, ..) | (_, Whose::Bug, Retry::No) => StatusCode::INTERNAL_SERVER_ERROR,
        (_, Whose::Operator | Whose::Bug, Retry::Later) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    // What exactly is wrong stands in the log: whoever asks may be anybody.
    let body = json!({ "error": "invalid_request", "error_description": refusal.reason.remedy(), "reason": reason });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}
