//! What a task token says.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::attenuation::Actor;
use super::grant::Grant;
use super::subject::Subject;
use crate::id::SpiffeId;
use crate::json::{self, Object};
use crate::serial::Serial;
use crate::time::Timestamp;

/// The most holders that a chain has: deeper nesting is not read.
const MAX_CHAIN: usize = 16;
/// The most ids in `may_act`.
const MAX_MAY_ACT: usize = 64;

/// The claims of a task token (RFC 9068, RFC 8693, RFC 9396, and `mayfly_task`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskClaims {
    /// `iss`: the authorization server.
    pub issuer: String,
    /// `sub`: on whose behalf.
    pub subject: Subject,
    /// `client_id`, `act`: the holders from the root task on, the token's own last; never empty.
    pub chain: Vec<Actor>,
    /// `may_act`: who may be the next holder, if that is limited.
    pub may_act: Option<BTreeSet<SpiffeId>>,
    /// `aud`, `scope`, `authorization_details`, and `delegable` of `mayfly_task`.
    pub grant: Grant,
    /// `cnf`: what the holder proves that it has.
    pub binding: Binding,
    /// `iat` and `nbf`.
    pub issued_at: Timestamp,
    /// `exp`.
    pub expires_at: Timestamp,
    /// `jti`: the id of the ledger's record.
    pub jti: Serial,
    /// `mayfly_task`.
    pub task: TaskLink,
    /// `par`: the digest of the grant of the task above.
    pub parent_digest: Option<[u8; 32]>,
    /// `att`: the digest of the attested evidence and of the policy.
    pub evidence: [u8; 32],
    /// `status`: where a status list says how the task stands.
    pub status: Option<StatusEntry>,
}

/// What a token is bound to (RFC 7800): exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Binding {
    /// `x5t#S256`: SHA-256 of the holder's certificate, which is that of the TLS connection (RFC 8705).
    Certificate([u8; 32]),
    /// `jkt`: the thumbprint of a key that signs a proof (RFC 9449).
    Key([u8; 32]),
}

/// Where a task stands in its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskLink {
    /// The task; the id of the ledger's record of its begin.
    pub id: Serial,
    /// The task at the top of the tree, which is `txn` too.
    pub root: Serial,
    /// The task above.
    pub parent: Option<Serial>,
    /// SHA-256 of the text of its purpose, which is in the ledger.
    pub purpose: [u8; 32],
    /// How many delegations lie above it.
    pub hop: u8,
    /// How many may.
    pub max_hops: u8,
}

/// An entry of a status list (Token Status List).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusEntry {
    /// Which entry.
    pub index: u64,
    /// Of which list.
    pub uri: String,
}

impl TaskClaims {
    /// Who holds the token.
    #[must_use]
    pub fn holder(&self) -> Option<&Actor> {
        self.chain.last()
    }

    /// The payload of the token.
    #[must_use]
    pub fn to_json(&self) -> Object {
        let grant = self.grant.to_json();
        let encode = |digest: &[u8; 32]| URL_SAFE_NO_PAD.encode(digest);
        let mut task = members(json!({
            "id": self.task.id, "root": self.task.root, "purpose": encode(&self.task.purpose), "hop": self.task.hop,
            "max_hops": self.task.max_hops, "digest": encode(&self.grant.digest()),
        }));
        let mut claims = members(json!({
            "iss": self.issuer, "sub": self.subject.to_string(), "aud": self.grant.audience(),
            "iat": self.issued_at.unix_s(), "nbf": self.issued_at.unix_s(), "exp": self.expires_at.unix_s(),
            "jti": self.jti, "txn": self.task.root, "att": encode(&self.evidence),
            "cnf": match &self.binding {
                Binding::Certificate(thumbprint) => json!({"x5t#S256": encode(thumbprint)}),
                Binding::Key(thumbprint) => json!({"jkt": encode(thumbprint)}),
            },
        }));
        let mut add = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        if let Some(parent) = self.task.parent {
            task.insert("parent".to_owned(), json!(parent));
        }
        if let Some(delegable) = grant.get("delegable") {
            task.insert("delegable".to_owned(), delegable.clone());
        }
        if let Some(holder) = self.holder() {
            task.insert("instance".to_owned(), json!(holder.instance));
            add("client_id", json!(holder.spiffe_id));
            if !self.is_its_own_subject() {
                add("act", self.act());
            }
        }
        if !self.grant.scope().is_empty() {
            add("scope", self.grant.scope().iter().map(String::as_str).collect::<Vec<_>>().join(" ").into());
        }
        if let Some(details) = grant.get("authorization_details") {
            add("authorization_details", details.clone());
        }
        if let Some(may_act) = &self.may_act {
            add("may_act", json!({"sub": may_act}));
        }
        if let Some(parent) = &self.parent_digest {
            add("par", encode(parent).into());
        }
        if let Some(StatusEntry { index, uri }) = &self.status {
            add("status", json!({"status_list": {"idx": index, "uri": uri}}));
        }
        add("mayfly_task", task.into());
        json::sorted(claims)
    }

