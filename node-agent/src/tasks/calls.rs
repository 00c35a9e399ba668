//! What is asked of the issuer about tasks, and its refusals in its own words.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mayfly_proto::node;
use mayfly_sdk::grpc::{REASON, REMEDY, RETRY_MS};
use mayfly_sdk::{Reason, Refusal};
use tonic::metadata::MetadataMap;
use tonic::{Code, Response, Status};

use super::Tasks;
use crate::identity::{Held, Lease, X509};
use crate::link::NodeClient;

/// How long the issuer may take to answer.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long a begin is waited for after whoever wanted it was told that there was no answer: what it brings is ended.
const BEGUN_WITHIN: Duration = Duration::from_mins(2);

impl Tasks {
    pub(super) async fn begin_task(
        &self,
        lease: &Lease<X509>,
        svid: &Held<X509>,
        wish: node::BeginTaskRequest,
    ) -> Result<node::TaskIssue, Status> {
        let request = node::BeginTaskRequest {
            request_id: request_id()?,
            holder: Some(self.holder(lease)?),
            svid: svid.credential().certificates(),
            ..wish
        };
        self.call_within(BEGUN_WITHIN, |mut client| async move { client.begin_task(request).await }).await
    }

    pub(super) async fn renew_task(
        &self,
        id: &str,
        lease: &Lease<X509>,
        svid: &Arc<Held<X509>>,
    ) -> Result<node::TaskIssue, Status> {
        let request = node::RenewTaskRequest {
            request_id: request_id()?,
            holder: Some(self.holder(lease)?),
            svid: svid.credential().certificates(),
            id: id.to_owned(),
        };
        self.call(|mut client| async move { client.renew_task(request).await }).await
    }

    pub(super) async fn end_task(&self, id: &str, outcome: node::TaskOutcome) -> Result<Vec<String>, Status> {
        let request = node::EndTaskRequest { request_id: request_id()?, id: id.to_owned(), outcome: outcome.into() };
        Ok(self.call(|mut client| async move { client.end_task(request).await }).await?.ended)
    }

    pub(super) async fn confirm_tasks(&self, ids: Vec<String>) -> Result<(), Status> {
        let request = node::ConfirmTasksRequest { ids };
        self.call(|mut client| async move { client.confirm_tasks(request).await }).await?;
        Ok(())
    }

    /// Whether a token is good at this moment: asked each time.
    ///
    /// # Errors
    /// What the issuer says, in its words.
    pub(crate) async fn check(&self, request: node::CheckTaskRequest) -> Result<node::CheckTaskResponse, Status> {
        self.call(|mut client| async move { client.check_task(request).await }).await
    }

    fn holder(&self, lease: &Lease<X509>) -> Result<node::Subject, Refusal> {
        let subject = lease.subject();
        let issuance = self.0.holdings.borrow().entry(subject.entry_uid()).map(|entry| entry.issuance());
        let gone = || Refusal::new(Reason::NoIdentity, "no identity issued: the entry is gone");
        Ok(subject.to_wire(issuance.ok_or_else(gone)?))
    }

    async fn call<T, A>(&self, ask: impl FnOnce(NodeClient) -> A) -> Result<T, Status>
    where
        A: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_within(ANSWER_WITHIN, ask).await
    }

    async fn call_within<T, A>(&self, within: Duration, ask: impl FnOnce(NodeClient) -> A) -> Result<T, Status>
    where
        A: Future<Output = Result<Response<T>, Status>>,
    {
        let client = self.0.issuer.borrow().clone();
        let Some(client) = client else { return Err(self.0.status.borrow().why().into()) };
        match tokio::time::timeout(within, ask(client)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(passed_on(&status)),
            Err(_elapsed) => Err(silent().into()),
        }
    }
}

pub(super) fn silent() -> Refusal {
    Refusal::new(Reason::Unavailable, "the issuer did not answer in time")
}

/// Whether the issuer says that a task of ours has ended.
pub(super) fn is_gone(refusal: &Refusal) -> bool {
    matches!(refusal.reason, Reason::TaskEnded | Reason::TaskUnknown)
}

fn request_id() -> Result<Bytes, Refusal> {
    Ok(Bytes::copy_from_slice(&crate::random_id()?))
}

/// A refusal of the issuer as it is told to a workload: with the issuer's code, reason and remedy, also those that this build does not know.
fn passed_on(status: &Status) -> Status {
    if status.metadata().get(REASON).is_some() {
        let mut metadata = MetadataMap::new();
        for key in [REASON, REMEDY, RETRY_MS] {
            if let Some(value) = status.metadata().get(key) {
                metadata.insert(key, value.clone());
            }
        }
        return Status::with_metadata(status.code(), status.message(), metadata);
    }
    let refusal = match status.code() {
        Code::Unimplemented => Refusal::new(Reason::Unimplemented, "the issuer is of a version that has no tasks"),
        _ => Refusal::new(Reason::Unavailable, format!("the issuer did not answer: {}", status.message())),
    };
    refusal.into()
}
