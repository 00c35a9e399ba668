//! The agents of the second act: one begins a task and starts a sub-agent, to which it hands its token; the sub-agent takes over a part.
//! Both call the service, each with the token and the key of its own task.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mayfly_sdk::client::{ParentToken, Pass, Presents as _, Task, TaskPasses, TaskRequest};
use mayfly_sdk::tls::{self, Authorizer, Options};
use mayfly_sdk::{Clock, Refusal, SpiffeId, grpc};
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

/// The service, called under a task.
struct Calls {
    passes: TaskPasses,
    args: Args,
    clock: Clock,
}

/// Begins a task, starts the sub-agent, calls the service, and completes the task at SIGUSR1.
pub(super) async fn lead(args: Args, sub_agent: PathBuf) -> Result<(), Failure> {
    let mut told = signal(SignalKind::user_defined1())?;
    let request = TaskRequest::new("show what a task is", &args.audience).scope(["read", "list"]);
    let request = request.delegable([&args.audience]);
    let task = Task::begin(&EndpointArgs::from_env().endpoint()?, request).await;
    let task = task.map_err(|refusal| Failure::refused("no task was begun", &refusal))?;
    say(&Report::Began { who: "agent".to_owned(), task: task.id().to_owned() });

    let mut command = Command::new(sub_agent);
    command.args(["demo-workload", "sub-agent", "--address", &args.address]);
    command.args(["--service", args.service.as_str(), "--audience", &args.audience]);
    command.args(["--with-parent", &std::process::id().to_string()]);
    let mut child = command.stdin(Stdio::piped()).kill_on_drop(true).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        let handed_on = task.delegate().map_err(|refusal| Failure::refused("nothing was handed on", &refusal))?;
        stdin.write_all(handed_on.expose().as_bytes()).await?;
    }

    let calls = Calls { passes: task.passes(), args, clock: Clock::system() };
    let mut work = JoinSet::new();
    work.spawn(async move { calls.call_on("agent").await });
    told.recv().await;
    let ended = task.complete().await.map_err(|refusal| Failure::refused("the task was not completed", &refusal))?;
    say(&Report::Completed { ended, at_ms: Clock::system().now_ms() });
    // The calls go on; the end comes from outside.
    while work.join_next().await.is_some() {}
    Ok(())
}

/// Takes over a part of the task whose token comes on standard input, and calls the service.
pub(super) async fn follow(args: Args) -> Result<(), Failure> {
    let above = from_stdin()?;
    let endpoint = EndpointArgs::from_env().endpoint()?;
    let part = |scope: &str| {
        let request = TaskRequest::new("read one page", &args.audience).scope([scope]);
        request.below(ParentToken::new(above.as_str()))
    };
    if let Err(refusal) = Task::begin(&endpoint, part("write")).await {
        let reason = refusal.reason.code().to_owned();
        say(&Report::Denied { what: "more than the task above".to_owned(), reason });
    }
    let task = Task::begin(&endpoint, part("read")).await;
    let task = task.map_err(|refusal| Failure::refused("no part was taken over", &refusal))?;
    say(&Report::Began { who: "sub-agent".to_owned(), task: task.id().to_owned() });
    let calls = Calls { passes: task.passes(), args, clock: Clock::system() };
    // The token of another, over a connection of one's own.
    let own = task.current().map_err(|refusal| Failure::refused("the task has no token", &refusal))?;
    let reason = match calls.call(&own, &above).await? {
        (StatusCode::UNAUTHORIZED, reason) => reason,
        (status, _) => status.to_string(),
    };
    say(&Report::Denied { what: "a copied token".to_owned(), reason });
    calls.call_on("sub-agent").await;
    Ok(())
}

impl Calls {
    /// Calls again and again, and reports; never ends by itself. When the task has ended it goes on with what it had, as somebody would
    /// who has copied token and key.
    async fn call_on(&self, who: &str) {
        let (mut good, mut refused) = (0, String::new());
        let mut kept: Option<Arc<Pass>> = None;
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            kept = self.passes.present().await.ok().or(kept);
            let Some(pass) = &kept else { continue };
            match self.call(pass, pass.expose_token()).await {
                Ok((StatusCode::OK, _)) => good += 1,
                Ok((_, reason)) => refused = reason,
                Err(failure) => refused = failure.to_string(),
            }
            let at_ms = self.clock.now_ms();
            say(&Report::Tool { who: who.to_owned(), good, refused: refused.clone(), at_ms });
        }
    }

    /// One call with this token, on a connection of its own with the SVID of this pass: the status, and the reason code of a refusal.
    async fn call(&self, pass: &Pass, token: &str) -> Result<(StatusCode, String), Failure> {
        let failed = |why: String| Failure::bug("the service was not called", why);
        let refused = |refusal: Refusal| Failure::refused("the service was not called", &refusal);
        let service = Authorizer::exact(self.args.service.clone());
        let tls = pass.client_tls(service, &self.clock, &Options::default().alpn(["http/1.1"])).map_err(refused)?;
        let connection = tls::connect(TcpStream::connect(&self.args.address).await?, &tls).await.map_err(refused)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(connection)).await.map_err(|error| failed(error.to_string()))?;
        let request = Request::get("/").header(AUTHORIZATION, format!("Bearer {token}")).header("host", "tool");
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(error.to_string()))?;
        tokio::select! {
            answer = sender.send_request(request) => {
                let answer = answer.map_err(|error| failed(error.to_string()))?;
                let reason = answer.headers().get(grpc::REASON).and_then(|reason| reason.to_str().ok());
                Ok((answer.status(), reason.unwrap_or_default().to_owned()))
            }
            ended = connection => Err(failed(format!("it hung up: {ended:?}"))),
        }
    }
}