    /// Reads the payload of a token whose signature held, and looks whether it agrees with itself: the chain is as long as
    /// `hop` says and names nobody twice, it begins with the subject where that is a workload, and the grant is the one
    /// whose digest the token has.
    #[must_use]
    pub fn parse(claims: &Object) -> Option<Self> {
        let text = |name: &str| claims.get(name)?.as_str();
        let time = |name: &str| Some(Timestamp::from_unix_s(claims.get(name)?.as_i64().filter(|s| *s >= 0)?));
        let task = claims.get("mayfly_task")?.as_object()?;
        let grant = grant(claims, task)?;
        let subject: Subject = text("sub")?.parse().ok()?;
        let own = Actor {
            spiffe_id: text("client_id")?.parse().ok()?,
            instance: task.get("instance")?.as_str()?.parse().ok()?,
        };
        let chain = match claims.get("act") {
            Some(act) => chain(act)?,
            None => vec![own.clone()],
        };
        let parsed = Self {
            issuer: text("iss")?.to_owned(),
            subject,
            chain,
            may_act: optional(claims.get("may_act"), may_act).ok()?,
            binding: binding(claims.get("cnf")?.as_object()?)?,
            issued_at: time("iat").filter(|issued_at| time("nbf") == Some(*issued_at))?,
            expires_at: time("exp")?,
            jti: text("jti")?.parse().ok()?,
            parent_digest: optional(claims.get("par"), digest).ok()?,
            evidence: digest(claims.get("att")?)?,
            status: optional(claims.get("status"), status).ok()?,
            task: TaskLink {
                id: task.get("id")?.as_str()?.parse().ok()?,
                root: task.get("root")?.as_str()?.parse().ok()?,
                parent: optional(task.get("parent"), |parent| parent.as_str()?.parse().ok()).ok()?,
                purpose: digest(task.get("purpose")?)?,
                hop: small(task.get("hop")?)?,
                max_hops: small(task.get("max_hops")?)?,
            },
            grant,
        };
        let TaskLink { id, root, parent, hop, max_hops, .. } = &parsed.task;
        let is_root = *hop == 0;
        let agrees = parsed.holder() == Some(&own)
            && claims.contains_key("act") != parsed.is_its_own_subject()
            && parsed.chain.len() == usize::from(*hop) + 1
            && hop <= max_hops
            && parsed.chain.iter().collect::<BTreeSet<_>>().len() == parsed.chain.len()
            && parsed
                .subject
                .workload()
                .is_none_or(|id| parsed.chain.first().is_some_and(|first| first.spiffe_id == *id))
            && text("txn") == Some(root.to_string().as_str())
            && is_root == (id == root)
            && is_root == parent.is_none()
            && is_root == parsed.parent_digest.is_none()
            && digest(task.get("digest")?)? == parsed.grant.digest();
        agrees.then_some(parsed)
    }

    /// Whether nobody acts for anybody else: the one case in which a token has no `act`.
    fn is_its_own_subject(&self) -> bool {
        match (self.chain.as_slice(), self.subject.workload()) {
            ([only], Some(id)) => only.spiffe_id == *id,
            _ => false,
        }
    }

    /// The chain as nested `act`, the newest outermost (RFC 8693 4.1).
    fn act(&self) -> Value {
        self.chain.iter().fold(Value::Null, |inner, Actor { spiffe_id, instance }| match inner {
            Value::Null => json!({"sub": spiffe_id, "instance": instance}),
            inner => json!({"sub": spiffe_id, "instance": instance, "act": inner}),
        })
    }
}

fn grant(claims: &Object, task: &Object) -> Option<Grant> {
    let mut members = Object::new();
    members.insert("audience".to_owned(), claims.get("aud")?.clone());
    if let Some(scope) = claims.get("scope") {
        members.insert("scope".to_owned(), scope.as_str()?.split(' ').collect::<Vec<_>>().into());
    }
    for (from, name) in [(claims, "authorization_details"), (task, "delegable")] {
        if let Some(value) = from.get(name) {
            members.insert(name.to_owned(), value.clone());
        }
    }
    Grant::from_object(&members).ok()
}

fn chain(mut act: &Value) -> Option<Vec<Actor>> {
    let mut newest_first = Vec::new();
    while newest_first.len() < MAX_CHAIN {
        let spiffe_id = act.get("sub")?.as_str()?.parse().ok()?;
        newest_first.push(Actor { spiffe_id, instance: act.get("instance")?.as_str()?.parse().ok()? });
        let Some(previous) = act.get("act") else {
            newest_first.reverse();
            return Some(newest_first);
        };
        act = previous;
    }
    None
}

fn may_act(value: &Value) -> Option<BTreeSet<SpiffeId>> {
    let ids = value.get("sub")?.as_array().filter(|ids| ids.len() <= MAX_MAY_ACT)?;
    ids.iter().map(|id| id.as_str()?.parse().ok()).collect()
}

fn binding(cnf: &Object) -> Option<Binding> {
    let mut members = cnf.iter();
    match (members.next(), members.next()) {
        (Some((name, value)), None) if name == "x5t#S256" => digest(value).map(Binding::Certificate),
        (Some((name, value)), None) if name == "jkt" => digest(value).map(Binding::Key),
        _ => None,
    }
}

fn status(value: &Value) -> Option<StatusEntry> {
    let list = value.get("status_list")?;
    Some(StatusEntry { index: list.get("idx")?.as_u64()?, uri: list.get("uri")?.as_str()?.to_owned() })
}

fn digest(value: &Value) -> Option<[u8; 32]> {
    let text = value.as_str().filter(|text| text.len() == 43)?;
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

fn small(value: &Value) -> Option<u8> {
    value.as_u64()?.try_into().ok()
}

fn members(value: Value) -> Object {
    if let Value::Object(members) = value { members } else { Object::new() }
}

/// Nothing where there is nothing; an error where there is something else than was expected.
fn optional<T>(value: Option<&Value>, read: impl FnOnce(&Value) -> Option<T>) -> Result<Option<T>, ()> {
    value.map(|value| read(value).ok_or(())).transpose()
}
