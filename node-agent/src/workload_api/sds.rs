//! Envoy's secret discovery (SDS v3), for the same callers and under the same rules as the Workload API.
//!
//! ```text
//! requests ─> Subscription (names) ─┐
//!                                   ├─ render ─> SecretSet ─> whole state │ what has changed
//! Entitlement, leases, bundles ─────┘
//! ```
//!
//! A stream of secrets is a stream of the Workload API with another view: whoever calls is looked at again before each message, a message
//! goes out only when something in it has changed, and it is acknowledged to the issuer like any other. What a proxy says of itself (its node
//! id, its metadata) is believed in nothing that concerns who it is.
//!
//! - State of the world: a name that is not the caller's refuses the stream, with that name. Incremental: it is reported as removed.
//! - A message that the proxy has rejected is logged, and not sent again until something in it changes.
//! - No names at the start, or `*`, mean everything that the caller has, by SPIFFE ID.

mod secret;
mod subscription;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use mayfly_proto::sds as wire;
use mayfly_proto::sds::secret_discovery_service_server::SecretDiscoveryService;
use mayfly_sdk::{Reason, Refusal};
use tonic::{Request, Response, Status, Streaming};

use self::subscription::Asked;
pub use self::subscription::fuzz_secret_requests;
use self::view::{SecretSet, Secrets};
use super::caller::Caller;
use super::stream::follow;
use super::{Messages, Shared};
use crate::config::Sds;

/// The type of every resource here.
const SECRET_TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// The secret discovery service.
#[derive(Debug, Clone)]
pub(super) struct SecretApi {
    shared: Arc<Shared>,
    settings: Arc<Sds>,
}

impl SecretApi {
    pub(super) fn new(shared: &Arc<Shared>, settings: Sds) -> Self {
        Self { shared: Arc::clone(shared), settings: Arc::new(settings) }
    }

    /// The answers to these requests.
    fn answer<S, M>(&self, caller: Caller, asked: S, delta: bool) -> Result<Messages<M>, Refusal>
    where
        S: Stream<Item = Result<Asked, Status>> + Send + Sync + Unpin + 'static,
        M: From<SecretSet> + 'static,
    {
        let view = Secrets::new(Arc::clone(&self.settings), asked, delta);
        Ok(Box::pin(follow(&self.shared, caller, view)?.map(|set| set.map(M::from))))
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for SecretApi {
    type DeltaSecretsStream = Messages<wire::DeltaDiscoveryResponse>;
    type StreamSecretsStream = Messages<wire::DiscoveryResponse>;

    async fn delta_secrets(
        &self,
        request: Request<Streaming<wire::DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        let caller = Caller::of(&request)?;
        let asked = request.into_inner().map(|request| request.map(Asked::from));
        Ok(Response::new(self.answer(caller, asked, true)?))
    }

    async fn stream_secrets(
        &self,
        request: Request<Streaming<wire::DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let caller = Caller::of(&request)?;
        let asked = request.into_inner().map(|request| request.map(Asked::from));
        Ok(Response::new(self.answer(caller, asked, false)?))
    }

    async fn fetch_secrets(
        &self,
        request: Request<wire::DiscoveryRequest>,
    ) -> Result<Response<wire::DiscoveryResponse>, Status> {
        let caller = Caller::of(&request)?;
        let _call = self.shared.calls.call(caller.uid())?;
        let asked = tokio_stream::once(Ok(Asked::from(request.into_inner())));
        let mut answers = self.answer(caller, asked, false)?;
        let none = || Refusal::new(Reason::Unavailable, "there was no answer").into();
        answers.next().await.unwrap_or_else(|| Err(none())).map(Response::new)
    }
}
