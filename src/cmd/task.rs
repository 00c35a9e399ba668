//! `mayfly task`: pieces of work of the workload that runs this command. They are detached: the node agent keeps what their tokens are bound
//! to until they end, and any process with the same SPIFFE ID on this node may watch or complete them.

mod begin;
mod complete;
mod explain;
mod list;
mod operate;
mod shown;
mod watch;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mayfly_proto::task as wire;
use mayfly_sdk::bundle::X509Bundle;
use mayfly_sdk::x509::X509Svid;
use mayfly_sdk::{Clock, Refusal};

use crate::cmd::svid::{Access, write_task_files};
use crate::failure::Failure;
use crate::output::Out;
use crate::runtime;

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Begin a task, and print its token
    Begin(begin::Begin),
    /// Print a task's token now and at each change of the task, until it ends
    Watch(watch::Watch),
    /// Take over a part of another instance's task, shown by its token
    Delegate(begin::Delegate),
    /// End a task, and all tasks below it: every token of them is refused from then on
    Complete(complete::Complete),
    /// List this workload's tasks on this node that have not ended
    List(list::List),
    /// Show a task, also one that has ended, to an administrator
    Show(operate::One),
    /// Tell what was asked, granted or refused, and by what, to an administrator
    Explain(explain::Explain),
    /// Suspend a task, and all tasks below it, or all tasks of a user: their tokens are refused until it is resumed
    Suspend(operate::Which),
    /// Resume a task that was suspended, and what was suspended with it; or all tasks of a user
    Resume(operate::Which),
    /// End a task, and all tasks below it, as an administrator
    Revoke(operate::One),
}

impl Task {
    pub(crate) fn run(self, out: Out) -> Result<(), Failure> {
        runtime::client(async {
            match self {
                Self::Begin(verb) => verb.run(out).await,
                Self::Watch(verb) => verb.run(out).await,
                Self::Delegate(verb) => verb.run(out).await,
                Self::Complete(verb) => verb.run(out).await,
                Self::List(verb) => verb.run(out).await,
                Self::Show(one) => one.show(out).await,
                Self::Explain(verb) => verb.run(out).await,
                Self::Suspend(which) => which.set("suspended", out).await,
                Self::Resume(which) => which.set("open", out).await,
                Self::Revoke(one) => one.set("revoked", out).await,
            }
        })
    }
}

/// Where the token and what it is bound to are written.
#[derive(Debug, clap::Args)]
struct Target {
    /// Write token (0600), and svid.pem, key.pem (0600) and bundle.pem that go with it, into this directory
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    #[command(flatten)]
    access: Access,
}

impl Target {
    /// Writes, where that was asked for. The files.
    fn write(&self, token: &wire::TaskToken) -> Result<Vec<PathBuf>, Failure> {
        self.write.as_deref().map_or_else(|| Ok(Vec::new()), |dir| write(dir, token, &self.access))
    }
}

fn write(dir: &Path, token: &wire::TaskToken, access: &Access) -> Result<Vec<PathBuf>, Failure> {
    let unusable = |refusal: Refusal| Failure::refused("what the node agent sent was not written", &refusal);
    let svid = X509Svid::from_der(&token.x509_svid, &token.x509_svid_key)
        .map_err(|error| unusable(Refusal::new(error.reason(), error.to_string())))?;
    let bundle = X509Bundle::from_der(svid.spiffe_id().trust_domain().clone(), &token.bundle)
        .map_err(|error| unusable(Refusal::from(error)))?;
    write_task_files(dir, &svid, &bundle.to_pem(), &token.token, access, Clock::system().now())
}
