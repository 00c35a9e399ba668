//! Programs that others wrote and that know nothing of SPIFFE, or only Envoy's part of it: they serve through rotations under load without
//! one failed request.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::explicit_write,
    clippy::disallowed_methods,
    reason = "a test root"
)]

use std::{
    io::Write as _,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use mayfly_rig::{Daemon, Rig, eventually, mayfly, repository};
use serde_json::Value;

/// SVIDs of 12 s are renewed after about 6: three rotations and more while the load runs.
const SHORT: [(&str, &str); 2] = [("ttl.allow_short_ttl", "true"), ("ttl.x509", "\"12s\"")];
const LOAD_S: &str = "28";

#[test]
fn nginx_serves_through_rotations() {
    let Some(nginx) = tool(&["/usr/sbin/nginx"]) else { return };
    let place = Place::new(&[]);
    let config = format!(
        "daemon off; master_process on; user root; pid {0}/nginx.pid; error_log {0}/nginx.log;
         events {{}}
         http {{ access_log off; client_body_temp_path {0}/t1; proxy_temp_path {0}/t2; fastcgi_temp_path {0}/t3; uwsgi_temp_path {0}/t4; scgi_temp_path {0}/t5;
           server {{ listen {1}:4430 ssl; ssl_certificate {0}/svid/svid.pem; ssl_certificate_key {0}/svid/key.pem;
             ssl_client_certificate {0}/svid/bundle.pem; ssl_verify_client on; ssl_verify_depth 3; location / {{ return 200 'ok'; }} }} }}",
        place.dir().display(),
        place.rig.ip()
    );
    let file = place.file("nginx.conf", &config);
    let mut command = Command::new(nginx);
    command.arg("-c").arg(&file).arg("-e").arg(place.dir().join("nginx.log"));
    let server = place.start(command, "nginx", 4430);
    place.keep("svid", Some(&format!("kill -HUP {}", server.id())));
    place.load("http", 4430);
}

#[test]
fn redis_serves_through_rotations() {
    let Some(redis) = tool(&["/usr/bin/redis-server"]) else { return };
    let Some(cli) = tool(&["/usr/bin/redis-cli"]) else { return };
    let place = Place::new(&[]);
    let dir = place.dir().display().to_string();
    let socket = format!("{dir}/redis.sock");
    let config = format!(
        "bind {}\nport 0\ntls-port 4430\ntls-auth-clients yes\ntls-cert-file {dir}/svid/svid.pem\ntls-key-file {dir}/svid/key.pem\ntls-ca-cert-file {dir}/svid/bundle.pem\nunixsocket {socket}\nsave \"\"\ndir {dir}\n",
        place.rig.ip()
    );
    let mut command = Command::new(redis);
    command.arg(place.file("redis.conf", &config));
    let _server = place.start(command, "redis", 4430);
    let reload = format!(
        "{} -s {socket} CONFIG SET tls-cert-file {dir}/svid/svid.pem tls-key-file {dir}/svid/key.pem tls-ca-cert-file {dir}/svid/bundle.pem",
        cli.display()
    );
    place.keep("svid", Some(&reload));
    place.load("redis", 4430);
}

#[test]
fn nats_serves_through_rotations_and_refuses_another_spiffe_id() {
    let Some(nats) = tool(&["/usr/sbin/nats-server", "/usr/bin/nats-server"]) else { return };
    let place = Place::new(&["other"]);
    let dir = place.dir().display().to_string();
    let config = format!(
        "listen: \"{}:4430\"\ntls {{ cert_file: \"{dir}/svid/svid.pem\", key_file: \"{dir}/svid/key.pem\", ca_file: \"{dir}/svid/bundle.pem\", verify_and_map: true }}\nauthorization {{ users: [ {{ user: \"spiffe://{}/interop\" }} ] }}\n",
        place.rig.ip(),
        place.rig.trust_domain
    );
    let mut command = Command::new(nats);
    command.arg("-c").arg(place.file("nats.conf", &config));
    let server = place.start(command, "nats", 4430);
    place.keep("svid", Some(&format!("kill -HUP {}", server.id())));
    place.load("nats", 4430);
    place.write("other", "other");
    let report = place.run_load("nats", 4430, "other", "1");
    assert_eq!(report["served"], 0, "{report}");
    assert!(report["failures"].to_string().contains("Authorization Violation"), "{report}");
}

#[test]
fn postgresql_serves_through_rotations() {
    let Some(postgres) = tool(&["/usr/lib/postgresql/15/bin/postgres"]) else { return };
    // PostgreSQL does not run as root; the files are given to its own user.
    if !nix::unistd::geteuid().is_root() {
        not_run("this test gives files to the user postgres, which root alone can");
        return;
    }
    let place = Place::with(&[], &["--owner", "postgres"]);
    let dir = place.dir().display().to_string();
    let made = Command::new("sh")
        .args(["-c", "chmod 755 \"$1\" && install -d -o postgres -m 700 \"$1/data\" && setpriv --reuid postgres --regid postgres --clear-groups /usr/lib/postgresql/15/bin/initdb -A trust -D \"$1/data\"", "sh", &dir])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let hba = place.file("hba.conf", "hostssl all all all trust clientcert=verify-ca\n");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).arg(postgres);
    for setting in [
        format!("listen_addresses={}", place.rig.ip()),
        "port=4430".to_owned(),
        format!("unix_socket_directories={dir}/data"),
        format!("hba_file={}", hba.display()),
        "ssl=on".to_owned(),
        format!("ssl_cert_file={dir}/svid/svid.pem"),
        format!("ssl_key_file={dir}/svid/key.pem"),
        format!("ssl_ca_file={dir}/svid/bundle.pem"),
    ] {
        command.args(["-c", &setting]);
    }
    command.args(["-D", &format!("{dir}/data")]);
    let server = place.start(command, "postgres", 4430);
    place.keep("svid", Some(&format!("kill -HUP {}", server.id())));
    place.load("postgres", 4430);
}

