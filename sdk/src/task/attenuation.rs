//! The rules by which a task is handed on: each child may do less than its parent, or the same, and never more.

use std::collections::BTreeSet;
use std::fmt;

use super::grant::Grant;
use super::state::TaskState;
use crate::id::SpiffeId;
use crate::instance::InstanceId;
use crate::reason::{Reason, Refusal};
use crate::time::Timestamp;

/// How deep a task may be delegated when nothing else is said.
pub const MAX_HOPS: u8 = 3;

/// One holder of a task: which program, and which process of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Actor {
    /// Who it is.
    pub spiffe_id: SpiffeId,
    /// Which of its processes.
    pub instance: InstanceId,
}

/// The task that is to be handed on, as the issuer knows it now.
#[derive(Debug, Clone, Copy)]
pub struct Parent<'a> {
    /// What it may do.
    pub grant: &'a Grant,
    /// When it ends.
    pub deadline: Timestamp,
    /// How it stands.
    pub state: TaskState,
    /// How many delegations lie above it.
    pub hop: u8,
    /// How many may.
    pub max_hops: u8,
    /// Its holders from the root on, its own last.
    pub chain: &'a [Actor],
    /// Who may be the next, if that is limited.
    pub may_act: Option<&'a BTreeSet<SpiffeId>>,
}

/// What the next holder asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// What it wants to do.
    pub grant: &'a Grant,
    /// Until when.
    pub deadline: Timestamp,
    /// How deep it wants to delegate further, from the root; the parent's depth if it does not say.
    pub max_hops: Option<u8>,
    /// Who asks: attested, and not what a token says.
    pub caller: &'a Actor,
}

/// Where a child stands in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// How many delegations lie above it.
    pub hop: u8,
    /// How many may: no fewer than lie there already.
    pub max_hops: u8,
}

/// The first rule that failed, in the order of `docs/tasks.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttenuationError(Reason);

impl AttenuationError {
    /// Its stable code.
    #[must_use]
    pub fn reason(self) -> Reason {
        self.0
    }
}

impl fmt::Display for AttenuationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Reason::DeadlineExceedsParent => "the deadline is later than that of the task above",
            Reason::ParentNotOpen => "the task above is not open",
            Reason::TooDeep => "the task above may not be delegated deeper",
            Reason::HopsExceedParent => "deeper delegation is asked for than the task above allows",
            Reason::ScopeExceedsParent => "the scope is not within that of the task above",
            Reason::DetailExceedsParent => "a detail is not within one detail of the task above",
            Reason::AudienceNotDelegable => "the task above may not be delegated to such an audience",
            Reason::ActorNotAllowed => "the task above does not name this workload as one that may act next",
            _ => "this instance holds the task above, or one further up",
        })
    }
}

impl std::error::Error for AttenuationError {}

impl From<AttenuationError> for Refusal {
    fn from(error: AttenuationError) -> Self {
        Refusal::new(error.reason(), error.to_string())
    }
}

/// Decides whether a task may be handed on like this.
///
/// # Errors
/// The first rule that failed.
pub fn attenuate(parent: &Parent<'_>, wish: &Wish<'_>, now: Timestamp) -> Result<Link, AttenuationError> {
    let rule = |holds: bool, reason| if holds { Ok(()) } else { Err(AttenuationError(reason)) };
    let hop = parent.hop.saturating_add(1);
    let link = Link { hop, max_hops: wish.max_hops.unwrap_or(parent.max_hops).max(hop) };
    let delegable = parent.grant.delegable();
    let may_act = |who: &BTreeSet<SpiffeId>| who.contains(&wish.caller.spiffe_id);

    rule(wish.deadline <= parent.deadline, Reason::DeadlineExceedsParent)?;
    rule(parent.state == TaskState::Open && now < parent.deadline, Reason::ParentNotOpen)?;
    rule(parent.hop < u8::MAX && link.hop <= parent.max_hops, Reason::TooDeep)?;
    rule(wish.max_hops.is_none_or(|asked| asked <= parent.max_hops), Reason::HopsExceedParent)?;
    rule(wish.grant.scope().is_subset(parent.grant.scope()), Reason::ScopeExceedsParent)?;
    rule(wish.grant.details_are_within(parent.grant), Reason::DetailExceedsParent)?;
    rule(
        delegable.contains(wish.grant.audience()) && wish.grant.delegable().is_subset(delegable),
        Reason::AudienceNotDelegable,
    )?;
    rule(parent.may_act.is_none_or(may_act), Reason::ActorNotAllowed)?;
    rule(!parent.chain.contains(wish.caller), Reason::ActorRepeated)?;
    Ok(link)
}
