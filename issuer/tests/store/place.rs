//! Where a store lives during a test, and things to put into it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mayfly_issuer::ledger::{Kind, Record};
use mayfly_issuer::store::{Change, Committed, Loaded, Op, Options, PutEntry, Store, StoreError};
use mayfly_sdk::time::ClockHand;
use mayfly_sdk::{Clock, Serial, SpiffeId, Timestamp};

/// The time at which every test begins.
pub(crate) const START: Timestamp = Timestamp::from_unix_s(1_760_000_000);

/// A store's place, and the clock of the issuer there.
pub(crate) struct Place {
    _home: tempfile::TempDir,
    pub(crate) directory: PathBuf,
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    pub(crate) hand: ClockHand,
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        let home = tempfile::tempdir().unwrap();
        let (clock, hand) = Clock::manual(START);
        let options = Options::new("example.org".parse().unwrap());
        Self { directory: home.path().join("issuer"), _home: home, options, clock, hand }
    }

    pub(crate) async fn open(&self) -> (Store, Loaded) {
        self.try_open().await.unwrap()
    }

    pub(crate) async fn try_open(&self) -> Result<(Store, Loaded), StoreError> {
        self.open_in(&self.directory).await
    }

    pub(crate) async fn open_in(&self, directory: &Path) -> Result<(Store, Loaded), StoreError> {
        Store::open(directory, self.options.clone(), self.clock.clone()).await
    }

    /// As after a restart.
    pub(crate) async fn reopen(&self, store: Store) -> (Store, Loaded) {
        store.shut().await;
        drop(store);
        self.open().await
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.hand.advance(Duration::from_secs(seconds));
    }

    pub(crate) fn record(&self, kind: Kind) -> Record {
        Record::new(kind, Serial::generate(self.clock.now_ms()).unwrap())
    }
}

pub(crate) fn change(ops: Vec<Op>) -> Change {
    Change { ops, ..Change::new(START) }
}

pub(crate) fn entry(uid: &str) -> PutEntry {
    PutEntry {
        uid: uid.into(),
        name: format!("name-{uid}"),
        owner: "team".into(),
        document: format!(r#"{{"name":"name-{uid}"}}"#),
        reissues: true,
    }
}

pub(crate) async fn put(store: &Store, uid: &str) -> Committed {
    store.commit(change(vec![Op::PutEntry(entry(uid))])).await.unwrap()
}

pub(crate) fn node_id(name: &str) -> SpiffeId {
    format!("spiffe://example.org/mayfly/node/join_token/{name}").parse().unwrap()
}
