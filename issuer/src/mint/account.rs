//! The account of a decision about a task: what was asked, what it rests on, what came of it. Whoever asks later is told it.
//!
//! That of a begin is kept with the task, that of a refusal by itself, as long as refusals do not come so often that they
//! would fill the store.

use std::sync::Arc;
use std::time::Duration;

use mayfly_sdk::task::Grant;
use mayfly_sdk::{InstanceId, Refusal, Serial, SpiffeId, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::{BeginTask, Caller, Minter, Request};
use crate::ledger::{Kind, Personal, Record, RequestId};
use crate::policy::Verdict;
use crate::registry::{Entry, Uid};
use crate::store::RefuseTask;
use crate::task::{Rate, Task, UserToken};
use crate::users::VerifiedUser;

/// A text of whoever asks is kept up to this length, bytes.
const MAX_TEXT: usize = 1024;
/// A grant that cannot be read, and one that can but is longer, is kept up to this length, bytes.
const MAX_GRANT: usize = 4096;
/// The most workloads of `may_act` that are kept.
const MAX_MAY_ACT: usize = 64;

/// What is kept of a decision, as JSON.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Account {
    at: Timestamp,
    outcome: Outcome,
    /// `begin`, `delegate` or `renew`.
    action: &'static str,
    /// What the node called its request.
    request_id: String,
    node: SpiffeId,
    instance: Option<InstanceId>,
    spiffe_id: Option<SpiffeId>,
    /// The task, where there is one.
    task: Option<Serial>,
    /// The task above, where there is one.
    parent: Option<Serial>,
    asked: Asked,
    /// On whose behalf, by which token of theirs; nothing: on nobody's, or the token was not believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserRef>,
    entry: Option<EntryRef>,
    policy: Option<Verdict>,
    context: Option<Value>,
    reason: Option<&'static str>,
    what: Option<String>,
    #[serde(skip)]
    named: RequestId,
    #[serde(skip)]
    entry_uid: Uid,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Granted,
    Refused,
}

/// What was asked, in the words of whoever asked.
#[derive(Debug, Clone, Default, Serialize)]
struct Asked {
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    /// The grant, as text if it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_hops: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    may_act: Option<Vec<String>>,
    detached: bool,
    /// Whether a user's token was shown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    on_behalf_of_user: bool,
}

/// The user, and what of the token tells it from others; never the token.
#[derive(Debug, Clone, Serialize)]
struct UserRef {
    subject: String,
    provider: String,
    token_id: Option<Arc<str>>,
    issued_at: Timestamp,
    expires_at: Timestamp,
    session: Option<Arc<str>>,
    client: Option<Arc<str>>,
}

/// The entry that it rests on.
#[derive(Debug, Clone, Serialize)]
struct EntryRef {
    name: String,
    uid: Uid,
    revision: mayfly_sdk::Revision,
}

/// How often refusals are kept: enough to explain what an operator is asked about, too seldom to fill the store.
#[derive(Debug)]
pub struct KeptRefusals {
    instances: Rate<(SpiffeId, Option<InstanceId>)>,
    nodes: Rate<SpiffeId>,
    whole: Rate<()>,
}

impl Default for KeptRefusals {
    fn default() -> Self {
        Self { instances: Rate::new(0.1, 10.0), nodes: Rate::new(0.2, 50.0), whole: Rate::new(20.0, 1000.0) }
    }
}

impl KeptRefusals {
    fn admit(&self, account: &Account, now: Duration) -> bool {
        let instance = (account.node.clone(), account.instance);
        self.instances.take(&instance, now).is_ok()
            && self.nodes.take(&account.node, now).is_ok()
            && self.whole.take(&(), now).is_ok()
    }
}

impl Account {
    /// Of a begin, before anything is decided.
    pub(super) fn of_begin(caller: &Caller<'_>, request: &Request<BeginTask>) -> Self {
        let wish = &request.wanted;
        let asked = Asked {
            purpose: Some(cut(&wish.purpose, MAX_TEXT).to_owned()),
            grant: Some(shown_grant(&wish.grant)),
            deadline_s: wish.deadline.map(mayfly_sdk::Ttl::as_s),
            max_hops: wish.max_hops,
            may_act: wish
                .may_act
                .as_ref()
                .map(|ids| ids.iter().take(MAX_MAY_ACT).map(|id| cut(id, MAX_TEXT).to_owned()).collect()),
            detached: wish.detached,
            on_behalf_of_user: wish.subject_token.is_some(),
        };
        let action = if wish.parent_token.is_some() { "delegate" } else { "begin" };
        Self::new(caller, request, action, asked)
    }

