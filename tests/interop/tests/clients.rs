//! Unmodified SPIFFE clients that others wrote, over the socket of a real node agent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::explicit_write,
    clippy::disallowed_methods,
    reason = "a test root"
)]

#[path = "clients/dpop.rs"]
mod dpop;
#[path = "clients/oauth.rs"]
mod oauth;
#[path = "clients/resource_servers.rs"]
mod resource_servers;
#[path = "clients/tasks.rs"]
mod tasks;
#[path = "clients/users.rs"]
mod users;
#[path = "clients/wits.rs"]
mod wits;

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use mayfly_interop::tool;
use mayfly_rig::{Rig, repository};
use serde_json::Value;

/// SVIDs of 6 s rotate every 3 s.
const SHORT: [(&str, &str); 3] = [("ttl.allow_short_ttl", "true"), ("ttl.x509", "\"6s\""), ("ttl.jwt", "\"60s\"")];

/// Rows: WE-19, WE-1, WE-8, WA-1, WA-4, WA-20, WA-21, WA-23.
#[test]
fn py_spiffe_has_its_identity_and_cryptography_and_pyjwt_verify_it() {
    if let Some(python) = tool(&["MAYFLY_TEST_PYTHON", "target/test-env/venv/bin/python"]) {
        let script = repository().join("tests/interop/python/workload.py");
        client(&[python.to_str().unwrap(), script.to_str().unwrap()]);
    }
}

/// Rows: WE-1, WE-8, WA-1, WA-4, WA-20, WA-21, WA-23.
#[test]
fn go_spiffe_has_its_identity() {
    if let Some(workload) = tool(&["MAYFLY_TEST_GO_WORKLOAD", "target/test-env/go-workload"]) {
        client(&[workload.to_str().unwrap()]);
    }
}

/// Rows: WE-1, WE-8, WA-1, WA-4, WA-20, WA-21, WA-23.
#[test]
fn the_spiffe_crate_has_its_identity() {
    client(&[env!("CARGO_BIN_EXE_spiffe-crate-workload")]);
}

fn client(command: &[&str]) {
    let rig = Rig::started(&SHORT);
    let report = run(&rig, command, &["denied"]);
    assert_eq!(report["denied"], true, "a caller without an entry: {report}");

    rig.apply(&rig.entry("interop", ""));
    let bundle = rig.dir().join("bundle.json");
    let shown = rig.run(&["bundle", "show", "--form", "document"]);
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    std::fs::write(&bundle, shown.stdout).unwrap();
    let fetched_at = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() + 1;
    let report = run(&rig, command, &["full", bundle.to_str().unwrap()]);

    let id = format!("spiffe://{}/interop", rig.trust_domain);
    assert_eq!(report["spiffe_id"], *id);
    assert_eq!(report["jwt_spiffe_id"], *id);
    assert_eq!(report["wrong_audience_refused"], true);
    let serials = report["serials"].as_array().unwrap();
    assert_eq!(serials.len(), 4, "{serials:?}");
    if let (Some(chain), Some(bundle)) = (report["chain"].as_str(), report["bundle"].as_str()) {
        openssl_verifies(rig.dir(), chain, bundle, &id, fetched_at);
    }
}

fn run(rig: &Rig, command: &[&str], args: &[&str]) -> Value {
    let output = Command::new(command[0])
        .args(&command[1..])
        .args(args)
        .env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{command:?} {args:?}: {}\n{}", text(&output), rig.agent_log("a"));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// OpenSSL's own opinion of chain and names, at the time when they were fetched.
fn openssl_verifies(dir: &Path, chain: &str, bundle: &str, id: &str, at: u64) {
    let (chain_file, bundle_file) = (dir.join("chain.pem"), dir.join("bundle.pem"));
    std::fs::write(&chain_file, chain).unwrap();
    std::fs::write(&bundle_file, bundle).unwrap();
    let files = [bundle_file.to_str().unwrap(), chain_file.to_str().unwrap()];
    for purpose in ["sslclient", "sslserver"] {
        let verify = ["verify", "-x509_strict", "-purpose", purpose, "-attime", &at.to_string()];
        let trust = ["-CAfile", files[0], "-untrusted", files[1], files[1]];
        let verified = Command::new("openssl").args(verify).args(trust).output().unwrap();
        assert!(verified.status.success(), "openssl: {}", text(&verified));
    }
    let shown = Command::new("openssl").args(["x509", "-noout", "-text", "-in", files[1]]).output().unwrap();
    assert!(text(&shown).contains(&format!("URI:{id}")), "{}", text(&shown));
}
