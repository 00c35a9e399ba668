//! P1, P3, P4 and P6.

use std::time::{Duration, Instant};

use mayfly_rig::Rig;
use mayfly_sdk::client::{Endpoint, WorkloadClient, X509Context};
use tokio::task::JoinSet;

use crate::{
    admin::Admin,
    agent::{Agent, fleet, fresh_keys},
    machine::{cpu_us, file_io, percentile, signature_us},
    report::Figure,
};

/// SVIDs of a fleet: 5 minutes.
pub(crate) const SETTINGS: [(&str, &str); 3] =
    [("ttl.x509", "\"5m\""), ("tasks.begins_per_instance", "1000000"), ("tasks.begins_per_node", "1000000")];
/// How long P6 watches: several keepalives of each agent.
const IDLE: Duration = Duration::from_mins(2);
/// After this long a change has reached the one agent of P4.
const SETTLED: Duration = Duration::from_millis(50);

/// P1: issuer CPU for each X.509-SVID, its record durable, in signatures; in batches of 100 and one by one.
pub(crate) async fn p1(svids: usize) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut rig = Rig::new(&SETTINGS);
    rig.start_issuer();
    for batch in [100, 1] {
        let count = if batch == 1 { svids / 10 } else { svids };
        let agents = fleet(&rig, 4).await;
        let name = format!("p1-{batch}");
        rig.apply(&rig.entry(&name, ""));
        let mut work = JoinSet::new();
        for (agent, stream) in agents {
            let entry = stream.lock().await.next_entry().await;
            let keys: Vec<_> = (0..count / 4 / batch).map(|_| fresh_keys(batch)).collect();
            work.spawn(async move {
                let _in_sync = stream;
                (agent, entry, keys)
            });
        }
        let ready = work.join_all().await;
        let signature_before = signature_us();
        let (process, begun, wall) = (rig.issuer_id(), cpu_us(rig.issuer_id()), Instant::now());
        let mut minting = JoinSet::new();
        let mut minted = 0;
        for (agent, (uid, issuance), keys) in ready {
            minted += keys.len() * batch;
            minting.spawn(async move {
                for keys in &keys {
                    agent.mint((&uid, issuance), keys).await;
                }
            });
        }
        minting.join_all().await;
        let each_us = (cpu_us(process) - begun) / minted as f64;
        // A machine that is shared is not equally fast all the time.
        let signature_us = f64::midpoint(signature_before, signature_us());
        let rate = minted as f64 / wall.elapsed().as_secs_f64();
        figures.push(Figure::at_most(
            2.0,
            "signatures",
            each_us / signature_us,
            ("P1", format!("issuer CPU for an X.509-SVID, its record durable, in batches of {batch}")),
            format!("{each_us:.1} us of CPU, a signature {signature_us:.1} us; {minted} SVIDs at {rate:.0}/s"),
        ));
        rig.run(&["entry", "delete", &name]);
    }
    figures
}

/// P3: entry applied to SVID minted at the agents that it concerns: 1 and all of them.
pub(crate) async fn p3(agents: usize, times: usize, sync_ms: f64) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut rig = Rig::new(&SETTINGS);
    rig.start_issuer();
    let fleet = fleet(&rig, agents).await;
    let mut admin = Admin::connect(&rig).await;
    let empty_ms = admin.empty_call_ms().await;
    for affected in [1, agents] {
        let rounds = if affected == 1 { times } else { times.div_ceil(10) };
        let (issuer, own) = (cpu_us(rig.issuer_id()), cpu_us(std::process::id()));
        let mut ms = Vec::new();
        for round in 0..rounds {
            ms.extend(one_change(&rig, &mut admin, &fleet, affected, round).await);
        }
        let each = |used: f64| used / 1e3 / rounds as f64;
        let p99 = percentile(&mut ms, 0.99);
        figures.push(Figure::at_most(
            if affected == 1 { 50.0 } else { 250.0 },
            "ms",
            p99 - empty_ms - sync_ms,
            ("P3", format!("entry applied to SVID minted, {affected} of {agents} connected agents affected, p99")),
            format!(
                "raw p50 {:.1}, p99 {p99:.1} ms over {}; an empty call {empty_ms:.2} ms; CPU a change: issuer {:.1} ms, harness {:.1} ms",
                percentile(&mut ms, 0.5),
                ms.len(),
                each(cpu_us(rig.issuer_id()) - issuer),
                each(cpu_us(std::process::id()) - own),
            ),
        ));
    }
    figures
}

