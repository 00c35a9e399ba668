//! P2: how many renewals one issuer sustains.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mayfly_rig::Rig;
use tokio::task::JoinSet;

use crate::{
    agent::{fleet, fresh_keys},
    figures::SETTINGS,
    machine::{cpu_us, percentile},
    report::Figure,
};

/// Keys in a call: 100 workloads a node with SVIDs of 5 minutes renew 0.67 times a second, and what comes within 2 s goes together.
const BATCH: usize = 2;
/// How long the rate is kept up.
const LASTS: Duration = Duration::from_secs(30);

/// Renewals are due at a steady `rate` (a second), whether the issuer keeps up or not; how late they are is what counts.
pub(crate) async fn p2(agents: usize, rate: usize) -> Vec<Figure> {
    let mut rig = Rig::new(&SETTINGS);
    rig.start_issuer();
    let fleet = fleet(&rig, agents).await;
    rig.apply(&rig.entry("p2", ""));
    let mut ready = Vec::new();
    for (agent, stream) in fleet {
        let entry = stream.lock().await.next_entry().await;
        ready.push((agent, entry, stream));
    }
    let total = rate * usize::try_from(LASTS.as_secs()).unwrap() / BATCH;
    // Keys are the agents' affair, and made before.
    let keys = Arc::new(fresh_keys(total * BATCH));
    let each = total / ready.len();
    let between = LASTS.div_f64(each as f64);
    let (issuer, own) = (cpu_us(rig.issuer_id()), cpu_us(std::process::id()));
    let begun = Instant::now();
    let mut work = JoinSet::new();
    let count = ready.len();
    for (n, (agent, (uid, issuance), stream)) in ready.into_iter().enumerate() {
        let keys = Arc::clone(&keys);
        work.spawn(async move {
            let _in_sync = stream;
            let mut late = Vec::with_capacity(each);
            let first = between.mul_f64(n as f64 / count as f64);
            for i in 0..each {
                let due = begun + first + between.mul_f64(i as f64);
                tokio::time::sleep_until(due.into()).await;
                let at = (n * each + i) * BATCH;
                agent.mint((&uid, issuance), &keys[at..at + BATCH]).await;
                late.push(due.elapsed().as_secs_f64() * 1e3);
            }
            late
        });
    }
    let mut late: Vec<f64> = work.join_all().await.into_iter().flatten().collect();
    let wall = begun.elapsed().as_secs_f64();
    let cores = |used: f64| used / 1e6 / wall;
    let late_ms = percentile(&mut late, 1.0);
    vec![
        Figure::at_least(
            6_667.0,
            "/s",
            (late.len() * BATCH) as f64 / wall,
            ("P2", format!("renewals sustained for {wall:.1} s, {rate}/s due, {count} agents, calls of {BATCH}")),
            format!(
                "late p50 {:.1}, p99 {:.1} ms; cores: issuer {:.2}, harness {:.2}",
                percentile(&mut late, 0.5),
                percentile(&mut late, 0.99),
                cores(cpu_us(rig.issuer_id()) - issuer),
                cores(cpu_us(std::process::id()) - own),
            ),
        ),
        Figure::at_most(
            80.0,
            "% of life",
            50.0 + late_ms / 3_000.0,
            ("P2", "the latest renewal, due at 50 % of 5 minutes".to_owned()),
            format!("{late_ms:.0} ms late"),
        ),
    ]
}
