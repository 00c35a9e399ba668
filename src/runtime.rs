//! The runtime of a command, and the signals that end it.

use std::future::Future;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::failure::{Exit, Failure};

/// Runs a client command: one thread is enough, and it is the main one, which children of `dev` and `demo` are tied to.
pub(crate) fn client<F: Future<Output = Result<(), Failure>>>(command: F) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::bug("the command did not start", error))?.block_on(command)
}

/// Runs a daemon on all cores.
pub(crate) fn daemon<F: Future<Output = Result<(), Failure>>>(daemon: F) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Failure::bug("the daemon did not start", error))?.block_on(daemon)
}

/// A token that SIGTERM and SIGINT cancel, for as long as the set of tasks lives.
pub(crate) fn stop_on_signals() -> Result<(CancellationToken, JoinSet<()>), Failure> {
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind).map_err(|error| Failure::bug("signals cannot be handled", error))?;
        let stop = stop.clone();
        tasks.spawn(async move {
            signals.recv().await;
            stop.cancel();
        });
    }
    Ok((stop, tasks))
}

/// Whose child this process is.
#[derive(Debug, clap::Args)]
pub(crate) struct ParentArgs {
    /// End when this process, which must be the parent, ends: `dev` and `demo` leave nothing behind
    #[arg(long, hide = true, value_name = "PID")]
    with_parent: Option<i32>,
}

/// Asks the kernel to end this process with its parent.
pub(crate) fn follow_parent(args: &ParentArgs) -> Result<(), Failure> {
    let Some(parent) = args.with_parent.map(Pid::from_raw) else { return Ok(()) };
    prctl::set_pdeathsig(Signal::SIGTERM)
        .map_err(|error| Failure::bug("this process cannot be tied to its parent", error))?;
    if getppid() == parent {
        return Ok(());
    }
    let why = format!("process {parent} ended before this one began");
    Err(Failure::new(Exit::Unavailable, "parent_gone", "it did not start", why, "start it again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_whose_parent_is_gone_does_not_start() {
        let gone = ParentArgs { with_parent: Some(i32::MAX) };
        assert_eq!(follow_parent(&gone).unwrap_err().reason, "parent_gone");
        prctl::set_pdeathsig(None).unwrap();
        follow_parent(&ParentArgs { with_parent: None }).unwrap();
    }
}
