//! P7: how long a workload waits for a task's first token, and how many tasks one issuer begins.

use std::time::Instant;

use mayfly_proto::node::{
    BeginTaskRequest, EndTaskRequest, MintX509Item, MintX509Request, Subject, TaskOutcome, minted_x509,
};
use mayfly_proto::task::{BeginRequest, CompleteRequest, task_service_client::TaskServiceClient};
use mayfly_rig::Rig;
use tokio::task::JoinSet;
use tonic::{Request, transport::Endpoint};

use crate::{
    admin::Admin,
    agent::{Agent, fleet, fresh_keys},
    figures::SETTINGS,
    machine::{cpu_us, percentile, signature_us},
    report::Figure,
};

const GRANT: &str = r#"{"audience": "https://files.example.org/mcp", "scope": ["read"]}"#;
/// Simulated nodes that begin tasks at a time, and how many calls each has under way.
const NODES: usize = 4;
const AT_A_TIME: usize = 16;

fn entry(rig: &Rig, name: &str) -> String {
    rig.entry(name, "") + "    task: {audiences: [\"*\"], scopes: [\"*\"]}\n"
}

/// Through the agent's socket, one after the other, each completed before the next.
pub(crate) async fn p7(times: usize, sync_ms: f64) -> Vec<Figure> {
    let rig = Rig::started(&SETTINGS);
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
    let more = format!("raw p50 {p50:.2}, p99 {p99:.2} ms over {times}; an empty call {empty_ms:.2} ms");
    let beyond = empty_ms + sync_ms;
    vec![
        Figure::at_most(1.0, "ms", p50 - beyond, ("P7", "task begun through the agent, p50".to_owned()), more.clone()),
        Figure::at_most(5.0, "ms", p99 - beyond, ("P7", "task begun through the agent, p99".to_owned()), more),
        rate(times).await,
    ]
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
