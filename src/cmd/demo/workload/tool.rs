//! The service of the second act: plain HTTP over mTLS, which admits whoever presents a task token that is good at this moment.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mayfly_proto::task as wire;
use mayfly_sdk::client::{Source, X509Context};
use mayfly_sdk::tls::{self, Authorizer, ClientAuth, Options, ServerTls};
use mayfly_sdk::{Clock, Refusal};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::say;
use crate::cmd::demo::report::Report;
use crate::endpoint::{EndpointArgs, Tasks};
use crate::failure::Failure;

/// How long a connection may take.
const CONNECTION: Duration = Duration::from_secs(5);

pub(super) async fn run(source: &Source<X509Context>, audience: &str) -> Result<(), Failure> {
    let failed = |refusal| Failure::refused("the service does not serve", &refusal);
    let trust_domain = source.current().map_err(failed)?.default_svid().spiffe_id().trust_domain().clone();
    let clients = ClientAuth::Required(Authorizer::member_of(trust_domain));
    let options = Options::default().alpn(["http/1.1"]);
    let tls = ServerTls::new(source.credentials(), source.trust(), clients, &Clock::system(), &options);
    let tls = Arc::new(tls.map_err(failed)?);
    let tasks = EndpointArgs::from_env().tasks().await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    say(&Report::Listening { address: listener.local_addr()?.to_string() });
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        while connections.try_join_next().is_some() {}
        connections.spawn(timeout(CONNECTION, serve(stream, Arc::clone(&tls), tasks.clone(), audience.to_owned())));
    }
}

async fn serve(stream: TcpStream, tls: Arc<ServerTls>, tasks: Tasks, audience: String) {
    let Ok(connection) = tls::accept(stream, &tls).await else { return };
    let certificate = connection.info().peer().map(|peer| Bytes::copy_from_slice(peer.certificate()));
    let answer = service_fn(move |request: Request<Incoming>| {
        let (mut tasks, audience, certificate) = (tasks.clone(), audience.clone(), certificate.clone());
        async move {
            let checked = check(&mut tasks, &request, audience, certificate.unwrap_or_default()).await;
            Ok::<_, Infallible>(respond(checked))
        }
    });
    let http = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(connection), answer);
    // Whoever hangs up in the middle has his reasons.
    http.await.ok();
}

/// The claims of the token that the request carries; otherwise the reason code.
async fn check(
    tasks: &mut Tasks,
    request: &Request<Incoming>,
    audience: String,
    peer_certificate: Bytes,
) -> Result<String, String> {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer ")).ok_or("no_token")?.to_owned();
    let answer = tasks.validate(wire::ValidateRequest { token, audience, peer_certificate }).await;
    let answer = answer.map_err(|status| Refusal::from_status(&status).reason.code().to_owned())?.into_inner();
    if answer.binding_checked { Ok(answer.claims) } else { Err("binding_not_checked".to_owned()) }
}

fn respond(checked: Result<String, String>) -> Response<Full<Bytes>> {
    match checked {
        Ok(claims) => Response::new(Full::from(claims)),
        Err(reason) => {
            let mut response = Response::new(Full::from(reason));
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            response
        }
    }
}
