//! The one place where administration is allowed or not: every method has a verb, and what has none is refused.

use std::sync::Arc;

use mayfly_sdk::{Reason, Refusal};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::LocalCaller;
use crate::{directory::Actor, metrics::Metrics};

/// The verb of each method. A method that is not here may be called by nobody.
pub const VERBS: [(&str, &str); 20] = [
    ("ApplyEntries", "entry:apply"),
    ("ListEntries", "entry:list"),
    ("GetEntry", "entry:show"),
    ("DeleteEntry", "entry:delete"),
    ("ListNodes", "node:list"),
    ("GetNode", "node:show"),
    ("EvictNode", "node:evict"),
    ("BanNode", "node:ban"),
    ("CreateJoinToken", "join_token:create"),
    ("ListAuthorities", "authority:list"),
    ("PrepareAuthority", "authority:prepare"),
    ("ActivateAuthority", "authority:activate"),
    ("TaintAuthority", "authority:taint"),
    ("RevokeAuthority", "authority:revoke"),
    ("GetBundle", "bundle:show"),
    ("ListBundles", "bundle:list"),
    ("SetBundle", "bundle:set"),
    ("DeleteBundle", "bundle:delete"),
    ("TailLedger", "ledger:tail"),
    ("GetStatus", "status:show"),
];

/// A call that may go on, and who makes it.
#[derive(Debug, Clone)]
pub struct Authorized {
    actor: Actor,
    verb: &'static str,
}

impl Authorized {
    /// Who calls: `uid:0`.
    #[must_use]
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// What for: `entry:apply`.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        self.verb
    }
}

/// Decides on a call by its path and by who is at the other end of the local socket.
///
/// # Errors
/// [`Reason::PermissionDenied`].
pub fn authorize(path: &str, caller: Option<&LocalCaller>) -> Result<Authorized, Refusal> {
    let method = path.strip_prefix("/mayfly.admin.v1.AdminService/").unwrap_or_default();
    let verb = VERBS.iter().find(|(name, _)| *name == method).map(|(_, verb)| *verb);
    let denied = |what: String| Refusal::new(Reason::PermissionDenied, what);
    let verb = verb.ok_or_else(|| denied(format!("there is no administration method {method:?}")))?;
    let caller = caller.ok_or_else(|| denied("the caller is not known".to_owned()))?;
    if !caller.may_administrate() {
        return Err(denied(format!(
            "user {} may not administrate this issuer ({verb}): root and its own user may",
            caller.uid()
        )));
    }
    Ok(Authorized { actor: Arc::from(format!("uid:{}", caller.uid())), verb })
}

/// Puts [`authorize`] in front of a service.
#[derive(Debug, Clone)]
pub struct AuthorizeLayer {
    metrics: Arc<Metrics>,
}

impl AuthorizeLayer {
    /// Refusals are counted in `metrics`.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }
}

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;

    fn layer(&self, inner: S) -> Authorize<S> {
        Authorize { inner, metrics: Arc::clone(&self.metrics) }
    }
}

/// A service behind [`authorize`].
#[derive(Debug, Clone)]
pub struct Authorize<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S> Service<http::Request<Body>> for Authorize<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = futures_util::future::Either<S::Future, std::future::Ready<Result<Self::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let open = path.starts_with("/grpc.reflection.") || path.starts_with("/grpc.health.");
        let decision = authorize(path, request.extensions().get::<Option<LocalCaller>>().and_then(Option::as_ref));
        match decision {
            Ok(authorized) => {
                tracing::info!(actor = &*authorized.actor, verb = authorized.verb, "administration call");
                request.extensions_mut().insert(authorized);
            }
            Err(_) if open => {}
            Err(refusal) => {
                tracing::warn!(reason = refusal.reason.code(), what = refusal.what, "administration call refused");
                self.metrics.refused("admin", refusal.reason);
                let response = Status::from(refusal).into_http();
                return futures_util::future::Either::Right(std::future::ready(Ok(response)));
            }
        }
        futures_util::future::Either::Left(self.inner.call(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uid: u32) -> LocalCaller {
        LocalCaller::new(uid, 1000)
    }

    #[test]
    fn root_and_the_issuers_own_user_may_and_nobody_else() {
        let path = "/mayfly.admin.v1.AdminService/ApplyEntries";
        assert_eq!(&**authorize(path, Some(&caller(0))).unwrap().actor(), "uid:0");
        assert_eq!(authorize(path, Some(&caller(1000))).unwrap().verb(), "entry:apply");
        assert_eq!(authorize(path, Some(&caller(1001))).unwrap_err().reason, Reason::PermissionDenied);
        assert!(authorize(path, None).is_err());
    }

    #[test]
    fn a_method_without_a_verb_is_for_nobody() {
        for path in
            ["", "/", "/mayfly.admin.v1.AdminService/", "/mayfly.admin.v1.AdminService/Nope", "/other/ApplyEntries"]
        {
            assert!(authorize(path, Some(&caller(0))).is_err(), "{path}");
        }
    }

    #[test]
    fn every_method_of_the_service_has_a_verb() {
        let set = <prost_types::FileDescriptorSet as prost::Message>::decode(mayfly_proto::DESCRIPTORS).unwrap();
        let file = set.file.iter().find(|file| file.package() == "mayfly.admin.v1").unwrap();
        let methods: Vec<_> = file.service[0].method.iter().map(|method| method.name().to_owned()).collect();
        for method in &methods {
            assert!(VERBS.iter().any(|(name, _)| name == method), "{method}");
        }
        assert_eq!(methods.len(), VERBS.len());
    }
}
