//! Where nothing changes, nothing is asked: push, never poll.

use std::time::Duration;

use mayfly_rig::{Rig, eventually};
use mayfly_sdk::client::{Endpoint, Source, X509Context};

/// How long nothing happens; the full form sees keepalives pass.
fn watched() -> Duration {
    if crate::full() { Duration::from_mins(5) } else { Duration::from_secs(20) }
}

#[test]
fn nothing_calls_periodically_where_nothing_changes() {
    let mut rig = Rig::new(&[]);
    // Every HTTP/2 frame and every statement of the database.
    rig.set_environment(&[("MAYFLY_LOG", "info,h2=debug,sqlx::query=trace"), ("MAYFLY_LOG_FORMAT", "text")]);
    rig.start_issuer();
    rig.start_agent("a");
    rig.apply(&rig.entry("workload", ""));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let endpoint: Endpoint = rig.endpoint("a").parse().unwrap();
    let source = runtime.block_on(async {
        let source = Source::<X509Context>::start(endpoint);
        source.ready(Duration::from_secs(10)).await.unwrap();
        source
    });
    let logs = |rig: &Rig| (rig.issuer_log(), rig.agent_log("a"));
    let mut seen = logs(&rig);
    eventually("what was begun is done", 30, || {
        std::thread::sleep(Duration::from_secs(2));
        let now = logs(&rig);
        let quiet = now == seen;
        seen = now;
        quiet.then_some(())
    });

    std::thread::sleep(watched());
    let after = logs(&rig);
    for (name, before, after) in [("issuer", &seen.0, &after.0), ("agent", &seen.1, &after.1)] {
        let calls = traced(&after[before.len()..]);
        assert!(calls.is_empty(), "the {name}, idle:\n{}", calls.join("\n"));
    }

    // The trace shows what there is to show.
    rig.apply(&rig.entry("another", ""));
    eventually("a change is seen in both traces", 10, || {
        let now = logs(&rig);
        let (issuer, agent) = (traced(&now.0[after.0.len()..]), traced(&now.1[after.1.len()..]));
        let statement = issuer.iter().any(|line| line.contains("sqlx::query"));
        let frames = [issuer, agent].iter().all(|lines| lines.iter().any(|line| line.contains("frame=Data")));
        (statement && frames).then_some(())
    });
    runtime.block_on(source.shutdown());
}

/// The lines of a trace that are calls or statements: keepalives are none.
fn traced(log: &str) -> Vec<&str> {
    let is_frame = |line: &str| line.contains("frame=") && !line.contains("frame=Ping");
    log.lines().filter(|line| is_frame(line) || line.contains("sqlx::query")).collect()
}
