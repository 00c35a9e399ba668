//! A gRPC service that admits agents by their task tokens. Its entry `serves` the audience. `tonic_service ADDRESS`
#![allow(clippy::print_stdout, reason = "an example")]

use std::error::Error;
use std::time::Duration;

use mayfly_examples::reports_server::{Reports, ReportsServer};
use mayfly_examples::{ReadRequest, Report};
use mayfly_sdk::Clock;
use mayfly_sdk::client::{Endpoint, Source, X509Context};
use mayfly_sdk::guard::{Caller, Guard};
use mayfly_sdk::task::TaskVerifier;
use mayfly_sdk::tls::{Acceptor, Authorizer, ClientAuth, Options, ServerTls};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

const AUDIENCE: &str = "https://reports.example.org/";
const WAIT: Duration = Duration::from_secs(30);

struct Service;

#[tonic::async_trait]
impl Reports for Service {
    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Report>, Status> {
        let caller = request.extensions().get::<Caller>().ok_or_else(|| Status::internal("no layer"))?;
        if request.get_ref().page == 0 {
            caller.require_scope("cover")?;
        }
        let text = format!("page {} for {}, task {}", request.get_ref().page, caller.agent(), caller.task().id);
        Ok(Response::new(Report { text }))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("usage: tonic_service ADDRESS")?;
    let (endpoint, clock) = (Endpoint::from_env()?, Clock::system());
    let source = Source::<X509Context>::start(endpoint.clone());
    let trust_domain = source.ready(WAIT).await?.default_svid().spiffe_id().trust_domain().clone();
    let guard = Guard::start(endpoint, TaskVerifier::new(AUDIENCE, &clock));
    guard.ready(WAIT).await?;
    let clients = ClientAuth::Required(Authorizer::member_of(trust_domain));
    let tls = ServerTls::new(source.credentials(), source.trust(), clients, &clock, &Options::grpc())?;
    let listener = TcpListener::bind(address).await?;
    println!("{}", listener.local_addr()?);
    let incoming = Acceptor::new(listener, tls).incoming(CancellationToken::new());
    let mut server = tonic::transport::Server::builder().layer(guard.layer().scope(["read"]));
    server.add_service(ReportsServer::new(Service)).serve_with_incoming(incoming).await?;
    Ok(())
}
