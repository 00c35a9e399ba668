//! What an entry's `task` part allows.

use mayfly_sdk::task::{Grant, MAX_HOPS, Subject};
use mayfly_sdk::{Reason, Refusal, Ttl};

use super::tasks::Limits;
use crate::registry::{Entry, TaskGrant, UsersOf};
use crate::users::VerifiedUser;

/// The least that a task may last.
const SHORTEST: Ttl = Ttl::from_s(30);
/// Stands alone for any.
const ANY: &str = "*";

/// What is asked for a task, apart from its grant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// How long it may last.
    pub(crate) deadline: Ttl,
    /// How deep it may be delegated.
    pub(crate) max_hops: Option<u8>,
}

/// The `task` part of an entry.
///
/// # Errors
/// [`Reason::TaskNotAllowed`].
pub(crate) fn part(entry: &Entry) -> Result<&TaskGrant, Refusal> {
    entry.spec.extra().task.as_deref().ok_or_else(|| {
        Refusal::new(Reason::TaskNotAllowed, format!("the entry {} lets its workloads begin no tasks", entry.name()))
    })
}

/// Whether an entry allows a grant, at a begin and at a delegation alike.
///
/// # Errors
/// [`Reason::TaskExceedsEntry`] names the first part that does not fit.
pub(crate) fn grant(entry: &Entry, asked: &Grant) -> Result<(), Refusal> {
    let part = part(entry)?;
    let beyond = |what: String| {
        Err(Refusal::new(Reason::TaskExceedsEntry, format!("the entry {} does not allow {what}", entry.name())))
    };
    if !allows(&part.audiences, asked.audience()) {
        return beyond(format!("the audience {:?}", asked.audience()));
    }
    if let Some(scope) = asked.scope().iter().find(|scope| !allows(&part.scopes, scope)) {
        return beyond(format!("the scope {scope:?}"));
    }
    if let Some(delegable) = asked.delegable().iter().find(|audience| !allows(&part.delegable, audience)) {
        return beyond(format!("delegation to {delegable:?}"));
    }
    if !part.authorization_details.allow(asked.details()) {
        return beyond("one of the authorization details".to_owned());
    }
    Ok(())
}

/// What an entry says about the users of a provider.
///
/// # Errors
/// [`Reason::OnBehalfNotAllowed`].
pub(crate) fn users_of<'e>(entry: &'e Entry, provider: &str) -> Result<&'e UsersOf, Refusal> {
    part(entry)?.users.iter().find(|of| *of.provider == *provider).ok_or_else(|| {
        let what = format!("the entry {} lets its workloads not act on behalf of users of {provider:?}", entry.name());
        Refusal::new(Reason::OnBehalfNotAllowed, what)
    })
}

/// Whether the workloads of an entry may act on this behalf, at a begin, a delegation and a renewal alike.
///
/// # Errors
/// [`Reason::OnBehalfNotAllowed`].
pub(crate) fn subject(entry: &Entry, subject: &Subject) -> Result<(), Refusal> {
    match subject {
        Subject::Workload(_) => Ok(()),
        Subject::User(user) => users_of(entry, user.provider()).map(|_of| ()),
    }
}

/// How long a task under an entry may last at all.
pub(crate) fn longest(part: &TaskGrant, limits: &Limits) -> Ttl {
    part.deadline.unwrap_or(limits.longest_deadline).min(limits.longest_deadline)
}

/// The lifetime that a task begun under an entry gets, and how deep it may be delegated.
///
/// # Errors
/// [`Reason::TaskExceedsEntry`]; [`Reason::InvalidArgument`] for a task too short to be of use.
pub(crate) fn bounds(
    entry: &Entry,
    deadline: Option<Ttl>,
    max_hops: Option<u8>,
    limits: &Limits,
) -> Result<Bounds, Refusal> {
    let part = part(entry)?;
    let beyond =
        |what: String| Refusal::new(Reason::TaskExceedsEntry, format!("the entry {} allows {what}", entry.name()));
    let longest = longest(part, limits);
    let deadline = deadline.unwrap_or(limits.deadline.min(longest));
    if deadline > longest {
        return Err(beyond(format!("a task to last {longest} at most, not {deadline}")));
    }
    if deadline < SHORTEST {
        return Err(Refusal::new(Reason::InvalidArgument, format!("a task lasts {SHORTEST} at the least")));
    }
    let deepest = part.max_hops.unwrap_or(MAX_HOPS);
    if let Some(asked) = max_hops.filter(|asked| *asked > deepest) {
        return Err(beyond(format!("delegation to a depth of {deepest} at most, not {asked}")));
    }
    Ok(Bounds { deadline, max_hops: Some(max_hops.unwrap_or(deepest)) })
}

/// The lifetime that a task on behalf of a user gets: no more than the user's provider is configured for.
///
/// # Errors
/// [`Reason::TaskExceedsEntry`].
pub(crate) fn bounds_of_user(
    bounds: Bounds,
    asked: Option<Ttl>,
    user: Option<&VerifiedUser>,
) -> Result<Bounds, Refusal> {
    let Some(user) = user.filter(|user| bounds.deadline > user.longest_deadline) else { return Ok(bounds) };
    let longest = user.longest_deadline;
    if let Some(asked) = asked {
        let what = format!("a task for users of {} lasts {longest} at most, not {asked}", user.user.provider());
        return Err(Refusal::new(Reason::TaskExceedsEntry, what));
    }
    Ok(Bounds { deadline: longest, ..bounds })
}

fn allows(list: &[Box<str>], asked: &str) -> bool {
    list.iter().any(|allowed| **allowed == *ANY || **allowed == *asked)
}
