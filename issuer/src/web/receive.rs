//! The body of a request: whole, in time and bounded, or an answer that says which it was not.

use std::time::Duration;

use axum::{body::Body, extract::Request, middleware::Next};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::document::text;

/// The largest body, bytes: a token of 16 KiB, and what is around it.
const MOST: usize = 32 * 1024;
/// How long one may take to arrive.
const WITHIN: Duration = Duration::from_secs(5);

/// Reads a body.
///
/// # Errors
/// What to answer. The connection ends with it.
pub(super) async fn receive<B>(body: B) -> Result<Bytes, Response<Body>>
where
    B: hyper::body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let refused = |status, words| {
        let mut response = text(status, words);
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    };
    match tokio::time::timeout(WITHIN, Limited::new(body, MOST).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 32 KiB\n"))
        }
        Ok(Err(_)) => Err(refused(StatusCode::BAD_REQUEST, "the body did not arrive whole\n")),
        Err(_elapsed) => Err(refused(StatusCode::REQUEST_TIMEOUT, "the body took longer than 5 s\n")),
    }
}

/// Does so before anything else looks at a request.
pub(super) async fn received(request: Request, next: Next) -> Response<Body> {
    let (head, body) = request.into_parts();
    match receive(body).await {
        Ok(body) => next.run(Request::from_parts(head, Body::from(body))).await,
        Err(response) => response,
    }
}
