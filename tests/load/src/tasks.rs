//! P7: how long a workload waits for a task's first token, and how many tasks one issuer begins.

use std::time::Instant;

use mayfly_proto::node::{
    BeginTaskRequest, EndTaskRequest, MintX509Item, MintX509Request, Subject, TaskOutcome, minted_x509,
};
use mayfly_proto::task::{BeginRequest, CompleteRequest, task_service_client::TaskServiceClient};
use mayfly_rig::Rig;
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use tokio::task::JoinSet;
use tonic::{Request, transport::Endpoint};

use crate::{
    admin::Admin,
    agent::{Agent, fleet, fresh_keys},
    figures::SETTINGS,
    machine::{anonymous_kib, cpu_us, percentile, signature_us},
    report::Figure,
};

const GRANT: &str = r#"{"audience": "https://files.example.org/mcp", "scope": ["read"]}"#;
/// Simulated nodes that begin tasks at a time, and how many calls each has under way.
const NODES: usize = 4;
const AT_A_TIME: usize = 16;

fn entry(rig: &Rig, name: &str) -> String {
    rig.entry(name, "") + "    task: {audiences: [\"*\"], scopes: [\"*\"]}\n"
}

/// Through the agent's socket, one after the other, each completed before the next; while `open` others are open.
pub(crate) async fn p7(times: usize, open: u32, sync_ms: f64) -> Vec<Figure> {
    let mut rig = Rig::new(&SETTINGS);
    // Tasks of a node that is not there are not what this is about.
    rig.set("tasks.silent_after", "\"24h\"");
    rig.start_issuer();
    let started = if open == 0 { String::new() } else { crowd(&mut rig, open).await };
    rig.start_agent("a");
    let mut admin = Admin::connect(&rig).await;
    let empty_ms = admin.empty_call_ms().await;
    admin.apply(&entry(&rig, "p7")).await;
    let socket = rig.socket("a");
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connect).await.unwrap();
    let mut client = TaskServiceClient::new(channel);
    let mut ms = Vec::new();
    for n in 0..times + 5 {
        let wanted = BeginRequest { purpose: "P7".to_owned(), grant: GRANT.to_owned(), ..BeginRequest::default() };
        let begun = Instant::now();
        let answer = client.begin(with_header(wanted)).await.unwrap().into_inner();
        // The first ones wait for the SVID of the process, which is P4.
        if n >= 5 {
            ms.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        let id = answer.task.unwrap().id;
        client.complete(with_header(CompleteRequest { id, failed: false })).await.unwrap();
    }
    let (p50, p99) = (percentile(&mut ms, 0.5), percentile(&mut ms, 0.99));
    let more =
        format!("raw p50 {p50:.2}, p99 {p99:.2} ms over {times}; an empty call {empty_ms:.2} ms; {open} open{started}");
    let beyond = empty_ms + sync_ms;
    vec![
        Figure::at_most(1.0, "ms", p50 - beyond, ("P7", "task begun through the agent, p50".to_owned()), more.clone()),
        Figure::at_most(5.0, "ms", p99 - beyond, ("P7", "task begun through the agent, p99".to_owned()), more),
        rate(times).await,
    ]
}

