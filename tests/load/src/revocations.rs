//! P8: from the completion of a task to the decision of services that refuses its token.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{SystemTime, UNIX_EPOCH},
};

use mayfly_proto::task::{
    BeginRequest, CompleteRequest, WatchRevocationsRequest, task_service_client::TaskServiceClient,
};
use mayfly_rig::Rig;
use mayfly_sdk::{
    Clock, Serial,
    task::{Standing, Standings, UpdateParts},
};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use crate::{
    admin::Admin,
    figures::SETTINGS,
    machine::{cpu_us, percentile},
    report::Figure,
    tasks::with_header,
};

const AUDIENCE: &str = "https://files.example.org/mcp";
const GRANT: &str = r#"{"audience": "https://files.example.org/mcp", "scope": ["read"]}"#;
/// Processes in which the validators are.
const PROCESSES: usize = 4;

fn now_us() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()
}

async fn connect(socket: &Path) -> TaskServiceClient<Channel> {
    let channel = Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap().connect().await;
    TaskServiceClient::new(channel.unwrap())
}

/// One of the processes: validators with a connection each. Says `ready`, then of each task the moment at which each of them refuses it.
pub(crate) async fn listen(socket: &Path, validators: usize) {
    let (said, refusals) = mpsc::channel::<String>();
    let mut all = JoinSet::new();
    for _ in 0..validators {
        let request = with_header(WatchRevocationsRequest { audience: AUDIENCE.to_owned() });
        let mut stream = connect(socket).await.watch_revocations(request).await.unwrap().into_inner();
        let said = said.clone();
        let (mut standings, mut parts) = (Standings::default(), UpdateParts::default());
        let clock = Clock::system();
        let first = stream.message().await.unwrap().unwrap();
        standings.take(&parts.take(&first).unwrap().unwrap(), first.said_at, &clock).unwrap();
        all.spawn(async move {
            while let Ok(Some(message)) = stream.message().await {
                let named: Vec<Serial> = message.events.iter().map(|event| event.task.parse().unwrap()).collect();
                let update = parts.take(&message).unwrap().unwrap();
                standings.take(&update, message.said_at, &clock).unwrap();
                for task in named {
                    assert_eq!(standings.of(task), Standing::Ended);
                    said.send(format!("{task} {}", now_us())).unwrap();
                }
            }
        });
    }
    println!("ready");
    let print = tokio::task::spawn_blocking(move || {
        for line in refusals {
            println!("{line}");
        }
    });
    drop(said);
    while all.join_next().await.is_some() {}
    print.await.unwrap();
}

fn listeners(rig: &Rig, validators: usize) -> Vec<(Child, BufReader<std::process::ChildStdout>)> {
    let mut all = Vec::new();
    for _ in 0..PROCESSES {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--listen", rig.socket("a").to_str().unwrap()])
            .args(["--validators", &(validators / PROCESSES).to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        all.push((child, out));
    }
    for (_, out) in &mut all {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
    }
    all
}

/// Tasks completed one after the other, each heard of by every validator before the next.
pub(crate) async fn p8(validators: usize, times: usize, sync_ms: f64) -> Figure {
    let mut rig = Rig::new(&SETTINGS);
    rig.start_issuer();
    rig.set_agent("a", "limits.connections_per_uid", "4096");
    rig.start_agent("a");
    let mut admin = Admin::connect(&rig).await;
    let empty_ms = admin.empty_call_ms().await;
    let entry = rig.entry("p8", "")
        + &format!("    task: {{audiences: [\"*\"], scopes: [\"*\"]}}\n    serves: [\"{AUDIENCE}\"]\n");
    admin.apply(&entry).await;
    let mut all = listeners(&rig, validators);
    let mut client = connect(&rig.socket("a")).await;
    let (mut ms, issuer) = (Vec::new(), cpu_us(rig.issuer_id()));
    for _ in 0..times {
        let wanted = BeginRequest { purpose: "P8".to_owned(), grant: GRANT.to_owned(), ..BeginRequest::default() };
        let id = client.begin(with_header(wanted)).await.unwrap().into_inner().task.unwrap().id;
        let completed = now_us();
        client.complete(with_header(CompleteRequest { id: id.clone(), failed: false })).await.unwrap();
        for (_, out) in &mut all {
            for _ in 0..validators / PROCESSES {
                let mut line = String::new();
                out.read_line(&mut line).unwrap();
                let (task, at) = line.trim().split_once(' ').unwrap();
                assert_eq!(task, id);
                ms.push(at.parse::<u128>().unwrap().saturating_sub(completed) as f64 / 1e3);
            }
        }
    }
    let issuer_us = (cpu_us(rig.issuer_id()) - issuer) / times as f64;
    for (mut child, _) in all {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (p50, p99) = (percentile(&mut ms, 0.5), percentile(&mut ms, 0.99));
    let name = format!("task completed to the last of {validators} validators refusing it, p99");
    let more = format!(
        "raw p50 {p50:.1}, p99 {p99:.1} ms over {times} tasks, {PROCESSES} processes; issuer {issuer_us:.0} us CPU a task; an empty call {empty_ms:.2} ms"
    );
    Figure::at_most(200.0, "ms", p99 - empty_ms - sync_ms, ("P8", name), more)
}
