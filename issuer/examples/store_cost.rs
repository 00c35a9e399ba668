//! What the store costs: CPU for each recorded issue beside that of a P-256 signature in the same run, and how long a
//! store of many entries takes to load.
//!
//! `cargo run --release -p mayfly-issuer --example store_cost [-- ENTRIES]`; the directory is `TMPDIR`'s, so point that
//! at the disk to be measured. CPU is user + system of the whole process, SQLite's thread included.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, reads the clock, and stops at the first surprise"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use mayfly_issuer::ledger::{Kind, Personal, Record};
use mayfly_issuer::store::{Change, Op, Options, PutEntry, Store};
use mayfly_sdk::{Clock, Revision, Serial, SpiffeId};
use nix::sys::resource::{UsageWho, getrusage};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let home = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let (store, loaded) = open(home.path(), &clock).await;
    drop(loaded);

    let sign = signature_us();
    println!("P-256 signature: {sign:.1} us of CPU");
    println!("| records in a commit | commits | CPU us a record | / signature | wall us a commit |");
    println!("|---|---|---|---|---|");
    for (batch, commits) in [(1, 2_000), (10, 2_000), (100, 1_000), (500, 400)] {
        let fields = Fields::new();
        let (cpu, wall) = (cpu_us(), Instant::now());
        for _ in 0..commits {
            let records = (0..batch).map(|_| fields.record(&clock)).collect();
            store.record(records).await.unwrap();
        }
        let (cpu, wall) = (cpu_us() - cpu, wall.elapsed());
        let each = cpu / f64::from(batch * commits);
        let commit_us = wall.as_secs_f64() * 1e6 / f64::from(commits);
        println!("| {batch} | {commits} | {each:.2} | {:.2} | {commit_us:.0} |", each / sign);
    }
    let (cpu, callers, each) = (cpu_us(), 128, 500);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let (store, clock) = (store.clone(), clock.clone());
        tasks.spawn(async move {
            let fields = Fields::new();
            for _ in 0..each {
                store.record(vec![fields.record(&clock)]).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let cpu = (cpu_us() - cpu) / f64::from(callers * each);
    println!("{callers} callers, one record at a time: {cpu:.2} us of CPU a record, {:.2} signatures", cpu / sign);

    let entries: usize = std::env::args().nth(1).map_or(100_000, |text| text.parse().unwrap());
    load(home.path(), store, &clock, entries).await;
}

async fn load(directory: &Path, store: Store, clock: &Clock, entries: usize) {
    let started = Instant::now();
    for chunk in (0..entries).collect::<Vec<_>>().chunks(50_000) {
        let ops = chunk.iter().map(|number| Op::PutEntry(entry(*number))).collect();
        store.commit(Change { ops, ..Change::new(clock.now()) }).await.unwrap();
    }
    let written = started.elapsed();
    store.shut().await;
    drop(store);
    let (cpu, started) = (cpu_us(), Instant::now());
    let (_store, mut loaded) = open(directory, clock).await;
    let mut read = 0;
    while let Some(page) = loaded.entries.next().await.unwrap() {
        read += page.len();
    }
    let (cpu, took) = (Duration::from_secs_f64((cpu_us() - cpu) / 1e6), started.elapsed());
    println!("{read} entries: written in {written:.1?}, loaded in {took:.1?} ({cpu:.1?} of CPU)");
}

async fn open(directory: &Path, clock: &Clock) -> (Store, mayfly_issuer::store::Loaded) {
    let options = Options::new("example.org".parse().unwrap());
    Store::open(&directory.join("issuer"), options, clock.clone()).await.unwrap()
}

fn entry(number: usize) -> PutEntry {
    let name = format!("team-7/service-{number}");
    let document = format!(
        r#"{{"name":"{name}","node":["spiffe://example.org/mayfly/node/join_token/n{}"],"selectors":["unix:path:/usr/bin/service-{number}","unix:uid:{number}"],"spiffe_id":"spiffe://example.org/team-7/service-{number}","x509_ttl":900}}"#,
        number % 1000
    );
    PutEntry { uid: format!("{number:032x}"), name, owner: "team-7".into(), document, reissues: true }
}

/// What the records of one caller share.
struct Fields {
    authority: Arc<str>,
    entry_uid: Arc<str>,
    node: SpiffeId,
    spiffe_id: SpiffeId,
}

impl Fields {
    fn new() -> Self {
        Self {
            authority: "3b1f4c8a9d2e7f60514233445566778899aabbcc".into(),
            entry_uid: "0198f2c3a4b5768797a8b9cadbecfd0e".into(),
            node: "spiffe://example.org/mayfly/node/join_token/n1".parse().unwrap(),
            spiffe_id: "spiffe://example.org/team-7/service-12".parse().unwrap(),
        }
    }

    fn record(&self, clock: &Clock) -> Record {
        Record {
            authority: Some(Arc::clone(&self.authority)),
            key_sha256: Some([1; 32]),
            node: Some(self.node.clone()),
            entry_uid: Some(Arc::clone(&self.entry_uid)),
            revision: Some(Revision { epoch: 1, n: 42 }),
            request_id: Some([2; 16]),
            released_sha256: Some([3; 32]),
            not_after: Some(clock.now()),
            personal: Personal { spiffe_id: Some(self.spiffe_id.clone()), ..Personal::default() },
            ..Record::new(Kind::X509SvidIssued, Serial::generate(clock.now_ms()).unwrap())
        }
    }
}

fn signature_us() -> f64 {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref()).unwrap();
    let (count, message) = (20_000, [7; 400]);
    let cpu = cpu_us();
    for _ in 0..count {
        key.sign(&random, &message).unwrap();
    }
    (cpu_us() - cpu) / f64::from(count)
}

/// User and system time of this process so far, microseconds.
fn cpu_us() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let both = usage.user_time() + usage.system_time();
    both.tv_sec() as f64 * 1e6 + both.tv_usec() as f64
}
