//! Other processes for tests.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use super::HeldProcess;

/// A process that ends with the test.
#[derive(Debug)]
pub(super) struct Running(pub(super) Child);

impl Running {
    pub(super) fn start(command: &mut Command) -> std::io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().map(Self)
    }

    /// `sleep`, or a copy of it.
    pub(super) fn sleep(program: impl AsRef<OsStr>) -> Self {
        Self::start(Command::new(program).arg("600")).unwrap()
    }

    /// A shell that becomes `sleep` when it is told to.
    pub(super) fn shell() -> Self {
        Self::start(Command::new("sh").args(["-c", "read line; exec sleep 600"])).unwrap()
    }

    /// Tells the shell.
    pub(super) fn exec(&mut self) {
        self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    }

    pub(super) fn pid(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }

    pub(super) fn held(&self) -> Arc<HeldProcess> {
        Arc::new(HeldProcess::of_pid(self.pid()).unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
