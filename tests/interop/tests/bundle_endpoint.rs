//! The bundle endpoint as other people's programs see it: go-spiffe's watcher, curl, OpenSSL and Python.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::explicit_write,
    clippy::disallowed_methods,
    reason = "a test root"
)]

#[path = "bundle_endpoint/http.rs"]
mod http;
#[path = "bundle_endpoint/pki.rs"]
mod pki;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use mayfly_rig::{Rig, repository};
use serde_json::Value;

/// go-spiffe, as `tests/run` has built it.
fn go() -> Option<PathBuf> {
    let path = std::env::var_os("MAYFLY_TEST_GO_WORKLOAD")
        .map_or_else(|| repository().join("target/test-env/go-workload"), PathBuf::from);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing: tests/run makes it", path.display());
    writeln!(std::io::stderr(), "NOT RUN: {} is missing; tests/run makes it", path.display()).unwrap();
    None
}

/// An issuer alone, answering.
fn issuer(settings: &[(&str, &str)]) -> Rig {
    let mut rig = Rig::new(settings);
    rig.start_issuer();
    rig
}

fn url(rig: &Rig) -> String {
    format!("https://{}/", rig.web_address())
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The bundle as it is handed to another trust domain by hand, in a file.
fn bundle_file(rig: &Rig) -> PathBuf {
    let path = rig.dir().join("bundle.json");
    let shown = rig.run(&["bundle", "show", "--form", "document"]);
    assert!(shown.status.success(), "{}", text(&shown));
    std::fs::write(&path, shown.stdout).unwrap();
    path
}

/// go-spiffe's watcher, ended with the test.
struct Watcher {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Watcher {
    fn start(rig: &Rig, auth: &[&str], wanted: &str) -> Option<Self> {
        let mut command = Command::new(go()?);
        command.args(["federation", &rig.trust_domain, &url(rig)]).args(auth).arg(wanted);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Some(Self { child, lines })
    }

    fn next(&mut self) -> Value {
        match self.lines.next() {
            Some(line) => serde_json::from_str(&line.unwrap()).unwrap(),
            None => panic!("go-spiffe ended: {}", self.failure()),
        }
    }

    /// Why it ended.
    fn failure(&mut self) -> String {
        self.child.wait().unwrap();
        std::io::read_to_string(self.child.stderr.take().unwrap()).unwrap()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Follows the endpoint over a new key and over a revoked one.
fn follows_the_keys(rig: &Rig, mut watcher: Watcher) {
    let first = watcher.next();
    assert_eq!(first["trust_domain"], *rig.trust_domain, "{first}");
    assert_eq!((&first["x509"], &first["jwt"], &first["hint_s"]), (&1.into(), &1.into(), &300.into()), "{first}");
    let all = rig.json(&["authority", "list"]);
    let active = all["items"].as_array().unwrap().iter().find(|key| key["kind"] == "jwt" && key["state"] == "active");
    let id = active.unwrap()["id"].as_str().unwrap();
    assert!(rig.run(&["authority", "prepare", "jwt"]).status.success());
    let second = watcher.next();
    assert_eq!(second["jwt"], 2, "{second}");
    assert!(second["sequence"].as_u64() > first["sequence"].as_u64(), "{first} then {second}");
    for verb in ["taint", "revoke"] {
        let done = rig.run(&["authority", verb, id]);
        assert!(done.status.success(), "{verb}: {}", text(&done));
    }
    let mut last = watcher.next();
    while last["jwt"] != 1 {
        last = watcher.next();
    }
    assert!(last["sequence"].as_u64() > second["sequence"].as_u64(), "{second} then {last}");
}

/// Rows: FD-1, FD-5, FD-8, BD-4.
#[test]
fn go_spiffe_follows_the_endpoint_by_the_issuers_own_svid() {
    let rig = issuer(&[]);
    let bundle = bundle_file(&rig);
    let id = format!("spiffe://{}/mayfly/issuer/issuer", rig.trust_domain);
    let auth = ["https_spiffe", &id, bundle.to_str().unwrap()];
    if let Some(watcher) = Watcher::start(&rig, &auth, "9") {
        follows_the_keys(&rig, watcher);
    }
}

/// Rows: FD-8.
#[test]
fn the_issuers_svid_is_rotated_in_place_and_go_spiffe_goes_on() {
    let settings = [("ttl.allow_short_ttl", "true"), ("ttl.node", "\"4s\""), ("ttl.x509", "\"4s\"")];
    let rig = issuer(&settings);
    let bundle = bundle_file(&rig);
    let id = format!("spiffe://{}/mayfly/issuer/issuer", rig.trust_domain);
    let serial = || pki::served_serial(&rig.web_address());
    let first = serial();
    let auth = ["https_spiffe", id.as_str(), bundle.to_str().unwrap()];
    for _ in 0..3 {
        let before = serial();
        mayfly_rig::eventually("the next SVID is presented", 20, || (serial() != before).then_some(()));
        let Some(mut watcher) = Watcher::start(&rig, &auth, "1") else { return };
        watcher.next();
    }
    assert_ne!(serial(), first);
}

/// Rows: FD-8.
#[test]
fn go_spiffe_refuses_another_endpoint_id() {
    let rig = issuer(&[]);
    let bundle = bundle_file(&rig);
    let id = format!("spiffe://{}/mayfly/issuer/another", rig.trust_domain);
    if let Some(mut watcher) = Watcher::start(&rig, &["https_spiffe", &id, bundle.to_str().unwrap()], "1") {
        let failure = watcher.failure();
        assert!(failure.contains("unexpected ID"), "{failure}");
    }
}

/// Rows: FD-5, FD-7.
#[test]
fn go_spiffe_curl_and_python_follow_the_endpoint_by_a_web_certificate_that_is_replaced() {
    let mut rig = Rig::new(&[("bundle_endpoint.profile", "\"https_web\"")]);
    let pki = pki::Pki::new(rig.dir(), rig.ip());
    pki.issue(1);
    rig.set("web.certificate", &format!("{:?}", pki.certificate()));
    rig.set("web.key", &format!("{:?}", pki.key()));
    rig.start_issuer();
    let roots = pki.root();
    let roots = roots.to_str().unwrap();
    let get = || {
        let got = Command::new("curl").args(["-sS", "--fail", "--cacert", roots, &url(&rig)]).output().unwrap();
        assert!(got.status.success(), "{}", text(&got));
        got.stdout
    };
    assert_eq!(get(), std::fs::read(bundle_file(&rig)).map(|bytes| document(&bytes)).unwrap());
    assert_eq!(pki::served_serial(&rig.web_address()), "01");

    // A key that is not the certificate's, as in the middle of a replacement: the old pair stays.
    pki.break_key();
    mayfly_rig::eventually("the broken pair is noticed", 20, || {
        rig.issuer_log().contains("the web certificate was not reloaded").then_some(())
    });
    assert_eq!(pki::served_serial(&rig.web_address()), "01");
    get();
    pki.issue(2);
    mayfly_rig::eventually("the next certificate is presented", 20, || {
        (pki::served_serial(&rig.web_address()) == "02").then_some(())
    });
    get();
    let python = "import json,ssl,sys,urllib.request as u;\
        print(len(json.load(u.urlopen(sys.argv[1],context=ssl.create_default_context(cafile=sys.argv[2])))['keys']))";
    let output = Command::new("python3").args(["-c", python, &url(&rig), roots]).output().unwrap();
    assert_eq!(text(&output).trim(), "2");
    if let Some(watcher) = Watcher::start(&rig, &["https_web", roots], "9") {
        follows_the_keys(&rig, watcher);
    }
}

#[test]
fn an_https_web_certificate_that_cannot_be_used_keeps_the_issuer_from_starting_and_is_named() {
    let mut rig = Rig::new(&[("bundle_endpoint.profile", "\"https_web\"")]);
    let absent = rig.dir().join("absent.pem");
    for key in ["web.certificate", "web.key"] {
        rig.set(key, &format!("{:?}", absent.display().to_string()));
    }
    rig.launch_issuer();
    mayfly_rig::eventually("the issuer says which file", 20, || {
        let log = rig.issuer_log();
        (log.contains("absent.pem") && log.contains("web.certificate")).then_some(())
    });
}

/// What `bundle show` prints, as the endpoint sends it: compact.
fn document(shown: &[u8]) -> Vec<u8> {
    serde_json::from_slice::<Value>(shown).unwrap().to_string().into_bytes()
}

#[test]
fn curl_believes_an_issuer_whose_public_url_has_an_address_for_a_name() {
    let mut rig = Rig::new(&[]);
    let url = format!("https://{}", rig.web_address());
    rig.set("web.public_url", &format!("\"{url}\""));
    rig.start_issuer();
    let anchors = rig.dir().join("anchors.pem");
    std::fs::write(&anchors, rig.run(&["bundle", "show", "--form", "pem"]).stdout).unwrap();
    let fetched = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--max-time", "20", "--cacert"])
        .arg(&anchors)
        .arg(format!("{url}/.well-known/oauth-authorization-server/task"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&fetched.stdout).unwrap_or_else(|_| panic!("{}", text(&fetched)));
    assert_eq!(metadata["issuer"], format!("{url}/task"));
    assert_eq!(metadata["token_endpoint"], format!("{url}/task/token"));
}