/// Fills the store with tasks of a node that has gone. How long the issuer takes to start then, and what it needs.
async fn crowd(rig: &mut Rig, open: u32) -> String {
    let (agent, stream) = fleet(rig, 1).await.remove(0);
    rig.apply(&entry(rig, "crowd"));
    let (entry_uid, issuance) = stream.lock().await.next_entry().await;
    let holder = Subject { entry_uid, issuance, instance: vec![7; 16].into(), ..Subject::default() };
    let svid = svid(&agent, &holder).await;
    let (purpose, grant) = ("a crowd".to_owned(), GRANT.to_owned());
    let request_id = vec![1; 16].into();
    let holder = Some(holder);
    let one = BeginTaskRequest { request_id, holder, svid, purpose, grant, ..BeginTaskRequest::default() };
    agent.client.clone().begin_task(one).await.unwrap();
    drop((agent, stream));
    rig.stop_issuer();
    let options = SqliteConnectOptions::new().filename(rig.issuer_state().join("store.db"));
    let mut store = options.connect().await.unwrap();
    let copies = "CREATE TEMP TABLE fresh AS
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3 * $1) SELECT randomblob(16) AS id FROM n";
    sqlx::query(copies).bind(open).execute(&mut store).await.unwrap();
    // Half of all ids are none.
    let inserted = sqlx::query(
        "INSERT INTO tasks (trust_domain, id, root, parent, node, state, suspended_by, deadline, document, decision)
         SELECT trust_domain, fresh.id, fresh.id, parent, node, state, suspended_by, deadline, document, decision
         FROM tasks, fresh WHERE hex(fresh.id) < '80' LIMIT $1",
    );
    assert_eq!(inserted.bind(open).execute(&mut store).await.unwrap().rows_affected(), u64::from(open));
    store.close().await.unwrap();
    let begun = Instant::now();
    rig.start_issuer();
    let (started_s, mib) = (begun.elapsed().as_secs_f64(), anonymous_kib(rig.issuer_id()) / 1024);
    format!("; the issuer starts in {started_s:.1} s and has {mib} MiB")
}

pub(crate) fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

/// Many at a time, asked by simulated nodes; each is ended again. The issuer's CPU is that of begin and end together.
async fn rate(times: usize) -> Figure {
    let mut rig = Rig::new(&SETTINGS);
    rig.start_issuer();
    let fleet = fleet(&rig, NODES).await;
    rig.apply(&entry(&rig, "p7"));
    let mut holders = Vec::new();
    for (agent, stream) in fleet {
        let (entry_uid, issuance) = stream.lock().await.next_entry().await;
        for n in 0..AT_A_TIME {
            let instance = vec![u8::try_from(n).unwrap() + 1; 16].into();
            let subject = Subject { entry_uid: entry_uid.clone(), issuance, instance, ..Subject::default() };
            let svid = svid(&agent, &subject).await;
            holders.push((agent.clone(), subject, svid, stream.clone()));
        }
    }
    let each = times.div_ceil(4).max(10);
    let before_us = signature_us();
    let (cpu, begun) = (cpu_us(rig.issuer_id()), Instant::now());
    let count = holders.len() * each;
    let mut work = JoinSet::new();
    for (agent, subject, svid, stream) in holders {
        work.spawn(async move {
            let _in_sync = stream;
            let mut client = agent.client;
            for _ in 0..each {
                let request = BeginTaskRequest {
                    request_id: vec![1; 16].into(),
                    holder: Some(subject.clone()),
                    svid: svid.clone(),
                    purpose: "P7".to_owned(),
                    grant: GRANT.to_owned(),
                    ..BeginTaskRequest::default()
                };
                let id = client.begin_task(request).await.unwrap().into_inner().task.unwrap().id;
                let outcome = TaskOutcome::Completed.into();
                let end = EndTaskRequest { request_id: vec![2; 16].into(), id, outcome };
                client.end_task(end).await.unwrap();
            }
        });
    }
    work.join_all().await;
    let wall = begun.elapsed().as_secs_f64();
    let each_us = (cpu_us(rig.issuer_id()) - cpu) / count as f64;
    let signature = f64::midpoint(before_us, signature_us());
    // No goal is set.
    Figure::at_least(
        0.0,
        "/s",
        count as f64 / wall,
        ("P7", format!("tasks begun and ended, {NODES} nodes, {} at a time", NODES * AT_A_TIME)),
        format!("issuer {each_us:.0} us of CPU for both, {:.1} signatures", each_us / signature),
    )
}

async fn svid(agent: &Agent, subject: &Subject) -> Vec<bytes::Bytes> {
    let item = MintX509Item {
        request_id: vec![9; 16].into(),
        subject: Some(subject.clone()),
        public_key: fresh_keys(1).remove(0).into(),
        remaining_s: 0,
    };
    let answer = agent.client.clone().mint_x509(MintX509Request { items: vec![item] }).await.unwrap().into_inner();
    match answer.items.into_iter().next().unwrap().outcome.unwrap() {
        minted_x509::Outcome::Svid(svid) => std::iter::once(svid.leaf).chain(svid.intermediates).collect(),
        minted_x509::Outcome::Refused(refused) => panic!("{refused:?}"),
    }
}
