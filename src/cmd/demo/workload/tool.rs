//! The service of the second act: plain HTTP over mTLS, behind the SDK's layer, which admits whoever presents a good task token.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mayfly_sdk::Clock;
use mayfly_sdk::client::{Source, X509Context};
use mayfly_sdk::guard::{Caller, Guard, TaskLayer};
use mayfly_sdk::task::TaskVerifier;
use mayfly_sdk::tls::{self, Authorizer, ClientAuth, Options, ServerTls};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::{Layer as _, ServiceExt as _};

use super::{FIRST_IDENTITY, say};
use crate::cmd::demo::report::Report;
use crate::endpoint::EndpointArgs;
use crate::failure::Failure;

/// How long a connection may take.
const CONNECTION: Duration = Duration::from_secs(5);

pub(super) async fn run(source: &Source<X509Context>, audience: &str) -> Result<(), Failure> {
    let failed = |refusal| Failure::refused("the service does not serve", &refusal);
    let clock = Clock::system();
    let trust_domain = source.current().map_err(failed)?.default_svid().spiffe_id().trust_domain().clone();
    let clients = ClientAuth::Required(Authorizer::member_of(trust_domain));
    let options = Options::default().alpn(["http/1.1"]);
    let tls = ServerTls::new(source.credentials(), source.trust(), clients, &clock, &options);
    let tls = Arc::new(tls.map_err(failed)?);
    let guard = Guard::start(EndpointArgs::from_env().endpoint()?, TaskVerifier::new(audience, &clock));
    guard.ready(FIRST_IDENTITY).await.map_err(failed)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    say(&Report::Listening { address: listener.local_addr()?.to_string() });
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        while connections.try_join_next().is_some() {}
        connections.spawn(timeout(CONNECTION, serve(stream, Arc::clone(&tls), guard.layer())));
    }
}

async fn serve(stream: TcpStream, tls: Arc<ServerTls>, layer: TaskLayer) {
    let Ok(connection) = tls::accept(stream, &tls).await else { return };
    let (info, guarded) = (connection.info().clone(), layer.layer(tower::service_fn(answer)));
    let answer = service_fn(move |mut request: Request<Incoming>| {
        // Where the layer looks for the peer.
        request.extensions_mut().insert(info.clone());
        guarded.clone().oneshot(request)
    });
    let http = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(connection), answer);
    // Whoever hangs up in the middle has his reasons.
    http.await.ok();
}

/// Says who calls.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let caller = request.extensions().get::<Caller>();
    Ok(Response::new(Full::from(caller.map(|caller| caller.agent().to_string()).unwrap_or_default())))
}
