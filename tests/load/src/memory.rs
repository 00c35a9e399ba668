//! P5: what a node agent needs, at rest and for each connected workload.

use std::time::Duration;

use mayfly_rig::Rig;
use mayfly_sdk::client::{Endpoint, Source, X509Context};

use crate::machine::anonymous_kib;

/// Three rotations of an SVID of 20 s, and some.
const THREE_ROTATIONS: Duration = Duration::from_secs(40);

/// Private anonymous memory of a real agent, with nobody connected and with `workloads` that each hold a connection.
pub(crate) async fn p5(workloads: usize) {
    let rig = Rig::started(&[("ttl.allow_short_ttl", "true"), ("ttl.x509", "\"20s\""), ("ttl.node", "\"60s\"")]);
    rig.apply(&rig.entry("p5", ""));
    let endpoint: Endpoint = rig.endpoint("a").parse().unwrap();
    let agent = rig.agent_id("a");
    let first = Source::<X509Context>::start(endpoint.clone());
    first.ready(Duration::from_secs(20)).await.unwrap();
    first.shutdown().await;
    tokio::time::sleep(THREE_ROTATIONS).await;
    let at_rest = anonymous_kib(agent);

    let mut sources = Vec::with_capacity(workloads);
    for _ in 0..workloads {
        let source = Source::<X509Context>::start(endpoint.clone());
        source.ready(Duration::from_secs(20)).await.unwrap();
        sources.push(source);
    }
    tokio::time::sleep(THREE_ROTATIONS).await;
    let connected = anonymous_kib(agent);
    println!(
        "P5 at rest {:.1} MiB; {:.1} KiB for each of {workloads} connected workloads",
        at_rest as f64 / 1024.0,
        (connected.saturating_sub(at_rest)) as f64 / workloads as f64
    );
}
