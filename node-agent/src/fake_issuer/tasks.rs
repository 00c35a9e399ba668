//! Tasks, as far as a node agent sees them: real tokens, real states, and none of the rules of attenuation.

use std::collections::BTreeMap;
use std::time::Duration;

use mayfly_proto::node;
use mayfly_proto::node::sync_response::Message as Update;
use mayfly_sdk::task::{Actor, Binding, Grant, Subject, TaskClaims, TaskLink, TaskState};
use mayfly_sdk::{InstanceId, Reason, Refusal, Serial, Timestamp};
use ring::digest::{SHA256, digest};
use tonic::Status;

use super::State;

/// What it knows of tasks, and how it is to behave.
#[derive(Default)]
pub(crate) struct FakeTasks {
    pub(crate) tasks: BTreeMap<String, FakeTask>,
    pub(crate) begun: Vec<node::BeginTaskRequest>,
    pub(crate) renewals: Vec<node::RenewTaskRequest>,
    pub(crate) ends: Vec<node::EndTaskRequest>,
    pub(crate) checks: Vec<node::CheckTaskRequest>,
    /// Every task call is answered with this.
    pub(crate) refuse: Option<Status>,
    /// The tasks of each confirmation, and what it is answered with.
    pub(crate) confirms: Vec<Vec<String>>,
    pub(crate) refuse_confirms: Option<Status>,
    /// How long the answer to a begin takes, once the task is there.
    pub(crate) answer_after: Duration,
    /// Ends are answered with this.
    pub(crate) refuse_ends: Option<Status>,
    pub(crate) token_lifetime_s: u32,
    pub(crate) token_renew_after_s: u32,
    /// Tokens are bound to this in place of the certificate that was named.
    pub(crate) bind_to: Option<[u8; 32]>,
}

pub(crate) struct FakeTask {
    pub(crate) task: node::Task,
    chain: Vec<Actor>,
    parent_digest: Option<[u8; 32]>,
}

impl FakeTasks {
    pub(super) fn new() -> Self {
        Self { token_lifetime_s: 300, token_renew_after_s: 150, ..Self::default() }
    }
}

impl State {
    pub(super) fn begin_task(&self, request: node::BeginTaskRequest) -> Result<node::TaskIssue, Status> {
        let actor = self.actor(request.holder.as_ref())?;
        let mut tasks = self.tasks.lock();
        tasks.begun.push(request.clone());
        refuse(tasks.refuse.as_ref())?;
        let id = Serial::generate(self.clock.now_ms()).unwrap().to_string();
        let above =
            if request.parent_token.is_empty() { None } else { Some(parent(&request.parent_token, &tasks.tasks)?) };
        let mut chain = above.as_ref().map(|(parent, _)| tasks.tasks[parent].chain.clone()).unwrap_or_default();
        chain.push(actor.clone());
        let hop = u32::try_from(chain.len()).unwrap() - 1;
        let seconds = if request.deadline_s == 0 { 3600 } else { request.deadline_s };
        let task = node::Task {
            id: id.clone(),
            root: above.as_ref().map_or_else(|| id.clone(), |(parent, _)| tasks.tasks[parent].task.root.clone()),
            parent: above.as_ref().map(|(parent, _)| parent.clone()).unwrap_or_default(),
            state: "open".to_owned(),
            purpose: request.purpose,
            deadline: self.clock.now().unix_s() + i64::from(seconds),
            grant: request.grant,
            subject: chain[0].spiffe_id.to_string(),
            spiffe_id: actor.spiffe_id.to_string(),
            hop,
            max_hops: request.max_hops.unwrap_or(3),
            detached: request.detached,
        };
        let held = FakeTask { task, chain, parent_digest: above.map(|(_, digest)| digest) };
        let issue = self.issue(&tasks, &held, &request.svid);
        tasks.tasks.insert(id, held);
        Ok(issue)
    }

    pub(super) fn confirm_tasks(&self, request: node::ConfirmTasksRequest) -> Result<(), Status> {
        let mut tasks = self.tasks.lock();
        tasks.confirms.push(request.ids);
        refuse(tasks.refuse_confirms.as_ref())
    }

