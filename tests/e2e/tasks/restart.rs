//! A node agent that is restarted takes the tasks of its workloads up again, and ends those of workloads that are no more.

use std::fs;
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mayfly_proto::task::{CompleteRequest, task_service_client::TaskServiceClient};
use mayfly_rig::{Rig, eventually};
use mayfly_sdk::Refusal;
use mayfly_sdk::client::{Endpoint, Task, TaskRequest};
use serde_json::{Value, json};
use tonic::Request;

use super::{FILES, begun, id, refused, rig, run};
use crate::attacks::processes::process_with_id;
use crate::attacks::{not_run, text};
use crate::silence::state;

/// Tokens of 20 s are renewed every 10 s.
const SHORT: [(&str, &str); 3] = [("ttl.allow_short_ttl", "true"), ("ttl.task", "\"20s\""), ("ttl.x509", "\"30s\"")];

const TELLS: &str = "MAYFLY_TEST_WORKER_TELLS";
const WHO: &str = "MAYFLY_TEST_WORKER_IS";

/// A process with a task of the SDK, which tells each change of what it holds.
struct Worker {
    process: Child,
    tells: PathBuf,
}

impl Worker {
    fn start(rig: &Rig, name: &str) -> Self {
        let tells = rig.dir().join(name);
        let mut command = this_program("works");
        command.env(TELLS, &tells).env(WHO, id(rig, "planner")).env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a"));
        Self { process: command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap(), tells }
    }

