//! Nodes that would use up what is for all of them.

use std::time::Duration;

use mayfly_proto::node::TaskOutcome;
use mayfly_rig::{Rig, eventually};
use mayfly_sdk::{
    Clock, KeyAlgorithm, PrivateKey, PublicKey, Reason,
    client::{Endpoint, Source, X509Context},
    tls::{Authorizer, ClientTls, Connector, Options, TlsConnection},
};
use tokio::io::AsyncReadExt as _;

use super::x509_serial;
use crate::{
    rogue::{Rogue, node_tls},
    task_rules::{Node, id, on_runtime, reading, rig, wish},
};

#[test]
fn no_node_uses_up_the_open_tasks_of_anothers_instance_nor_more_than_its_own() {
    let mut rig = rig(&[("tasks.per_instance", "2"), ("tasks.per_node", "3")]);
    rig.start_agent("b");
    rig.kill_agent("b");
    on_runtime(async {
        let (mut a, mut b) = (Node::of(&rig, "a").await, Node::of(&rig, "b").await);
        // The instance is b's; that a names it means nothing.
        let (forged, own) = (a.holder("planner", 1).await, b.holder("planner", 1).await);
        let first = a.begin(&forged, reading()).await.unwrap();
        a.begin(&forged, reading()).await.unwrap();
        assert_eq!(a.begin(&forged, reading()).await.unwrap_err(), Reason::TaskQuota.code());
        b.begin(&own, reading()).await.unwrap();

        // Ever new instances are all of one node.
        let [invented, further] = [a.holder("planner", 2).await, a.holder("planner", 3).await];
        a.begin(&invented, reading()).await.unwrap();
        let (reason, what) = a.rogue.refused(wish(&further, &reading())).await;
        assert!(reason == "task_quota" && what.contains("have 3 open tasks already"), "{reason}: {what}");
        b.begin(&own, reading()).await.unwrap();
        a.rogue.end(id(&first), TaskOutcome::Completed).await.unwrap();
        a.begin(&further, reading()).await.unwrap();
    });
}

/// Opens `count` connections to the issuer, for nodes, and says nothing on them.
async fn idle(rig: &Rig, tls: ClientTls, count: usize) -> Vec<TlsConnection> {
    let address = rig.issuer_address();
    let (host, port) = address.rsplit_once(':').unwrap();
    let (connector, mut open) = (Connector::new(tls), Vec::new());
    for _ in 0..count {
        open.extend(connector.dial(host, port.parse().unwrap()).await);
    }
    open
}

/// How many of these are still open.
async fn still_open(open: &mut [TlsConnection]) -> usize {
    let mut still = 0;
    for connection in open {
        // The first bytes are what every connection begins with.
        let closed = async { while connection.read(&mut [0; 1024]).await.is_ok_and(|bytes| bytes > 0) {} };
        still += usize::from(tokio::time::timeout(Duration::from_millis(100), closed).await.is_err());
    }
    still
}

#[test]
fn neither_a_workload_nor_one_node_takes_the_connections_of_the_other_nodes() {
    let mut rig = Rig::started(&[("limits.connections", "8")]);
    rig.apply(&rig.entry("workload", ""));
    eventually("a workload has its identity", 20, || x509_serial(&rig, "a"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // An SVID of a workload opens nothing here.
    let mut of_workload = runtime.block_on(async {
        let source = Source::<X509Context>::start(rig.endpoint("a").parse::<Endpoint>().unwrap());
        source.ready(Duration::from_secs(20)).await.unwrap();
        let issuer = Authorizer::issuer_of(rig.trust_domain.parse().unwrap());
        let (credentials, trust) = (source.credentials(), source.trust());
        let tls = ClientTls::new(credentials, trust, issuer, &Clock::system(), &Options::grpc()).unwrap();
        idle(&rig, tls, 12).await
    });
    assert_eq!(runtime.block_on(still_open(&mut of_workload)), 0);
    // A node has half of the connections here, its agent's among them.
    let mut of_node = runtime.block_on(idle(&rig, node_tls(&rig, "a"), 12));
    let still = runtime.block_on(still_open(&mut of_node));
    assert!((1..=4).contains(&still), "{still} of 12");
    rig.start_agent("b");
    eventually("a workload of the other node has its identity", 20, || x509_serial(&rig, "b"));
    drop((of_workload, of_node));
}

#[test]
fn a_node_that_says_that_all_is_urgent_holds_up_no_other() {
    let mut rig = Rig::started(&[("limits.mint_queue", "64")]);
    rig.start_agent("b");
    rig.apply(&rig.entry("workload", ""));
    for agent in ["a", "b"] {
        eventually("a workload has its identity", 20, || x509_serial(&rig, agent));
    }
    let key = || {
        let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
        PublicKey::from_spki(&key.public_key_spki()).unwrap()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut honest = Rogue::of(&rig, "b").await;
        let of_honest = honest.entries(&rig).await.remove("workload").unwrap();
        let mut greedy = Rogue::of(&rig, "a").await;
        let of_greedy = greedy.entries(&rig).await.remove("workload").unwrap();
        let (many, refused) = (key(), std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)));
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let greedy = Rogue::of(&rig, "a").await;
            for _ in 0..64 {
                let (mut greedy, entry, key, refused) =
                    (greedy.clone(), of_greedy.clone(), many.clone(), refused.clone());
                calls.spawn(async move {
                    loop {
                        if greedy.x509s(&entry, &key, 200).await.is_err_and(|reason| reason == "overloaded") {
                            refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    }
                });
            }
        }
        let until = std::time::Instant::now() + Duration::from_mins(1);
        while refused.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            assert!(std::time::Instant::now() < until, "the queue was never full");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let own = key();
        for _ in 0..20 {
            assert_eq!(honest.x509s(&of_honest, &own, 1).await, Ok(()));
        }
        calls.shutdown().await;
    });
}
