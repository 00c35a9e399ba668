//! Tasks through real daemons: begun, handed on, verified, and dead with the one at the top.

/// What may be handed on, by pairs.
mod attenuation;
/// What services are told.
mod feed;
/// Begun past the agent.
mod oauth;
/// The agent goes, and comes back.
mod restart;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use mayfly_rig::{Daemon, Rig, eventually, mayfly};
use serde_json::Value;

use crate::attacks::text;

const FILES: &str = "https://files.example.org/mcp";
const MAIL: &str = "https://mail.example.org/";

/// A planner that may begin tasks, a writer that may take over parts of them, and a service that serves the audience.
fn rig(settings: &[(&str, &str)]) -> Rig {
    let rig = Rig::started(settings);
    let task = format!(
        "    task: {{audiences: [\"{FILES}\"], scopes: [read, list], delegable: [\"{FILES}\"], deadline: 10m}}\n"
    );
    let with_task = |name: &str| rig.entry(name, "") + &task;
    let service = rig.entry("files", "") + &format!("    serves: [\"{FILES}\"]\n");
    let plain = rig.entry("plain", "");
    rig.apply(&(with_task("planner") + &with_task("writer") + &service + &plain));
    rig
}

/// The `mayfly` command as a workload of this user.
fn workload(rig: &Rig, args: &[&str]) -> Command {
    let mut command = Command::new(mayfly());
    command.args(["--output", "json"]).args(args).env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a")).stdin(Stdio::null());
    command
}

fn run(rig: &Rig, args: &[&str]) -> Output {
    workload(rig, args).output().unwrap()
}

