//! Tasks that a process begins over OAuth, past its node agent.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mayfly_rig::{Daemon, Rig, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{FILES, id, shown, workload};
use crate::attacks::text;
use crate::silence::state;

const HOST: &str = "issuer.example.org";

/// An issuer with OAuth endpoints, and its trust anchors in a file.
fn rig(settings: &[(&str, &str)]) -> Rig {
    let url = format!("\"https://{HOST}\"");
    let rig = super::rig(&[&[("web.public_url", &*url)], settings].concat());
    let anchors = rig.run(&["bundle", "show", "--form", "pem"]);
    std::fs::write(rig.dir().join("anchors"), anchors.stdout).unwrap();
    rig
}

/// A call with the certificate in this directory.
fn call(rig: &Rig, files: &Path, path: &str, args: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--resolve", &format!("{HOST}:8445:{}", rig.ip())]);
    command.arg("--cert").arg(files.join("svid.pem")).arg("--key").arg(files.join("key.pem"));
    command.arg("--cacert").arg(rig.dir().join("anchors")).args(args);
    command.arg(format!("https://{HOST}:8445{path}")).stdin(Stdio::null());
    command
}

/// What the token endpoint answers.
fn token(rig: &Rig, files: &Path, parameters: &[&str]) -> Value {
    let args: Vec<_> = parameters.iter().flat_map(|parameter| ["--data-urlencode", *parameter]).collect();
    let output = call(rig, files, "/task/token", &args).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
}

/// Begins a task.
fn begun(rig: &Rig, files: &Path, further: &[&str]) -> String {
    let resource = format!("resource={FILES}");
    let wish = ["grant_type=client_credentials", &resource, "scope=read", "task_purpose=to read"];
    let answer = token(rig, files, &[&wish, further].concat());
    answer["task"]["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// A process whose SVID is in a directory.
fn holder(rig: &Rig, files: &Path) -> Daemon {
    holder_of(rig, "planner", files)
}

fn holder_of(rig: &Rig, name: &str, files: &Path) -> Daemon {
    let id = id(rig, name);
    let args = ["svid", "x509", "watch", "--spiffe-id", &id, "--write", shown(files)];
    let holder = Daemon::start(workload(rig, &args), files.with_extension("log"));
    eventually("the files are there", 20, || files.join("svid.pem").exists().then_some(()));
    holder
}

fn becomes(rig: &Rig, task: &str, wanted: &str) {
    eventually(&format!("{task} is {wanted}"), 20, || (state(rig, task) == wanted).then_some(()));
}

#[test]
fn a_task_that_was_begun_over_oauth_ends_with_the_process_of_its_certificate() {
    let mut rig = rig(&[]);
    let files = ["first", "second", "third"].map(|name| rig.dir().join(name));
    let [first, second, third] = files.each_ref().map(|files| holder(&rig, files));
    let [one, two, three] = files.each_ref().map(|files| begun(&rig, files, &[]));
    let detached = begun(&rig, &files[0], &["task_detached=true"]);

    first.signal(Signal::SIGKILL);
    becomes(&rig, &one, "abandoned");
    assert_eq!([&two, &three, &detached].map(|task| state(&rig, task)), ["open", "open", "open"]);
    // A certificate that outlives its process begins nothing that does.
    let late = begun(&rig, &files[0], &[]);
    becomes(&rig, &late, "abandoned");

    // Over a restart of the agent too: of a process that has died meanwhile, and of one that dies later.
    rig.kill_agent("a");
    second.signal(Signal::SIGKILL);
    rig.start_agent("a");
    becomes(&rig, &two, "abandoned");
    assert_eq!(state(&rig, &three), "open");
    third.signal(Signal::SIGKILL);
    becomes(&rig, &three, "abandoned");
    assert_eq!(state(&rig, &detached), "open");
}

/// Begins of two a second, and ten at once; tokens of a task that is open no faster than that.
#[test]
fn an_instance_gets_no_more_tokens_of_open_tasks_than_its_node_may_begin() {
    let rig = rig(&[("tasks.begins_per_instance", "2"), ("tasks.begins_per_node", "2")]);
    let files = rig.dir().join("planner");
    let _holder = holder(&rig, &files);
    let task = begun(&rig, &files, &[]);
    let renewal = ["grant_type=client_credentials", &format!("task_id={task}")];
    let refused = (0..60).map(|_| token(&rig, &files, &renewal)).find(|answer| answer["error"].is_string());
    let refused = refused.expect("there is an end to it");
    assert_eq!((&refused["error"], &refused["reason"]), (&"temporarily_unavailable".into(), &"task_rate".into()));
    assert_eq!(state(&rig, &task), "open");
}

#[test]
fn a_body_that_never_ends_is_not_waited_for() {
    let rig = rig(&[]);
    let files = rig.dir().join("planner");
    let _holder = holder(&rig, &files);
    let args = ["--request", "POST", "--upload-file", ".", "--header", "Expect:", "--write-out", "%{http_code}"];
    for path in ["/task/token", "/task/introspect", "/task/revoke"] {
        // What is sent to it ends with this process.
        let mut stuck = call(&rig, &files, path, &args);
        let mut stuck = stuck.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let body = stuck.stdin.take();
        let mut said = String::new();
        stuck.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        drop(body);
        stuck.wait().unwrap();
        assert!(said.ends_with("408"), "{path}: {said}");
    }
}

/// The first event of a feed: its kind and id, and how long it was waited for.
fn first_event(rig: &Rig, files: &Path, last: Option<&str>) -> (String, String, Duration) {
    let header = last.map(|last| format!("Last-Event-ID: {last}"));
    let mut args = vec!["--no-buffer"];
    args.extend(header.iter().flat_map(|header| ["--header", header.as_str()]));
    let begun = Instant::now();
    let mut feed =
        call(rig, files, &format!("/task/events?audience={FILES}"), &args).stdout(Stdio::piped()).spawn().unwrap();
    let mut fields = BTreeMap::new();
    for line in BufReader::new(feed.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some((name, value)) = line.split_once(": ") else { break };
        fields.insert(name.to_owned(), value.to_owned());
    }
    let waited = begun.elapsed();
    feed.kill().unwrap();
    feed.wait().unwrap();
    (fields["event"].clone(), fields["id"].clone(), waited)
}

#[test]
fn whoever_was_cut_off_from_the_feed_is_told_everything_again_and_at_once() {
    let rig = rig(&[]);
    let [planner, files] = ["planner", "files"].map(|name| rig.dir().join(name));
    let _holders = [holder(&rig, &planner), holder_of(&rig, "files", &files)];
    let [first, second] = [(); 2].map(|()| begun(&rig, &planner, &[]));
    let (kind, nothing, _) = first_event(&rig, &files, None);
    assert_eq!(kind, "whole");
    assert!(rig.run(&["task", "suspend", &first]).status.success());

    // Of what was said as a whole, the first part alone reaches no place.
    let (kind, place, _) = first_event(&rig, &files, None);
    assert_eq!((kind.as_str(), place.as_str()), ("whole", "0.0"));
    assert_eq!(first_event(&rig, &files, Some(&place)).0, "whole");

    // What changed while nobody listened does not wait for the next sign of life (5 s): in one of three tries on a busy machine.
    assert!(rig.run(&["task", "suspend", &second]).status.success());
    let resumed: Vec<_> = (0..3).map(|_| first_event(&rig, &files, Some(&nothing))).collect();
    assert!(resumed.iter().all(|(kind, ..)| kind == "task"), "{resumed:?}");
    assert!(resumed.iter().any(|(.., waited)| *waited < Duration::from_secs(4)), "{resumed:?}");
}
