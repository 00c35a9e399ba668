//! What should not work, and what goes wrong on real machines.

/// More than fits into one message.
mod bulk;
/// The wall clock jumps.
mod clock;
/// Clients that say too much, too little, or nonsense.
mod floods;
/// Nodes that are no longer, or never were, what they say.
mod nodes;
/// Disks, directories and socket paths.
mod places;
/// Processes that are no longer who connected.
pub(crate) mod processes;
/// A program that a test puppeteers: it connects, and hands its connection over.
mod puppet;
/// Nodes that would use up what is for all of them.
mod shares;

use std::{
    path::Path,
    process::{Command, Output},
};

use mayfly_rig::{Rig, http_get, mayfly};

/// `mayfly svid ...` as a workload of this user.
fn svid(program: &Path, rig: &Rig, agent: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(["--output", "json", "svid"]).args(args).env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint(agent));
    command.output().unwrap()
}

/// The first X.509-SVID that this program is given; none: it is given none.
fn x509(program: &Path, rig: &Rig, agent: &str) -> Option<serde_json::Value> {
    let output = svid(program, rig, agent, &["x509", "fetch"]);
    let mut shown: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(shown["items"][0].take())
}

/// The serial number of the first X.509-SVID that a workload of this user is given; none: it is given none.
pub(crate) fn x509_serial(rig: &Rig, agent: &str) -> Option<String> {
    Some(x509(&mayfly(), rig, agent)?["serial"].as_str().unwrap().to_owned())
}

/// Whether a workload of this user is given a JWT-SVID for this audience; otherwise what it is told.
fn jwt(rig: &Rig, audience: &str) -> Result<(), String> {
    let output = svid(&mayfly(), rig, "a", &["jwt", "fetch", "--audience", audience]);
    if output.status.success() { Ok(()) } else { Err(text(&output.stderr)) }
}

/// What `/ready` says.
fn ready(address: &str) -> String {
    http_get(address, "/ready").unwrap_or_default()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Tells, past the test harness's capture, what could not be run here.
pub(crate) fn not_run(what: &str) {
    use std::io::Write as _;
    let mut uncaptured = std::io::stderr();
    writeln!(uncaptured, "NOT RUN: {what}").unwrap();
    assert!(std::env::var_os("CI").is_none(), "{what}");
}
