//! `mayfly.admin.v1`, on the local socket and, where configured, over mTLS: edits the registry, authorities and bundles, and reads the ledger.
//!
//! Every call passes [`authorize`] before it reaches a method: who is not allowed learns nothing, and what is allowed is
//! recorded with its actor by what it changes.

mod authority;
pub mod authorize;
mod bundle;
mod entry;
mod ledger;
mod node;
mod policy;
mod remote;
mod socket;
mod task;

use std::sync::Arc;

use mayfly_proto::admin::{
    ActivateAuthorityRequest, ApplyEntriesRequest, ApplyEntriesResponse, ApplyPolicyRequest, ApplyPolicyResponse,
    AuthorityResponse, BanNodeRequest, BanNodeResponse, CreateJoinTokenRequest, CreateJoinTokenResponse,
    DeleteBundleRequest, DeleteBundleResponse, DeleteEntryRequest, DeleteEntryResponse, DeletePolicyRequest,
    DeletePolicyResponse, EvictNodeRequest, EvictNodeResponse, ExplainTaskRequest, ExplainTaskResponse,
    GetBundleRequest, GetBundleResponse, GetEntryRequest, GetEntryResponse, GetNodeRequest, GetNodeResponse,
    GetPoliciesRequest, GetPoliciesResponse, GetStatusRequest, GetStatusResponse, GetTaskRequest, GetTaskResponse,
    ListAuthoritiesRequest, ListAuthoritiesResponse, ListBundlesRequest, ListBundlesResponse, ListEntriesRequest,
    ListEntriesResponse, ListNodesRequest, ListNodesResponse, ListTasksRequest, ListTasksResponse,
    PrepareAuthorityRequest, Revision as WireRevision, RevokeAuthorityRequest, SetBundleRequest, SetBundleResponse,
    SetTaskStateRequest, SetTaskStateResponse, SetUserStateRequest, SetUserStateResponse, TailLedgerRequest,
    TaintAuthorityRequest, admin_service_server::AdminService,
};
use mayfly_sdk::{Reason, Refusal, Revision, Ttl};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

pub use remote::{Connections, RemoteConnection};
pub use socket::{AdminConnection, LocalCaller, incoming};

use crate::{
    authority::Authorities,
    directory::{Actor, Directory},
    task::Tasks,
};

