//! One task, as the issuer holds and stores it.

use std::collections::BTreeSet;
use std::sync::Arc;

use mayfly_sdk::json::Object;
use mayfly_sdk::task::{Actor, Grant, Parent, Subject, SubjectError, TaskEvent, TaskLink, TaskState};
use mayfly_sdk::{InstanceId, Reason, Refusal, Serial, SpiffeId, Timestamp, Ttl};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::registry::Uid;
use crate::store::{TaskRow, TaskUser};

/// How far the clocks of those who are told of a task may be behind.
const SKEW: Ttl = Ttl::from_s(60);

/// What about a task never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The id of the ledger's record of its begin.
    pub id: Serial,
    /// The task at the top of its tree.
    pub root: Serial,
    /// The task above.
    pub parent: Option<Serial>,
    /// The digest of that one's grant.
    pub parent_digest: Option<[u8; 32]>,
    /// The node of its instance.
    pub node: SpiffeId,
    /// The entry that it rests on.
    pub entry: Uid,
    /// On whose behalf.
    pub subject: Subject,
    /// The token of that user on which the root was begun; none where the subject is no user.
    pub user_token: Option<UserToken>,
    /// Its holders from the root on, its own last; never empty.
    pub chain: Vec<Actor>,
    /// What it may do.
    pub grant: Grant,
    /// Who may be the next holder, if that is limited.
    pub may_act: Option<BTreeSet<SpiffeId>>,
    /// What for.
    pub purpose: Arc<str>,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// When it ends by itself.
    pub deadline: Timestamp,
    /// How many delegations lie above it.
    pub hop: u8,
    /// How many may.
    pub max_hops: u8,
    /// Whether it outlives its instance.
    pub detached: bool,
    /// Whether its tokens are bound to the key of a proof, and not to a certificate. As it was begun, so it stays.
    pub bound_to_key: bool,
    /// The digest of the evidence that it was begun on.
    pub evidence: [u8; 32],
    /// Where status lists say how it stands, if they do.
    pub status: Option<u64>,
}

/// What is kept of a user's token: enough to know whether a logout is about it, and never the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserToken {
    /// When the provider issued it.
    pub issued_at: Timestamp,
    /// The session that it named (`sid`).
    pub session: Option<Arc<str>>,
    /// The client that the provider issued it to (`azp`, `client_id`).
    pub client: Option<Arc<str>>,
}

/// A task and how it stands.
#[derive(Debug, Clone)]
pub struct Held {
    /// The task.
    pub task: Arc<Task>,
    /// How it stands.
    pub state: TaskState,
}

/// What the store keeps of a task beside its columns, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    entry: Uid,
    subject: String,
    chain: Vec<(SpiffeId, InstanceId)>,
    grant: Object,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    may_act: Option<BTreeSet<SpiffeId>>,
    purpose: String,
    begun_at: i64,
    hop: u8,
    max_hops: u8,
    #[serde(default)]
    detached: bool,
    #[serde(default)]
    bound_to_key: bool,
    evidence: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent_digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_client: Option<String>,
}

impl Task {
    /// The instance that holds it.
    #[must_use]
    pub fn instance(&self) -> Option<InstanceId> {
        self.chain.last().map(|holder| holder.instance)
    }

    /// Who holds it.
    #[must_use]
    pub fn holder(&self) -> Option<&Actor> {
        self.chain.last()
    }

    /// Where it stands in its tree, as its tokens say it.
    #[must_use]
    pub fn link(&self) -> TaskLink {
        let mut purpose = [0; 32];
        purpose.copy_from_slice(digest(&SHA256, self.purpose.as_bytes()).as_ref());
        TaskLink { id: self.id, root: self.root, parent: self.parent, purpose, hop: self.hop, max_hops: self.max_hops }
    }

