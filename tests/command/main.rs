//! The command as a user has it: a process with arguments, output and an exit code, against a trust domain that `mayfly dev` runs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn mayfly() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mayfly"));
    command.env_remove("MAYFLY_ADMIN_SOCKET").env_remove("SPIFFE_ENDPOINT_SOCKET").stdin(Stdio::null());
    command
}

fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(40);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running `mayfly dev`.
struct Dev {
    child: Child,
    dir: PathBuf,
    ready: Value,
}

impl Dev {
    fn start(dir: &Path) -> Self {
        let mut command = mayfly();
        command.args(["--output", "json", "dev", "--dir"]).arg(dir).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|_| {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("dev did not come up: {line}{said}")
        });
        Self { child, dir: dir.to_owned(), ready }
    }

    /// Runs a command as `. D/env` would have it.
    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = mayfly();
        command.args(arguments);
        for line in fs::read_to_string(self.dir.join("env")).unwrap().lines() {
            let (name, value) = line.strip_prefix("export ").unwrap().split_once('=').unwrap();
            command.env(name, value);
        }
        command
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[&["--output", "json"], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refused(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.run(&[&["--output", "json"], arguments].concat());
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let error: Value = serde_json::from_slice(&output.stderr).unwrap();
        for field in ["reason", "what", "why", "remedy", "retry"] {
            assert!(
                error["error"][field].as_str().is_some_and(|text| !text.is_empty()),
                "{arguments:?}: {field}: {error}"
            );
        }
        (output.status.code().unwrap(), error["error"]["reason"].clone())
    }

    /// Processes whose arguments name this directory, `dev` itself aside.
    fn daemons(&self) -> Vec<u32> {
        let name = self.dir.display().to_string();
        let processes =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        let is_daemon = |id: &u32| {
            let arguments = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
            arguments.contains(&name) && arguments.contains("--with-parent")
        };
        processes.filter(is_daemon).collect()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Rows: WE-12.
#[test]
fn dev_serves_its_user_and_every_verb_works_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    let id = dev.ready["spiffe_id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("spiffe://dev.example/user/"), "{id}");

    let svid = dev.json(&["svid", "x509", "fetch"])["items"][0].clone();
    assert_eq!(svid["spiffe_id"], id.as_str());
    assert!(!svid.to_string().contains("PRIVATE KEY"));
    let records = dev.run(&["--output", "json", "ledger", "tail"]).stdout;
    let records = String::from_utf8(records).unwrap();
    assert!(
        records.lines().any(|line| serde_json::from_str::<Value>(line).unwrap()["event_id"] == svid["serial"]),
        "{records}"
    );

    let health = dev.json(&["health"]);
    assert_eq!((&health["issuer"]["trust_domain"], &health["agent"]["serving"]), (&"dev.example".into(), &true.into()));
    assert_eq!(dev.json(&["entry", "list"])["items"][0]["spiffe_id"], id.as_str());
    assert_eq!(dev.json(&["node", "list"])["items"][0]["connected"], true);
    let token =
        dev.json(&["svid", "jwt", "fetch", "--audience", "db"])["items"][0]["token"].as_str().unwrap().to_owned();
    assert_eq!(dev.json(&["svid", "jwt", "validate", "--audience", "db", &token])["spiffe_id"], id.as_str());
    let shown = dev.json(&["token", "inspect", &token]);
    assert_eq!(
        (&shown["kind"], &shown["verified"], &shown["expired"]),
        (&"JWT-SVID".into(), &false.into(), &false.into())
    );
    assert_eq!(shown["claims"]["sub"], id.as_str());
    let kinds = dev.json(&["authority", "list"])["items"].as_array().unwrap().len();
    assert!(kinds >= 3, "a root, an intermediate, a JWT key: {kinds}");
    let prepared = dev.json(&["authority", "prepare", "jwt"])["authority"].clone();
    assert_eq!(prepared["state"], "prepared");
    assert_eq!(dev.json(&["bundle", "show"])["trust_domain"], "dev.example");
    let joined = dev.json(&["join-token", "create", "--spiffe-id", "other", "--ttl", "1m"]);
    assert_eq!(joined["spiffe_id"], "spiffe://dev.example/mayfly/node/join_token/other");

    let tools = "https://tools.example/mcp";
    let begun = dev.json(&["task", "begin", "--purpose", "to see", "--audience", tools, "--scope", "read"]);
    let (task, of_task) = (begun["task"]["id"].as_str().unwrap(), begun["token"].as_str().unwrap());
    let verify = ["token", "verify", "--audience", tools, of_task];
    let verdict = dev.json(&verify);
    assert_eq!((&verdict["binding"], &verdict["claims"]["scope"]), (&"not checked".into(), &"read".into()));
    let listed = dev.json(&["task", "list"])["items"][0].clone();
    assert_eq!((&listed["id"], &listed["granted"]["audience"]), (&task.into(), &tools.into()));
    assert_eq!(dev.json(&["task", "complete", task])["ended"], serde_json::json!([task]));

    let refusals: &[(&[&str], i32, &str)] = &[
        (&verify, 77, "task_ended"),
        (&["task", "begin", "--purpose", "to see", "--audience", "tools"], 65, "invalid_grant"),
        (&["svid", "jwt", "validate", "--audience", "other", &token], 77, "wrong_audience"),
        (&["token", "inspect", "no token"], 65, "invalid_argument"),
        (&["authority", "activate", prepared["id"].as_str().unwrap()], 65, "authority_not_acknowledged"),
        (&["entry", "show", "nobody"], 65, "unknown_entry"),
        (&["entry", "apply", "-f", "/nonexistent"], 65, "invalid_argument"),
        (&["entry", "aply"], 2, "usage"),
        (&["--admin-socket", "x", "health"], 2, "usage"),
        (&["entry", "list", "--admin-socket", "/nonexistent"], 69, "unavailable"),
        (&["svid", "x509", "fetch", "--socket", "/nonexistent"], 69, "peer_unreachable"),
        (&["svid", "x509", "fetch", "--socket", "relative"], 65, "invalid_argument"),
    ];
    for (arguments, exit, reason) in refusals {
        assert_eq!(dev.refused(arguments), (*exit, (*reason).into()), "{arguments:?}");
    }
}

/// Rows: WA-21.
#[test]
fn an_svid_is_written_as_a_set_that_openssl_believes() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    let files = dir.path().join("tls");
    for _ in 0..2 {
        let written = dev.json(&["svid", "x509", "fetch", "--write", files.to_str().unwrap()]);
        assert_eq!(written["items"][0]["written"].as_array().unwrap().len(), 3);
    }
    assert_eq!(fs::metadata(files.join("key.pem")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(files.join("key.pem")).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
    let chain = files.join("svid.pem");
    // The leaf and its intermediate; the root is in the bundle only.
    let (sent, roots) = (fs::read_to_string(&chain).unwrap(), fs::read_to_string(files.join("bundle.pem")).unwrap());
    let certificates =
        |pem: &str| pem.split_inclusive("-----END CERTIFICATE-----\n").map(str::to_owned).collect::<Vec<_>>();
    assert_eq!((certificates(&sent).len(), certificates(&roots).len()), (2, 1), "{sent}{roots}");
    assert!(!certificates(&sent).contains(&certificates(&roots)[0]));
    let valid = dev.json(&["svid", "x509", "validate", chain.to_str().unwrap()]);
    assert_eq!(valid["spiffe_id"], dev.ready["spiffe_id"]);
    let other = ["svid", "x509", "validate", chain.to_str().unwrap(), "--spiffe-id", "spiffe://dev.example/other"];
    assert_eq!(dev.refused(&other), (77, "unauthorized_peer".into()));

    let openssl = Command::new("openssl")
        .arg("verify")
        .arg("-CAfile")
        .arg(files.join("bundle.pem"))
        .arg("-untrusted")
        .arg(&chain)
        .arg(&chain)
        .output();
    match openssl {
        Ok(verified) => assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr)),
        Err(error) => assert!(std::env::var_os("CI").is_none(), "openssl did not run: {error}"),
    }
}

#[test]
fn a_command_that_follows_ends_with_its_reader() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path());
    for arguments in
        [&["ledger", "tail", "--follow"][..], &["svid", "x509", "watch"], &["svid", "jwt", "watch", "--audience", "a"]]
    {
        let mut following =
            Running(dev.command(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
        let mut line = String::new();
        BufReader::new(following.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty());
        let ended = eventually("it ends", || following.0.try_wait().unwrap());
        assert!(ended.success(), "{arguments:?}: {ended}");
    }
}

#[test]
fn nothing_survives_dev_and_the_directory_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(dir.path());
    assert_eq!(dev.daemons().len(), 2, "an issuer and a node agent");
    assert_eq!(dev.refused(&["dev", "--dir", dir.path().to_str().unwrap()]), (69, "in_use".into()));

    dev.signal(Signal::SIGKILL);
    dev.child.wait().unwrap();
    eventually("the daemons end with dev", || dev.daemons().is_empty().then_some(()));

    let mut dev = Dev::start(dir.path());
    assert_eq!(dev.json(&["svid", "x509", "fetch"])["items"][0]["spiffe_id"], dev.ready["spiffe_id"]);
    dev.signal(Signal::SIGINT);
    let ended = eventually("dev ends", || dev.child.try_wait().unwrap());
    assert!(ended.success(), "{ended}");
    assert!(dev.daemons().is_empty() && !dir.path().join("env").exists());
}

/// Rows: ID-5.
#[test]
fn settings_are_checked_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("issuer.toml");
    fs::write(&file, "trust_domain = \"Example\"\nlissten = 1\n[ttl]\nx509 = \"1s\"\n").unwrap();
    let checked = |variables: &[(&str, &str)]| {
        mayfly().args(["issuer", "check", "--config"]).arg(&file).envs(variables.iter().copied()).output().unwrap()
    };
    let output = checked(&[("MAYFLY_ISSUER__TTL__JTW", "5m")]);
    assert_eq!(output.status.code(), Some(65));
    let said = String::from_utf8(output.stderr).unwrap();
    for part in [
        ":1: trust_domain: ",
        ":2: lissten: unknown key; did you mean `listen`?",
        ":4: ttl.x509: ",
        "MAYFLY_ISSUER__TTL__JTW: ttl.jtw: ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    fs::write(&file, "trust_domain = \"example.org\"\n").unwrap();
    assert!(checked(&[]).status.success());
}

#[test]
fn the_demonstration_holds() {
    let output = mayfly().args(["--output", "json", "demo"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((&last["held"], &last["steps"]), (&true.into(), &15.into()));
    assert!(last["elapsed_ms"].as_u64().unwrap() < 60_000, "{last}");
}
