//! The layer: everything that is decided before a handler sees the request.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use tower::{Layer, Service};

use super::challenge::Challenge;
use super::{Denial, Denied, Guard};
use crate::task::{Shown, TaskCaller, TaskClaims, TaskTokenError};
use crate::tls::PeerInfo;

/// Admits whoever presents, over mTLS, a good task token that is bound to the certificate of that connection. The handler finds a
/// [`Caller`] in the request's extensions, and no `Authorization`: the token is for this service alone.
///
/// The connection's [`PeerInfo`] has to be in the extensions. tonic puts it there (feature `serve`), and axum with
/// `into_make_service_with_connect_info::<PeerInfo>()` (feature `axum`).
#[derive(Debug, Clone)]
pub struct TaskLayer {
    guard: Guard,
    challenge: Arc<Challenge>,
}

impl TaskLayer {
    pub(super) fn new(guard: Guard) -> Self {
        Self { guard, challenge: Arc::default() }
    }

    /// Every request needs these scope tokens. A challenge names them.
    #[must_use]
    pub fn scope<S: Into<String>>(mut self, tokens: impl IntoIterator<Item = S>) -> Self {
        Arc::make_mut(&mut self.challenge).scope =
            tokens.into_iter().map(Into::into).filter(|token| quotable(token)).collect();
        self
    }

    /// Where the document about this resource is (RFC 9728 3). A challenge names it. Left out unless it is a plain URL.
    #[must_use]
    pub fn resource_metadata(mut self, url: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.challenge).resource_metadata = Some(url.into()).filter(|url| quotable(url));
        self
    }

    /// Who makes the request with these headers, over this connection. Makes the record of the decision.
    fn decide(&self, headers: &HeaderMap, connection: Option<&PeerInfo>) -> Result<Caller, Denied> {
        let denied = |denial| Denied::new(denial, &self.challenge);
        let token = match bearer(headers) {
            Ok(token) => token,
            Err(denial) => {
                let denied = denied(denial);
                record(self.guard.audience(), None, denied.rule());
                return Err(denied);
            }
        };
        // A token of somebody without a certificate is bound to nobody whom we see.
        let Some(peer) = connection.and_then(PeerInfo::peer) else {
            record(self.guard.audience(), None, TaskTokenError::NotBound.rule());
            return Err(denied(Denial::Token(TaskTokenError::NotBound)));
        };
        let decision = self.guard.decide(token, Shown::Peer(peer));
        let scoped = decision.verdict.and_then(|caller| {
            self.challenge.scope.iter().try_for_each(|token| caller.require_scope(token)).map(|()| caller)
        });
        match scoped {
            Ok(caller) => {
                record(self.guard.audience(), decision.claims.as_deref(), "");
                Ok(Caller {
                    who: caller,
                    audience: self.guard.audience().into(),
                    challenge: Arc::clone(&self.challenge),
                })
            }
            Err(error) => {
                record(self.guard.audience(), decision.claims.as_deref(), error.rule());
                Err(denied(Denial::Token(error)))
            }
        }
    }
}

impl<S> Layer<S> for TaskLayer {
    type Service = TaskService<S>;

    fn layer(&self, inner: S) -> TaskService<S> {
        TaskService { inner, layer: self.clone() }
    }
}

/// A service behind a [`TaskLayer`].
#[derive(Debug, Clone)]
pub struct TaskService<S> {
    inner: S,
    layer: TaskLayer,
}

impl<S, B, R> Service<Request<B>> for TaskService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let decided = self.layer.decide(request.headers(), connection(request.extensions()));
        match decided {
            Ok(caller) => {
                request.headers_mut().remove(AUTHORIZATION);
                request.extensions_mut().insert(caller);
                Box::pin(self.inner.call(request))
            }
            Err(denied) => {
                let headers = std::mem::take(request.headers_mut());
                Box::pin(async move { Ok(denied.answer(&headers)) })
            }
        }
    }
}

/// Who calls, as a handler finds it: what [`TaskCaller`] says of the agent, its instance, user, task, chain and grant, and
/// refusals that can be answered as they are.
#[derive(Clone)]
pub struct Caller {
    who: TaskCaller,
    audience: Arc<str>,
    challenge: Arc<Challenge>,
}

impl Caller {
    /// Whether the grant has this scope token.
    ///
    /// # Errors
    /// What to answer: 403, and the scope that was needed.
    pub fn require_scope(&self, scope: &str) -> Result<(), Denied> {
        self.who.require_scope(scope).map_err(|error| self.denied(error, scope))
    }

    /// Whether a detail of the grant allows a call of this tool at this place with these arguments.
    ///
    /// # Errors
    /// What to answer: 403.
    pub fn require_tool(
        &self,
        name: &str,
        location: &str,
        action: &str,
        arguments: &crate::json::Object,
    ) -> Result<(), Denied> {
        self.who.require_tool(name, location, action, arguments).map_err(|error| self.denied(error, ""))
    }

    fn denied(&self, error: TaskTokenError, scope: &str) -> Denied {
        record(&self.audience, Some(self.who.claims()), error.rule());
        let mut challenge = Challenge::clone(&self.challenge);
        if quotable(scope) {
            challenge.scope = vec![scope.to_owned()];
        }
        Denied::new(Denial::Token(error), &Arc::new(challenge))
    }
}

impl Deref for Caller {
    type Target = TaskCaller;

    fn deref(&self) -> &TaskCaller {
        &self.who
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.who.fmt(f)
    }
}

/// The one bearer token of a request (RFC 6750 2.1).
fn bearer(headers: &HeaderMap) -> Result<&str, Denial> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Err(Denial::NoToken),
        (Some(value), None) => value.to_str().ok().ok_or(Denial::NotOneToken)?,
        _ => return Err(Denial::NotOneToken),
    };
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() => {
            Ok(token.trim_start_matches(' '))
        }
        // Another scheme is no token of this one.
        _ => Err(Denial::NoToken),
    }
}

fn connection(extensions: &http::Extensions) -> Option<&PeerInfo> {
    #[cfg(feature = "axum")]
    if let Some(::axum::extract::ConnectInfo(info)) = extensions.get::<::axum::extract::ConnectInfo<PeerInfo>>() {
        return Some(info);
    }
    extensions.get::<PeerInfo>()
}

/// What may stand between quotation marks in a challenge as it is.
fn quotable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
}

/// The record of a decision: `rule` is empty where it was to admit.
fn record(audience: &str, claims: Option<&TaskClaims>, rule: &'static str) {
    let allowed = rule.is_empty();
    if let Some(claims) = claims {
        let agent = claims.holder().map(|holder| holder.spiffe_id.as_str());
        tracing::info!(
            target: "mayfly::decision", allowed, rule, audience, agent, jti = %claims.jti, txn = %claims.task.root,
            task = %claims.task.id, "task token decided"
        );
    } else {
        tracing::info!(target: "mayfly::decision", allowed, rule, audience, "task token decided");
    }
}
