use std::fmt;

use mayfly_proto::task as wire;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::id::SpiffeId;
use crate::reason::{Reason, Refusal};
use crate::task::Grant;
use crate::time::Ttl;

/// What a task is to be for, and what it is to be allowed.
#[derive(Debug, Clone)]
pub struct TaskRequest {
    purpose: String,
    audience: String,
    scope: Vec<String>,
    details: Vec<Value>,
    delegable: Vec<String>,
    deadline: Ttl,
    max_hops: Option<u8>,
    may_act: Option<Vec<SpiffeId>>,
    detached: bool,
    spiffe_id: Option<SpiffeId>,
    parent: Option<ParentToken>,
    user: Option<SubjectToken>,
}

/// The token of the task above, as its holder handed it over: for [`TaskRequest::below`], and for nothing else.
#[derive(Clone)]
pub struct ParentToken(Zeroizing<String>);

/// The token of a user, as an identity provider made it for the issuer: for [`TaskRequest::on_behalf_of`], and for nothing
/// else.
#[derive(Clone)]
pub struct SubjectToken(Zeroizing<String>);

/// What the agent is asked.
pub(super) enum Asked {
    Begin(wire::BeginRequest),
    Part(wire::DelegateRequest),
}

impl TaskRequest {
    /// A task for this purpose, in words for people (1 to 1,024 bytes), that may call one resource.
    #[must_use]
    pub fn new(purpose: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            purpose: purpose.into(),
            audience: audience.into(),
            scope: Vec::new(),
            details: Vec::new(),
            delegable: Vec::new(),
            deadline: Ttl::ZERO,
            max_hops: None,
            may_act: None,
            detached: false,
            spiffe_id: None,
            parent: None,
            user: None,
        }
    }

    /// The scope tokens that it needs.
    #[must_use]
    pub fn scope<S: Into<String>>(mut self, tokens: impl IntoIterator<Item = S>) -> Self {
        self.scope = tokens.into_iter().map(Into::into).collect();
        self
    }

    /// One more detail (RFC 9396) that it needs; `docs/tasks.md` has the form.
    #[must_use]
    pub fn detail(mut self, detail: Value) -> Self {
        self.details.push(detail);
        self
    }

    /// To which audiences parts of it may be handed on.
    #[must_use]
    pub fn delegable<S: Into<String>>(mut self, audiences: impl IntoIterator<Item = S>) -> Self {
        self.delegable = audiences.into_iter().map(Into::into).collect();
        self
    }

    /// How long it may last at most; unless this says so, as long as the entry and the issuer allow by default.
    #[must_use]
    pub const fn deadline(mut self, after: Ttl) -> Self {
        self.deadline = after;
        self
    }

    /// How deep it may be delegated; unless this says so, as the entry allows.
    #[must_use]
    pub const fn max_hops(mut self, hops: u8) -> Self {
        self.max_hops = Some(hops);
        self
    }

    /// Who alone may take over parts of it.
    #[must_use]
    pub fn may_act(mut self, ids: impl IntoIterator<Item = SpiffeId>) -> Self {
        self.may_act = Some(ids.into_iter().collect());
        self
    }

    /// It lives on when this process ends, and when the [`super::Task`] is dropped: every process with the same SPIFFE ID on this
    /// machine may watch and complete it.
    #[must_use]
    pub const fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// Which identity of the process is to hold it; unless this says so, its first one that may begin tasks.
    #[must_use]
    pub fn identity(mut self, id: SpiffeId) -> Self {
        self.spiffe_id = Some(id);
        self
    }

    /// It is on behalf of a user, if the entry allows that and the token this agent. The token is shown once, when the task is
    /// begun; what is handed on from the task is on behalf of the same user. Not for parts of another one's task, which are on
    /// behalf of whomever that is.
    #[must_use]
    pub fn on_behalf_of(mut self, user: SubjectToken) -> Self {
        self.user = Some(user);
        self
    }

    /// It is a part of another one's task.
    #[must_use]
    pub fn below(mut self, parent: ParentToken) -> Self {
        self.parent = Some(parent);
        self
    }

    pub(super) const fn is_detached(&self) -> bool {
        self.detached
    }

    /// The grant is read as the issuer reads it, so that a wrong one costs no call.
    pub(super) fn into_message(self) -> Result<Asked, Refusal> {
        let grant = json!({
            "audience": self.audience, "scope": self.scope, "authorization_details": self.details, "delegable": self.delegable,
        });
        let grant = Grant::from_json(grant.to_string().as_bytes()).map_err(Refusal::from)?;
        let grant = Value::Object(grant.to_json()).to_string();
        let (purpose, deadline_s, max_hops) = (self.purpose, self.deadline.as_s(), self.max_hops.map(u32::from));
        let may_act =
            self.may_act.map(|ids| wire::MayAct { spiffe_ids: ids.iter().map(ToString::to_string).collect() });
        let spiffe_id = self.spiffe_id.map(|id| id.to_string()).unwrap_or_default();
        let detached = self.detached;
        Ok(match self.parent {
            None => Asked::Begin(wire::BeginRequest {
                purpose,
                grant,
                deadline_s,
                max_hops,
                may_act,
                detached,
                spiffe_id,
                subject_token: self.user.as_ref().map(|user| user.expose().to_owned()).unwrap_or_default(),
            }),
            Some(_) if self.user.is_some() => {
                let what = "a part of another one's task is on behalf of whomever that is, and of no other user";
                return Err(Refusal::new(Reason::InvalidArgument, what));
            }
            Some(parent) => {
                let parent_token = parent.expose().to_owned();
                Asked::Part(wire::DelegateRequest {
                    parent_token,
                    purpose,
                    grant,
                    deadline_s,
                    max_hops,
                    may_act,
                    detached,
                    spiffe_id,
                })
            }
        })
    }
}

impl ParentToken {
    /// One that came from the holder of the task above.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Its text, to be handed on.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ParentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParentToken(..)")
    }
}

impl SubjectToken {
    /// One that the user's client handed over.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SubjectToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectToken(..)")
    }
}
