//! Calls over HTTP with a pass, by reqwest.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, StatusCode};
use reqwest::redirect::Policy;
use reqwest::{Client, IntoUrl, Request, RequestBuilder, Response};

use super::{Pass, Presents};
use crate::reason::{Reason, Refusal};
use crate::time::Clock;
use crate::tls::{Authorizer, ClientTls, Options};

/// How long connections for passes that are bound to none are used: the certificate of their server ends, and what is trusted
/// changes, and nobody looks at either again while a connection lasts. For other passes the SVID says it.
const LONGEST_UNBOUND: Duration = Duration::from_mins(5);

/// A client that presents, with each call, the token of the moment, over a connection with the SVID that it is bound to. When that is
/// replaced, new calls go over new connections, and those that run finish on the old ones.
///
/// A call that the server refuses with 401 is repeated once with another token, if there is one and if the body can be sent again:
/// one that is a stream is not. Redirects are not followed, and no proxy is used: the token is for one service.
pub struct TaskHttp<P> {
    presents: P,
    /// TLS for passes that are bound to no connection.
    unbound: Option<ClientTls>,
    servers: Authorizer,
    clock: Clock,
    builder: Client,
    open: Mutex<Option<Open>>,
}

/// The connections of one kind of pass.
struct Open {
    of: [u8; 32],
    client: Client,
    /// By the monotonic clock.
    since: Duration,
}

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// There is nothing to present: begin another task, or wait, as the reason says.
    #[error(transparent)]
    NoPass(#[from] Refusal),
    /// The request cannot be made, or the server was not reached or not believed.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
}

impl<P: Presents> TaskHttp<P> {
    /// Calls the servers that `servers` allows with the passes of a task.
    ///
    /// # Errors
    /// `tls_setup`.
    pub fn new(presents: P, servers: Authorizer) -> Result<Self, Refusal> {
        Self::by(presents, servers, Clock::system())
    }

    pub(super) fn by(presents: P, servers: Authorizer, clock: Clock) -> Result<Self, Refusal> {
        // Makes requests and sends none: it trusts nobody.
        let nobody = ClientTls::new(
            crate::tls::Credentials::none(),
            crate::tls::Trust::fixed(crate::bundle::X509BundleSet::new()),
            Authorizer::one_of([]),
            &clock,
            &Options::default(),
        )?;
        let builder = client(&nobody)?;
        Ok(Self { presents, unbound: None, servers, clock, builder, open: Mutex::default() })
    }

    /// Calls servers with tokens that are good over any connection: over these, and over new ones every 5 minutes, so that what is
    /// trusted then counts.
    ///
    /// # Errors
    /// `tls_setup`.
    pub fn over(presents: P, tls: ClientTls) -> Result<Self, Refusal> {
        Self::over_by(presents, tls, Clock::system())
    }

    pub(super) fn over_by(presents: P, tls: ClientTls, clock: Clock) -> Result<Self, Refusal> {
        Ok(Self { unbound: Some(tls), ..Self::by(presents, Authorizer::one_of([]), clock)? })
    }

    /// Begins a GET for [`TaskHttp::send`]. A builder's own `send` reaches nobody.
    pub fn get(&self, url: impl IntoUrl) -> RequestBuilder {
        self.request(Method::GET, url)
    }

    /// Begins a POST for [`TaskHttp::send`].
    pub fn post(&self, url: impl IntoUrl) -> RequestBuilder {
        self.request(Method::POST, url)
    }

    /// Begins a request for [`TaskHttp::send`].
    pub fn request(&self, method: Method, url: impl IntoUrl) -> RequestBuilder {
        self.builder.request(method, url)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, HttpError> {
        self.execute(request.build()?).await
    }

    /// Sends a request that was made elsewhere.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn execute(&self, request: Request) -> Result<Response, HttpError> {
        let pass = self.presents.present().await?;
        let again = request.try_clone();
        let answer = self.once(&pass, request).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            self.presents.accepted(&pass);
            return Ok(answer);
        }
        match (self.presents.after(&pass).await, again) {
            (Some(other), Some(request)) => self.once(&other, request).await,
            _ => Ok(answer),
        }
    }

    async fn once(&self, pass: &Pass, mut request: Request) -> Result<Response, HttpError> {
        let unfit = |_error| Refusal::new(Reason::TaskTokenInvalid, "the token cannot stand in a header");
        let mut value = HeaderValue::try_from(format!("Bearer {}", pass.expose_token())).map_err(unfit)?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
        Ok(self.client(pass)?.execute(request).await?)
    }

    /// The connections that belong to this pass.
    fn client(&self, pass: &Pass) -> Result<Client, Refusal> {
        let key = pass.connection_key();
        let now = self.clock.monotonic();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let lasts = |open: &&Open| pass.svid().is_some() || now.saturating_sub(open.since) < LONGEST_UNBOUND;
        if let Some(open) = open.as_ref().filter(|open| open.of == key).filter(lasts) {
            return Ok(open.client.clone());
        }
        let made = match (&self.unbound, pass.svid()) {
            (Some(tls), None) => client(tls)?,
            _ => client(&pass.client_tls(self.servers.clone(), &self.clock, &options())?)?,
        };
        *open = Some(Open { of: key, client: made.clone(), since: now });
        Ok(made)
    }
}

fn options() -> Options {
    Options::default().alpn(["http/1.1"])
}

fn client(tls: &ClientTls) -> Result<Client, Refusal> {
    let built = Client::builder()
        .tls_backend_preconfigured(Arc::unwrap_or_clone(tls.rustls()))
        .redirect(Policy::none())
        .no_proxy()
        .https_only(true)
        .build();
    built.map_err(|error| Refusal::new(Reason::TlsSetup, format!("no HTTP client can be made: {error}")))
}

impl<P> fmt::Debug for TaskHttp<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskHttp({:?})", self.servers)
    }
}
