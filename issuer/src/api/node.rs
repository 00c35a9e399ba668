//! `mayfly.node.v1`: what node agents call. Every call but `Attest` and `MintAgentless` rests on a live node record with the
//! key of the TLS connection, never on a SPIFFE ID alone.

mod agentless;
mod attest;
mod audience;
mod hello;
mod mint;
mod renew;
mod sync;
mod task;
mod unproven;

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;
use mayfly_proto::node::{
    AttestRequest, AttestResponse, BeginTaskRequest, CheckTaskRequest, CheckTaskResponse, ConfirmTasksRequest,
    ConfirmTasksResponse, EndTaskRequest, EndTaskResponse, MintAgentlessRequest, MintAgentlessResponse, MintJwtRequest,
    MintJwtResponse, MintWitRequest, MintWitResponse, MintX509Request, MintX509Response, NodeSvid, RenewNodeRequest,
    RenewNodeResponse, RenewTaskRequest, SyncRequest, SyncResponse, TaskIssue, WatchAudienceRequest,
    node_service_server::NodeService,
};
use mayfly_proto::task::Revocations;
use mayfly_sdk::{Reason, Refusal, Timestamp, tls::PeerInfo};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    agentless::Agentless,
    attest::{Attestors, NodeLifetimes},
    authority::SignedX509,
    metrics::Metrics,
    mint::{Minter, renew_after_s, sha256},
    store::NodeRow,
};

pub use unproven::BoundUnproven;

/// A boxed stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Nodes {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    minter: Arc<Minter>,
    attestors: Attestors,
    agentless: Arc<Agentless>,
    /// Items in one minting call.
    batch: usize,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl Nodes {
    /// The service on what this issuer serves and signs with. Its streams end when `stop` is cancelled.
    #[must_use]
    pub fn new(
        minter: Arc<Minter>,
        attestors: Attestors,
        agentless: Arc<Agentless>,
        batch: usize,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        Self { inner: Arc::new(Inner { minter, attestors, agentless, batch, metrics, stop }) }
    }
}

#[tonic::async_trait]
impl NodeService for Nodes {
    type AttestStream = Answers<AttestResponse>;
    type SyncStream = Answers<SyncResponse>;
    type WatchAudienceStream = Answers<Revocations>;

    async fn attest(&self, request: Request<Streaming<AttestRequest>>) -> Result<Response<Self::AttestStream>, Status> {
        let peer = peer(&request)?.clone();
        Ok(Response::new(attest::answers(Arc::clone(&self.inner), peer, request.into_inner())))
    }

    async fn renew_node(&self, request: Request<RenewNodeRequest>) -> Result<Response<RenewNodeResponse>, Status> {
        let node = self.inner.caller(&request)?;
        Ok(Response::new(
            self.inner
                .renew(&node, request.into_inner())
                .await
                .map_err(|refusal| self.inner.refused("renew", refusal))?,
        ))
    }

    async fn sync(&self, request: Request<Streaming<SyncRequest>>) -> Result<Response<Self::SyncStream>, Status> {
        let node = self.inner.caller(&request)?;
        let close = peer(&request)?.close().clone();
        Ok(Response::new(sync::answers(Arc::clone(&self.inner), node, close, request.into_inner())))
    }

    async fn mint_x509(&self, request: Request<MintX509Request>) -> Result<Response<MintX509Response>, Status> {
        let node = self.inner.caller(&request)?;
        Ok(Response::new(
            self.inner
                .mint_x509(&node, request.into_inner())
                .await
                .map_err(|refusal| self.inner.refused("mint", refusal))?,
        ))
    }

    async fn mint_jwt(&self, request: Request<MintJwtRequest>) -> Result<Response<MintJwtResponse>, Status> {
        let node = self.inner.caller(&request)?;
        Ok(Response::new(
            self.inner
                .mint_jwt(&node, request.into_inner())
                .await
                .map_err(|refusal| self.inner.refused("mint", refusal))?,
        ))
    }

    async fn mint_wit(&self, request: Request<MintWitRequest>) -> Result<Response<MintWitResponse>, Status> {
        let node = self.inner.caller(&request)?;
        let minted = self.inner.mint_wit(&node, request.into_inner()).await;
        Ok(Response::new(minted.map_err(|refusal| self.inner.refused("mint", refusal))?))
    }

