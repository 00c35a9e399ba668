//! `mayfly demo`: the whole story in a minute, each step checked by what the workloads themselves report.
//! Its second act is a task of an agent and a sub-agent (`tasks`).
//!
//! ```text
//!  issuer (process) ── node agent (process) ── api.sock ─┬─ serve (process) <──mTLS, a new connection for every call── call (process)
//!     ^ stopped and started      ^ restarted             └─ told apart by unix:path
//! ```

mod report;
mod steps;
mod story;
mod tasks;
pub(crate) mod workload;

use crate::failure::Failure;
use crate::local::Programs;
use crate::output::Out;
use crate::runtime;

#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Runs the daemons by other builds than this one: how neighbouring versions are tried together
    #[command(flatten)]
    programs: Programs,
}

impl Demo {
    pub(crate) fn run(self, out: Out) -> Result<(), Failure> {
        runtime::client(async {
            let (stop, _signals) = runtime::stop_on_signals()?;
            match stop.run_until_cancelled(story::tell(self.programs, out)).await {
                Some(ended) => ended,
                // Everything that was begun is dropped by now: processes killed, the directory removed.
                None => Err(story::interrupted()),
            }
        })
    }
}