    /// It as the store keeps it.
    #[must_use]
    pub fn row(&self, state: TaskState) -> TaskRow {
        let document = Document {
            entry: self.entry,
            subject: self.subject.to_string(),
            chain: self.chain.iter().map(|actor| (actor.spiffe_id.clone(), actor.instance)).collect(),
            grant: self.grant.to_json(),
            may_act: self.may_act.clone(),
            purpose: self.purpose.to_string(),
            begun_at: self.begun_at.unix_s(),
            hop: self.hop,
            max_hops: self.max_hops,
            detached: self.detached,
            bound_to_key: self.bound_to_key,
            evidence: hex::encode(self.evidence),
            status: self.status,
            parent_digest: self.parent_digest.map(hex::encode),
            user_client: self.user_token.as_ref().and_then(|token| token.client.as_deref()).map(str::to_owned),
        };
        TaskRow {
            id: self.id,
            root: self.root,
            parent: self.parent,
            node: self.node.clone(),
            state,
            suspended_by: None,
            silent: false,
            user: self.user(),
            deadline: self.deadline,
            // Only maps with keys that are not text fail to serialize, and there is none here.
            document: serde_json::to_string(&document).unwrap_or_default(),
        }
    }
}

impl Task {
    fn user(&self) -> Option<TaskUser> {
        let (Subject::User(user), Some(token)) = (&self.subject, &self.user_token) else { return None };
        let session = token.session.as_deref().map(str::to_owned);
        Some(TaskUser { user: user.clone(), session, token_at: token.issued_at })
    }
}

impl Held {
    /// What those are told who may meet its tokens, none of which is valid after that time or after its deadline.
    #[must_use]
    pub fn event(&self, no_token_after: Timestamp) -> TaskEvent {
        let forget_at = no_token_after.min(self.task.deadline).saturating_add(SKEW);
        TaskEvent { task: self.task.id, state: self.state, forget_at: self.state.is_final().then_some(forget_at) }
    }

    /// It as the rules of delegation see it.
    #[must_use]
    pub fn as_parent(&self) -> Parent<'_> {
        Parent {
            grant: &self.task.grant,
            deadline: self.task.deadline,
            state: self.state,
            hop: self.task.hop,
            max_hops: self.task.max_hops,
            chain: &self.task.chain,
            may_act: self.task.may_act.as_ref(),
        }
    }
}

impl TryFrom<TaskRow> for Held {
    type Error = Refusal;

    fn try_from(row: TaskRow) -> Result<Self, Refusal> {
        let damaged = |what: &str| Refusal::new(Reason::StoreCorrupt, format!("the stored task {}: {what}", row.id));
        let document: Document = serde_json::from_str(&row.document).map_err(|error| damaged(&error.to_string()))?;
        let grant = Grant::from_object(&document.grant);
        let digest = |text: String| {
            let mut bytes = [0; 32];
            hex::decode_to_slice(text, &mut bytes).map(|()| bytes).map_err(|error| damaged(&error.to_string()))
        };
        let client = document.user_client.map(Arc::from);
        let user_token =
            row.user.map(|user| UserToken { issued_at: user.token_at, session: user.session.map(Arc::from), client });
        let chain = document.chain.into_iter().map(|(spiffe_id, instance)| Actor { spiffe_id, instance });
        let task = Task {
            id: row.id,
            root: row.root,
            parent: row.parent,
            parent_digest: document.parent_digest.map(digest).transpose()?,
            entry: document.entry,
            subject: document.subject.parse().map_err(|error: SubjectError| damaged(&error.to_string()))?,
            user_token,
            chain: chain.collect(),
            grant: grant.map_err(|error| damaged(&error.to_string()))?,
            may_act: document.may_act,
            purpose: document.purpose.into(),
            begun_at: Timestamp::from_unix_s(document.begun_at),
            deadline: row.deadline,
            hop: document.hop,
            max_hops: document.max_hops,
            detached: document.detached,
            bound_to_key: document.bound_to_key,
            evidence: digest(document.evidence)?,
            status: document.status,
            node: row.node,
        };
        Ok(Self { task: Arc::new(task), state: row.state })
    }
}
