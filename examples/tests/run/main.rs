//! The examples, run as they are: each a process with an identity of its own, against a real issuer and a real node agent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test root"
)]

/// Clocks that differ.
mod clocks;
/// Many agents, one piece of work.
mod tree;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use mayfly_examples::ReadRequest;
use mayfly_examples::reports_client::ReportsClient;
use mayfly_rig::{Daemon, Rig, eventually, repository};
use mayfly_sdk::client::{Endpoint, Task, TaskChannel, TaskRequest};
use mayfly_sdk::tls::Authorizer;
use tonic::{Code, Request};

const FILES: &str = "https://files.example.org/";
const REPORTS: &str = "https://reports.example.org/";

const AXUM: &str = env!("CARGO_BIN_EXE_axum_service");
const TONIC: &str = env!("CARGO_BIN_EXE_tonic_service");
const CLIENT: &str = env!("CARGO_BIN_EXE_reqwest_client");
const AGENT: &str = env!("CARGO_BIN_EXE_agent_loop");

/// Every example has an entry of its own, by the path of its program; so has this test.
fn rig() -> Rig {
    let rig = Rig::started(&[("ttl.allow_short_ttl", "true"), ("ttl.task", "\"10s\"")]);
    let entry = |name: &str, program: &str, more: &str| {
        rig.entry(name, &format!(", \"unix:path:{program}\"")) + &format!("    {more}\n")
    };
    let may = |audience: &str| {
        format!(
            "task: {{audiences: [\"{audience}\"], scopes: [read, write], delegable: [\"{audience}\"], deadline: 10m}}"
        )
    };
    let test = std::env::current_exe().unwrap();
    rig.apply(
        &(entry("files", AXUM, &format!("serves: [\"{FILES}\"]"))
            + &entry("reports", TONIC, &format!("serves: [\"{REPORTS}\"]"))
            + &entry("client", CLIENT, &may(FILES))
            + &entry("agent", AGENT, &may(FILES))
            + &entry("test", test.to_str().unwrap(), &may(REPORTS))),
    );
    rig
}

fn program(rig: &Rig, path: &str, args: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.args(args).env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a")).stdin(Stdio::null());
    command
}

/// A service, and where it listens.
fn service(rig: &Rig, path: &str) -> (Daemon, String) {
    let log = rig.dir().join(format!("{}.log", Path::new(path).file_name().unwrap().display()));
    let mut daemon = Daemon::start(program(rig, path, &[&format!("{}:0", rig.ip())]), log);
    let address = eventually("the service listens", 40, || {
        assert!(daemon.is_running(), "{}", daemon.log());
        daemon.log().lines().next().map(str::to_owned)
    });
    (daemon, address)
}

fn id(rig: &Rig, name: &str) -> String {
    format!("spiffe://{}/{name}", rig.trust_domain)
}

fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn a_client_reads_over_http_is_refused_what_it_may_not_and_everything_after_its_task() {
    let rig = rig();
    let (_service, address) = service(&rig, AXUM);
    let url = format!("https://{address}");
    let output = program(&rig, CLIENT, &[&url, &id(&rig, "files")]).output().unwrap();
    let lines = lines(&output);
    assert!(lines[0].starts_with(&format!("200 OK page 1 for {}, task ", id(&rig, "client"))), "{lines:?}");
    assert!(lines[1].starts_with("403 Forbidden") && lines[1].contains("insufficient_scope"), "{lines:?}");
    assert!(lines[1].contains("scope=\\\"write\\\""), "{lines:?}");
    assert_eq!(lines[2], "after the task: the task has ended");
    // A client that expects another service does not even send its token.
    let wrong = program(&rig, CLIENT, &[&url, &id(&rig, "reports")]).output().unwrap();
    assert!(!wrong.status.success());
}

#[test]
fn an_agent_has_two_sub_agents_work_for_it_each_under_a_task_of_its_own() {
    let rig = rig();
    let (_service, address) = service(&rig, AXUM);
    let output = program(&rig, AGENT, &[&format!("https://{address}"), &id(&rig, "files")]).output().unwrap();
    let lines = lines(&output);
    let agent = id(&rig, "agent");
    for page in [1, 2] {
        let begins = format!("page {page} for {agent}, task ");
        assert!(lines.iter().any(|line| line.starts_with(&begins) && line.ends_with(", hop 1")), "{lines:?}");
    }
    assert_eq!(lines.last().unwrap(), "ended 1");
    let root = lines.iter().find_map(|line| line.strip_prefix("task ")).unwrap();
    let shown = rig.json(&["task", "show", root]);
    assert_eq!(shown["task"]["state"].as_str().or_else(|| shown["state"].as_str()), Some("completed"), "{shown}");
}

#[test]
fn a_grpc_client_calls_with_the_tokens_of_a_task_across_renewals_until_it_completes() {
    let rig = rig();
    let (_service, address) = service(&rig, TONIC);
    let endpoint: Endpoint = rig.endpoint("a").parse().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let request = TaskRequest::new("read the report", REPORTS).scope(["read"]);
        let task = Task::begin(&endpoint, request).await.unwrap();
        let (id, first) = (task.id().to_owned(), task.current().unwrap());
        let server = Authorizer::exact(id_of_reports(&rig));
        let channel = TaskChannel::new(task.passes(), server, &format!("http://{address}")).unwrap();
        let mut client = ReportsClient::new(channel);
        let read = async |client: &mut ReportsClient<_>, page| client.read(Request::new(ReadRequest { page })).await;
        // Until the token has been renewed at least once: no call fails.
        let mut calls = 0;
        while calls < 20 || task.current().unwrap().expose_token() == first.expose_token() {
            let report = read(&mut client, 7).await.unwrap().into_inner();
            assert!(report.text.starts_with("page 7 for ") && report.text.ends_with(&id), "{}", report.text);
            calls += 1;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let denied = read(&mut client, 0).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied, "{denied}");
        // Ended from outside: the service knows it at once. The client may hear it before the service does.
        assert!(rig.run(&["task", "revoke", &id]).status.success());
        let ended = loop {
            match read(&mut client, 7).await {
                Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
                Err(status) => break status,
            }
        };
        assert_eq!(ended.metadata().get("mayfly-reason").unwrap(), "task_ended", "{ended}");
    });
}

fn id_of_reports(rig: &Rig) -> mayfly_sdk::SpiffeId {
    id(rig, "reports").parse().unwrap()
}

#[test]
fn every_example_stays_under_sixty_lines() {
    let examples = std::fs::read_dir(repository().join("examples/src/bin")).unwrap();
    let long: Vec<_> = examples
        .map(|entry| entry.unwrap().path())
        .map(|path| (std::fs::read_to_string(&path).unwrap().lines().count(), path))
        .filter(|(lines, _)| *lines >= 60)
        .collect();
    assert!(long.is_empty(), "{long:?}");
}
