//! What a caller who has not shown who it is may send: the body of one call is at most 64 KiB.
//!
//! Whoever has presented the SVID of a node may send batches; anybody else may attest or ask for an agentless SVID, and neither
//! takes more. So nothing larger is read, kept or decoded for a stranger.

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use mayfly_sdk::{Reason, Refusal, tls::PeerInfo};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

/// The longest body of a call by a stranger, bytes.
const MAX_BODY: usize = 64 * 1024;

/// Puts the bound in front of a service.
#[derive(Debug, Clone, Copy, Default)]
pub struct BoundUnproven;

/// A service behind the bound.
#[derive(Debug, Clone)]
pub struct Bounded<S>(S);

impl<S> Layer<S> for BoundUnproven {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded(inner)
    }
}

impl<S> Service<http::Request<Body>> for Bounded<S>
where
    S: Service<http::Request<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> S::Future {
        let is_proven = request.extensions().get::<PeerInfo>().is_some_and(|peer| peer.peer().is_some());
        if is_proven {
            return self.0.call(request);
        }
        self.0.call(request.map(|body| Body::new(Limited::new(body, MAX_BODY).map_err(status))))
    }
}

fn status(error: Box<dyn std::error::Error + Send + Sync>) -> Status {
    if error.downcast_ref::<LengthLimitError>().is_some() {
        let what = "a caller without a certificate may send at most 64 KiB in one call";
        return Refusal::new(Reason::InvalidArgument, what).into();
    }
    Status::from_error(error)
}
