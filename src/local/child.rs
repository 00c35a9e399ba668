//! A child process that logs to a file and never outlives this one.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{self, Command};
use tokio::time::timeout;

use crate::failure::{Exit, Failure};

/// How long a child may take to end by itself.
const END: Duration = Duration::from_secs(10);
/// How much of its log is shown when it ended too early, lines.
const LAST_LINES: usize = 8;

/// A running child; killed when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    log: PathBuf,
    process: process::Child,
}

impl Child {
    /// This executable, or another, as a daemon: `mayfly <name> run`. Tied to this process by the kernel, also when this one is killed; that holds for
    /// the thread that starts it, so call it on the main one.
    pub(crate) fn daemon(name: &str, program: Option<&Path>, config: &Path, log: &Path) -> Result<Self, Failure> {
        let executable = program.map_or_else(std::env::current_exe, |program| Ok(program.to_owned()));
        let executable = executable.map_err(|error| Failure::bug("this executable is not known", error))?;
        let parent = std::process::id().to_string();
        let arguments = ["run", "--log-format", "text", "--with-parent", &parent, "--config"].map(OsStr::new);
        Self::start(name, Command::new(executable).arg(name).args(arguments).arg(config), log)
    }

    /// Any other command, whose standard error goes to `log`.
    pub(crate) fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            let remedy = "check that this directory may be written and programs in it run";
            Failure::new(
                Exit::Unavailable,
                "unavailable",
                format!("the {name} was not started"),
                error.to_string(),
                remedy,
            )
        };
        let file = File::create(log).map_err(failed)?;
        // A group of its own: ^C on the terminal is for this process, which ends its children in order.
        let command = command.stdin(Stdio::null()).stderr(file).kill_on_drop(true).process_group(0);
        Ok(Self { name: name.to_owned(), log: log.to_owned(), process: command.spawn().map_err(failed)? })
    }

    /// What the command was started with as standard output.
    pub(crate) fn take_stdout(&mut self) -> Option<process::ChildStdout> {
        self.process.stdout.take()
    }

    /// Fails when it has ended.
    pub(crate) fn must_run(&mut self) -> Result<(), Failure> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(&status.to_string())),
            Err(error) => Err(self.ended(&error.to_string())),
        }
    }

    /// Waits until it ends although nobody asked it to.
    pub(crate) async fn unexpected_end(&mut self) -> Failure {
        let status = self.process.wait().await;
        self.ended(&status.map_or_else(|error| error.to_string(), |status| status.to_string()))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(id) = self.process.id().and_then(|id| i32::try_from(id).ok()) {
            // It may have ended just now: then there is nobody to signal.
            kill(Pid::from_raw(id), signal).ok();
        }
    }

    /// Asks it to end, and kills it when it does not.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        self.signal(Signal::SIGTERM);
        let failed = |why: &str| {
            let what = format!("the {} did not end when asked to", self.name);
            Failure::new(Exit::Bug, "bug", what, why, "report it with its log")
        };
        match timeout(END, self.process.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(self.ended(&status.to_string())),
            Ok(Err(error)) => Err(failed(&error.to_string())),
            Err(_) => Err(failed("it was killed after 10 s")),
        }
    }

    fn ended(&self, status: &str) -> Failure {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = lines.iter().skip(lines.len().saturating_sub(LAST_LINES)).copied().collect::<Vec<_>>().join("\n");
        let what = format!("the {} ended by itself ({status})", self.name);
        Failure::new(Exit::Unavailable, "daemon_stopped", what, last, format!("see {}", self.log.display()))
    }
}
