//! `BeginTask`, `RenewTask`, `EndTask` and `CheckTask`: of instances of the node that calls, and of no other.

use mayfly_proto::node::{
    BeginTaskRequest, CheckTaskRequest, CheckTaskResponse, ConfirmTasksRequest, ConfirmTasksResponse, EndTaskRequest,
    EndTaskResponse, RenewTaskRequest, Subject, Task as WireTask, TaskIssue, TaskOutcome, TaskStateChange, TaskStates,
};
use mayfly_sdk::task::TaskState;
use mayfly_sdk::{Reason, Refusal, Serial, SpiffeId, Ttl};
use serde_json::Value;

use super::{Inner, mint, renew::request_id};
use crate::{
    directory::facts,
    mint::{BeginTask, Begun, RenewTask, Request, ShownKey},
    registry::{MintRequest, Wanted},
    store::NodeRow,
    task::{By, Held, News},
};

/// The most tasks of one confirmation.
const MAX_CONFIRMED: usize = 10_000;

impl Inner {
    pub(super) async fn begin_task(&self, node: &NodeRow, request: BeginTaskRequest) -> Result<TaskIssue, Refusal> {
        let max_hops = request.max_hops.map(u8::try_from).transpose();
        let too_deep = |_| Refusal::new(Reason::InvalidArgument, "max_hops is 255 at the most");
        let wanted = BeginTask {
            svid: ShownKey::Chain(request.svid),
            purpose: request.purpose,
            grant: request.grant,
            deadline: Some(Ttl::from_s(request.deadline_s)).filter(|deadline| !deadline.is_zero()),
            max_hops: max_hops.map_err(too_deep)?,
            may_act: request.may_act.map(|actors| actors.spiffe_ids),
            detached: request.detached,
            by_node: true,
            parent_token: Some(request.parent_token).filter(|token| !token.is_empty()),
            subject_token: Some(request.subject_token).filter(|token| !token.is_empty()),
        };
        let request = mint::read(&request.request_id, request.holder, Ok(wanted))?;
        let begun = self.minter.begin_task(node, request).await?;
        self.metrics.issued("task");
        Ok(issue(begun))
    }

    pub(super) async fn renew_task(&self, node: &NodeRow, request: RenewTaskRequest) -> Result<TaskIssue, Refusal> {
        let wanted = RenewTask { id: task_id(&request.id)?, svid: ShownKey::Chain(request.svid) };
        let request = mint::read(&request.request_id, request.holder, Ok(wanted))?;
        let begun = self.minter.renew_task(node, request).await?;
        self.metrics.issued("task");
        Ok(issue(begun))
    }

    pub(super) async fn end_task(&self, node: &NodeRow, request: EndTaskRequest) -> Result<EndTaskResponse, Refusal> {
        let outcome = match request.outcome() {
            TaskOutcome::Completed => TaskState::Completed,
            TaskOutcome::Failed => TaskState::Failed,
            TaskOutcome::Abandoned => TaskState::Abandoned,
            TaskOutcome::Unspecified => {
                return Err(Refusal::new(Reason::InvalidArgument, "the outcome of a task is named when it ends"));
            }
        };
        let (id, tasks) = (task_id(&request.id)?, &self.minter.tasks);
        if tasks.get(id).is_none_or(|held| held.task.node != node.spiffe_id) {
            return Err(Refusal::new(Reason::TaskUnknown, format!("no open task {id} of this node is known")));
        }
        let by =
            By { node: Some(node.spiffe_id.clone()), request_id: Some(request_id(&request.request_id)?), actor: None };
        let ended = tasks.set_state(id, outcome, by).await?;
        Ok(EndTaskResponse { ended: ended.iter().map(Serial::to_string).collect() })
    }

    pub(super) async fn confirm_tasks(
        &self,
        node: &NodeRow,
        request: ConfirmTasksRequest,
    ) -> Result<ConfirmTasksResponse, Refusal> {
        if request.ids.len() > MAX_CONFIRMED {
            return Err(Refusal::new(Reason::InvalidArgument, "at most 10,000 tasks are confirmed at a time"));
        }
        let ids = request.ids.iter().map(|id| task_id(id)).collect::<Result<Vec<_>, _>>()?;
        let minter = &self.minter;
        if minter.directory.session(&node.spiffe_id).is_none() {
            return Err(Refusal::new(Reason::Unavailable, "the node is not in sync"));
        }
        minter.tasks.heard(&node.spiffe_id, &ids).await?;
        Ok(ConfirmTasksResponse {})
    }