    pub(super) fn renew_task(&self, request: &node::RenewTaskRequest) -> Result<node::TaskIssue, Status> {
        let actor = self.actor(request.holder.as_ref())?;
        let mut tasks = self.tasks.lock();
        tasks.renewals.push(request.clone());
        refuse(tasks.refuse.as_ref())?;
        let held = tasks.tasks.get(&request.id).ok_or_else(|| Refusal::new(Reason::NotFound, "no such task"))?;
        assert_eq!(held.chain.last(), Some(&actor), "renewed for another instance");
        is_open(held)?;
        Ok(self.issue(&tasks, held, &request.svid))
    }

    pub(super) fn end_task(&self, request: node::EndTaskRequest) -> Result<node::EndTaskResponse, Status> {
        let state = match request.outcome() {
            node::TaskOutcome::Failed => TaskState::Failed,
            node::TaskOutcome::Abandoned => TaskState::Abandoned,
            _ => TaskState::Completed,
        };
        let ended = {
            let mut tasks = self.tasks.lock();
            tasks.ends.push(request.clone());
            refuse(tasks.refuse.as_ref().or(tasks.refuse_ends.as_ref()))?;
            let mut ended = vec![request.id];
            let mut at = 0;
            while at < ended.len() {
                let above = ended[at].clone();
                ended.extend(
                    tasks.tasks.values().filter(|held| held.task.parent == above).map(|held| held.task.id.clone()),
                );
                at += 1;
            }
            ended.retain(|id| tasks.tasks.get(id).is_some_and(|held| !held.state().is_final()));
            ended
        };
        self.say_states(&ended.iter().map(|id| (id.as_str(), state)).collect::<Vec<_>>());
        Ok(node::EndTaskResponse { ended })
    }

    pub(super) fn check_task(&self, request: &node::CheckTaskRequest) -> Result<node::CheckTaskResponse, Status> {
        let mut tasks = self.tasks.lock();
        tasks.checks.push(request.clone());
        refuse(tasks.refuse.as_ref())?;
        let (id, _) = parent(&request.token, &tasks.tasks)?;
        is_open(&tasks.tasks[&id])?;
        let (_, claims) = mayfly_sdk::jws::insecure_parts(&request.token).unwrap();
        if !request.peer_certificate.is_empty() {
            let shown = Binding::Certificate(sha256(&request.peer_certificate));
            if TaskClaims::parse(&claims).unwrap().binding != shown {
                return Err(Refusal::new(Reason::TaskTokenNotBound, "another certificate").into());
            }
        }
        Ok(node::CheckTaskResponse { claims: serde_json::Value::Object(claims).to_string() })
    }

    /// A task like this one, which its instance or another has begun without the node; every node is told. Its id.
    pub(crate) fn begun_elsewhere(&self, like: &str, instance: InstanceId, detached: bool) -> String {
        let id = Serial::generate(self.clock.now_ms()).unwrap().to_string();
        {
            let mut tasks = self.tasks.lock();
            let like = &tasks.tasks[like];
            let holder = Actor { instance, ..like.chain[0].clone() };
            let task = node::Task { id: id.clone(), state: "open".to_owned(), detached, ..like.task.clone() };
            tasks.tasks.insert(id.clone(), FakeTask { task, chain: vec![holder], parent_digest: None });
        }
        self.say_states(&[(&id, TaskState::Open)]);
        id
    }

    /// Changes states, and tells every node.
    pub(crate) fn say_states(&self, states: &[(&str, TaskState)]) {
        let mut tasks = self.tasks.lock();
        for (id, state) in states {
            if let Some(held) = tasks.tasks.get_mut(*id) {
                held.task.state = state.to_string();
            }
        }
        let change = |(id, state): &(&str, TaskState)| node::TaskStateChange {
            id: (*id).to_owned(),
            state: state.to_string(),
            ..tasks.tasks.get(*id).map(FakeTask::change).unwrap_or_default()
        };
        let states = node::TaskStates { whole: false, states: states.iter().map(change).collect() };
        self.pushes.send(node::SyncResponse { message: Some(Update::Tasks(states)) }).ok();
    }

