use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use mayfly_rig::{Rig, eventually};
use mayfly_sdk::client::{Endpoint, Source, X509Context};

use super::{jwt, not_run};

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

#[test]
fn a_wall_clock_that_jumps_an_hour_forward_or_back_takes_nothing_from_workloads() {
    if !Path::new(LIBRARY).exists() {
        return not_run("libfaketime is missing: tests/run installs it");
    }
    let mut rig = Rig::new(&[("ttl.allow_short_ttl", "true"), ("ttl.x509", "\"20s\"")]);
    let clock = rig.dir().join("clock");
    let set = |offset: &str| {
        fs::write(clock.with_extension("new"), offset).unwrap();
        fs::rename(clock.with_extension("new"), &clock).unwrap();
    };
    set("+0");
    rig.set_environment(&[
        ("LD_PRELOAD", LIBRARY),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ]);
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
    let serial = || source.current().expect("the workload keeps its identity").default_svid().serial().to_vec();
    for offset in ["+1h", "+0", "-1h", "+0"] {
        set(offset);
        let before = serial();
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            serial();
            std::thread::sleep(Duration::from_millis(20));
        }
        eventually(&format!("SVIDs rotate at {offset}"), 25, || (serial() != before).then_some(()));
        eventually(&format!("a JWT-SVID is issued at {offset}"), 20, || jwt(&rig, &format!("at{offset}")).ok());
        assert!(rig.agent_runs("a"));
    }
    runtime.block_on(source.shutdown());
    rig.stop_agent("a");
    rig.stop_issuer();
}