    pub(super) fn check_task(&self, node: &NodeRow, request: CheckTaskRequest) -> Result<CheckTaskResponse, Refusal> {
        self.serves(node, request.service, &request.audience)?;
        let certificate = Some(&*request.peer_certificate).filter(|der| !der.is_empty());
        let claims = self.minter.inspect(&request.token, &request.audience, certificate)?;
        Ok(CheckTaskResponse { claims: Value::Object(claims.to_json()).to_string() })
    }

    /// Whether the service that asks is one of this audience, by its entry.
    pub(super) fn serves(&self, node: &NodeRow, service: Option<Subject>, audience: &str) -> Result<(), Refusal> {
        let Request { entry, issuance, facts: asserted, .. } =
            mint::read(&bytes::Bytes::from_static(&[0; 16]), service, Ok(()))?;
        let facts = facts(node);
        let request = MintRequest { node: &facts, entry, issuance, facts: &asserted, wanted: Wanted::X509 };
        let directory = &self.minter.directory;
        let now = directory.clock().now();
        let consent = directory.with_registry(|registry| registry.authorize(&request, now))?;
        if consent.entry.serves(audience) {
            return Ok(());
        }
        let what = format!("the entry {} does not serve {audience:?}", consent.entry.name());
        Err(Refusal::new(Reason::AudienceNotServed, what))
    }

    /// What a node is told of its tasks.
    pub(super) fn task_states(&self, node: &SpiffeId, news: News) -> TaskStates {
        let tasks = &self.minter.tasks;
        match news {
            News::Whole => TaskStates { whole: true, states: tasks.of_node(node).iter().map(changed).collect() },
            News::Changes(changes) => {
                let change = |(id, state): (Serial, TaskState)| {
                    let known = tasks.get(id).filter(|_| !state.is_final());
                    let base = known.as_ref().map_or_else(TaskStateChange::default, changed);
                    TaskStateChange { id: id.to_string(), state: state.to_string(), ..base }
                };
                TaskStates { whole: false, states: changes.into_iter().map(change).collect() }
            }
        }
    }
}

fn task_id(text: &str) -> Result<Serial, Refusal> {
    let wrong = || Refusal::new(Reason::InvalidArgument, "the id of a task is 32 hexadecimal digits");
    text.parse().ok().ok_or_else(wrong)
}

/// How a task stands that has not ended, and whose it is.
fn changed(held: &Held) -> TaskStateChange {
    let instance = held.task.instance().map(|instance| bytes::Bytes::copy_from_slice(instance.as_bytes()));
    TaskStateChange {
        id: held.task.id.to_string(),
        state: held.state.to_string(),
        instance: instance.unwrap_or_default(),
        detached: held.task.detached,
    }
}

fn issue(begun: Begun) -> TaskIssue {
    let Begun { held, issued, .. } = begun;
    TaskIssue {
        task: Some(wire_task(&held)),
        token: issued.credential.token,
        lifetime_s: issued.lifetime_s,
        renew_after_s: issued.renew_after_s,
        jti: issued.serial.to_string(),
    }
}

fn wire_task(held: &Held) -> WireTask {
    let Held { task, state } = held;
    WireTask {
        id: task.id.to_string(),
        root: task.root.to_string(),
        parent: task.parent.map(|parent| parent.to_string()).unwrap_or_default(),
        state: state.to_string(),
        purpose: task.purpose.to_string(),
        deadline: task.deadline.unix_s(),
        grant: Value::Object(task.grant.to_json()).to_string(),
        subject: task.subject.to_string(),
        spiffe_id: task.holder().map(|holder| holder.spiffe_id.to_string()).unwrap_or_default(),
        hop: task.hop.into(),
        max_hops: task.max_hops.into(),
        detached: task.detached,
    }
}