    /// What a stream begins with.
    pub(super) fn whole_states(&self) -> node::TaskStates {
        let tasks = self.tasks.lock();
        let open = tasks.tasks.values().filter(|held| !held.state().is_final());
        node::TaskStates { whole: true, states: open.map(FakeTask::change).collect() }
    }

    fn actor(&self, holder: Option<&node::Subject>) -> Result<Actor, Status> {
        let holder = holder.unwrap();
        let id = self.rendered(holder).ok_or_else(|| Refusal::new(Reason::UnknownEntry, "no such entry"))?;
        let instance = InstanceId::try_from(holder.instance.as_ref()).unwrap();
        Ok(Actor { spiffe_id: id.parse().unwrap(), instance })
    }

    fn issue(&self, tasks: &FakeTasks, held: &FakeTask, svid: &[bytes::Bytes]) -> node::TaskIssue {
        let now = self.clock.now();
        let jti = Serial::generate(self.clock.now_ms()).unwrap();
        let grant = Grant::from_json(held.task.grant.as_bytes()).unwrap();
        let claims = TaskClaims {
            issuer: "https://issuer.example.org/task".to_owned(),
            subject: held.task.subject.parse::<Subject>().unwrap(),
            chain: held.chain.clone(),
            may_act: None,
            grant,
            binding: Binding::Certificate(tasks.bind_to.unwrap_or_else(|| sha256(&svid[0]))),
            issued_at: now,
            expires_at: Timestamp::from_unix_s(now.unix_s() + i64::from(tasks.token_lifetime_s)),
            jti,
            task: TaskLink {
                id: held.task.id.parse().unwrap(),
                root: held.task.root.parse().unwrap(),
                parent: Some(&held.task.parent)
                    .filter(|parent| !parent.is_empty())
                    .map(|parent| parent.parse().unwrap()),
                purpose: sha256(held.task.purpose.as_bytes()),
                hop: held.task.hop.try_into().unwrap(),
                max_hops: held.task.max_hops.try_into().unwrap(),
            },
            parent_digest: held.parent_digest,
            evidence: [3; 32],
            status: None,
        };
        node::TaskIssue {
            task: Some(held.task.clone()),
            token: self.authority.task_token(&claims.to_json()),
            lifetime_s: tasks.token_lifetime_s,
            renew_after_s: tasks.token_renew_after_s,
            jti: jti.to_string(),
        }
    }
}

impl FakeTask {
    fn change(&self) -> node::TaskStateChange {
        node::TaskStateChange {
            id: self.task.id.clone(),
            state: self.task.state.clone(),
            instance: self.chain.last().unwrap().instance.as_bytes().to_vec().into(),
            detached: self.task.detached,
        }
    }

    fn state(&self) -> TaskState {
        self.task.state.parse().unwrap()
    }
}

fn refuse(refusal: Option<&Status>) -> Result<(), Status> {
    refusal.map_or(Ok(()), |status| Err(status.clone()))
}

fn is_open(held: &FakeTask) -> Result<(), Status> {
    match held.state() {
        TaskState::Open => Ok(()),
        TaskState::Suspended => Err(Refusal::new(Reason::TaskSuspended, "the task is suspended").into()),
        _ => Err(Refusal::new(Reason::TaskEnded, "the task has ended").into()),
    }
}

/// The task that a token is of, and the digest of its grant.
fn parent(token: &str, tasks: &BTreeMap<String, FakeTask>) -> Result<(String, [u8; 32]), Status> {
    let unknown = || Status::from(Refusal::new(Reason::TaskTokenInvalid, "this is no task token"));
    let (_, claims) = mayfly_sdk::jws::insecure_parts(token).ok().ok_or_else(unknown)?;
    let claims = TaskClaims::parse(&claims).ok_or_else(unknown)?;
    let id = claims.task.id.to_string();
    is_open(tasks.get(&id).ok_or_else(unknown)?)?;
    Ok((id, claims.grant.digest()))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().unwrap()
}
