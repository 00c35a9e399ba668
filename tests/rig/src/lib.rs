//! Real issuers, node agents and workloads as processes, for tests: what a user would run, on addresses and directories
//! of its own, ended when the [`Rig`] is dropped.
//!
//! ```text
//! Rig ── issuer (process) ── agent "a" (process) ── socket ── whatever the test runs as a workload
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::disallowed_methods,
    clippy::must_use_candidate,
    clippy::print_stderr,
    reason = "a harness for tests: what fails here fails the test"
)]

mod agent;
mod daemon;
mod issuer;
mod place;

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

pub use agent::http_get;
pub use daemon::Daemon;
pub use place::{mayfly, repository};

/// One trust domain with its processes.
#[derive(Debug)]
pub struct Rig {
    /// The trust domain's name.
    pub trust_domain: String,
    ip: String,
    settings: BTreeMap<String, String>,
    environment: Vec<(String, String)>,
    program: PathBuf,
    issuer: Option<Daemon>,
    agents: BTreeMap<String, Daemon>,
    agent_settings: BTreeMap<String, BTreeMap<String, String>>,
    /// Goes last: a daemon that ends with a failed test shows its log.
    dir: tempfile::TempDir,
}

impl Rig {
    /// A trust domain `test.example` with nothing running yet. `settings` are lines of `issuer.toml`, as dotted keys:
    /// `("ttl.x509", "\"20s\"")`.
    pub fn new(settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("mayfly-").tempdir().unwrap();
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self {
            trust_domain: "test.example".into(),
            dir,
            ip: place::own_address(),
            settings,
            environment: Vec::new(),
            program: mayfly(),
            issuer: None,
            agents: BTreeMap::new(),
            agent_settings: BTreeMap::new(),
        }
    }

    /// An issuer and one agent, `a`, both ready.
    pub fn started(settings: &[(&str, &str)]) -> Self {
        let mut rig = Self::new(settings);
        rig.start_issuer();
        rig.start_agent("a");
        rig
    }

    /// Environment variables for every daemon that is started from now on.
    pub fn set_environment(&mut self, variables: &[(&str, &str)]) {
        self.environment = variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    }

    /// What runs the daemons that are started from now on, in place of `mayfly` itself: a program that execs it.
    pub fn set_program(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// The rig's directory; it goes with the rig.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The loopback address that no other rig uses.
    pub fn ip(&self) -> &str {
        &self.ip
    }

    /// Runs the `mayfly` command against this rig's issuer.
    pub fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, b"")
    }

    /// Runs the `mayfly` command with this standard input.
    pub fn run_with(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(mayfly())
            .args(args)
            .env("MAYFLY_ADMIN_SOCKET", self.admin_socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Runs the command with `--output json`, which must succeed, and gives what it printed.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[&["--output", "json"], args].concat());
        assert!(output.status.success(), "mayfly {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Applies entries (the YAML list under `entries:`) of the owner `test`, without those that are missing being removed.
    pub fn apply(&self, entries: &str) {
        self.apply_file(&format!("owner: test\nentries:\n{entries}"), &[]);
    }

    /// Applies a whole file, with further arguments.
    pub fn apply_file(&self, document: &str, args: &[&str]) {
        let output = self.run_with(&[&["entry", "apply", "-f", "-"], args].concat(), document.as_bytes());
        assert!(output.status.success(), "entry apply: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// An entry as YAML, for any workload of this user on any node: `name` is also the last path segment.
    pub fn entry(&self, name: &str, more: &str) -> String {
        let uid = nix::unistd::getuid();
        format!(
            "  - name: {name}\n    spiffe_id: spiffe://{}/{name}\n    node: [\"node:attestor:join_token\"]\n    selectors: [\"unix:uid:{uid}\"{more}]\n",
            self.trust_domain
        )
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

/// Puts a copy of a program or script at a path of its own, to be run from there.
///
/// Another process writes it: a descriptor of this one that is open for writing would for a moment also be open in whatever another
/// test starts just then, and the kernel runs no file that somebody may write to.
pub fn install(program: &Path, at: &Path) {
    let copied = Command::new("install").args(["-m", "755"]).args([program, at]).status().unwrap();
    assert!(copied.success(), "install {}: {copied}", at.display());
}

/// Waits until `probe` gives something, at most `seconds`.
pub fn eventually<T>(what: &str, seconds: u64, mut probe: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < until, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