fn json(rig: &Rig, args: &[&str]) -> Value {
    let output = run(rig, args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The exit code and the reason of a command that is refused.
fn refused(rig: &Rig, args: &[&str]) -> (i32, String) {
    let output = run(rig, args);
    assert!(!output.status.success(), "{args:?}: {}", text(&output.stdout));
    let error: Value = serde_json::from_slice(&output.stderr).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    assert!(error["error"]["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{error}");
    (output.status.code().unwrap(), error["error"]["reason"].as_str().unwrap().to_owned())
}

fn id(rig: &Rig, name: &str) -> String {
    format!("spiffe://{}/{name}", rig.trust_domain)
}

/// Begins a task of the planner, which may be handed to the writer; waits until the node knows the entries.
fn begun(rig: &Rig, further: &[&str]) -> Value {
    let (planner, writer) = (id(rig, "planner"), id(rig, "writer"));
    let args = [
        &[
            "task",
            "begin",
            "--purpose",
            "the quarter's report",
            "--audience",
            FILES,
            "--scope",
            "read",
            "--scope",
            "list",
        ],
        &["--delegable", FILES, "--spiffe-id", &planner, "--may-act", &writer][..],
        further,
    ]
    .concat();
    eventually("a task is begun", 20, || {
        let output = run(rig, &args);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    })
}

fn file(rig: &Rig, name: &str, content: &str) -> PathBuf {
    let path = rig.dir().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The last thing that a watching command has said.
fn last(watching: &Daemon) -> Option<Value> {
    serde_json::from_str(watching.log().lines().last()?).ok()
}

#[test]
fn a_part_of_a_task_is_handed_on_and_every_token_dies_with_the_whole() {
    let mut rig = rig(&[]);
    let (above, below) = (rig.dir().join("above"), rig.dir().join("below"));
    let root = begun(&rig, &["--write", shown(&above)]);
    let (root_id, token) =
        (root["task"]["id"].as_str().unwrap().to_owned(), root["token"].as_str().unwrap().to_owned());
    assert_eq!((&root["task"]["root"], &root["task"]["parent"]), (&root["task"]["id"], &Value::Null));
    assert_eq!((&root["task"]["state"], &root["granted"]["audience"]), (&"open".into(), &FILES.into()));
    assert_eq!(std::fs::read_to_string(above.join("token")).unwrap(), token);
    let tail = text(&rig.run(&["ledger", "tail", "-n", "100"]).stdout);
    assert!(tail.contains(&root_id), "the begin is in the ledger: {tail}");

    // Only the workload that may act next, and only less than the task above.
    let parent = file(&rig, "parent", &token);
    let delegate =
        ["task", "delegate", "--purpose", "one page", "--parent-token-file", shown(&parent), "--audience", FILES];
    let (planner, writer) = (id(&rig, "planner"), id(&rig, "writer"));
    let by = |name: &'static str, scope: &'static str| -> Vec<&str> {
        let who = if name == "writer" { &writer } else { &planner };
        [&delegate[..], &["--scope", scope, "--spiffe-id", who]].concat()
    };
    assert_eq!(refused(&rig, &by("planner", "read")).1, "actor_not_allowed");
    assert_eq!(refused(&rig, &by("writer", "write")), (77, "task_exceeds_entry".to_owned()));
    let child = json(&rig, &[by("writer", "read"), vec!["--write", shown(&below)]].concat());
    assert_eq!((&child["task"]["parent"], &child["task"]["root"]), (&root["task"]["id"], &root["task"]["id"]));
    let handed = child["token"].as_str().unwrap().to_owned();

    // A service of the audience believes both, each over its own connection only.
    let verify = |token: &str| run(&rig, &["token", "verify", "--audience", FILES, token]);
    for token in [&token, &handed] {
        let verdict = verify(token);
        assert!(verdict.status.success(), "{}", text(&verdict.stderr));
        let verdict: Value = serde_json::from_slice(&verdict.stdout).unwrap();
        assert_eq!((&verdict["binding"], &verdict["claims"]["txn"]), (&"not checked".into(), &root["task"]["id"]));
    }
    let with = |dir: &Path| dir.join("svid.pem").to_str().unwrap().to_owned();
    let bound = json(&rig, &["token", "verify", "--audience", FILES, "--peer-cert", &with(&below), &handed]);
    assert_eq!(bound["binding"], "checked");
    assert_eq!(bound["claims"]["act"]["sub"], writer);
    assert_eq!(bound["claims"]["act"]["act"]["sub"], planner);
    let stolen = ["token", "verify", "--audience", FILES, "--peer-cert", &with(&above), &handed];
    assert_eq!(refused(&rig, &stolen), (77, "task_token_not_bound".to_owned()));
    assert_eq!(refused(&rig, &["token", "verify", "--audience", MAIL, &token]), (77, "audience_not_served".to_owned()));

    // The tasks outlive a restart of the issuer, and a watcher hears how they end.
    let list = json(&rig, &["task", "list"]);
    assert_eq!(list["items"].as_array().unwrap().len(), 2, "{list}");
    rig.stop_issuer();
    rig.start_issuer();
    let args = ["task", "watch", child["task"]["id"].as_str().unwrap()];
    let mut watching = Daemon::start(workload(&rig, &args), rig.dir().join("watch.log"));
    eventually("it is watched", 20, || last(&watching).filter(|now| now["token"] == handed.as_str()));
    // A token is validated by the issuer alone.
    eventually("the issuer is back", 30, || {
        run(&rig, &["token", "verify", "--audience", FILES, &token]).status.success().then_some(())
    });
    let ended = json(&rig, &["task", "complete", &root_id]);
    assert_eq!(ended["ended"].as_array().unwrap().len(), 2, "{ended}");
    for token in [&token, &handed] {
        assert_eq!(refused(&rig, &["token", "verify", "--audience", FILES, token]), (77, "task_ended".to_owned()));
    }
    let end = eventually("the watcher hears the end", 20, || last(&watching).filter(|now| now["token"].is_null()));
    assert_eq!(end["task"]["state"], "completed");
    eventually("the watcher ends with it", 20, || (!watching.is_running()).then_some(()));
    let late = [by("writer", "read"), vec![]].concat();
    assert_eq!(refused(&rig, &late).1, "parent_not_open");
    assert!(json(&rig, &["task", "list"])["items"].as_array().unwrap().is_empty());
}

#[test]
fn token_and_certificate_are_renewed_together_while_the_task_is_open() {
    let rig = rig(&[("ttl.allow_short_ttl", "true"), ("ttl.x509", "\"20s\""), ("ttl.task", "\"10s\"")]);
    let root = begun(&rig, &[]);
    let files = rig.dir().join("files");
    let args = ["task", "watch", root["task"]["id"].as_str().unwrap(), "--write", shown(&files)];
    let mut watching = Daemon::start(workload(&rig, &args), rig.dir().join("watch.log"));
    let certificate = || std::fs::read_to_string(files.join("svid.pem")).ok();
    let first = eventually("the files are written", 20, certificate);
    eventually("the certificate was replaced", 40, || certificate().filter(|now| *now != first));
    let now = last(&watching).unwrap();
    let token = now["token"].as_str().unwrap();
    assert_ne!(token, root["token"].as_str().unwrap());
    // In one set: whatever is read of it at one moment belongs together.
    let set = std::fs::canonicalize(files.join("..data")).unwrap();
    let (token, certificate) = (std::fs::read_to_string(set.join("token")).unwrap(), set.join("svid.pem"));
    let verdict = json(&rig, &["token", "verify", "--audience", FILES, "--peer-cert", shown(&certificate), &token]);
    assert_eq!(verdict["binding"], "checked");
    assert!(watching.is_running(), "{}", watching.log());
}

#[test]
fn what_an_entry_does_not_allow_is_refused_with_what_to_do() {
    let rig = rig(&[]);
    begun(&rig, &[]);
    let (planner, plain) = (id(&rig, "planner"), id(&rig, "plain"));
    let begin = |who: &str, audience: &str, further: &[&str]| -> (i32, String) {
        let args = ["task", "begin", "--purpose", "p", "--audience", audience, "--spiffe-id", who];
        refused(&rig, &[&args, further].concat())
    };
    let no = |reason: &str| (77, reason.to_owned());
    assert_eq!(begin(&plain, FILES, &[]), no("task_not_allowed"));
    assert_eq!(begin(&planner, MAIL, &[]), no("task_exceeds_entry"));
    assert_eq!(begin(&planner, FILES, &["--scope", "write"]), no("task_exceeds_entry"));
    assert_eq!(begin(&planner, FILES, &["--deadline", "11m"]), no("task_exceeds_entry"));
    assert_eq!(begin(&planner, "files", &[]), (65, "invalid_grant".to_owned()));
    assert_eq!(refused(&rig, &["task", "complete", &"0".repeat(32)]), (65, "task_unknown".to_owned()));
    assert_eq!(refused(&rig, &["task", "watch", "x"]), (65, "task_unknown".to_owned()));
    assert_eq!(refused(&rig, &["token", "verify", "--audience", FILES, "x.y.z"]), no("task_token_invalid"));
}

#[test]
fn a_suspended_task_has_no_token_and_goes_on_with_it_when_it_is_resumed() {
    let rig = rig(&[]);
    let root = begun(&rig, &[]);
    let (task, token) = (root["task"]["id"].as_str().unwrap(), root["token"].as_str().unwrap());
    let mut watching = Daemon::start(workload(&rig, &["task", "watch", task]), rig.dir().join("watch.log"));
    let stands = |state: &str| {
        eventually(state, 20, || last(&watching).filter(|now| now["task"]["state"] == state))["token"].clone()
    };
    assert_eq!(stands("open"), token);
    let verify = ["token", "verify", "--audience", FILES, token];
    let suspended = rig.run(&["task", "suspend", task]);
    assert!(suspended.status.success(), "{}", text(&suspended.stderr));
    assert_eq!(stands("suspended"), Value::Null);
    assert_eq!(refused(&rig, &verify), (77, "task_suspended".to_owned()));
    let resumed = rig.run(&["task", "resume", task]);
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    assert_eq!(stands("open"), token);
    assert!(run(&rig, &verify).status.success());
    let revoked = rig.run(&["task", "revoke", task]);
    assert!(revoked.status.success(), "{}", text(&revoked.stderr));
    assert_eq!(stands("revoked"), Value::Null);
    eventually("the watcher ends with it", 20, || (!watching.is_running()).then_some(()));
    assert_eq!(refused(&rig, &verify), (77, "task_ended".to_owned()));
}

#[test]
fn what_was_suspended_by_itself_under_a_suspended_task_stays_so_when_that_one_is_resumed() {
    let rig = rig(&[]);
    let root = begun(&rig, &[]);
    let parent = file(&rig, "parent", root["token"].as_str().unwrap());
    let writer = id(&rig, "writer");
    let wish = ["--purpose", "a part", "--audience", FILES, "--scope", "read"];
    let whose = ["--spiffe-id", &writer, "--parent-token-file", shown(&parent)];
    let part = json(&rig, &[&["task", "delegate"], &wish[..], &whose].concat());
    let (root, part) = (root["task"]["id"].as_str().unwrap(), part["task"]["id"].as_str().unwrap());
    let state = |task: &str| rig.json(&["task", "show", task])["state"].as_str().unwrap().to_owned();
    for (verb, task, stands) in [
        ("suspend", root, ["suspended", "suspended"]),
        ("suspend", part, ["suspended", "suspended"]),
        ("resume", root, ["open", "suspended"]),
        ("suspend", root, ["suspended", "suspended"]),
        ("resume", root, ["open", "suspended"]),
        ("resume", part, ["open", "open"]),
    ] {
        let output = rig.run(&["task", verb, task]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!([state(root), state(part)], stands, "after {verb}");
    }
}

#[test]
fn a_task_whose_files_cannot_be_written_is_taken_back() {
    let rig = rig(&[]);
    begun(&rig, &[]);
    let occupied = rig.dir().join("occupied");
    std::fs::write(&occupied, "").unwrap();
    let before = run(&rig, &["task", "list"]).stdout;
    let planner = id(&rig, "planner");
    let args = ["task", "begin", "--purpose", "a report", "--audience", FILES, "--spiffe-id", &planner];
    let write = ["--write", occupied.to_str().unwrap()];
    let output = run(&rig, &[&args[..], &write[..]].concat());
    assert!(!output.status.success() && text(&output.stderr).contains("occupied"), "{}", text(&output.stderr));
    assert_eq!(text(&run(&rig, &["task", "list"]).stdout), text(&before));
}
