//! P5: what a node agent needs, at rest and for each connected workload.

use std::time::Duration;

use mayfly_rig::Rig;
use mayfly_sdk::client::{Endpoint, Source, X509Context};

use crate::{machine::anonymous_kib, report::Figure};

/// Three rotations of an SVID of 20 s, and some.
const THREE_ROTATIONS: Duration = Duration::from_secs(40);

/// Private anonymous memory of a real agent, with nobody connected and with `workloads` that each hold a connection.
pub(crate) async fn p5(workloads: usize) -> Vec<Figure> {
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
    let each = connected.saturating_sub(at_rest) as f64 / workloads as f64;
    let measured = "private anonymous memory, after three rotations";
    vec![
        Figure::at_most(
            15.0,
            "MiB",
            at_rest as f64 / 1024.0,
            ("P5", "node agent at rest".to_owned()),
            measured.to_owned(),
        ),
        Figure::at_most(
            32.0,
            "KiB",
            each,
            ("P5", format!("each of {workloads} connected workloads")),
            measured.to_owned(),
        ),
    ]
}
