//! What the file system does to a store, and the files that it makes. Of SQLite alone.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mayfly_issuer::ledger::{Kind, Personal, Record};
use mayfly_issuer::store::{Loaded, Options, Store, StoreError};
use mayfly_sdk::{Reason, Refusal};
use sqlx::{ConnectOptions, Connection};

use crate::place::{Place, put};

#[tokio::test]
async fn a_second_issuer_is_refused_and_told_who_has_the_store() {
    let place = Place::sqlite();
    let (store, _) = place.open().await;
    let error = place.try_open().await.unwrap_err();
    assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())), "{error}");
    assert_eq!(error.reason(), Reason::StoreInUse);
    store.shut().await;
    drop(store);
    place.open().await;
}

#[tokio::test]
async fn a_store_that_was_dropped_without_shutting_is_whole() {
    let place = Place::sqlite();
    for n in 1..20 {
        let (store, loaded) = reopened(&place).await;
        assert_eq!(loaded.revision.n, n - 1);
        assert_eq!(put(&store, &n.to_string()).await.revision.n, n);
    }
    let (_store, loaded) = reopened(&place).await;
    assert_eq!(loaded.entries.all().await.unwrap().len(), 19);
}

/// Opens it as soon as the one that was dropped has let go.
async fn reopened(place: &Place) -> (Store, Loaded) {
    for _ in 0..1000 {
        match place.try_open().await {
            Err(StoreError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            other => return other.unwrap(),
        }
    }
    panic!("the lock is held for ever");
}

#[tokio::test]
async fn what_was_answered_is_in_a_copy_of_the_files_taken_without_warning() {
    let place = Place::sqlite();
    let (store, _) = place.open().await;
    put(&store, "a").await;
    store.record(vec![place.record(Kind::X509SvidIssued)]).await.unwrap();
    let copy = tempfile::tempdir().unwrap();
    for name in ["store.db", "store.db-wal"] {
        std::fs::copy(place.directory.join(name), copy.path().join(name)).unwrap();
    }
    let (store, loaded) = place.open_in(copy.path()).await.unwrap();
    assert_eq!((loaded.revision.n, store.tail(5).await.unwrap().len()), (1, 1));
}

#[tokio::test]
async fn the_files_are_for_the_issuers_user_only() {
    let place = Place::sqlite();
    let (store, _) = place.open().await;
    put(&store, "a").await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.directory), 0o700);
    for name in ["store.db", "store.db-wal", "store.db-shm", "store.lock"] {
        assert_eq!(mode(&place.directory.join(name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_store_of_another_trust_domain_is_refused() {
    let mut place = Place::sqlite();
    let (store, _) = place.open().await;
    store.shut().await;
    drop(store);
    place.options = Options::new("other.org".parse().unwrap());
    let error = place.try_open().await.unwrap_err();
    assert_eq!(error.to_string(), "the store belongs to the trust domain example.org, not to other.org");
}

#[tokio::test]
async fn a_store_of_a_newer_schema_is_refused_unless_it_says_that_we_may_use_it() {
    let place = Place::sqlite();
    let (store, _) = place.open().await;
    store.shut().await;
    drop(store);
    alter(&place, "UPDATE schema_info SET version = 9, oldest_reader = 8").await;
    let error = place.try_open().await.unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found: 9, oldest_reader: 8, ours: 7 }), "{error}");
    assert_eq!(Refusal::from(error).reason, Reason::StoreNewerSchema);
    alter(&place, "UPDATE schema_info SET oldest_reader = 1").await;
    let (store, _) = place.open().await;
    put(&store, "a").await;
}

/// Writes to the database behind the store's back.
async fn alter(place: &Place, sql: &'static str) {
    let path = place.directory.join("store.db");
    let mut raw = sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::query(sql).execute(&mut raw).await.unwrap();
    raw.close().await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_database_is_said_to_be_damaged() {
    let place = Place::sqlite();
    std::fs::create_dir_all(&place.directory).unwrap();
    std::fs::write(place.directory.join("store.db"), [b'x'; 8192]).unwrap();
    assert_eq!(place.try_open().await.unwrap_err().reason(), Reason::StoreCorrupt);
}

#[tokio::test]
async fn a_full_disk_fails_what_is_asked_and_nothing_else() {
    let mut place = Place::sqlite();
    place.options.max_bytes = Some(400_000);
    let (store, _) = place.open().await;
    let mut recorded = 0;
    let error = loop {
        match store.record(vec![fat(&place)]).await {
            Ok(()) => recorded += 1,
            Err(error) => break error,
        }
        assert!(recorded < 1000, "the disk is never full");
    };
    assert_eq!((error.reason(), error.stops_issuing()), (Reason::StoreFull, true));
    assert!(Refusal::from(error).reason.remedy().contains("room"));
    for _ in 0..5 {
        assert!(store.record(vec![fat(&place)]).await.is_err());
    }
    assert_eq!(store.tail(1000).await.unwrap().len(), recorded, "what failed is not visible");
    let (store, _) = {
        place.options.max_bytes = None;
        place.reopen(store).await
    };
    store.record(vec![fat(&place)]).await.unwrap();
    assert_eq!(store.tail(1000).await.unwrap().len(), recorded + 1);
}

#[tokio::test]
async fn a_failed_commit_that_became_durable_after_all_stops_the_issuer_until_it_reads_again() {
    let mut place = Place::sqlite();
    place.options.max_bytes = Some(400_000);
    let (store, _) = place.open().await;
    put(&store, "a").await;
    alter(&place, "UPDATE store SET n = 2").await;
    while store.record(vec![fat(&place)]).await.is_ok() {}
    for _ in 0..2 {
        let error = store.record(vec![place.record(Kind::Refused)]).await.unwrap_err();
        assert!(matches!(error, StoreError::Diverged { stored, known } if (stored.n, known.n) == (2, 1)), "{error:?}");
    }
    place.options.max_bytes = None;
    let (store, loaded) = place.reopen(store).await;
    assert_eq!((loaded.revision.n, put(&store, "b").await.revision.n), (2, 3));
}

#[tokio::test]
async fn records_of_a_failed_commit_that_became_durable_after_all_are_not_overwritten() {
    let mut place = Place::sqlite();
    place.options.max_bytes = Some(430_000);
    let (store, _) = place.open().await;
    let mut recorded = 0;
    while store.record(vec![fat(&place)]).await.is_ok() {
        recorded += 1;
    }
    alter(&place, "INSERT INTO ledger SELECT MAX(batch) + 1, trust_domain, 0, 0, 0, 1, x'', x'' FROM ledger").await;
    assert!(store.record(vec![fat(&place)]).await.is_err());
    store.record(vec![place.record(Kind::Refused)]).await.unwrap();
    let last = store.tail(1).await.unwrap().remove(0);
    assert_eq!((last.record.kind, last.batch), (Kind::Refused, recorded + 2));
}

#[tokio::test]
async fn when_the_disk_has_room_again_the_same_store_goes_on() {
    let Some(mount) = Mount::tmpfs("size=3m") else { return };
    let place = Place::sqlite();
    let directory = mount.path().join("issuer");
    let (store, _) = place.open_in(&directory).await.unwrap();
    put(&store, "before").await;
    let ballast = mount.path().join("ballast");
    assert!(std::fs::write(&ballast, vec![0; 4 << 20]).is_err(), "the file system is full now");

    let mut refused = 0;
    for number in 0..100 {
        if let Err(error) = store.record(vec![fat(&place)]).await {
            assert_eq!(error.reason(), Reason::StoreFull, "{error:?}");
            refused += 1;
        }
        if let Err(error) = store.commit(crate::place::change(vec![big_entry(number)])).await {
            assert_eq!(error.reason(), Reason::StoreFull, "{error:?}");
            refused += 1;
        }
    }
    assert!(refused > 0, "the disk was never full");
    std::fs::remove_file(ballast).unwrap();
    store.record(vec![fat(&place)]).await.unwrap();
    let n = put(&store, "after").await.revision.n;
    let recorded = store.tail(1000).await.unwrap().len();
    store.shut().await;
    drop(store);
    let (store, loaded) = place.open_in(&directory).await.unwrap();
    assert_eq!((loaded.revision.n, store.tail(1000).await.unwrap().len()), (n, recorded));
    let seen: Vec<_> = loaded.history.changes.iter().map(|row| row.revision.n).collect();
    assert_eq!(seen, (1..=n).collect::<Vec<_>>(), "revisions are gap-free across the failures");
    store.shut().await;
}

#[tokio::test]
async fn a_read_only_directory_is_named_as_such() {
    let Some(mount) = Mount::tmpfs("size=3m") else { return };
    let place = Place::sqlite();
    let directory = mount.path().join("issuer");
    let (store, _) = place.open_in(&directory).await.unwrap();
    store.shut().await;
    drop(store);
    mount.remount("ro");
    for directory in [directory.clone(), mount.path().join("new")] {
        let error = place.open_in(&directory).await.unwrap_err();
        assert_eq!(error.reason(), Reason::StoreReadOnly, "{error:?}");
        assert!(error.to_string().contains(&*directory.to_string_lossy()), "{error}");
    }
    mount.remount("rw");
    place.open_in(&directory).await.unwrap().0.shut().await;
}

fn fat(place: &Place) -> Record {
    let personal = Personal { detail: Some("d".repeat(4000).into()), ..Personal::default() };
    Record { personal, ..place.record(Kind::Refused) }
}

fn big_entry(number: usize) -> mayfly_issuer::store::Op {
    let uid = number.to_string();
    mayfly_issuer::store::Op::PutEntry(mayfly_issuer::store::PutEntry {
        document: "x".repeat(20_000),
        ..crate::place::entry(&uid)
    })
}

/// A small file system of a test's own.
struct Mount(tempfile::TempDir);

impl Mount {
    /// `None`, said loudly, where this may not be done; a failure where `CI=true` promises that it may.
    fn tmpfs(options: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(directory.path()).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(directory));
        }
        #[expect(clippy::disallowed_methods, reason = "the test's environment, not a configuration")]
        let promised = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!promised, "a tmpfs cannot be mounted here");
        eprintln!("NOT RUN: this test mounts a tmpfs, which needs root");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount(&self, how: &str) {
        let option = format!("remount,{how}");
        let remounted = || Command::new("mount").args(["-o", &option]).arg(self.path()).status().unwrap().success();
        // The loader of entries that nobody read closes its files a moment later.
        assert!((0..100).any(|_| remounted() || {
            std::thread::sleep(Duration::from_millis(20));
            false
        }));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}
