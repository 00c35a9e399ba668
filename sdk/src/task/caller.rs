//! Who calls: what handlers decide by.

use std::fmt;
use std::sync::Arc;

use super::attenuation::Actor;
use super::call::Call;
use super::claims::{TaskClaims, TaskLink};
use super::grant::Grant;
use super::subject::{Subject, User};
use super::token::{TaskKeys, TaskTokenError};
use crate::id::SpiffeId;
use crate::instance::InstanceId;
use crate::json::Object;

/// Who calls, with what grant: a token that was believed, from the holder that it is bound to.
#[derive(Clone)]
pub struct TaskCaller {
    claims: Arc<TaskClaims>,
    holder: Actor,
    /// The keys of the moment when it was believed, by a verifier that follows them.
    keys: Option<Arc<TaskKeys>>,
}

impl TaskCaller {
    /// The caller that these claims name; none if they name nobody.
    pub(super) fn of(claims: Arc<TaskClaims>) -> Option<Self> {
        let holder = claims.holder().cloned()?;
        Some(Self { claims, holder, keys: None })
    }

    /// It, believed by these keys.
    pub(super) fn by(self, keys: &Arc<TaskKeys>) -> Self {
        Self { keys: Some(Arc::clone(keys)), ..self }
    }

    /// Whether the key that signed its token is one of these: none of those that there were then is gone.
    pub(super) fn is_signed_by(&self, now: &TaskKeys) -> bool {
        self.keys.as_deref().is_none_or(|then| then.are_among(now))
    }

    /// The workload, and the process of it, that calls.
    #[must_use]
    pub fn holder(&self) -> &Actor {
        &self.holder
    }

    /// The agent: its SPIFFE ID.
    #[must_use]
    pub fn agent(&self) -> &SpiffeId {
        &self.holder.spiffe_id
    }

    /// Which process of it.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.holder.instance
    }

    /// The user on whose behalf; none: the agent that began the root task acts for itself.
    #[must_use]
    pub fn user(&self) -> Option<&User> {
        match self.subject() {
            Subject::User(user) => Some(user),
            Subject::Workload(_) => None,
        }
    }

    /// The task, and where it stands in its tree.
    #[must_use]
    pub fn task(&self) -> &TaskLink {
        &self.claims.task
    }

    /// On whose behalf.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.claims.subject
    }

    /// The holders from the root task on, the caller last.
    #[must_use]
    pub fn chain(&self) -> &[Actor] {
        &self.claims.chain
    }

    /// What it may do.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.claims.grant
    }

    /// All that the token says.
    #[must_use]
    pub fn claims(&self) -> &TaskClaims {
        &self.claims
    }

    /// Whether the grant has this scope token.
    ///
    /// # Errors
    /// [`TaskTokenError::InsufficientScope`].
    pub fn require_scope(&self, scope: &str) -> Result<(), TaskTokenError> {
        if self.grant().scope().contains(scope) { Ok(()) } else { Err(TaskTokenError::InsufficientScope) }
    }

    /// Whether one detail of the grant allows this call.
    ///
    /// # Errors
    /// [`TaskTokenError::InsufficientDetail`].
    pub fn require(&self, call: &Call<'_>) -> Result<(), TaskTokenError> {
        let allowed = self.grant().details().iter().any(|detail| detail.admits(call));
        if allowed { Ok(()) } else { Err(TaskTokenError::InsufficientDetail) }
    }

    /// Whether a detail of the grant allows a call of this tool at this place with these arguments. One that limits kinds of
    /// data or an identifier does not: name them in a [`Call`].
    ///
    /// # Errors
    /// [`TaskTokenError::InsufficientDetail`].
    pub fn require_tool(
        &self,
        name: &str,
        location: &str,
        action: &str,
        arguments: &Object,
    ) -> Result<(), TaskTokenError> {
        self.require(&Call::tool(name, arguments).at(location).action(action))
    }
}

// Says who calls, and nothing that could be shown as a token.
impl fmt::Debug for TaskCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskCaller({} for {}, task {})", self.holder.spiffe_id, self.claims.subject, self.claims.task.id)
    }
}