/// The most items of one page, and how many when none is asked for.
const PAGE: (usize, usize) = (10_000, 1_000);

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    directory: Arc<Directory>,
    authorities: Authorities,
    tasks: Arc<Tasks>,
    join_token_ttl: Ttl,
    stop: CancellationToken,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Admin {
    /// The service on what this issuer serves. Its streams end when `stop` is cancelled.
    #[must_use]
    pub fn new(
        directory: Arc<Directory>,
        authorities: Authorities,
        tasks: Arc<Tasks>,
        join_token_ttl: Ttl,
        stop: CancellationToken,
    ) -> Self {
        Self { directory, authorities, tasks, join_token_ttl, stop }
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    type TailLedgerStream = ledger::Records;

    async fn apply_entries(
        &self,
        request: Request<ApplyEntriesRequest>,
    ) -> Result<Response<ApplyEntriesResponse>, Status> {
        let authorized = authorized(&request)?;
        Ok(Response::new(self.apply(request.into_inner(), &authorized).await?))
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        let authorized = authorized(&request)?;
        Ok(Response::new(self.entries(&request.into_inner(), &authorized)))
    }

    async fn get_entry(&self, request: Request<GetEntryRequest>) -> Result<Response<GetEntryResponse>, Status> {
        let authorized = authorized(&request)?;
        Ok(Response::new(self.entry(&request.into_inner().entry, &authorized)?))
    }

    async fn delete_entry(
        &self,
        request: Request<DeleteEntryRequest>,
    ) -> Result<Response<DeleteEntryResponse>, Status> {
        let authorized = authorized(&request)?;
        Ok(Response::new(self.delete(request.into_inner().entry, &authorized).await?))
    }

    async fn list_nodes(&self, request: Request<ListNodesRequest>) -> Result<Response<ListNodesResponse>, Status> {
        let authorized = authorized(&request)?;
        Ok(Response::new(self.nodes(&request.into_inner(), &authorized)))
    }

    async fn get_node(&self, request: Request<GetNodeRequest>) -> Result<Response<GetNodeResponse>, Status> {
        let authorized = authorized(&request)?;
        Ok(Response::new(self.node(&request.into_inner().spiffe_id, &authorized)?))
    }

    async fn evict_node(&self, request: Request<EvictNodeRequest>) -> Result<Response<EvictNodeResponse>, Status> {
        let authorized = authorized(&request)?;
        self.evict(&request.into_inner().spiffe_id, &authorized).await?;
        Ok(Response::new(EvictNodeResponse {}))
    }

    async fn ban_node(&self, request: Request<BanNodeRequest>) -> Result<Response<BanNodeResponse>, Status> {
        let authorized = authorized(&request)?;
        self.ban(&request.into_inner().spiffe_id, &authorized).await?;
        Ok(Response::new(BanNodeResponse {}))
    }

    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<CreateJoinTokenResponse>, Status> {
        let actor = actor(&request)?;
        Ok(Response::new(self.join_token(request.into_inner(), &actor).await?))
    }

    async fn list_authorities(
        &self,
        request: Request<ListAuthoritiesRequest>,
    ) -> Result<Response<ListAuthoritiesResponse>, Status> {
        Ok(Response::new(self.list_authorities(&request.into_inner().kind)?))
    }

    async fn prepare_authority(
        &self,
        request: Request<PrepareAuthorityRequest>,
    ) -> Result<Response<AuthorityResponse>, Status> {
        let actor = actor(&request)?;
        Ok(Response::new(self.prepare(&request.into_inner().kind, actor).await?))
    }

    async fn activate_authority(
        &self,
        request: Request<ActivateAuthorityRequest>,
    ) -> Result<Response<AuthorityResponse>, Status> {
        let actor = actor(&request)?;
        Ok(Response::new(self.activate(request.into_inner(), actor).await?))
    }

    async fn taint_authority(
        &self,
        request: Request<TaintAuthorityRequest>,
    ) -> Result<Response<AuthorityResponse>, Status> {
        let actor = actor(&request)?;
        Ok(Response::new(self.taint(&request.into_inner().id, actor).await?))
    }

    async fn revoke_authority(
        &self,
        request: Request<RevokeAuthorityRequest>,
    ) -> Result<Response<AuthorityResponse>, Status> {
        let actor = actor(&request)?;
        Ok(Response::new(self.revoke(&request.into_inner().id, actor).await?))
    }

    async fn get_bundle(&self, request: Request<GetBundleRequest>) -> Result<Response<GetBundleResponse>, Status> {
        Ok(Response::new(self.bundle(&request.into_inner().trust_domain)?))
    }

    async fn list_bundles(
        &self,
        _request: Request<ListBundlesRequest>,
    ) -> Result<Response<ListBundlesResponse>, Status> {
        Ok(Response::new(self.bundles()))
    }

    async fn set_bundle(&self, request: Request<SetBundleRequest>) -> Result<Response<SetBundleResponse>, Status> {
        let actor = actor(&request)?;
        Ok(Response::new(self.set_bundle(request.into_inner(), &actor).await?))
    }

    async fn delete_bundle(
        &self,
        request: Request<DeleteBundleRequest>,
    ) -> Result<Response<DeleteBundleResponse>, Status> {
        let actor = actor(&request)?;
        Ok(Response::new(self.delete_bundle(&request.into_inner().trust_domain, &actor).await?))
    }

    async fn tail_ledger(&self, request: Request<TailLedgerRequest>) -> Result<Response<ledger::Records>, Status> {
        let authorized = authorized(&request)?;
        Ok(Response::new(self.tail(request.into_inner(), &authorized).await?))
    }

    async fn list_tasks(&self, request: Request<ListTasksRequest>) -> Result<Response<ListTasksResponse>, Status> {
        let authorized = authorized(&request)?;
        Ok(Response::new(self.tasks(&request.into_inner(), &authorized)?))
    }

    async fn get_task(&self, request: Request<GetTaskRequest>) -> Result<Response<GetTaskResponse>, Status> {
        let authorized = authorized(&request)?;
        Ok(Response::new(self.task(&request.into_inner().id, &authorized).await?))
    }

    async fn set_task_state(
        &self,
        request: Request<SetTaskStateRequest>,
    ) -> Result<Response<SetTaskStateResponse>, Status> {
        let authorized = authorized(&request)?;
        Ok(Response::new(self.set_state(&request.into_inner(), &authorized).await?))
    }

    async fn set_user_state(
        &self,
        request: Request<SetUserStateRequest>,
    ) -> Result<Response<SetUserStateResponse>, Status> {
        let actor = actor(&request)?;
        Ok(Response::new(self.set_user_state(&request.into_inner(), actor).await?))
    }

    async fn explain_task(
        &self,
        request: Request<ExplainTaskRequest>,
    ) -> Result<Response<ExplainTaskResponse>, Status> {
        let authorized = authorized(&request)?;
        Ok(Response::new(self.explain(&request.into_inner().id, &authorized).await?))
    }

    async fn apply_policy(
        &self,
        request: Request<ApplyPolicyRequest>,
    ) -> Result<Response<ApplyPolicyResponse>, Status> {
        let actor = actor(&request)?;
        Ok(Response::new(self.apply_policy(request.into_inner(), &actor).await?))
    }

    async fn get_policies(
        &self,
        request: Request<GetPoliciesRequest>,
    ) -> Result<Response<GetPoliciesResponse>, Status> {
        Ok(Response::new(self.policies(&request.into_inner().name)?))
    }

    async fn delete_policy(
        &self,
        request: Request<DeletePolicyRequest>,
    ) -> Result<Response<DeletePolicyResponse>, Status> {
        let actor = actor(&request)?;
        Ok(Response::new(self.delete_policy(request.into_inner().name, &actor).await?))
    }

    async fn get_status(&self, _request: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(self.status()))
    }
}

