//! OAuth for workloads: the endpoints that any OAuth library calls with an X.509-SVID as its client certificate (RFC 8705), and the token
//! endpoint also with a JWT-SVID and a proof of possession (RFC 9449), on the listener that wants no certificate.
//!
//! ```text
//! X.509-SVID, or JWT-SVID and DPoP ──its record in the ledger──> Client (node, instance, entry) ──┬─ /task/token       RFC 6749 4.4, RFC 8693
//!                                                                           ├─ /task/introspect  RFC 7662
//!                                                                           ├─ /task/revoke      RFC 7009
//!                                                                           └─ /task/events      what becomes of an audience's tasks
//! ```
//!
//! - Who calls is what the ledger says of the SVID: without a record of its issue for an instance of a live node, nothing is
//!   answered. A token in the request never stands for its bearer.
//! - A task begun here is the same as one begun at the node agent, under the same rules and recorded in the same way.

mod assertion;
mod client;
mod error;
mod events;
mod form;
mod introspect;
mod revoke;
mod token;
mod transaction;

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use mayfly_sdk::{dpop::DpopVerifier, tls::PeerInfo, wit::TargetUri};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

pub(super) use self::{client::Found, form::Form};
use super::receive::received;
use crate::{metrics::Metrics, mint::Minter};

/// Below the issuer identifier `https://HOST/task`.
pub(super) const TOKEN: &str = "/task/token";
pub(super) const INTROSPECT: &str = "/task/introspect";
pub(super) const REVOKE: &str = "/task/revoke";
pub(super) const EVENTS: &str = "/task/events";
/// Proofs of possession that are remembered while they are good: over 1,000 a second, and over 200 of one key.
const MOST_PROOFS: usize = 100_000;

/// The endpoints. Shared behind an `Arc`.
#[derive(Debug)]
pub(super) struct OAuth {
    minter: Arc<Minter>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    /// What the ledger says of certificates, by SHA-256 of the leaf.
    found: Mutex<HashMap<[u8; 32], Found>>,
    /// Where clients without a certificate ask for tokens; none where nobody is named by a URL.
    public_token_endpoint: Option<TargetUri>,
    proofs: DpopVerifier,
}

/// One call: the endpoints, and the mTLS connection that it came over, if it was one.
#[derive(Debug, Clone)]
struct Call {
    oauth: Arc<OAuth>,
    info: Option<PeerInfo>,
}

impl OAuth {
    /// `url`: `https://HOST` of the public listener, where there is one.
    pub(super) fn new(
        minter: Arc<Minter>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
        url: Option<&str>,
    ) -> Arc<Self> {
        let public_token_endpoint = url.and_then(|url| format!("{}{TOKEN}", url.trim_end_matches('/')).parse().ok());
        let proofs = DpopVerifier::new(minter.directory.clock(), MOST_PROOFS);
        Arc::new(Self { minter, metrics, stop, found: Mutex::default(), public_token_endpoint, proofs })
    }

    /// What answers on one connection.
    pub(super) fn service(self: &Arc<Self>, info: PeerInfo) -> Router {
        Router::new()
            .route(TOKEN, post(token::answer))
            .route(INTROSPECT, post(introspect::answer))
            .route(REVOKE, post(revoke::answer))
            .route(EVENTS, get(events::answer))
            .fallback(async || (StatusCode::NOT_FOUND, "there is nothing at this path\n"))
            .layer(middleware::from_fn(received))
            .layer(middleware::map_response_with_state(Arc::clone(self), finish))
            .with_state(Call { oauth: Arc::clone(self), info: Some(info) })
    }

    /// Whether this is answered on the listener that wants no certificate.
    pub(super) fn is_public(&self, path: &str) -> bool {
        self.public_token_endpoint.is_some() && path == TOKEN
    }

    /// What answers there.
    pub(super) fn public_service(self: &Arc<Self>) -> Router {
        Router::new()
            .route(TOKEN, post(token::answer))
            .layer(middleware::from_fn(received))
            .layer(middleware::map_response_with_state(Arc::clone(self), finish))
            .with_state(Call { oauth: Arc::clone(self), info: None })
    }
}

/// Every answer is for its asker alone.
async fn finish(axum::extract::State(oauth): axum::extract::State<Arc<OAuth>>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    oauth.metrics.web_answered(response.status().as_u16());
    response
}

/// A JSON object as an answer.
fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    (status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}
