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

use super::challenge::{Challenge, quotable};
use super::{Denial, Denied, Guard};
use crate::dpop::{self, DpopRequest, DpopVerifier, HeldProof};
use crate::task::{Call, Shown, TaskCaller, TaskClaims, TaskTokenError};
use crate::time::Clock;
use crate::tls::PeerInfo;
use crate::wit::{Origin, ProofError};

/// Proofs that are remembered while they are good: over 1,000 a second, and over 200 of one key.
const MOST_PROOFS: usize = 100_000;

/// Admits whoever presents, over mTLS, a good task token that is bound to the certificate of that connection, or, where
/// [`TaskLayer::dpop`] says so, one with a proof for this request. The handler finds a [`Caller`] in the request's extensions, and no
/// `Authorization`: the token is for this service alone.
///
/// The connection's [`PeerInfo`] has to be in the extensions. tonic puts it there (feature `serve`), and axum with
/// `into_make_service_with_connect_info::<PeerInfo>()` (feature `axum`).
#[derive(Debug, Clone)]
pub struct TaskLayer {
    guard: Guard,
    challenge: Arc<Challenge>,
    proofs: Option<Arc<Proofs>>,
}

/// What proofs of possession have to be for.
#[derive(Debug)]
struct Proofs {
    origin: Origin,
    verifier: DpopVerifier,
}

/// The credentials of a request.
enum Presented<'a> {
    /// A token of whoever holds the certificate of the connection (RFC 6750 2.1).
    Bearer(&'a str),
    /// A token of whoever makes a proof (RFC 9449 7.1).
    Proved(&'a str),
}

/// A token, whose it is to be, and the proof of that which is still to be used up.
type Credentials<'a> = (&'a str, Shown<'a>, Option<(&'a Proofs, HeldProof)>);

impl TaskLayer {
    pub(super) fn new(guard: Guard) -> Self {
        Self { guard, challenge: Arc::default(), proofs: None }
    }

    /// Admits tokens that are bound to a bare key too, each request with a proof by that key (RFC 9449): for agents whose connections end
    /// at somebody else's TLS. `origin` is where clients reach this service, and the path of a request is taken as it came (within
    /// axum's `nest` too): behind a proxy that changes paths this admits nobody.
    #[must_use]
    pub fn dpop(mut self, origin: Origin, clock: &Clock) -> Self {
        self.proofs = Some(Arc::new(Proofs { origin, verifier: DpopVerifier::new(clock, MOST_PROOFS) }));
        Arc::make_mut(&mut self.challenge).dpop = true;
        self
    }

    /// Every request needs these scope tokens, and those of earlier calls of this. A text with spaces is several, as OAuth writes
    /// them. One that no grant can have (RFC 6749 3.3) refuses every request. A challenge names them.
    #[must_use]
    pub fn scope<S: Into<String>>(mut self, tokens: impl IntoIterator<Item = S>) -> Self {
        let needed = &mut Arc::make_mut(&mut self.challenge).scope;
        for text in tokens.into_iter().map(Into::into) {
            let listed: Vec<&str> = text.split(' ').filter(|token| !token.is_empty()).collect();
            // Of nothing at all it is not known what was meant: it is needed as it stands, and nobody has it.
            let listed = if listed.is_empty() { vec![text.as_str()] } else { listed };
            needed.extend(listed.into_iter().map(str::to_owned));
        }
        self
    }

    /// Where the document about this resource is (RFC 9728 3). A challenge names it. Left out unless it is a plain URL.
    #[must_use]
    pub fn resource_metadata(mut self, url: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.challenge).resource_metadata = Some(url.into()).filter(|url| quotable(url));
        self
    }

    /// Who makes the request. Makes the record of the decision.
    fn decide<B>(&self, request: &Request<B>) -> Result<Caller, Denied> {
        let denied = |denial| Denied::new(denial, &self.challenge);
        let (token, shown, proof) = match self.shown(request) {
            Ok(presented) => presented,
            Err(denial) => {
                let denied = denied(denial);
                record(self.guard.audience(), None, denied.rule());
                return Err(denied);
            }
        };
        let decision = self.guard.decide(token, shown);
        let scoped = decision.verdict.and_then(|caller| {
            self.challenge.scope.iter().try_for_each(|token| caller.require_scope(token)).map(|()| caller)
        });
        // Only beside a token that is good: others fill nobody's memory.
        let admitted = scoped.map_err(Denial::Token).and_then(|caller| match proof {
            Some((proofs, proof)) => proofs.verifier.use_up(proof).map(|()| caller).map_err(Denial::Proof),
            None => Ok(caller),
        });
        match admitted {
            Ok(caller) => {
                record(self.guard.audience(), decision.claims.as_deref(), "");
                Ok(Caller { who: caller, guard: self.guard.clone(), challenge: Arc::clone(&self.challenge) })
            }
            Err(denial) => {
                let denied = denied(denial);
                record(self.guard.audience(), decision.claims.as_deref(), denied.rule());
                Err(denied)
            }
        }
    }
}