#[test]
fn envoy_serves_through_rotations_by_secret_discovery() {
    envoy("api_type: GRPC");
}

#[test]
fn envoy_serves_through_rotations_by_incremental_secret_discovery() {
    envoy("api_type: DELTA_GRPC");
}

fn envoy(kind: &str) {
    let Some(envoy) = tool(&["MAYFLY_TEST_ENVOY", "target/test-env/envoy"]) else { return };
    let place = Place::new(&[]);
    let config = std::fs::read_to_string(repository().join("deploy/samples/envoy.yaml")).unwrap();
    let config = config
        .replace("/run/mayfly/agent/api.sock", place.rig.socket("a").to_str().unwrap())
        .replace("0.0.0.0", place.rig.ip())
        .replace("api_type: GRPC", kind);
    let mut command = Command::new(envoy);
    command.args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning", "-c"]);
    command.arg(place.file("envoy.yaml", &config));
    let _server = place.start(command, "envoy", 8443 + 1000);
    place.load("http", 8443 + 1000);
}

/// A rig with the entry `interop`, whose files are kept current in `svid` and for the load in `client`.
struct Place {
    keepers: std::cell::RefCell<Vec<Daemon>>,
    rig: Rig,
    more: Vec<String>,
}

impl Place {
    fn new(others: &[&str]) -> Self {
        Self::with(others, &[])
    }

    fn with(others: &[&str], more: &[&str]) -> Self {
        let rig = Rig::started(&SHORT);
        rig.apply(&rig.entry("interop", ""));
        for other in others {
            rig.apply(&rig.entry(other, ""));
        }
        let more = more.iter().map(ToString::to_string).collect();
        let place = Self { keepers: std::cell::RefCell::default(), rig, more };
        place.write("interop", "svid");
        place.keep("client", None);
        place
    }

    fn dir(&self) -> &Path {
        self.rig.dir()
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn svid(&self, verb: &str, name: &str, dir: &str) -> Command {
        let mut command = Command::new(mayfly());
        let id = format!("spiffe://{}/{name}", self.rig.trust_domain);
        command.args(["svid", "x509", verb, "--spiffe-id", &id, "--write"]).arg(self.dir().join(dir));
        command.env("SPIFFE_ENDPOINT_SOCKET", self.rig.endpoint("a"));
        if dir == "svid" {
            command.args(&self.more);
        }
        command
    }

    /// Writes the files once.
    fn write(&self, name: &str, dir: &str) {
        let written = self.svid("fetch", name, dir).output().unwrap();
        assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    }

    /// Keeps the files in a directory current, as an operator would.
    fn keep(&self, dir: &str, on_update: Option<&str>) {
        let mut command = self.svid("watch", "interop", dir);
        if let Some(words) = on_update {
            command.args(["--on-update", words]);
        }
        self.keepers.borrow_mut().push(Daemon::start(command, self.dir().join(format!("{dir}.log"))));
        eventually("the files are written", 20, || self.dir().join(dir).join("bundle.pem").exists().then_some(()));
    }

    /// Starts a server, and waits until it accepts.
    fn start(&self, command: Command, name: &str, port: u16) -> Daemon {
        let mut server = Daemon::start(command, self.dir().join(format!("{name}.out")));
        eventually("the server accepts", 60, || {
            assert!(server.is_running(), "{name} ended: {}", server.log());
            TcpStream::connect((self.rig.ip(), port)).ok().map(drop)
        });
        server
    }

    fn run_load(&self, kind: &str, port: u16, dir: &str, seconds: &str) -> Value {
        let script = repository().join("tests/interop/python/load.py");
        let output = Command::new("python3")
            .arg(script)
            .args([kind, self.rig.ip(), &port.to_string()])
            .arg(self.dir().join(dir))
            .arg(seconds)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Four certificates or more, which are three rotations, and not one failed request.
    fn load(&self, kind: &str, port: u16) {
        let report = self.run_load(kind, port, "client", LOAD_S);
        writeln!(std::io::stderr(), "{kind}: {report}").unwrap();
        assert_eq!(report["failed"], 0, "{report}");
        assert!(report["served"].as_u64().unwrap() > 20, "{report}");
        assert!(report["certificates"].as_u64().unwrap() >= 4, "{report}");
    }
}

/// The first of these that is there (a variable with a path, a path, a path in the repository); without one the test says so, and fails where
/// nothing may be skipped.
fn tool(places: &[&str]) -> Option<PathBuf> {
    let path = |place: &&str| std::env::var_os(place).map_or_else(|| repository().join(place), PathBuf::from);
    let found = places.iter().map(path).find(|path| path.is_file());
    if found.is_none() {
        not_run(&format!("{} is missing; tests/run installs it", places[places.len() - 1]));
    }
    found
}

fn not_run(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    // Written past the test harness's capture, which hides what passes.
    writeln!(std::io::stderr(), "NOT RUN: {why}").unwrap();
}
