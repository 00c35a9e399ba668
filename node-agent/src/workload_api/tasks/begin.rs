//! `Begin` and `Delegate`: two ways to ask for the same.

use std::sync::Arc;
use std::time::Duration;

use mayfly_proto::{node, task as wire};
use mayfly_sdk::task::{Grant, MAX_TOKEN_BYTES};
use mayfly_sdk::{Reason, Refusal, SpiffeId};
use tokio::time::Instant;
use tonic::Status;

use crate::holdings::Entry;
use crate::identity::{Held, Lease, Standing, X509};
use crate::tasks::{Beginner, Owner};
use crate::workload_api::Shared;
use crate::workload_api::caller::Caller;
use crate::workload_api::entitlement::Entitlement;
use crate::workload_api::leases::as_lack_of_identity;

/// How long a call waits for an X.509-SVID that is being minted.
const MINT_WITHIN: Duration = Duration::from_secs(5);
/// The longest text of a purpose, in bytes.
const MOST_PURPOSE: usize = 1024;
/// The longest token of a user, in bytes.
const MOST_SUBJECT_TOKEN: usize = 16 * 1024;
/// The most ids in `may_act`.
const MOST_ACTORS: usize = 64;

/// What is asked for, by either call.
pub(super) struct Asked {
    parent_token: String,
    subject_token: String,
    purpose: String,
    grant: String,
    deadline_s: u32,
    max_hops: Option<u32>,
    may_act: Option<wire::MayAct>,
    detached: bool,
    spiffe_id: String,
}

impl From<wire::BeginRequest> for Asked {
    fn from(request: wire::BeginRequest) -> Self {
        let wire::BeginRequest { purpose, grant, deadline_s, max_hops, may_act, detached, spiffe_id, subject_token } =
            request;
        Self {
            parent_token: String::new(),
            subject_token,
            purpose,
            grant,
            deadline_s,
            max_hops,
            may_act,
            detached,
            spiffe_id,
        }
    }
}

impl Asked {
    /// # Errors
    /// [`Reason::TaskTokenInvalid`]: without a token this would be no delegation.
    pub(super) fn of_delegation(request: wire::DelegateRequest) -> Result<Self, Refusal> {
        let wire::DelegateRequest { parent_token, purpose, grant, deadline_s, max_hops, may_act, detached, spiffe_id } =
            request;
        if parent_token.is_empty() || parent_token.len() > MAX_TOKEN_BYTES {
            let what = "the token of the task above is missing, or longer than 8 KiB";
            return Err(Refusal::new(Reason::TaskTokenInvalid, what));
        }
        let subject_token = String::new();
        Ok(Self { parent_token, subject_token, purpose, grant, deadline_s, max_hops, may_act, detached, spiffe_id })
    }

    fn check(&self) -> Result<(), Refusal> {
        let wrong = |what: &str| Err(Refusal::new(Reason::InvalidArgument, what));
        if self.purpose.trim().is_empty() || self.purpose.len() > MOST_PURPOSE {
            return wrong("a task has a purpose of 1 to 1024 bytes");
        }
        if self.subject_token.len() > MOST_SUBJECT_TOKEN {
            return Err(Refusal::new(Reason::TokenInvalid, "the user's token is longer than 16 KiB"));
        }
        Grant::from_json(self.grant.as_bytes()).map_err(Refusal::from)?;
        let actors = self.may_act.as_ref().map(|may_act| may_act.spiffe_ids.as_slice()).unwrap_or_default();
        if actors.len() > MOST_ACTORS {
            return wrong("may_act names 64 workloads at most");
        }
        let own = Some(&self.spiffe_id).filter(|id| !id.is_empty());
        for id in actors.iter().chain(own) {
            id.parse::<SpiffeId>().map_err(|error| Refusal::new(error.reason(), error.to_string()))?;
        }
        Ok(())
    }

    fn into_wish(self) -> node::BeginTaskRequest {
        node::BeginTaskRequest {
            purpose: self.purpose,
            grant: self.grant,
            deadline_s: self.deadline_s,
            max_hops: self.max_hops,
            may_act: self.may_act.map(|may_act| node::TaskActors { spiffe_ids: may_act.spiffe_ids }),
            detached: self.detached,
            parent_token: self.parent_token,
            subject_token: self.subject_token,
            ..node::BeginTaskRequest::default()
        }
    }
}

/// Begins a task of the calling instance.
///
/// # Errors
/// [`Reason::InvalidArgument`] and the like for what cannot be read, [`Reason::TaskNotAllowed`] for an identity that may not begin tasks, and
/// what the issuer says, in its words.
pub(super) async fn begin(shared: &Arc<Shared>, caller: &Caller, asked: Asked) -> Result<wire::BeginResponse, Status> {
    asked.check()?;
    let entitlement = shared.entitlement_of_newcomer(caller).await?;
    let entry = entry(&entitlement, &asked.spiffe_id)?;
    let subject = entitlement.subject(&entry)?;
    let Some(instance) = entitlement.instance else {
        return Err(Refusal::new(Reason::WorkloadUndetermined, "the process cannot be told from others").into());
    };
    let mut lease = shared.identities.x509.lease(subject.clone(), ());
    let svid = svid(shared, &entry, &mut lease).await?;
    let owner = Owner {
        instance,
        uid: caller.uid(),
        subject,
        spiffe_id: svid.spiffe_id().to_string(),
        detached: asked.detached,
    };
    let beginner = Beginner { owner, process: Arc::clone(caller.process()), lease, svid };
    let task = shared.tasks.begin(beginner, asked.into_wish()).await?;
    let standing = task.follow().borrow().clone();
    let token = standing.bound.map(|bound| bound.handed_out(shared.own_x509_bundle()));
    Ok(wire::BeginResponse { task: Some(task.shown(standing.state)), token })
}

/// The identity that the task is to be begun with: the one that is named, or the first that may begin tasks.
fn entry(entitlement: &Entitlement, named: &str) -> Result<Arc<Entry>, Refusal> {
    let mut able = entitlement.entries.iter().filter(|entry| entry.begins_tasks());
    if named.is_empty() {
        let none = || Refusal::new(Reason::TaskNotAllowed, "no identity of this workload may begin tasks");
        return able.next().cloned().ok_or_else(none);
    }
    let found = able.find(|entry| entry.rendered(&entitlement.facts).as_deref() == Some(named));
    let none = || {
        Refusal::new(Reason::TaskNotAllowed, format!("{named} is no identity of this workload that may begin tasks"))
    };
    found.cloned().ok_or_else(none)
}

/// The X.509-SVID of the instance; waits a moment for one that is being minted.
async fn svid(shared: &Shared, entry: &Entry, lease: &mut Lease<X509>) -> Result<Arc<Held<X509>>, Refusal> {
    let deadline = Instant::now() + MINT_WITHIN;
    loop {
        lease.mark_seen();
        let refused = lease.refused();
        let usable = lease.held().filter(|held| match held.standing(entry, &shared.link.holdings.borrow()) {
            Standing::Good => true,
            Standing::Replace => refused.is_some(),
            Standing::Discard => false,
        });
        if let Some(held) = usable {
            return Ok(held);
        }
        if let Some(why) = refused {
            return Err(as_lack_of_identity(&why));
        }
        if tokio::time::timeout_at(deadline, lease.changed()).await.is_err() {
            return Err(shared.link.status.borrow().why_nothing_was_minted());
        }
    }
}
