//! Tasks, as administrators see and stop them.

use mayfly_proto::admin::{
    ExplainTaskResponse, GetTaskResponse, ListTasksRequest, ListTasksResponse, SetTaskStateRequest,
    SetTaskStateResponse, SetUserStateRequest, SetUserStateResponse, Task as WireTask, TaskHolder,
};
use mayfly_sdk::task::{Subject, TaskState};
use mayfly_sdk::{Reason, Refusal, Serial, SpiffeId};
use serde_json::Value;

use super::{
    Admin,
    authorize::{Authorized, Object},
    page_size,
};
use crate::{
    directory::Actor,
    registry::Registry,
    task::{By, Held},
};

impl Admin {
    pub(super) fn tasks(
        &self,
        request: &ListTasksRequest,
        authorized: &Authorized,
    ) -> Result<ListTasksResponse, Refusal> {
        let optional = |text: &str| if text.is_empty() { Ok(None) } else { id(text).map(Some) };
        let (after, root) = (optional(&request.page_token)?, optional(&request.root)?);
        let size = page_size(request.page_size);
        let now = self.directory.clock().now();
        let tasks = self.tasks.after(after, size, |held| {
            root.is_none_or(|root| held.task.root == root)
                && self.directory.with_registry(|registry| authorized.may(registry, now, object(registry, held)))
        });
        let next_page_token = match tasks.last() {
            Some(last) if tasks.len() == size => last.task.id.to_string(),
            _ => String::new(),
        };
        Ok(ListTasksResponse { items: tasks.iter().map(wire).collect(), next_page_token })
    }

    pub(super) async fn task(&self, text: &str, authorized: &Authorized) -> Result<GetTaskResponse, Refusal> {
        Ok(GetTaskResponse { task: Some(wire(&self.find_task(text, authorized).await?)) })
    }

    pub(super) async fn set_state(
        &self,
        request: &SetTaskStateRequest,
        authorized: &Authorized,
    ) -> Result<SetTaskStateResponse, Refusal> {
        let Ok(to @ (TaskState::Suspended | TaskState::Open | TaskState::Revoked)) = request.state.parse() else {
            let what = format!("an administrator suspends, resumes or revokes; {:?} is none of it", request.state);
            return Err(Refusal::new(Reason::InvalidArgument, what));
        };
        let held = self.find_task(&request.id, authorized).await?;
        let by = By { actor: Some(authorized.actor().clone()), ..By::default() };
        let changed = self.tasks.set_state(held.task.id, to, by).await?;
        if changed.is_empty() {
            self.explain_no_change(held.task.id, to).await?;
        }
        Ok(SetTaskStateResponse { changed: changed.iter().map(Serial::to_string).collect() })
    }

    pub(super) async fn set_user_state(
        &self,
        request: &SetUserStateRequest,
        actor: Actor,
    ) -> Result<SetUserStateResponse, Refusal> {
        let suspended = match request.state.parse() {
            Ok(TaskState::Suspended) => true,
            Ok(TaskState::Open) => false,
            _ => {
                let what = format!("a user is suspended or resumed; {:?} is none of it", request.state);
                return Err(Refusal::new(Reason::InvalidArgument, what));
            }
        };
        let Ok(Subject::User(user)) = request.user.parse() else {
            let what = format!("{:?} is no user: write user:PROVIDER:SUBJECT, as tasks show it", request.user);
            return Err(Refusal::new(Reason::InvalidArgument, what));
        };
        let changed = self.tasks.suspend_user(&user, suspended, actor).await?;
        Ok(SetUserStateResponse { changed: changed.iter().map(Serial::to_string).collect() })
    }

    pub(super) async fn explain(&self, text: &str, authorized: &Authorized) -> Result<ExplainTaskResponse, Refusal> {
        let id = id(text)?;
        let store = self.directory.store();
        if let Some(decision) = store.task_refusal(id).await? {
            self.may_know(&decision, authorized).ok_or_else(|| unexplained(id))?;
            return Ok(ExplainTaskResponse { decision, task: None });
        }
        let unknown = |refusal: Refusal| if refusal.reason == Reason::TaskUnknown { unexplained(id) } else { refusal };
        let held = self.find_task(text, authorized).await.map_err(unknown)?;
        let decision = store.task_decision(id).await?.unwrap_or_default();
        Ok(ExplainTaskResponse { decision, task: Some(wire(&held)) })
    }

