//! The two workloads of the demonstration: processes of their own that know nothing but the Workload API's address.

mod agent;
mod call;
mod serve;
mod tool;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use mayfly_sdk::client::{Endpoint, Source, X509Context};
use mayfly_sdk::{Clock, SpiffeId};
use tokio::task::JoinSet;

use super::report::Report;
use crate::cmd::svid::hex;
use crate::failure::Failure;
use crate::runtime::{self, ParentArgs};

/// How long the first identity may take.
const FIRST_IDENTITY: Duration = Duration::from_secs(20);

#[derive(Debug, Subcommand)]
pub(crate) enum Workload {
    /// Take connections of the peer, report, until SIGTERM
    Serve(Args),
    /// Call the peer again and again, report, until SIGTERM
    Call {
        /// Where it takes connections
        address: String,
        #[command(flatten)]
        args: Args,
    },
    /// Fetch one identity, report it, end
    Probe(Args),
    /// Serve whoever presents a task token for this audience, until SIGTERM
    Tool {
        /// Its resource URI
        #[arg(long)]
        audience: String,
        #[command(flatten)]
        parent: ParentArgs,
    },
    /// Begin a task, start a sub-agent, call the service, until SIGTERM
    Agent {
        /// Program of the sub-agent
        #[arg(long)]
        sub_agent: PathBuf,
        #[command(flatten)]
        args: agent::Args,
        #[command(flatten)]
        parent: ParentArgs,
    },
    /// Take over a part of the task whose token comes on standard input, call the service, until SIGTERM
    SubAgent {
        #[command(flatten)]
        args: agent::Args,
        #[command(flatten)]
        parent: ParentArgs,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The other workload
    #[arg(long)]
    peer: SpiffeId,
    #[command(flatten)]
    parent: ParentArgs,
}

impl Workload {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let (Self::Serve(Args { parent, .. })
        | Self::Call { args: Args { parent, .. }, .. }
        | Self::Probe(Args { parent, .. })
        | Self::Tool { parent, .. }
        | Self::Agent { parent, .. }
        | Self::SubAgent { parent, .. }) = &self;
        runtime::follow_parent(parent)?;
        runtime::client(async {
            let (stop, _signals) = runtime::stop_on_signals()?;
            // Agents get their SVIDs with their tasks.
            match self {
                Self::Agent { sub_agent, args, .. } => {
                    return stop.run_until_cancelled(agent::lead(args, sub_agent)).await.unwrap_or(Ok(()));
                }
                Self::SubAgent { args, .. } => {
                    return stop.run_until_cancelled(agent::follow(args)).await.unwrap_or(Ok(()));
                }
                _ => {}
            }
            let failed = |refusal| Failure::refused("the workload has no identity", &refusal);
            let source = Source::<X509Context>::start(Endpoint::from_env().map_err(failed)?);
            let first = source.ready(FIRST_IDENTITY).await.map_err(failed)?;
            let mut tasks = JoinSet::new();
            tasks.spawn(follow(source.changes()));
            let work = async {
                match self {
                    Self::Serve(args) => serve::run(&source, args.peer).await,
                    Self::Call { address, args } => call::run(&source, address, args.peer).await,
                    Self::Tool { audience, .. } => tool::run(&source, &audience).await,
                    Self::Agent { .. } | Self::SubAgent { .. } => Ok(()),
                    Self::Probe(_) => {
                        svid(&first);
                        Ok(())
                    }
                }
            };
            let ended = stop.run_until_cancelled(work).await.unwrap_or(Ok(()));
            source.shutdown().await;
            ended
        })
    }
}

/// Reports each SVID as it comes into use, and its withdrawal.
async fn follow(mut changes: mayfly_sdk::client::Changes<X509Context>) {
    while let Some(change) = changes.next().await {
        match change {
            Ok(context) => svid(&context),
            Err(refusal) => say(&Report::Withdrawn { reason: refusal.reason.code().to_owned() }),
        }
    }
}

fn svid(context: &X509Context) {
    let svid = context.default_svid();
    say(&Report::Svid {
        spiffe_id: svid.spiffe_id().to_string(),
        serial: hex(svid.serial()),
        begun_ms: Clock::system().now_ms(),
        not_after_ms: svid.validity().not_after().unix_s().saturating_mul(1000),
    });
}

/// One line on standard output. When nobody reads it any more, the story is over and its signal is on the way.
fn say(report: &Report) {
    let mut stdout = io::stdout().lock();
    if serde_json::to_writer(&mut stdout, report).is_ok() {
        writeln!(stdout).and_then(|()| stdout.flush()).ok();
    }
}
