//! What is checked of a token before anybody gets it: that it is the one for this task, this instance and this certificate.
//!
//! Its signature is for those to verify who are shown it: the connection to the issuer is authenticated, and task keys are not on the node.

use std::sync::Arc;
use std::time::Duration;

use mayfly_proto::node;
use mayfly_sdk::task::{Actor, Binding, TYP, TaskClaims, TaskState};
use mayfly_sdk::{Clock, Reason, Refusal, Timestamp, jws};
use ring::digest::{SHA256, digest};

use super::held::{Bound, Owner};
use crate::identity::{Held, Life, X509};

/// A task that was begun, its first token, and how long it may last: both times are the issuer's, so that no clock of this node matters.
///
/// # Errors
/// [`Reason::MessageInvalid`].
pub(super) fn begun(
    issue: node::TaskIssue,
    owner: &Owner,
    svid: Arc<Held<X509>>,
    clock: &Clock,
) -> Result<(node::Task, Bound, Duration), Refusal> {
    let task = issue.task.clone().ok_or_else(|| invalid("no task"))?;
    if task.state.parse() != Ok(TaskState::Open) || task.spiffe_id != owner.spiffe_id {
        return Err(invalid("a task that is not open, or another's"));
    }
    if task.detached != owner.detached {
        return Err(invalid("a task that is detached and was not to be, or the other way round"));
    }
    let (bound, issued_at) = checked(issue, &task.id, owner, svid, clock)?;
    let left_s = u64::try_from(task.deadline.saturating_sub(issued_at.unix_s())).unwrap_or(0);
    Ok((task, bound, Duration::from_secs(left_s)))
}

/// A fresh token of a task.
///
/// # Errors
/// [`Reason::MessageInvalid`].
pub(super) fn fresh(
    issue: node::TaskIssue,
    id: &str,
    owner: &Owner,
    svid: Arc<Held<X509>>,
    clock: &Clock,
) -> Result<Bound, Refusal> {
    Ok(checked(issue, id, owner, svid, clock)?.0)
}

/// A token, and when the issuer says that it was issued.
fn checked(
    issue: node::TaskIssue,
    id: &str,
    owner: &Owner,
    svid: Arc<Held<X509>>,
    clock: &Clock,
) -> Result<(Bound, Timestamp), Refusal> {
    let life = Life::begin(issue.lifetime_s, issue.renew_after_s, clock);
    let (header, claims) = jws::insecure_parts(&issue.token).map_err(|error| invalid(&error.to_string()))?;
    let claims = TaskClaims::parse(&claims).ok_or_else(|| invalid("claims that contradict each other"))?;
    if header.get("typ").and_then(|typ| typ.as_str()) != Some(TYP) {
        return Err(invalid("a token of another kind"));
    }
    let holder = Actor { spiffe_id: svid.spiffe_id().clone(), instance: owner.instance };
    if claims.holder() != Some(&holder) || claims.task.id.to_string() != id {
        return Err(invalid("a token of another task or instance"));
    }
    if claims.binding != Binding::Certificate(thumbprint(&svid)?) {
        return Err(invalid("a token that is bound to another certificate"));
    }
    if issue.lifetime_s == 0 {
        return Err(invalid("a token that has ended"));
    }
    Ok((Bound::new(issue.token, claims.expires_at.unix_s(), life, svid), claims.issued_at))
}

fn thumbprint(svid: &Held<X509>) -> Result<[u8; 32], Refusal> {
    let leaf = svid.credential().certificates().into_iter().next().unwrap_or_default();
    digest(&SHA256, &leaf).as_ref().try_into().map_err(|_length| invalid("a certificate without a thumbprint"))
}

/// For a workload: what the issuer sent is of no use now, which says nothing about the workload's rights.
fn invalid(what: &str) -> Refusal {
    Refusal::new(Reason::Unavailable, format!("what the issuer sent was not accepted: {what}"))
}
