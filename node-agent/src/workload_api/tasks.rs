//! `mayfly.task.v1`, for the same callers and under the same rules as the Workload API.
//!
//! No request names an instance: whoever made the connection is the one, and is looked at anew for each call and before each message of a
//! stream. A task of somebody else is not found, whoever asks, and so is one that does not exist.

mod begin;
mod revocations;
mod validate;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use mayfly_proto::task as wire;
use mayfly_proto::task::task_service_server::TaskService;
use mayfly_sdk::{Reason, Refusal};
use tonic::{Request, Response, Status};

use self::revocations::OneAudience;
use self::watch::OneTask;
use super::caller::Caller;
use super::entitlement::Entitlement;
use super::stream::follow;
use super::{Messages, Shared};
use crate::tasks::HeldTask;

/// The task service.
#[derive(Debug, Clone)]
pub(crate) struct TaskApi(Arc<Shared>);

impl TaskApi {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }
}

#[tonic::async_trait]
impl TaskService for TaskApi {
    type WatchStream = Messages<wire::WatchResponse>;
    type WatchRevocationsStream = Messages<wire::Revocations>;

    async fn begin(&self, request: Request<wire::BeginRequest>) -> Result<Response<wire::BeginResponse>, Status> {
        let caller = Caller::of(&request)?;
        let _call = self.0.calls.call(caller.uid())?;
        Ok(Response::new(begin::begin(&self.0, &caller, request.into_inner().into()).await?))
    }

    async fn delegate(&self, request: Request<wire::DelegateRequest>) -> Result<Response<wire::BeginResponse>, Status> {
        let caller = Caller::of(&request)?;
        let _call = self.0.calls.call(caller.uid())?;
        let asked = begin::Asked::of_delegation(request.into_inner())?;
        Ok(Response::new(begin::begin(&self.0, &caller, asked).await?))
    }

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = Caller::of(&request)?;
        let view = OneTask::new(request.into_inner().id);
        Ok(Response::new(follow(&self.0, caller, view)?))
    }

    async fn complete(
        &self,
        request: Request<wire::CompleteRequest>,
    ) -> Result<Response<wire::CompleteResponse>, Status> {
        let caller = Caller::of(&request)?;
        let _call = self.0.calls.call(caller.uid())?;
        let wire::CompleteRequest { id, failed } = request.into_inner();
        let entitlement = self.0.entitlement_of_newcomer(&caller).await?;
        let task = self.0.task(&entitlement, &id)?;
        Ok(Response::new(wire::CompleteResponse { ended: self.0.tasks.complete(&task, failed).await? }))
    }

    async fn list(&self, request: Request<wire::ListRequest>) -> Result<Response<wire::ListResponse>, Status> {
        let caller = Caller::of(&request)?;
        let _call = self.0.calls.call(caller.uid())?;
        let entitlement = self.0.entitlement_of_newcomer(&caller).await?;
        let own = self.0.tasks.open().into_iter().filter(|task| has_part(&entitlement, task));
        let tasks = own.map(|task| task.shown(task.state())).collect();
        Ok(Response::new(wire::ListResponse { tasks }))
    }

    async fn validate(
        &self,
        request: Request<wire::ValidateRequest>,
    ) -> Result<Response<wire::ValidateResponse>, Status> {
        let caller = Caller::of(&request)?;
        let _call = self.0.calls.call(caller.uid())?;
        Ok(Response::new(validate::validate(&self.0, &caller, request.into_inner()).await?))
    }

    async fn watch_revocations(
        &self,
        request: Request<wire::WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let caller = Caller::of(&request)?;
        let view = OneAudience::new(request.into_inner().audience)?;
        Ok(Response::new(follow(&self.0, caller, view)?))
    }
}

impl Shared {
    /// A task that the caller has a part in.
    ///
    /// # Errors
    /// [`Reason::TaskUnknown`], in the same words whether it is another's or does not exist.
    fn task(&self, entitlement: &Entitlement, id: &str) -> Result<Arc<HeldTask>, Refusal> {
        let task = self.tasks.get(id).filter(|task| has_part(entitlement, task));
        task.ok_or_else(|| Refusal::new(Reason::TaskUnknown, "this workload has no such task on this node"))
    }
}

/// Whether a caller may see, follow and end a task: it is the instance that began it, or the task is detached, and in either case the caller
/// is still entitled to the very identity that the task was begun with.
fn has_part(entitlement: &Entitlement, task: &HeldTask) -> bool {
    let owner = task.owner();
    let same_identity = entitlement.entries.iter().any(|entry| {
        entry.uid() == owner.subject.entry_uid()
            && entry.rendered(&entitlement.facts).as_deref() == Some(owner.spiffe_id.as_str())
    });
    same_identity && (owner.detached || entitlement.instance == Some(owner.instance))
}
