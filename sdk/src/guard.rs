//! For services: task tokens verified in place, by keys and revocations that the node agent streams.
//!
//! ```text
//! SPIFFE_ENDPOINT_SOCKET ──WatchRevocations──> Guard ──layer()──> TaskLayer (axum, tonic, any tower service)
//!                                                                   │ mTLS peer, then token, then scope
//!                                       401, 403, a gRPC status <───┴───> the handler, with a Caller
//! ```
//!
//! A request costs no call to anybody: what the agent said last decides, and what it said is at most 30 s old (or
//! [`WhenStale`](crate::task::WhenStale) says what then). The entry of the service lists the audience in `serves`.
//!
//! ```no_run
//! use std::time::Duration;
//! use mayfly_sdk::client::Endpoint;
//! use mayfly_sdk::guard::Guard;
//! use mayfly_sdk::task::TaskVerifier;
//! use mayfly_sdk::{Clock, Refusal};
//!
//! # async fn example() -> Result<(), Refusal> {
//! let verifier = TaskVerifier::new("https://files.example.org/", &Clock::system());
//! let guard = Guard::start(Endpoint::from_env()?, verifier);
//! guard.ready(Duration::from_secs(10)).await?;
//! let layer = guard.layer().scope(["read"]);
//! # let _ = layer;
//! # Ok(())
//! # }
//! ```
//!
//! # Streams
//!
//! The layer decides when a call begins. One that goes on asks its [`Caller`] whether it is [still good](Caller::still_good), or
//! ends when it [no longer is](Caller::no_longer_good): when the task ends or is suspended, and when the token expires. The client
//! calls again, with the token of that moment.
//!
//! ```no_run
//! use mayfly_sdk::guard::Caller;
//! use tokio::sync::mpsc::{Receiver, Sender};
//! use tonic::Status;
//!
//! async fn stream<T>(caller: Caller, mut rows: Receiver<T>, client: Sender<Result<T, Status>>) {
//!     let sending = async {
//!         while let Some(row) = rows.recv().await {
//!             if client.send(Ok(row)).await.is_err() {
//!                 break;
//!             }
//!         }
//!     };
//!     tokio::select! {
//!         () = sending => {}
//!         denied = caller.no_longer_good() => drop(client.send(Err(denied.into())).await),
//!     }
//! }
//! ```
//!
//! # Records
//!
//! Each decision is one tracing event of the target `mayfly::decision`, with `jti`, `txn`, `task` and the `rule` that failed.

#[cfg(feature = "axum")]
mod axum;
mod challenge;
mod feed;
mod layer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::feed::Feed;
use crate::client::{Endpoint, SourceStatus, supervise};
use crate::reason::Refusal;
use crate::task::{Decision, Shown, TaskCaller, TaskTokenError, TaskVerifier};

#[cfg(feature = "axum")]
pub use self::axum::Listener;
pub use challenge::{Denial, Denied};
pub use layer::{Caller, TaskLayer, TaskService};

/// How long [`Guard::shutdown`] waits before it aborts.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// Decides about the task tokens of one audience, and follows what happens to them. Cheap to clone; the last clone (a layer
/// holds one, and each caller) ends it.
#[derive(Clone)]
pub struct Guard(Arc<Following>);

struct Following {
    feed: Arc<Feed>,
    stop: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
}

impl Guard {
    /// Begins to follow the audience of `verifier` at this node agent. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(endpoint: Endpoint, verifier: TaskVerifier) -> Self {
        let feed = Arc::new(Feed::new(verifier));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(supervise(Arc::clone(&feed), endpoint, stop.clone()));
        Self(Arc::new(Following { feed, stop, tasks: Mutex::new(tasks) }))
    }

    /// Waits until it can decide.
    ///
    /// # Errors
    /// Why it cannot: after `within` (the last refusal, or `source_not_ready`), or at once when the agent will never answer.
    pub async fn ready(&self, within: Duration) -> Result<(), Refusal> {
        let mut status = self.0.feed.watch_status();
        let settled = status.wait_for(|status| status.available || status.phase.is_final());
        // An elapsed time and a closed channel answer the same: what is there, or why it is not.
        drop(timeout(within, settled).await);
        self.0.feed.available()
    }

    /// How its feed fares: for health checks.
    #[must_use]
    pub fn status(&self) -> SourceStatus {
        self.0.feed.watch_status().borrow().clone()
    }

    /// Whether something was heard within 30 s.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.0.feed.verifier().is_fresh()
    }

    /// Decides about a token from whoever has shown this. A key that is not known makes it open its feed anew, at most every
    /// 30 s. No record is made: the layer does that for what it decides.
    #[must_use]
    pub fn decide(&self, token: &str, shown: Shown<'_>) -> Decision {
        let decision = self.0.feed.verifier().decide(token, shown);
        if decision.verdict.as_ref().is_err_and(|error| *error == TaskTokenError::UnknownKey) {
            self.0.feed.ask_anew();
        }
        decision
    }

    /// Whether a caller whom it has admitted would be admitted still ([`TaskVerifier::still_good`]).
    ///
    /// # Errors
    /// The first check that does not hold any more.
    pub fn still_good(&self, caller: &TaskCaller) -> Result<(), TaskTokenError> {
        self.0.feed.verifier().still_good(caller)
    }

    /// Waits until a caller whom it has admitted would not be admitted any more: why.
    pub async fn no_longer_good(&self, caller: &TaskCaller) -> TaskTokenError {
        self.0.feed.no_longer_good(caller).await
    }

    /// The resource that it decides for.
    #[must_use]
    pub fn audience(&self) -> &str {
        self.0.feed.verifier().audience()
    }

    /// A layer that admits whoever presents a good token of its own.
    #[must_use]
    pub fn layer(&self) -> TaskLayer {
        TaskLayer::new(self.clone())
    }

    /// The document that says where tokens for this resource come from (RFC 9728 2), to be served without a token at
    /// `/.well-known/oauth-protected-resource`; none before the issuer is known, or where it has no address for browsers.
    #[must_use]
    pub fn resource_metadata(&self, scopes: &[&str]) -> Option<Value> {
        let issuer = self.0.feed.verifier().issuer().filter(|issuer| issuer.starts_with("https://"))?;
        Some(json!({
            "resource": self.audience(),
            "authorization_servers": [issuer],
            "scopes_supported": scopes,
            "bearer_methods_supported": ["header"],
            "tls_client_certificate_bound_access_tokens": true,
            "authorization_details_types_supported": ["mcp_tool", "resource"],
        }))
    }

    /// Ends it within 5 s. What was known goes stale from then on.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        let mut tasks = self.0.tasks.lock().await;
        let drained = timeout(SHUTDOWN, async { while tasks.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tasks.shutdown().await;
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard({:?})", self.0.feed.verifier())
    }
}

#[cfg(test)]
mod tests;
