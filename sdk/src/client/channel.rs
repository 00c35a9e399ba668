//! Calls over gRPC with a pass: a channel for tonic's generated clients.

mod replay;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response};
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::{Service, ServiceExt as _};

use self::replay::Replay;
use super::{Pass, Presents};
use crate::reason::{Reason, Refusal};
use crate::time::Clock;
use crate::tls::{Authorizer, Connector, Options};

/// A channel that presents, with each call, the token of the moment, over a connection with the SVID that it is bound to. When that
/// is replaced, new calls go over a new connection, and those that run finish on the old one.
///
/// A call that the server refuses with `Unauthenticated` before it has answered anything is repeated once with another token, if
/// there is one, and if what was sent of it so far (at most 64 KiB) can be sent again.
pub struct TaskChannel<P> {
    inner: Arc<Inner<P>>,
}

struct Inner<P> {
    presents: P,
    servers: Authorizer,
    endpoint: Endpoint,
    clock: Clock,
    open: Mutex<Option<([u8; 32], Channel)>>,
}

impl<P: Presents> TaskChannel<P> {
    /// Calls the server at `http://HOST:PORT` (TLS is ours) with the passes of a task, if `servers` allows it. The first call
    /// connects.
    ///
    /// # Errors
    /// `endpoint_invalid`.
    pub fn new(presents: P, servers: Authorizer, uri: &str) -> Result<Self, Refusal> {
        Self::by(presents, servers, uri, Clock::system())
    }

    pub(super) fn by(presents: P, servers: Authorizer, uri: &str, clock: Clock) -> Result<Self, Refusal> {
        let invalid = |error: tonic::transport::Error| Refusal::new(Reason::EndpointInvalid, format!("{uri}: {error}"));
        let endpoint = Endpoint::from_shared(uri.to_owned()).map_err(invalid)?;
        Ok(Self { inner: Arc::new(Inner { presents, servers, endpoint, clock, open: Mutex::default() }) })
    }
}

impl<P: Presents> Inner<P> {
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (parts, body) = request.into_parts();
        let replay = Replay::new(body);
        let pass = self.presents.present().await?;
        let attempt = |body: Body| {
            let mut request = Request::new(body);
            *request.method_mut() = parts.method.clone();
            *request.uri_mut() = parts.uri.clone();
            *request.version_mut() = parts.version;
            *request.headers_mut() = parts.headers.clone();
            *request.extensions_mut() = parts.extensions.clone();
            request
        };
        let answer = self.send(&pass, attempt(replay.body())).await?;
        if Status::from_header_map(answer.headers()).is_none_or(|status| status.code() != Code::Unauthenticated) {
            self.presents.accepted(&pass);
            return Ok(answer);
        }
        match self.presents.after(&pass).await {
            Some(other) => match replay.again() {
                Some(body) => self.send(&other, attempt(body)).await,
                None => Ok(answer),
            },
            None => Ok(answer),
        }
    }

    async fn send(&self, pass: &Pass, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        let unfit = |_error| Refusal::new(Reason::TaskTokenInvalid, "the token cannot stand in a header");
        let mut value = HeaderValue::try_from(format!("Bearer {}", pass.expose_token())).map_err(unfit)?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
        let mut channel = self.channel(pass)?;
        let ready = channel.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        ready.call(request).await.map_err(|error| Status::from_error(Box::new(error)))
    }

    /// The connection that belongs to this pass.
    fn channel(&self, pass: &Pass) -> Result<Channel, Refusal> {
        let key = pass.connection_key();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, channel)) = open.as_ref().filter(|(of, _)| *of == key) {
            return Ok(channel.clone());
        }
        let tls = pass.client_tls(self.servers.clone(), &self.clock, &Options::grpc())?;
        let channel = self.endpoint.connect_with_connector_lazy(Connector::new(tls));
        *open = Some((key, channel.clone()));
        Ok(channel)
    }
}

impl<P: Presents> Service<Request<Body>> for TaskChannel<P> {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.call(request).await })
    }
}

impl<P> Clone for TaskChannel<P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<P> fmt::Debug for TaskChannel<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskChannel({}, {:?})", self.inner.endpoint.uri(), self.inner.servers)
    }
}
