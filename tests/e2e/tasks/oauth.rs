//! Tasks that a process begins over OAuth, past its node agent.

use std::path::Path;
use std::process::{Command, Stdio};

use mayfly_rig::{Daemon, Rig, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{FILES, id, shown, workload};
use crate::attacks::text;
use crate::silence::state;

const HOST: &str = "issuer.example.org";

/// Begins a task with the certificate in this directory.
fn begun(rig: &Rig, files: &Path, further: &[&str]) -> String {
    let file = |name: &str| files.join(name).to_str().unwrap().to_owned();
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--resolve", &format!("{HOST}:8445:{}", rig.ip())]);
    command.args([
        "--cert",
        &file("svid.pem"),
        "--key",
        &file("key.pem"),
        "--cacert",
        shown(&rig.dir().join("anchors")),
    ]);
    let resource = format!("resource={FILES}");
    let wish = ["grant_type=client_credentials", &resource, "scope=read", "task_purpose=to read"];
    for parameter in wish.iter().chain(further) {
        command.args(["--data-urlencode", parameter]);
    }
    let output = command.arg(format!("https://{HOST}:8445/task/token")).stdin(Stdio::null()).output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    answer["task"]["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// A process whose SVID is in a directory.
fn holder(rig: &Rig, files: &Path) -> Daemon {
    let planner = id(rig, "planner");
    let args = ["svid", "x509", "watch", "--spiffe-id", &planner, "--write", shown(files)];
    let holder = Daemon::start(workload(rig, &args), files.with_extension("log"));
    eventually("the files are there", 20, || files.join("svid.pem").exists().then_some(()));
    holder
}

fn becomes(rig: &Rig, task: &str, wanted: &str) {
    eventually(&format!("{task} is {wanted}"), 20, || (state(rig, task) == wanted).then_some(()));
}

#[test]
fn a_task_that_was_begun_over_oauth_ends_with_the_process_of_its_certificate() {
    let mut rig = super::rig(&[("web.public_url", &format!("\"https://{HOST}\""))]);
    let anchors = rig.run(&["bundle", "show", "--form", "pem"]);
    std::fs::write(rig.dir().join("anchors"), anchors.stdout).unwrap();
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
