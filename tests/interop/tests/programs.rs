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

use mayfly_interop::{not_run, tool};
use mayfly_rig::{Daemon, Rig, eventually, mayfly, repository};
use serde_json::Value;

/// SVIDs of 12 s are renewed after about 6: three rotations and more while the load runs.
const SHORT: [(&str, &str); 2] = [("ttl.allow_short_ttl", "true"), ("ttl.x509", "\"12s\"")];
const LOAD_S: &str = "28";

#[test]
fn nginx_serves_through_rotations() {
    let Some(nginx) = tool(&["/usr/sbin/nginx"]) else { return };
    let place = Place::new(&[]);
    let (dir, ip) = (place.dir().display().to_string(), place.rig.ip().to_owned());
    // What the sample passes requests on to is the second server here.
    let sample = place.sample(
        "nginx.conf",
        &[
            ("listen 443", &format!("listen {ip}:4430")),
            ("127.0.0.1:8080", &format!("{ip}:8080")),
            ("/run/web/tls", &format!("{dir}/svid")),
        ],
    );
    let config = format!(
        "daemon off; master_process on; user root; pid {dir}/nginx.pid; error_log {dir}/nginx.log;
         events {{}}
         http {{ access_log off; client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
           include {sample};
           server {{ listen {ip}:8080; location / {{ return 200 'ok'; }} }} }}",
        sample = sample.file.display(),
    );
    let file = place.file("main.conf", &config);
    let mut command = Command::new(&nginx);
    command.arg("-c").arg(&file).arg("-e").arg(place.dir().join("nginx.log"));
    let server = place.start(command, "nginx", 4430);
    place.keep_as(&sample, "nginx -s reload", &format!("{} -c {} -s reload", nginx.display(), file.display()));
    place.load("http", 4430);
    // Asked, it ends its workers too.
    assert!(server.stop().success());
}

#[test]
fn redis_serves_through_rotations() {
    let Some(redis) = tool(&["/usr/bin/redis-server"]) else { return };
    let Some(cli) = tool(&["/usr/bin/redis-cli"]) else { return };
    let place = Place::new(&[]);
    let dir = place.dir().display().to_string();
    let sample = place.sample(
        "redis.conf",
        &[
            ("tls-port 6379", "tls-port 4430"),
            ("/run/redis/tls", &format!("{dir}/svid")),
            ("/run/redis/redis.sock", &format!("{dir}/redis.sock")),
        ],
    );
    let mut command = Command::new(redis);
    command.arg(&sample.file).args(["--bind", place.rig.ip(), "--dir", &dir, "--save", ""]);
    let _server = place.start(command, "redis", 4430);
    place.keep_as(&sample, "redis-cli", &cli.display().to_string());
    place.load("redis", 4430);
}

#[test]
fn nats_serves_through_rotations_and_refuses_another_spiffe_id() {
    let Some(nats) = tool(&["/usr/sbin/nats-server", "/usr/bin/nats-server"]) else { return };
    let place = Place::new(&["other"]);
    let sample = place.sample(
        "nats.conf",
        &[
            ("0.0.0.0:4222", &format!("{}:4430", place.rig.ip())),
            ("/run/nats/tls", &format!("{}/svid", place.dir().display())),
            ("spiffe://example.org/web", &format!("spiffe://{}/interop", place.rig.trust_domain)),
        ],
    );
    let mut command = Command::new(nats);
    command.arg("-c").arg(&sample.file);
    let server = place.start(command, "nats", 4430);
    place.keep_as(&sample, "systemctl reload nats-server", &format!("kill -HUP {}", server.id()));
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
    let sample = place.sample("postgresql.conf", &[("/run/pgtls", &format!("{dir}/svid"))]);
    // The load has no password.
    let (_, hba) = sample.comment.split_once("in pg_hba.conf: ").expect("the line for pg_hba.conf");
    let hba = place.file("hba.conf", &format!("{}\n", hba.trim().replace("scram-sha-256", "trust")));
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).arg(postgres);
    for setting in [
        format!("config_file={}", sample.file.display()),
        format!("listen_addresses={}", place.rig.ip()),
        "port=4430".to_owned(),
        format!("unix_socket_directories={dir}/data"),
        format!("hba_file={}", hba.display()),
    ] {
        command.args(["-c", &setting]);
    }
    command.args(["-D", &format!("{dir}/data")]);
    let server = place.start(command, "postgres", 4430);
    place.keep_as(&sample, "systemctl reload postgresql", &format!("kill -HUP {}", server.id()));
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
    let sample = place.sample(
        "envoy.yaml",
        &[
            ("/run/mayfly/agent/api.sock", place.rig.socket("a").to_str().unwrap()),
            ("0.0.0.0", place.rig.ip()),
            ("api_type: GRPC", kind),
        ],
    );
    let mut command = Command::new(envoy);
    command.args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning", "-c"]);
    command.arg(&sample.file);
    let _server = place.start(command, "envoy", 9443);
    place.load("http", 9443);
}

/// A sample of `deploy/samples` as it is tried: what is published, with names and places of this test.
struct Sample {
    file: PathBuf,
    /// Its comments, as one line.
    comment: String,
}

impl Sample {
    /// The words of the command in its comments that keeps its files current; what is quoted is one word.
    fn keeper(&self) -> Vec<String> {
        let (_, command) = self.comment.split_once("mayfly svid x509 watch ").expect("how the files are kept current");
        let mut parts = command.split('\'');
        let mut words: Vec<_> = parts.next().unwrap().split_whitespace().map(str::to_owned).collect();
        words.extend(parts.next().map(|quoted| quoted.split_whitespace().collect::<Vec<_>>().join(" ")));
        words
    }
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
        place.keep("client");
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

    /// A sample with these texts in the place of those, each of which must be in it.
    fn sample(&self, name: &str, places: &[(&str, &str)]) -> Sample {
        let mut text = std::fs::read_to_string(repository().join("deploy/samples").join(name)).unwrap();
        for (published, here) in places {
            assert!(text.contains(published), "{name} says nothing of {published}");
            text = text.replace(published, here);
        }
        let comments = text.lines().filter_map(|line| line.strip_prefix('#'));
        let comment = comments.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
        Sample { file: self.file(name, &text), comment }
    }

    /// Keeps the files of a sample current by the command that it names, with `here` in the place of the part `published`.
    fn keep_as(&self, sample: &Sample, published: &str, here: &str) {
        let words = sample.keeper();
        assert!(words.iter().any(|word| word.contains(published)), "{published}: {words:?}");
        let mut command = Command::new(mayfly());
        command.args(["svid", "x509", "watch"]).args(words.iter().map(|word| word.replace(published, here)));
        command.env("SPIFFE_ENDPOINT_SOCKET", self.rig.endpoint("a"));
        self.keepers.borrow_mut().push(Daemon::start(command, self.dir().join("svid.log")));
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

    /// Keeps the files in a directory current.
    fn keep(&self, dir: &str) {
        let command = self.svid("watch", "interop", dir);
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