impl Admin {
    fn status(&self) -> GetStatusResponse {
        GetStatusResponse {
            trust_domain: self.directory.trust_domain().to_string(),
            revision: Some(wire_revision(self.directory.revision())),
            entries: self.directory.with_registry(crate::registry::Registry::len) as u64,
            nodes: self.directory.count_nodes() as u64,
            connected: self.directory.count_sessions() as u64,
            build: concat!("mayfly-issuer/", env!("CARGO_PKG_VERSION")).to_owned(),
            root_spki_sha256: hex::encode(self.authorities.snapshot().root_pin()),
        }
    }
}

/// What [`authorize`] found.
fn authorized<T>(request: &Request<T>) -> Result<authorize::Authorized, Status> {
    let missing = || Refusal::new(Reason::PermissionDenied, "the call was not authorized").into();
    request.extensions().get::<authorize::Authorized>().cloned().ok_or_else(missing)
}

/// Who calls, as [`authorize`] found it.
fn actor<T>(request: &Request<T>) -> Result<Actor, Status> {
    Ok(Arc::clone(authorized(request)?.actor()))
}

fn wire_revision(revision: Revision) -> WireRevision {
    WireRevision { epoch: revision.epoch, n: revision.n }
}

fn page_size(asked: u32) -> usize {
    let (most, default) = PAGE;
    match usize::try_from(asked) {
        Ok(0) | Err(_) => default,
        Ok(asked) => asked.min(most),
    }
}
