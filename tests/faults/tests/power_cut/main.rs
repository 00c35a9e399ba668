//! The power fails, again and again, while the issuer works. What a client holds is in the ledger all the same.
//!
//! ```text
//! issuer (writes that are not synced stay in its memory) <── agent <── a workload that never has enough JWT-SVIDs
//!    ^  killed at random moments, started again          <── two machines with one join token, each time
//!    └── entries and join tokens, from the command
//! ```
//! `MAYFLY_SEED` repeats the moments of a run; `MAYFLY_TESTS=full` kills 100 times instead of 20.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test root"
)]

mod evidence;
mod load;
mod twins;

use std::{path::PathBuf, sync::Arc, thread::sleep, time::Duration};

use evidence::Evidence;
use load::{Held, Load};
use mayfly_rig::{Rig, eventually};
use twins::Twins;

/// Short lives, so that SVIDs and keys are renewed between two kills.
const SETTINGS: [(&str, &str); 7] = [
    ("ttl.allow_short_ttl", "true"),
    ("ttl.x509", "\"6s\""),
    ("ttl.jwt", "\"20s\""),
    ("authority.jwt_life", "\"120s\""),
    ("wit.enabled", "true"),
    ("authority.wit_life", "\"120s\""),
    ("authority.publish_lead", "\"1s\""),
];

#[test]
fn a_power_cut_loses_nothing_that_a_client_holds() {
    let (kills, mut random) = (if is_full() { 100 } else { 20 }, seeded());
    let mut rig = with_unsynced_writes_kept_back();
    let (held, mut twins) = (Arc::new(Held::default()), Twins::default());
    let load = Load::start(&rig, &held);
    for kill in 0..kills {
        if random.u8(..4) == 0 {
            // In the middle of starting.
            launch_issuer(&mut rig);
            sleep(Duration::from_millis(random.u64(..400)));
        } else {
            start_issuer(&mut rig);
            twins.launch(&mut rig, kill);
            if random.u8(..4) > 0 {
                issues_again(&held);
            }
            sleep(Duration::from_millis(random.u64(50..1500)));
        }
        rig.kill_issuer();
        let problems = Evidence::of(&rig).problems(&held.snapshot(), &twins.enrolled(&rig));
        assert!(problems.is_empty(), "after kill {kill}: {problems:#?}");
    }
    start_issuer(&mut rig);
    issues_again(&held);
    drop(load);
    rig.stop_issuer();
    let (held, enrolled) = (held.snapshot(), twins.enrolled(&rig));
    let problems = Evidence::of(&rig).problems(&held, &enrolled);
    assert!(problems.is_empty(), "at the end: {problems:#?}");
    eprintln!(
        "{kills} kills: {} SVIDs, {} WIT-SVIDs, {} entries, {} join tokens, {} nodes held",
        held.svids.len(),
        held.wits.len(),
        held.entries.len(),
        held.tokens.len(),
        enrolled.len()
    );
    assert!(held.wits.len() > 5, "there were hardly any WIT-SVIDs: {}", held.wits.len());
    assert!(held.svids.len() > 100 && held.entries.len() > 5 && held.tokens.len() > 5, "there was hardly any load");
    assert!(!enrolled.is_empty(), "no node was enrolled");
}

#[test]
fn without_syncing_the_same_check_finds_records_lost() {
    let mut random = seeded();
    let mut rig = with_unsynced_writes_kept_back();
    let (held, twins) = (Arc::new(Held::default()), Twins::default());
    start_issuer(&mut rig);
    let load = Load::start(&rig, &held);
    issues_again(&held);
    rig.stop_issuer();
    assert_eq!(Evidence::of(&rig).problems(&held.snapshot(), &[]), [] as [String; 0]);

    rig.set("store.synchronous", "\"off\"");
    let lost = (0..10).find_map(|_| {
        start_issuer(&mut rig);
        issues_again(&held);
        sleep(Duration::from_millis(random.u64(..1000)));
        rig.kill_issuer();
        let problems = Evidence::of(&rig).problems(&held.snapshot(), &twins.enrolled(&rig));
        problems.into_iter().find(|problem| problem.contains("not in the ledger"))
    });
    drop(load);
    assert!(lost.is_some(), "writes that were never synced survived: the kept-back writes are not kept back");
}

/// Waits until the agent, which pauses ever longer while the issuer is away, has found it and clients are given new SVIDs.
fn issues_again(held: &Held) {
    let before = held.snapshot().svids.len();
    eventually("SVIDs are issued again", 60, || (held.snapshot().svids.len() > before).then_some(()));
}

/// An issuer with an agent; both stopped issuer and kept-back writes from here on.
fn with_unsynced_writes_kept_back() -> Rig {
    let mut rig = Rig::new(&SETTINGS);
    start_issuer(&mut rig);
    rig.start_agent("a");
    for name in ["one", "two", "three"] {
        rig.apply(&rig.entry(name, ""));
    }
    rig.stop_issuer();
    rig
}

fn start_issuer(rig: &mut Rig) {
    preload(rig);
    rig.start_issuer();
    rig.set_environment(&[]);
}

fn launch_issuer(rig: &mut Rig) {
    preload(rig);
    rig.launch_issuer();
    rig.set_environment(&[]);
}

fn preload(rig: &mut Rig) {
    let (library, state) = (library(), rig.issuer_state());
    rig.set_environment(&[("LD_PRELOAD", library.to_str().unwrap()), ("MAYFLY_POWERCUT_DIR", state.to_str().unwrap())]);
}

/// This package's library, which was built with this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let places = test.ancestors().skip(1).map(|place| place.join("libmayfly_faults.so"));
    places.into_iter().find(|path| path.is_file()).expect("cargo builds the library with its tests")
}

fn is_full() -> bool {
    std::env::var("MAYFLY_TESTS").is_ok_and(|which| which == "full")
}

fn seeded() -> fastrand::Rng {
    let seed =
        std::env::var("MAYFLY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("MAYFLY_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