impl TaskLayer {
    /// The token of a request, what whoever makes it has shown of its own, and the proof that is then to be used up.
    fn shown<'a, B>(&'a self, request: &'a Request<B>) -> Result<Credentials<'a>, Denial> {
        match (presented(request.headers())?, &self.proofs) {
            (Presented::Bearer(token), _) => {
                // A token of somebody without a certificate is bound to nobody whom we see.
                let peer = connection(request.extensions()).and_then(PeerInfo::peer);
                Ok((token, Shown::Peer(peer.ok_or(Denial::Token(TaskTokenError::NotBound))?), None))
            }
            (Presented::Proved(token), Some(proofs)) => {
                let mut headers = request.headers().get_all(dpop::HEADER).iter();
                let (Some(proof), None) = (headers.next(), headers.next()) else {
                    return Err(Denial::Proof(ProofError::NotOneProof));
                };
                let proof = proof.to_str().map_err(|_not_text| Denial::Proof(ProofError::NotText))?;
                let target = proofs.origin.at(path(request)).map_err(Denial::Proof)?;
                let call = DpopRequest { method: request.method().as_str(), target: &target, token: Some(token) };
                let proof = proofs.verifier.verify(proof, &call).map_err(Denial::Proof)?;
                Ok((token, Shown::Proof(proof.thumbprint()), Some((proofs, proof))))
            }
            // Another scheme is no token of this one.
            (Presented::Proved(_), None) => Err(Denial::NoToken),
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
        let decided = self.layer.decide(&request);
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
    guard: Guard,
    challenge: Arc<Challenge>,
}

impl Caller {
    /// Whether it would be admitted still: a token has an end, and its task may have been completed or suspended since. For what
    /// lasts longer than a request; costs no call to anybody.
    ///
    /// # Errors
    /// What to answer.
    pub fn still_good(&self) -> Result<(), Denied> {
        self.guard.still_good(&self.who).map_err(|error| self.denied(error, ""))
    }

    /// Resolves as soon as it would not be admitted any more, to what is to be answered then: within milliseconds of an event of
    /// its task, and within a second of the end of its token. [Server streams](crate::guard#streams) end by it.
    pub fn no_longer_good(&self) -> impl Future<Output = Denied> + Send + use<> {
        let caller = self.clone();
        async move {
            let error = caller.guard.no_longer_good(&caller.who).await;
            caller.denied(error, "")
        }
    }

    /// Whether the grant has this scope token.
    ///
    /// # Errors
    /// What to answer: 403, and the scope that was needed.
    pub fn require_scope(&self, scope: &str) -> Result<(), Denied> {
        self.who.require_scope(scope).map_err(|error| self.denied(error, scope))
    }

    /// Whether one detail of the grant allows this call.
    ///
    /// # Errors
    /// What to answer: 403.
    pub fn require(&self, call: &Call<'_>) -> Result<(), Denied> {
        self.who.require(call).map_err(|error| self.denied(error, ""))
    }

    /// Whether a detail of the grant allows a call of this tool at this place with these arguments. One that limits kinds of
    /// data or an identifier does not: name them in a [`Call`].
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
        self.require(&Call::tool(name, arguments).at(location).action(action))
    }

    fn denied(&self, error: TaskTokenError, scope: &str) -> Denied {
        record(self.guard.audience(), Some(self.who.claims()), error.rule());
        let mut challenge = Challenge::clone(&self.challenge);
        if !scope.is_empty() {
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

/// The one token of a request.
fn presented(headers: &HeaderMap) -> Result<Presented<'_>, Denial> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Err(Denial::NoToken),
        (Some(value), None) => value.to_str().ok().ok_or(Denial::NotOneToken)?,
        _ => return Err(Denial::NotOneToken),
    };
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() => {
            Ok(Presented::Bearer(token.trim_start_matches(' ')))
        }
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(dpop::HEADER) && !token.is_empty() => {
            Ok(Presented::Proved(token.trim_start_matches(' ')))
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

/// The path that the client called. Within `nest` of axum a request has what is left of it.
fn path<B>(request: &Request<B>) -> &str {
    #[cfg(feature = "axum")]
    if let Some(::axum::extract::OriginalUri(uri)) = request.extensions().get::<::axum::extract::OriginalUri>() {
        return uri.path();
    }
    request.uri().path()
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
