//! An HTTP service that admits agents by their task tokens. Its entry `serves` the audience. `axum_service ADDRESS`
#![allow(clippy::print_stdout, reason = "an example")]

use std::error::Error;
use std::time::Duration;

use axum::extract::Path;
use axum::{Router, routing::get};
use mayfly_sdk::Clock;
use mayfly_sdk::client::{Endpoint, Source, X509Context};
use mayfly_sdk::guard::{Caller, Denied, Guard, Listener};
use mayfly_sdk::task::TaskVerifier;
use mayfly_sdk::tls::{Acceptor, Authorizer, ClientAuth, Options, PeerInfo, ServerTls};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const AUDIENCE: &str = "https://files.example.org/";
const WAIT: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("usage: axum_service ADDRESS")?;
    let (endpoint, clock) = (Endpoint::from_env()?, Clock::system());
    // Who we are, and which tasks have ended: two streams of the node agent.
    let source = Source::<X509Context>::start(endpoint.clone());
    let trust_domain = source.ready(WAIT).await?.default_svid().spiffe_id().trust_domain().clone();
    let guard = Guard::start(endpoint, TaskVerifier::new(AUDIENCE, &clock));
    guard.ready(WAIT).await?;

    // Whoever is of our trust domain may connect; what it may do, its token says.
    let clients = ClientAuth::Required(Authorizer::member_of(trust_domain));
    let options = Options::default().alpn(["http/1.1"]);
    let tls = ServerTls::new(source.credentials(), source.trust(), clients, &clock, &options)?;
    let listener = TcpListener::bind(address).await?;
    println!("{}", listener.local_addr()?);
    let incoming = Acceptor::new(listener, tls).incoming(CancellationToken::new());

    let app = Router::new().route("/pages/{page}", get(read).delete(remove));
    let app = app.layer(guard.layer().scope(["read"]));
    axum::serve(Listener::new(incoming), app.into_make_service_with_connect_info::<PeerInfo>()).await?;
    Ok(())
}

async fn read(Path(page): Path<u32>, caller: Caller) -> String {
    format!("page {page} for {}, task {}, hop {}", caller.agent(), caller.task().id, caller.task().hop)
}

async fn remove(caller: Caller) -> Result<(), Denied> {
    caller.require_scope("write")
}
