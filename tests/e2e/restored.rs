//! The issuer's store is restored from a backup.

use std::fs;

use mayfly_rig::{Rig, eventually};

use crate::attacks::{text, x509_serial};

#[test]
fn agents_follow_a_restored_store_once_the_operator_says_that_it_is_one() {
    let mut rig = Rig::started(&[]);
    rig.stop_issuer();
    let (store, backup) = (rig.issuer_state().join("store.db"), rig.dir().join("backup.db"));
    fs::copy(&store, &backup).unwrap();
    rig.start_issuer();
    rig.apply(&rig.entry("after-the-backup", ""));
    eventually("the agent hears of what comes after the backup", 60, || x509_serial(&rig, "a"));
    rig.stop_issuer();
    for name in ["store.db-wal", "store.db-shm"] {
        fs::remove_file(rig.issuer_state().join(name)).ok();
    }
    fs::copy(&backup, &store).unwrap();

    // Nobody has said so yet: the agent holds more than this store has, and goes on with that.
    rig.start_issuer();
    eventually("the agent refuses what is older", 60, || {
        rig.agent_log("a").contains("which is older than").then_some(())
    });
    let running = rig.run(&["issuer", "restored", "--config", rig.dir().join("issuer.toml").to_str().unwrap()]);
    assert!(!running.status.success(), "an issuer runs on this store");

    rig.stop_issuer();
    let said = rig.json(&["issuer", "restored", "--config", rig.dir().join("issuer.toml").to_str().unwrap()]);
    let epoch: u64 = said["revision"].as_str().unwrap().strip_suffix(".0").unwrap().parse().unwrap();
    assert!(epoch > 1_000_000, "{said}");
    rig.start_issuer();
    // What was applied after the backup is gone, and what is applied now is heard of.
    eventually("what came after the backup is gone", 60, || x509_serial(&rig, "a").is_none().then_some(()));
    rig.apply(&rig.entry("after-the-restore", ""));
    eventually("the agent hears of what comes now", 60, || x509_serial(&rig, "a"));
    let ledger = text(&rig.run(&["--output", "json", "ledger", "tail"]).stdout);
    assert!(ledger.contains("epoch_begun"), "{ledger}");
}
