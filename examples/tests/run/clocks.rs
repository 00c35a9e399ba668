//! A machine whose clock is half a minute off: its agent, a service on it and a client, against an issuer whose clock is right.

use std::path::Path;

use super::{AXUM, CLIENT, FILES, Rig, Stdio, id, program};
use mayfly_rig::{Daemon, eventually};

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

fn everything_goes_on(offset: &str) {
    assert!(Path::new(LIBRARY).exists(), "libfaketime is missing: tests/run installs it");
    let clock = [("LD_PRELOAD", LIBRARY), ("FAKETIME", offset), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
    let mut rig = Rig::new(&[]);
    rig.start_issuer();
    rig.set_environment(&clock);
    rig.start_agent("a");
    let entry = |name: &str, program: &str, more: &str| {
        rig.entry(name, &format!(", \"unix:path:{program}\"")) + &format!("    {more}\n")
    };
    let may = format!("task: {{audiences: [\"{FILES}\"], scopes: [read, write]}}");
    rig.apply(&(entry("files", AXUM, &format!("serves: [\"{FILES}\"]")) + &entry("client", CLIENT, &may)));

    let mut service = program(&rig, AXUM, &[&format!("{}:0", rig.ip())]);
    service.envs(clock);
    let mut service = Daemon::start(service, rig.dir().join("service.log"));
    let address = eventually("the service listens", 40, || {
        assert!(service.is_running(), "{}", service.log());
        service.log().lines().next().map(str::to_owned)
    });
    let output = program(&rig, CLIENT, &[&format!("https://{address}"), &id(&rig, "files")])
        .envs(clock)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), rig.agent_log("a"));
    assert!(lines[0].starts_with(&format!("200 OK page 1 for {}, task ", id(&rig, "client"))), "{lines:?}");
    assert!(lines[1].starts_with("403 Forbidden") && lines[1].contains("insufficient_scope"), "{lines:?}");
}

#[test]
fn a_machine_half_a_minute_behind_begins_tasks_and_believes_tokens() {
    everything_goes_on("-30s");
}

#[test]
fn a_machine_half_a_minute_ahead_begins_tasks_and_believes_tokens() {
    everything_goes_on("+30s");
}