    /// Everything that it has told.
    fn told(&self) -> Vec<Value> {
        let told = fs::read_to_string(&self.tells).unwrap_or_default();
        // The last line may be half written.
        told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for a token that was not told of at that time.
    fn next_token(&mut self, after: usize) -> Value {
        eventually("there is a fresh token", 60, || {
            assert!(self.process.try_wait().unwrap().is_none(), "the worker has ended");
            self.told().into_iter().skip(after).find(|now| now["token"].is_string())
        })
    }

    fn task(&self) -> String {
        self.told()[0]["task"].as_str().unwrap().to_owned()
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// This test program as a process that does one of the things below.
fn this_program(what: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("tasks::restart::{what}"), "--ignored", "--nocapture"]);
    command
}

#[test]
#[ignore = "a process that other tests start"]
fn works() {
    let mut tells = fs::File::create(std::env::var_os(TELLS).expect("only other tests start this")).unwrap();
    let who = std::env::var(WHO).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let endpoint = Endpoint::from_env().unwrap();
        let wish = || TaskRequest::new("to go on", FILES).scope(["read"]).identity(who.parse().unwrap());
        let task = loop {
            match Task::begin(&endpoint, wish()).await {
                Ok(task) => break task,
                Err(_not_yet) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        let mut before = Value::Null;
        loop {
            let status = task.status();
            let mut now = json!({"task": task.id(), "state": status.state.as_str(), "no_new_work": status.no_new_work});
            match task.current() {
                Ok(pass) => now["token"] = pass.expose_token().into(),
                Err(refusal) => now["reason"] = refusal.reason.code().into(),
            }
            if now != before {
                writeln!(tells, "{now}").unwrap();
                before = now;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

/// Ends a task of which it is told the id, as if it were its own, once it is asked to; says what became of it.
#[test]
#[ignore = "a process that other tests start"]
fn asks() {
    let tells = std::env::var_os(TELLS).expect("only other tests start this");
    let mut task = String::new();
    std::io::stdin().lock().read_line(&mut task).unwrap();
    let outcome = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let socket = std::env::var("SPIFFE_ENDPOINT_SOCKET").unwrap().replace("unix://", "unix:");
        let channel = tonic::transport::Endpoint::from_shared(socket).unwrap().connect().await.unwrap();
        let mut request = Request::new(CompleteRequest { id: task.trim().to_owned(), failed: false });
        request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
        TaskServiceClient::new(channel).complete(request).await
    });
    let outcome = match outcome {
        Ok(_) => "completed",
        Err(status) => Refusal::from_status(&status).reason.code(),
    };
    fs::write(tells, outcome).unwrap();
}

fn becomes(rig: &Rig, task: &str, wanted: &str) {
    eventually(&format!("{task} is {wanted}"), 30, || (state(rig, task) == wanted).then_some(()));
}

/// Waits until what this agent holds now is written.
fn kept(rig: &Rig) {
    let file = rig.dir().join("run-a/agent/warm.sealed");
    let written = || fs::metadata(&file).and_then(|file| file.modified()).ok();
    let before = written();
    // A further task is a change; whatever was before it is written with it at the latest.
    let further = begun(rig, &[]);
    eventually("the warm state is written", 20, || (written() != before).then_some(()));
    assert!(run(rig, &["task", "complete", further["task"]["id"].as_str().unwrap()]).status.success());
}

fn restart_unnoticed(end: impl Fn(&mut Rig)) {
    let mut rig = rig(&SHORT);
    let mut worker = Worker::start(&rig, "told");
    worker.next_token(0);
    let task = worker.task();
    let detached = begun(&rig, &[]);
    kept(&rig);
    for _ in 0..2 {
        let before = worker.told().len();
        end(&mut rig);
        rig.start_agent("a");
        let token = worker.next_token(before)["token"].as_str().unwrap().to_owned();
        // The token is there before the agent is in sync, and the issuer judges it.
        eventually("the issuer says that the token is good", 20, || {
            run(&rig, &["token", "verify", "--audience", FILES, &token]).status.success().then_some(())
        });
    }
    // The same task all the time, and never without a token or a word about it.
    for now in worker.told() {
        assert_eq!((&now["task"], &now["state"]), (&task.as_str().into(), &"open".into()), "{now}");
        assert_eq!((now["token"].is_string(), &now["no_new_work"]), (true, &false.into()), "{now}");
    }
    assert!(rig.agent_log("a").contains("a task was taken up again"));
    // Whoever began it may end it, as before; and it is watched again: with the process goes the task.
    let detached = detached["task"]["id"].as_str().unwrap();
    assert!(run(&rig, &["task", "complete", detached]).status.success());
    worker.kill();
    becomes(&rig, &task, "abandoned");
}

#[test]
fn a_task_goes_on_unnoticed_while_its_agent_is_killed_and_comes_back() {
    restart_unnoticed(|rig| rig.kill_agent("a"));
}

#[test]
fn a_task_goes_on_unnoticed_while_its_agent_is_stopped_and_comes_back() {
    restart_unnoticed(|rig| rig.stop_agent("a"));
}

#[test]
fn tasks_of_a_workload_that_died_while_its_agent_was_down_are_abandoned_whoever_has_its_process_id_now() {
    let mut rig = rig(&[]);
    let mut worker = Worker::start(&rig, "told");
    worker.next_token(0);
    let (task, pid) = (worker.task(), worker.process.id());
    let detached = begun(&rig, &[]);
    kept(&rig);
    rig.kill_agent("a");
    worker.kill();
    // The same program of the same user, with the same identities, and with the process id.
    let answer = rig.dir().join("answer");
    let successor = process_with_id(pid, || {
        let mut command = this_program("asks");
        command.env(TELLS, &answer).env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a"));
        command
    });
    if successor.is_none() {
        not_run("no process could be given a process id that was used before");
    }
    rig.start_agent("a");
    becomes(&rig, &task, "abandoned");
    if let Some(mut successor) = successor {
        writeln!(successor.stdin.take().unwrap(), "{task}").unwrap();
        successor.wait().unwrap();
        assert_eq!(fs::read_to_string(&answer).unwrap(), "task_unknown", "another process's");
    }
    // What was begun to outlive its process has.
    let detached = detached["task"]["id"].as_str().unwrap();
    assert_eq!(state(&rig, detached), "open");
    assert!(run(&rig, &["task", "complete", detached]).status.success());
    becomes(&rig, detached, "completed");
}

#[test]
fn an_agent_that_has_kept_nothing_abandons_what_the_issuer_still_lists_of_its_node() {
    let mut rig = rig(&[]);
    rig.start_agent("b");
    let mut worker = Worker::start(&rig, "told");
    worker.next_token(0);
    let task = worker.task();
    let detached = begun(&rig, &[]);
    let detached = detached["task"]["id"].as_str().unwrap();
    rig.kill_agent("a");
    // What was kept is damaged: it says nothing, and nothing crashes.
    damage(&rig.dir().join("run-a/agent/warm.sealed"));
    rig.start_agent("a");
    becomes(&rig, &task, "abandoned");
    assert!(worker.process.try_wait().unwrap().is_none(), "the process lives; the agent does not know whose it was");
    assert_eq!(state(&rig, detached), "open");
    // Nobody here has its key any more.
    assert_eq!(refused(&rig, &["task", "complete", detached]).1, "task_unknown");
    // Another agent's restart says nothing about the tasks of this one.
    rig.kill_agent("b");
    rig.start_agent("b");
    assert_eq!(state(&rig, detached), "open");
}

#[test]
fn what_is_completed_while_the_issuer_is_away_is_completed_once_it_is_back_by_an_agent_that_was_restarted() {
    let mut rig = rig(&[]);
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(begun(&rig, &[])["task"]["id"].as_str().unwrap().to_owned());
    }
    kept(&rig);
    rig.kill_issuer();
    for id in &ids {
        // No success: what is below it lives until the issuer knows.
        assert_eq!(refused(&rig, &["task", "complete", id]).1, "unavailable");
    }
    let listed = run(&rig, &["task", "list"]);
    assert!(listed.status.success(), "{}", text(&listed.stderr));
    assert!(ids.iter().all(|id| !text(&listed.stdout).contains(id.as_str())), "they have ended here");
    rig.stop_agent("a");
    rig.launch_agent("a");
    rig.start_issuer();
    for id in &ids {
        becomes(&rig, id, "completed");
    }
}

fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}
