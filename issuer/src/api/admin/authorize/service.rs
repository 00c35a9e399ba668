//! [`authorize`] in front of a service; remote calls are bounded and recorded besides.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use mayfly_sdk::{Reason, Refusal, Serial, SpiffeId, tls::PeerInfo};
use parking_lot::Mutex;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{Authorized, Caller, authorize};
use crate::{
    api::admin::LocalCaller,
    directory::Directory,
    ledger::{Kind, Personal, Record},
    metrics::Metrics,
};

/// Remote calls under way at once: each may bring a file of entries.
const CALLS: usize = 8;
/// Of one caller.
const CALLS_OF_ONE: usize = 4;
/// At most one refusal of a remote caller is recorded in this time, so that refusals cannot fill the ledger. The metric
/// counts all.
const BETWEEN_REFUSALS: Duration = Duration::from_secs(1);

/// Puts [`authorize`] in front of a service.
#[derive(Debug, Clone)]
pub struct AuthorizeLayer(Arc<Gate>);

#[derive(Debug)]
struct Gate {
    directory: Arc<Directory>,
    metrics: Arc<Metrics>,
    under_way: Mutex<HashMap<SpiffeId, usize>>,
    refusal_recorded: Mutex<Option<Duration>>,
}

impl AuthorizeLayer {
    /// Grants are those of `directory`; refusals are counted in `metrics`.
    #[must_use]
    pub fn new(directory: Arc<Directory>, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Gate { directory, metrics, under_way: Mutex::default(), refusal_recorded: Mutex::default() }))
    }
}

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;

    fn layer(&self, inner: S) -> Authorize<S> {
        Authorize { inner, gate: Arc::clone(&self.0) }
    }
}

/// A service behind [`authorize`].
#[derive(Debug, Clone)]
pub struct Authorize<S> {
    inner: S,
    gate: Arc<Gate>,
}

impl<S> Service<http::Request<Body>> for Authorize<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // The clone is not ready yet, and the one that is goes with the call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let gate = Arc::clone(&self.gate);
        Box::pin(async move {
            let path = request.uri().path();
            let caller = caller(&request);
            let is_local = matches!(caller, Some(Caller::Local(_)));
            let open = is_local && (path.starts_with("/grpc.reflection.") || path.starts_with("/grpc.health."));
            let entered = match gate.admit(path, caller.as_ref()).await {
                Ok((authorized, entered)) => {
                    request.extensions_mut().insert(authorized);
                    entered
                }
                Err(_) if open => None,
                Err(refusal) => {
                    gate.refused(caller.as_ref(), &refusal).await;
                    return Ok(Status::from(refusal).into_http());
                }
            };
            let outcome = inner.call(request).await;
            drop(entered);
            outcome
        })
    }
}

/// Who is at the other end, as the listener found out.
fn caller(request: &http::Request<Body>) -> Option<Caller> {
    if let Some(local) = request.extensions().get::<Option<LocalCaller>>() {
        return local.map(Caller::Local);
    }
    let peer = request.extensions().get::<PeerInfo>()?.peer()?;
    Some(Caller::Remote(peer.spiffe_id().clone()))
}

impl Gate {
    async fn admit(&self, path: &str, caller: Option<&Caller>) -> Result<(Authorized, Option<Entered<'_>>), Refusal> {
        let now = self.directory.clock().now();
        let authorized = self.directory.with_registry(|registry| authorize(path, caller, registry, now))?;
        tracing::info!(actor = &**authorized.actor(), verb = authorized.verb(), "administration call");
        let Some(id) = authorized.remote().cloned() else { return Ok((authorized, None)) };
        let entered = self.enter(id)?;
        self.record(Kind::AdminCalled, caller, authorized.verb()).await?;
        Ok((authorized, Some(entered)))
    }

    fn enter(&self, id: SpiffeId) -> Result<Entered<'_>, Refusal> {
        let mut under_way = self.under_way.lock();
        if under_way.values().sum::<usize>() >= CALLS || under_way.get(&id).is_some_and(|calls| *calls >= CALLS_OF_ONE)
        {
            return Err(Refusal::new(Reason::Overloaded, "too many remote administration calls are under way"));
        }
        *under_way.entry(id.clone()).or_default() += 1;
        Ok(Entered { gate: self, id })
    }

    async fn refused(&self, caller: Option<&Caller>, refusal: &Refusal) {
        tracing::warn!(reason = refusal.reason.code(), what = refusal.what, "administration call refused");
        self.metrics.refused("admin", refusal.reason);
        if !matches!(caller, Some(Caller::Remote(_))) || !self.is_time_to_record() {
            return;
        }
        let detail = format!("administration: {}", refusal.reason.code());
        if let Err(error) = self.record(Kind::Refused, caller, &detail).await {
            tracing::warn!(reason = error.reason.code(), "a refused administration call was not recorded");
        }
    }

    fn is_time_to_record(&self) -> bool {
        let now = self.directory.clock().monotonic();
        let mut last = self.refusal_recorded.lock();
        let is_time = last.is_none_or(|last| now >= last + BETWEEN_REFUSALS);
        if is_time {
            *last = Some(now);
        }
        is_time
    }

    async fn record(&self, kind: Kind, caller: Option<&Caller>, detail: &str) -> Result<(), Refusal> {
        let actor = match caller {
            Some(Caller::Remote(id)) => Some(Arc::from(id.as_str())),
            Some(Caller::Local(_)) | None => None,
        };
        let personal = Personal { actor, detail: Some(detail.into()), spiffe_id: None };
        let record = Record { personal, ..Record::new(kind, Serial::generate(self.directory.clock().now_ms())?) };
        Ok(self.directory.record(vec![record]).await?)
    }
}

/// A remote call under way.
struct Entered<'g> {
    gate: &'g Gate,
    id: SpiffeId,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut under_way = self.gate.under_way.lock();
        if let Some(calls) = under_way.get_mut(&self.id) {
            *calls -= 1;
            if *calls == 0 {
                under_way.remove(&self.id);
            }
        }
    }
}