    /// Whether the caller may know of a refusal: as of a task of the same workload.
    fn may_know(&self, decision: &str, authorized: &Authorized) -> Option<()> {
        let decision: Value = serde_json::from_str(decision).ok()?;
        let holder = decision.get("spiffe_id").and_then(Value::as_str).and_then(|id| id.parse::<SpiffeId>().ok());
        let uid = decision.pointer("/entry/uid").and_then(Value::as_str).and_then(|uid| uid.parse().ok());
        let now = self.directory.clock().now();
        let may = self.directory.with_registry(|registry| {
            let owner = uid.and_then(|uid| registry.get(uid)).map(|entry| &*entry.owner);
            let object = holder.as_ref().map_or(Object::Everything, |holder| Object::Task { owner, holder });
            authorized.may(registry, now, object)
        });
        may.then_some(())
    }

    /// A move that changed nothing is fine where the task stands there already, and a refusal where it cannot get there.
    async fn explain_no_change(&self, id: Serial, to: TaskState) -> Result<(), Refusal> {
        match self.tasks.find(id).await?.map(|held| held.state) {
            Some(state) if state == to => Ok(()),
            Some(TaskState::Suspended) => Err(Refusal::new(
                Reason::ParentNotOpen,
                format!(
                    "the task {id} is under a suspended one, which is to be resumed first; or a node is silent that holds it or a task above it; or its user is suspended or logged out"
                ),
            )),
            Some(state) => Err(Refusal::new(Reason::TaskEnded, format!("the task {id} has ended: {state}"))),
            None => Err(Refusal::new(Reason::TaskUnknown, format!("there is no task {id}"))),
        }
    }

    /// The task with this id. What the caller may not see is not there.
    async fn find_task(&self, text: &str, authorized: &Authorized) -> Result<Held, Refusal> {
        let id = id(text)?;
        let now = self.directory.clock().now();
        let may = |held: &Held| {
            self.directory.with_registry(|registry| authorized.may(registry, now, object(registry, held)))
        };
        let unknown = || Refusal::new(Reason::TaskUnknown, format!("there is no task {id}"));
        self.tasks.find(id).await?.filter(may).ok_or_else(unknown)
    }
}

fn id(text: &str) -> Result<Serial, Refusal> {
    let wrong = || Refusal::new(Reason::InvalidArgument, "the id of a task is 32 hexadecimal digits");
    text.parse().ok().ok_or_else(wrong)
}

fn unexplained(id: Serial) -> Refusal {
    Refusal::new(Reason::TaskUnknown, format!("nothing is known of a task or a refused request {id}"))
}

fn object<'a>(registry: &'a Registry, held: &'a Held) -> Object<'a> {
    match held.task.holder() {
        Some(holder) => {
            Object::Task { owner: registry.get(held.task.entry).map(|entry| &*entry.owner), holder: &holder.spiffe_id }
        }
        None => Object::Everything,
    }
}

fn wire(held: &Held) -> WireTask {
    let Held { task, state } = held;
    WireTask {
        id: task.id.to_string(),
        root: task.root.to_string(),
        parent: task.parent.map(|parent| parent.to_string()).unwrap_or_default(),
        state: state.to_string(),
        purpose: task.purpose.to_string(),
        begun_at: task.begun_at.unix_s(),
        deadline: task.deadline.unix_s(),
        grant: Value::Object(task.grant.to_json()).to_string(),
        subject: task.subject.to_string(),
        chain: task
            .chain
            .iter()
            .map(|holder| TaskHolder { spiffe_id: holder.spiffe_id.to_string(), instance: holder.instance.to_string() })
            .collect(),
        hop: task.hop.into(),
        max_hops: task.max_hops.into(),
        detached: task.detached,
        node: task.node.to_string(),
        entry_uid: task.entry.to_string(),
        may_act: task.may_act.iter().flatten().map(ToString::to_string).collect(),
        limits_actors: task.may_act.is_some(),
    }
}
