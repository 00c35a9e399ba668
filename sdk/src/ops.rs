//! The daemons' loopback listener for operators: `/metrics` (`OpenMetrics` text), `/live` and `/ready`.
//!
//! It answers without authentication, so it binds loopback only unless the operator says otherwise, serves a bounded number of connections at
//! once, and gives each one a bounded time. `/live` says that the process serves at all; `/ready` asks the daemon, and says why not.

mod connection;
mod metric;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::connection::Bounded;
pub use self::metric::{Metric, MetricKind};

/// Whether a daemon can do its work now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether it can.
    pub ready: bool,
    /// A stable word for the state it is in, such as `in_sync`, or a reason code.
    pub state: String,
    /// What that means and what to do, for people.
    pub message: String,
}

impl Readiness {
    /// Ready, in a state of this name.
    pub fn ready(state: impl Into<String>, message: impl Into<String>) -> Self {
        Self { ready: true, state: state.into(), message: message.into() }
    }

    /// Not ready, and why.
    pub fn not_ready(state: impl Into<String>, message: impl Into<String>) -> Self {
        Self { ready: false, state: state.into(), message: message.into() }
    }
}

/// Why the listener could not be had. The operator's move.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpsError {
    /// The address is reachable from elsewhere and that was not asked for.
    #[error(
        "{0} is not a loopback address; metrics and health are not authenticated: use 127.0.0.1, or allow remote access explicitly"
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}; use a free port of this machine")]
    Bind {
        /// What was to be bound.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// The listener, bound and not yet serving.
#[derive(Debug)]
pub struct Ops {
    listener: TcpListener,
    address: SocketAddr,
}

impl Ops {
    /// Binds `address`. Port 0 takes a free one, which [`Self::address`] tells.
    ///
    /// # Errors
    /// [`OpsError::NotLoopback`] unless `allow_remote`, and whatever binding says.
    pub async fn bind(address: SocketAddr, allow_remote: bool) -> Result<Self, OpsError> {
        if !allow_remote && !address.ip().is_loopback() {
            return Err(OpsError::NotLoopback(address));
        }
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bound.await.map_err(|source| OpsError::Bind { address, source })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`. `ready` is asked at each request to `/ready` and must be quick.
    ///
    /// # Errors
    /// The listener failed for good.
    pub async fn run(
        self,
        registry: Arc<Registry>,
        ready: impl Fn() -> Readiness + Send + Sync + 'static,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let router = router(registry, Arc::new(ready));
        // Connections end by themselves within seconds (`connection`), so that nothing is left to drain for long.
        axum::serve(Bounded::new(self.listener), router)
            .with_graceful_shutdown(async move { stop.cancelled().await })
            .await
    }
}

type Ask = Arc<dyn Fn() -> Readiness + Send + Sync>;

fn router(registry: Arc<Registry>, ready: Ask) -> Router {
    let metrics = Router::new().route("/metrics", get(metrics)).with_state(registry);
    let health = Router::new().route("/live", get(live)).route("/ready", get(readiness)).with_state(ready);
    metrics.merge(health)
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind), (header::CONNECTION, "close")], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn live() -> Response {
    json(StatusCode::OK, r#"{"live":true}"#)
}

async fn readiness(State(ready): State<Ask>) -> Response {
    let state = ready();
    let code = if state.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(code, &serde_json::to_string(&state).unwrap_or_default())
}

fn json(code: StatusCode, body: &str) -> Response {
    (code, [(header::CONTENT_TYPE, "application/json"), (header::CONNECTION, "close")], format!("{body}\n"))
        .into_response()
}

#[cfg(test)]
mod tests;
