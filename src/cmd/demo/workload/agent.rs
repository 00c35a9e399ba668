//! The agents of the second act: one begins a task and starts a sub-agent, to which it hands its token; the sub-agent takes over a part.
//! Both call the service, each with the token and the key of its own task.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mayfly_proto::task as wire;
use mayfly_sdk::bundle::{BundleSet, X509Bundle};
use mayfly_sdk::tls::{self, Authorizer, ClientTls, Credentials, Options, Trust};
use mayfly_sdk::x509::X509Svid;
use mayfly_sdk::{Clock, Refusal, SpiffeId};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::say;
use crate::cmd::demo::report::Report;
use crate::cmd::token::from_stdin;
use crate::endpoint::EndpointArgs;
use crate::failure::Failure;

/// Between two calls.
const EVERY: Duration = Duration::from_millis(25);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the service takes connections
    #[arg(long)]
    address: String,
    /// The service
    #[arg(long)]
    service: SpiffeId,
    /// Its resource URI
    #[arg(long)]
    audience: String,
}

/// A task, and how the service is called under it.
struct Task {
    id: String,
    token: String,
    tls: ClientTls,
    args: Args,
}

/// Begins a task, starts the sub-agent, calls the service, and completes the task at SIGUSR1.
pub(super) async fn lead(args: Args, sub_agent: PathBuf) -> Result<(), Failure> {
    let mut told = signal(SignalKind::user_defined1())?;
    let mut tasks = EndpointArgs::from_env().tasks().await?;
    let grant = serde_json::json!({"audience": args.audience, "scope": ["read", "list"], "delegable": [args.audience]});
    let request = wire::BeginRequest {
        purpose: "show what a task is".to_owned(),
        grant: grant.to_string(),
        ..wire::BeginRequest::default()
    };
    let begun = tasks.begin(request).await.map_err(|status| Failure::status("no task was begun", &status))?;
    let task = Task::of(begun.into_inner(), args)?;
    say(&Report::Began { who: "agent".to_owned(), task: task.id.clone() });

    let mut command = Command::new(sub_agent);
    command.args(["demo-workload", "sub-agent", "--address", &task.args.address]);
    command.args(["--service", task.args.service.as_str(), "--audience", &task.args.audience]);
    command.args(["--with-parent", &std::process::id().to_string()]);
    let mut child = command.stdin(Stdio::piped()).kill_on_drop(true).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(task.token.as_bytes()).await?;
    }

    let id = task.id.clone();
    let mut work = JoinSet::new();
    work.spawn(async move { task.call_on("agent").await });
    told.recv().await;
    let completed = tasks.complete(wire::CompleteRequest { id, failed: false }).await;
    let completed = completed.map_err(|status| Failure::status("the task was not completed", &status))?.into_inner();
    say(&Report::Completed { ended: completed.ended.len(), at_ms: Clock::system().now_ms() });
    // Goes on calling, as somebody would who has copied the token; the end comes from outside.
    while work.join_next().await.is_some() {}
    Ok(())
}

/// Takes over a part of the task whose token comes on standard input, and calls the service.
pub(super) async fn follow(args: Args) -> Result<(), Failure> {
    let above = from_stdin()?;
    let mut tasks = EndpointArgs::from_env().tasks().await?;
    let part = |scope: &str| wire::DelegateRequest {
        parent_token: above.clone(),
        purpose: "read one page".to_owned(),
        grant: serde_json::json!({"audience": args.audience, "scope": [scope]}).to_string(),
        ..wire::DelegateRequest::default()
    };
    if let Err(status) = tasks.delegate(part("write")).await {
        denied("more than the task above", &Refusal::from_status(&status));
    }
    let begun = tasks.delegate(part("read")).await;
    let begun = begun.map_err(|status| Failure::status("no part was taken over", &status))?.into_inner();
    let task = Task::of(begun, args)?;
    say(&Report::Began { who: "sub-agent".to_owned(), task: task.id.clone() });
    // The token of another, over a connection of one's own.
    match task.call(&above).await? {
        (StatusCode::UNAUTHORIZED, reason) => say(&Report::Denied { what: "a copied token".to_owned(), reason }),
        (status, _) => say(&Report::Denied { what: "a copied token".to_owned(), reason: status.to_string() }),
    }
    task.call_on("sub-agent").await;
    Ok(())
}

fn denied(what: &str, refusal: &Refusal) {
    say(&Report::Denied { what: what.to_owned(), reason: refusal.reason.code().to_owned() });
}

impl Task {
    fn of(begun: wire::BeginResponse, args: Args) -> Result<Self, Failure> {
        let lacking = || Failure::bug("the task cannot be used", "the node agent's answer lacks a part");
        let (task, token) = (begun.task.ok_or_else(lacking)?, begun.token.ok_or_else(lacking)?);
        let unusable = |refusal| Failure::refused("the task cannot be used", &refusal);
        let svid = X509Svid::from_der(&token.x509_svid, &token.x509_svid_key)
            .map_err(|error| unusable(Refusal::new(error.reason(), error.to_string())))?;
        let bundle = X509Bundle::from_der(svid.spiffe_id().trust_domain().clone(), &token.bundle);
        let mut bundles = BundleSet::new();
        bundles.insert(bundle.map_err(|error| unusable(Refusal::from(error)))?);
        let credentials = Credentials::from_svids(move || Some(svid.clone()));
        let authorizer = Authorizer::exact(args.service.clone());
        let options = Options::default().alpn(["http/1.1"]);
        let tls = ClientTls::new(credentials, Trust::fixed(bundles), authorizer, &Clock::system(), &options);
        Ok(Self { id: task.id, token: token.token, tls: tls.map_err(unusable)?, args })
    }

    /// Calls again and again, and reports; never ends by itself.
    async fn call_on(&self, who: &str) {
        let (mut good, mut refused) = (0, String::new());
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.call(&self.token).await {
                Ok((StatusCode::OK, _)) => good += 1,
                Ok((_, reason)) => refused = reason,
                Err(failure) => refused = failure.to_string(),
            }
            let at_ms = Clock::system().now_ms();
            say(&Report::Tool { who: who.to_owned(), good, refused: refused.clone(), at_ms });
        }
    }

    /// One call on a connection of its own: the status, and what the service says.
    async fn call(&self, token: &str) -> Result<(StatusCode, String), Failure> {
        let failed = |why: String| Failure::bug("the service was not called", why);
        let stream = TcpStream::connect(&self.args.address).await?;
        let connection = tls::connect(stream, &self.tls).await;
        let connection = connection.map_err(|refusal| Failure::refused("the service was not called", &refusal))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(connection)).await.map_err(|error| failed(error.to_string()))?;
        let request = Request::get("/").header(AUTHORIZATION, format!("Bearer {token}")).header("host", "tool");
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(error.to_string()))?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>((status, String::from_utf8_lossy(&body).into_owned()))
        };
        tokio::select! {
            answer = exchange => answer.map_err(|error| failed(error.to_string())),
            ended = connection => Err(failed(format!("it hung up: {ended:?}"))),
        }
    }
}