async fn one_change(
    rig: &Rig,
    admin: &mut Admin,
    fleet: &[(Agent, std::sync::Arc<tokio::sync::Mutex<crate::agent::Stream>>)],
    affected: usize,
    round: usize,
) -> Vec<f64> {
    let (name, td) = (format!("p3-{affected}-{round}"), &rig.trust_domain);
    let node = if affected == 1 {
        format!("spiffe://{td}/mayfly/node/join_token/n0")
    } else {
        "node:attestor:join_token".to_owned()
    };
    let entry = format!(
        "  - name: {name}\n    spiffe_id: spiffe://{td}/{name}\n    node: [\"{node}\"]\n    selectors: [\"unix:uid:1\"]\n"
    );
    let mut waiting = JoinSet::new();
    for (agent, stream) in fleet.iter().take(affected) {
        let (agent, stream, key) = (agent.clone(), std::sync::Arc::clone(stream), fresh_keys(1));
        waiting.spawn(async move {
            let (uid, issuance) = stream.lock().await.next_entry().await;
            agent.mint((&uid, issuance), &key).await;
            Instant::now()
        });
    }
    let begun = Instant::now();
    admin.apply(&entry).await;
    let done = waiting.join_all().await;
    admin.delete(&name).await;
    done.into_iter().map(|at| at.duration_since(begun).as_secs_f64() * 1e3).collect()
}

/// P4: connect to first SVID through a real agent, minted and from its cache.
pub(crate) async fn p4(times: usize, sync_ms: f64) -> Vec<Figure> {
    let rig = Rig::started(&SETTINGS);
    let endpoint: Endpoint = rig.endpoint("a").parse().unwrap();
    let mut admin = Admin::connect(&rig).await;
    let empty_ms = admin.empty_call_ms().await;
    let mut minted = Vec::new();
    for n in 0..times {
        let name = format!("p4-{n}");
        admin.apply(&rig.entry(&name, "")).await;
        // Once the agent has the entry: how fast it comes is P3.
        tokio::time::sleep(SETTLED).await;
        minted.push(first_svid_ms(&endpoint).await);
        admin.delete(&name).await;
        tokio::time::sleep(SETTLED).await;
    }
    admin.apply(&rig.entry("p4", "")).await;
    first_svid_ms(&endpoint).await;
    let mut cached = Vec::new();
    for _ in 0..times {
        cached.push(first_svid_ms(&endpoint).await);
    }
    [("minted", 1.5, sync_ms, minted), ("from cache", 0.5, 0.0, cached)]
        .into_iter()
        .map(|(how, goal, sync_ms, mut ms)| {
            let p50 = percentile(&mut ms, 0.5);
            Figure::at_most(
                goal,
                "ms",
                p50 - empty_ms - sync_ms,
                ("P4", format!("connect to first SVID, {how}, p50")),
                format!(
                    "raw p50 {p50:.2}, p99 {:.2} ms over {times}; an empty call {empty_ms:.2} ms",
                    percentile(&mut ms, 0.99)
                ),
            )
        })
        .collect()
}

async fn first_svid_ms(endpoint: &Endpoint) -> f64 {
    let begun = Instant::now();
    WorkloadClient::new(endpoint).fetch::<X509Context>().await.unwrap();
    begun.elapsed().as_secs_f64() * 1e3
}

/// P6: agents that are connected and idle: what they cost the issuer.
pub(crate) async fn p6(agents: usize) -> Vec<Figure> {
    let mut rig = Rig::new(&SETTINGS);
    rig.start_issuer();
    let _fleet = fleet(&rig, agents).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let process = rig.issuer_id();
    let (cpu, io) = (cpu_us(process), file_io(process));
    tokio::time::sleep(IDLE).await;
    let percent = (cpu_us(process) - cpu) / (IDLE.as_secs_f64() * 1e6) * 100.0;
    let after = file_io(process);
    let (reads, written) = (after.0 - io.0, after.1 - io.1);
    let seconds = IDLE.as_secs();
    vec![
        Figure::at_most(
            2.0,
            "% of a core",
            percent,
            ("P6", format!("issuer CPU with {agents} idle agents")),
            format!("over {seconds} s"),
        ),
        Figure::at_most(
            0.0,
            "bytes",
            written as f64,
            ("P6", format!("written by the issuer with {agents} idle agents")),
            format!("and {reads} read calls, over {seconds} s"),
        ),
    ]
}