    async fn begin_task(&self, request: Request<BeginTaskRequest>) -> Result<Response<TaskIssue>, Status> {
        let node = self.inner.caller(&request)?;
        let begun = self.inner.begin_task(&node, request.into_inner()).await;
        Ok(Response::new(begun.map_err(|refusal| self.inner.refused("begin_task", refusal))?))
    }

    async fn renew_task(&self, request: Request<RenewTaskRequest>) -> Result<Response<TaskIssue>, Status> {
        let node = self.inner.caller(&request)?;
        let renewed = self.inner.renew_task(&node, request.into_inner()).await;
        Ok(Response::new(renewed.map_err(|refusal| self.inner.refused("renew_task", refusal))?))
    }

    async fn end_task(&self, request: Request<EndTaskRequest>) -> Result<Response<EndTaskResponse>, Status> {
        let node = self.inner.caller(&request)?;
        let ended = self.inner.end_task(&node, request.into_inner()).await;
        Ok(Response::new(ended.map_err(|refusal| self.inner.refused("end_task", refusal))?))
    }

    async fn confirm_tasks(
        &self,
        request: Request<ConfirmTasksRequest>,
    ) -> Result<Response<ConfirmTasksResponse>, Status> {
        let node = self.inner.caller(&request)?;
        let confirmed = self.inner.confirm_tasks(&node, request.into_inner()).await;
        Ok(Response::new(confirmed.map_err(|refusal| self.inner.refused("confirm_tasks", refusal))?))
    }

    async fn check_task(&self, request: Request<CheckTaskRequest>) -> Result<Response<CheckTaskResponse>, Status> {
        let node = self.inner.caller(&request)?;
        let checked = self.inner.check_task(&node, request.into_inner());
        Ok(Response::new(checked.map_err(|refusal| self.inner.refused("check_task", refusal))?))
    }

    async fn watch_audience(
        &self,
        request: Request<WatchAudienceRequest>,
    ) -> Result<Response<Self::WatchAudienceStream>, Status> {
        let node = self.inner.caller(&request)?;
        Ok(Response::new(audience::answers(Arc::clone(&self.inner), node, request.into_inner())))
    }

    async fn mint_agentless(
        &self,
        request: Request<MintAgentlessRequest>,
    ) -> Result<Response<MintAgentlessResponse>, Status> {
        let minted = self.inner.mint_agentless(request.into_inner()).await;
        Ok(Response::new(minted.map_err(|refusal| self.inner.refused("mint_agentless", refusal))?))
    }
}

impl Inner {
    /// What concerns nodes by time.
    fn lifetimes(&self) -> &NodeLifetimes {
        &self.attestors.lifetimes
    }

    /// The live node at the other end.
    fn caller<T>(&self, request: &Request<T>) -> Result<Arc<NodeRow>, Status> {
        let peer = peer(request)?;
        let found = peer.peer().ok_or_else(|| {
            Refusal::new(Reason::Unauthenticated, "this call needs the node's SVID as client certificate")
        });
        let found = found.and_then(|identity| {
            let key = sha256(&[identity.public_key().spki()]);
            self.minter.directory.live_node(identity.spiffe_id(), &key)
        });
        // The connection stays, so that the node hears why; every further call is refused as well.
        found.map_err(|refusal| self.refused("caller", refusal))
    }

    fn refused(&self, call: &'static str, refusal: Refusal) -> Status {
        tracing::info!(call, reason = refusal.reason.code(), what = refusal.what, "node call refused");
        self.metrics.refused(call, refusal.reason);
        refusal.into()
    }
}

fn peer<T>(request: &Request<T>) -> Result<&PeerInfo, Status> {
    request
        .extensions()
        .get::<PeerInfo>()
        .ok_or_else(|| Refusal::new(Reason::Internal, "the connection has no TLS").into())
}

/// A node's SVID on the wire.
fn node_svid(svid: &SignedX509, generation: u64, now: Timestamp) -> NodeSvid {
    let lifetime_s = svid.validity.remaining(now).as_s();
    let chain = std::iter::once(&svid.der).chain(svid.intermediates.iter()).cloned().collect();
    NodeSvid {
        spiffe_id: svid.spiffe_id.to_string(),
        chain,
        lifetime_s,
        renew_after_s: renew_after_s(lifetime_s),
        generation,
    }
}