    /// Of a renewal, before anything is decided.
    pub(super) fn of_renewal<W>(caller: &Caller<'_>, request: &Request<W>, id: Serial) -> Self {
        Self { task: Some(id), ..Self::new(caller, request, "renew", Asked::default()) }
    }

    fn new<W>(caller: &Caller<'_>, request: &Request<W>, action: &'static str, asked: Asked) -> Self {
        Self {
            at: caller.now,
            outcome: Outcome::Refused,
            action,
            request_id: hex::encode(request.request_id),
            node: caller.facts.spiffe_id.clone(),
            instance: request.instance,
            spiffe_id: None,
            task: None,
            parent: None,
            asked,
            user: None,
            entry: None,
            policy: None,
            context: None,
            reason: None,
            what: None,
            named: request.request_id,
            entry_uid: request.entry,
        }
    }

    /// The identity and the entry that allows it are known.
    pub(super) fn rests_on(&mut self, spiffe_id: &SpiffeId, entry: &Entry) {
        self.spiffe_id = Some(spiffe_id.clone());
        self.entry = Some(EntryRef { name: entry.name().to_owned(), uid: entry.uid, revision: entry.revision });
    }

    /// The user is known.
    pub(super) fn is_for(&mut self, user: &VerifiedUser) {
        let UserToken { issued_at, session, client } = user.token.clone();
        self.user = Some(UserRef {
            subject: user.subject().to_string(),
            provider: user.user.provider().to_owned(),
            token_id: user.token_id.clone(),
            issued_at,
            expires_at: user.expires_at,
            session,
            client,
        });
    }

    /// The task above is known.
    pub(super) fn is_below(&mut self, parent: Serial) {
        self.parent = Some(parent);
    }

    /// What the policies were asked.
    pub(super) fn in_context(&mut self, context: Value) {
        self.context = Some(context);
    }

    /// What they said.
    pub(super) fn judged(&mut self, verdict: Verdict) {
        self.policy = Some(verdict);
    }

    /// What the policies said, as the ledger has it.
    pub(super) fn policy(&self) -> std::sync::Arc<str> {
        self.policy.as_ref().map_or_else(|| "none".into(), |verdict| verdict.to_string().into())
    }

    /// It, once the task was begun.
    pub(super) fn granted(mut self, task: &Task) -> String {
        self.outcome = Outcome::Granted;
        self.task = Some(task.id);
        self.to_json()
    }

    fn to_json(&self) -> String {
        // Only maps with keys that are not text fail to serialize, and there is none here.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn record(&self, id: Serial, refusal: &Refusal) -> Record {
        Record {
            node: Some(self.node.clone()),
            instance: self.instance,
            entry_uid: Some(self.entry_uid.to_string().into()),
            revision: self.entry.as_ref().map(|entry| entry.revision),
            request_id: Some(self.named),
            reason: Some(refusal.reason.code().into()),
            policy: self.policy.is_some().then(|| self.policy()),
            personal: Personal {
                spiffe_id: self.spiffe_id.clone(),
                actor: self.user.as_ref().map(|user| user.subject.as_str().into()),
                detail: Some(format!("{} of a task: {}", self.action, refusal.reason.code()).into()),
            },
            ..Record::new(Kind::Refused, id)
        }
    }
}

impl Minter {
    /// Records a refusal, if there is room for one more, and adds to it the id by which it is found again.
    pub(super) async fn refuse(&self, mut account: Account, refusal: Refusal) -> Refusal {
        let clock = self.directory.clock();
        if !self.kept_refusals.admit(&account, clock.monotonic()) {
            return refusal;
        }
        let Ok(id) = Serial::generate(clock.now_ms()) else { return refusal };
        account.reason = Some(refusal.reason.code());
        account.what = Some(cut(&refusal.what, MAX_TEXT).to_owned());
        let document = account.to_json();
        let kept = RefuseTask { id, document, records: vec![account.record(id, &refusal)] };
        match self.directory.store().refuse_task(kept).await {
            Ok(()) => Refusal { what: format!("{} (request {id})", refusal.what), ..refusal },
            Err(error) => {
                tracing::warn!(reason = error.reason().code(), "a refused task was not recorded");
                refusal
            }
        }
    }
}

fn shown_grant(text: &str) -> Value {
    let grant = Some(text.as_bytes()).filter(|json| json.len() <= MAX_GRANT);
    match grant.and_then(|json| Grant::from_json(json).ok()) {
        Some(grant) => Value::Object(grant.to_json()),
        None => cut(text, MAX_GRANT).into(),
    }
}

fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}
