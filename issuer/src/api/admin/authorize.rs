//! The one place where administration is allowed or not: every method has a verb, and what has none is refused.
//!
//! ```text
//! local socket:  SO_PEERCRED ──> root and the issuer's own user may do everything
//! remote (mTLS): SPIFFE ID ──> the `admin` grants of the live entries with exactly this ID ──> verb ──> object
//! ```
//!
//! Decisions:
//! - A remote caller's grants are looked up at each call, and for edits again under the lock of the edit: a grant that was taken
//!   away counts for nothing from then on. Nothing about them is kept with a connection.
//! - Only entries with a literal SPIFFE ID grant: what a template renders to, facts decide.
//! - A limited grant (`id_prefix`, `owner`) covers only what has an id or an owner. Join tokens, authorities, bundles of others,
//!   policies, users and the ledger have none: they need a grant without limits.

mod plan;
mod rights;
mod service;

use std::sync::Arc;

use mayfly_sdk::{Reason, Refusal, SpiffeId, Timestamp};

pub use rights::{Grants, Object};
pub use service::AuthorizeLayer;

use super::LocalCaller;
use crate::{
    directory::Actor,
    registry::{Plan, Registry},
};

/// What a method is about, and so which grants cover it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The whole trust domain: a grant without limits.
    Everything,
    /// What is told to anybody who has the verb, whatever the grant's limits.
    Common,
    /// Single objects, each of which the method checks with [`Authorized::may`].
    Objects,
}

/// The verb of each method, and its reach. A method that is not here may be called by nobody.
pub const VERBS: [(&str, &str, Reach); 28] = [
    ("ApplyEntries", "entry:apply", Reach::Objects),
    ("ListEntries", "entry:list", Reach::Objects),
    ("GetEntry", "entry:show", Reach::Objects),
    ("DeleteEntry", "entry:delete", Reach::Objects),
    ("ListNodes", "node:list", Reach::Objects),
    ("GetNode", "node:show", Reach::Objects),
    ("EvictNode", "node:evict", Reach::Objects),
    ("BanNode", "node:ban", Reach::Objects),
    ("CreateJoinToken", "join_token:create", Reach::Everything),
    ("ListAuthorities", "authority:list", Reach::Everything),
    ("PrepareAuthority", "authority:prepare", Reach::Everything),
    ("ActivateAuthority", "authority:activate", Reach::Everything),
    ("TaintAuthority", "authority:taint", Reach::Everything),
    ("RevokeAuthority", "authority:revoke", Reach::Everything),
    ("GetBundle", "bundle:show", Reach::Common),
    ("ListBundles", "bundle:list", Reach::Common),
    ("SetBundle", "bundle:set", Reach::Everything),
    ("DeleteBundle", "bundle:delete", Reach::Everything),
    ("ListTasks", "task:list", Reach::Objects),
    ("GetTask", "task:show", Reach::Objects),
    ("SetTaskState", "task:set_state", Reach::Objects),
    ("SetUserState", "task:set_user_state", Reach::Everything),
    ("ExplainTask", "task:explain", Reach::Objects),
    ("ApplyPolicy", "policy:apply", Reach::Everything),
    ("GetPolicies", "policy:show", Reach::Everything),
    ("DeletePolicy", "policy:delete", Reach::Everything),
    ("TailLedger", "ledger:tail", Reach::Everything),
    ("GetStatus", "status:show", Reach::Common),
];

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Somebody at the local socket.
    Local(LocalCaller),
    /// Whoever has the key of an X.509-SVID of this trust domain with this SPIFFE ID.
    Remote(SpiffeId),
}

/// A call that may go on, and who makes it.
#[derive(Debug, Clone)]
pub struct Authorized {
    actor: Actor,
    verb: &'static str,
    /// None: the local socket, which may do everything.
    remote: Option<SpiffeId>,
}

impl Authorized {
    /// Who calls: `uid:0`, or a SPIFFE ID.
    #[must_use]
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// What for: `entry:apply`.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        self.verb
    }

    /// The SPIFFE ID of a remote caller.
    #[must_use]
    pub fn remote(&self) -> Option<&SpiffeId> {
        self.remote.as_ref()
    }

    /// Whether the call may touch this object.
    #[must_use]
    pub fn may(&self, registry: &Registry, now: Timestamp, object: Object<'_>) -> bool {
        self.remote.as_ref().is_none_or(|id| Grants::of(registry, id, now).allow(self.verb, object))
    }

    /// The same, as a refusal that says nothing about the object but what the caller said himself.
    ///
    /// # Errors
    /// [`Reason::PermissionDenied`].
    pub fn demand(&self, registry: &Registry, now: Timestamp, object: Object<'_>) -> Result<(), Refusal> {
        if self.may(registry, now, object) {
            return Ok(());
        }
        Err(denied(format!("{} holds no grant of {} for this", self.actor, self.verb)))
    }

    /// Whether the call may carry out this plan: each entry of it is covered, and nothing is granted that the caller lacks.
    ///
    /// # Errors
    /// [`Reason::PermissionDenied`], with the entry.
    pub fn demand_plan(&self, registry: &Registry, now: Timestamp, plan: &Plan) -> Result<(), Refusal> {
        match &self.remote {
            None => Ok(()),
            Some(id) => plan::check(plan, registry, &Grants::of(registry, id, now)),
        }
    }
}

/// Decides on a call by its path and by who makes it.
///
/// # Errors
/// [`Reason::PermissionDenied`].
pub fn authorize(
    path: &str,
    caller: Option<&Caller>,
    registry: &Registry,
    now: Timestamp,
) -> Result<Authorized, Refusal> {
    let method = path.strip_prefix("/mayfly.admin.v1.AdminService/").unwrap_or_default();
    let found = VERBS.iter().find(|(name, ..)| *name == method);
    let (_, verb, reach) = *found.ok_or_else(|| denied(format!("there is no administration method {method:?}")))?;
    match caller.ok_or_else(|| denied("the caller is not known".to_owned()))? {
        Caller::Local(caller) if caller.may_administrate() => {
            Ok(Authorized { actor: Arc::from(format!("uid:{}", caller.uid())), verb, remote: None })
        }
        Caller::Local(caller) => Err(denied(format!(
            "user {} may not administrate this issuer ({verb}): root and its own user may",
            caller.uid()
        ))),
        Caller::Remote(id) => {
            let grants = Grants::of(registry, id, now);
            let allowed = match reach {
                Reach::Everything => grants.allow(verb, Object::Everything),
                Reach::Common | Reach::Objects => grants.have(verb),
            };
            if !allowed {
                return Err(denied(format!("{id} holds no grant of {verb} that reaches this")));
            }
            Ok(Authorized { actor: Arc::from(id.as_str()), verb, remote: Some(id.clone()) })
        }
    }
}

fn denied(what: String) -> Refusal {
    Refusal::new(Reason::PermissionDenied, what)
}

#[cfg(test)]
mod tests;
