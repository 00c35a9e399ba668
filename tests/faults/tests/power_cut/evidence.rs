//! What the store holds after a power cut, against what clients hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use mayfly_issuer::ledger::{Batch, Kind};
use mayfly_rig::Rig;
use sqlx::{Connection as _, Row as _, SqliteConnection, sqlite::SqliteRow};

use crate::{load::Holdings, twins::Enrolled};

/// A store, as it is read from a copy of its files: looking at it recovers nothing for the issuer.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// Event ids, hexadecimal.
    events: BTreeSet<String>,
    /// The keys (SHA-256) that the ledger says were enrolled, by node.
    enrolled: BTreeMap<String, BTreeSet<String>>,
    head: i64,
    changes: BTreeSet<i64>,
    entries: BTreeSet<String>,
    /// Active slots by kind.
    active: BTreeMap<String, u32>,
    /// The key (SHA-256) that each token enrolled, by the node's SPIFFE ID.
    tokens: BTreeMap<String, Option<String>>,
    /// The key (SHA-256) of each node.
    nodes: BTreeMap<String, String>,
    /// What could not be read.
    damage: Vec<String>,
}

impl Evidence {
    /// Of a rig whose issuer does not run.
    pub(crate) fn of(rig: &Rig) -> Self {
        let copy = tempfile::tempdir().unwrap();
        for name in ["store.db", "store.db-wal"] {
            let from = rig.issuer_state().join(name);
            if from.exists() {
                fs::copy(from, copy.path().join(name)).unwrap();
            }
        }
        let url = format!("sqlite://{}", copy.path().join("store.db").display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut evidence = Self::default();
            match SqliteConnection::connect(&url).await {
                Ok(mut store) => evidence.read(&mut store).await,
                Err(error) => evidence.damage.push(error.to_string()),
            }
            evidence
        })
    }

    /// Everything that does not fit together.
    pub(crate) fn problems(&self, held: &Holdings, enrolled: &[Enrolled]) -> Vec<String> {
        let mut problems = self.damage.clone();
        let mut lost = |what: &str, all: &mut dyn Iterator<Item = &String>, there: &dyn Fn(&str) -> bool| {
            problems.extend(all.filter(|one| !there(one)).map(|one| format!("{what}: {one}")));
        };
        lost("an SVID is not in the ledger", &mut held.svids.iter(), &|one| self.events.contains(one));
        lost("a WIT-SVID is not in the ledger", &mut held.wits.iter(), &|one| self.events.contains(one));
        lost("an entry is lost", &mut held.entries.iter(), &|one| self.entries.contains(one));
        lost("a join token is lost", &mut held.tokens.iter(), &|one| self.tokens.contains_key(one));
        lost("a node's SVID is not in the ledger", &mut enrolled.iter().map(|node| &node.serial), &|one| {
            self.events.contains(one)
        });
        if self.changes != (1..=self.head).collect() {
            problems.push(format!("revisions up to {} have gaps: {:?}", self.head, self.changes));
        }
        for kind in ["x509_root", "x509_intermediate", "jwt", "wit"] {
            if self.active.get(kind) != Some(&1) && !self.is_new() {
                problems.push(format!("not one active slot of the kind {kind}: {:?}", self.active));
            }
        }
        self.nodes_fit(enrolled, &mut problems);
        problems
    }

    fn nodes_fit(&self, enrolled: &[Enrolled], problems: &mut Vec<String>) {
        for (node, keys) in self.enrolled.iter().filter(|(_, keys)| keys.len() != 1) {
            problems.push(format!("the token of {node} enrolled {} keys", keys.len()));
        }
        for (node, key) in &self.nodes {
            if self.tokens.get(node) != Some(&Some(key.clone())) {
                problems.push(format!("the node {node} has another key than its token is bound to"));
            }
        }
        for held in enrolled {
            if self.nodes.get(&held.spiffe_id) != Some(&held.key_sha256) {
                problems.push(format!("a machine holds an SVID of {} for a key that is not enrolled", held.spiffe_id));
            }
            if enrolled.iter().any(|other| other.spiffe_id == held.spiffe_id && other.key_sha256 != held.key_sha256) {
                problems.push(format!("two machines hold SVIDs of {}", held.spiffe_id));
            }
        }
    }

    /// Nothing was committed yet: an issuer that was killed while it made its store.
    fn is_new(&self) -> bool {
        self.head == 0
    }

    async fn read(&mut self, store: &mut SqliteConnection) {
        for row in self.rows(store, "SELECT batch, format, count, records, personal FROM ledger ORDER BY batch").await {
            self.batch(&row);
        }
        for row in self.rows(store, "SELECT n FROM store").await {
            self.head = row.get(0);
        }
        for row in self.rows(store, "SELECT n FROM changes").await {
            self.changes.insert(row.get(0));
        }
        for row in self.rows(store, "SELECT name FROM entries").await {
            self.entries.insert(row.get(0));
        }
        for row in self.rows(store, "SELECT kind FROM slots WHERE state = 'active'").await {
            *self.active.entry(row.get(0)).or_default() += 1;
        }
        for row in self.rows(store, "SELECT spiffe_id, bound_key_sha256 FROM join_tokens").await {
            self.tokens.insert(row.get(0), row.get::<Option<Vec<u8>>, _>(1).map(hex::encode));
        }
        for row in self.rows(store, "SELECT spiffe_id, key_sha256 FROM nodes").await {
            self.nodes.insert(row.get(0), hex::encode(row.get::<Vec<u8>, _>(1)));
        }
        for row in self.rows(store, "PRAGMA integrity_check").await {
            let found: String = row.get(0);
            self.damage.extend((found != "ok").then_some(found));
        }
    }

    async fn rows(&mut self, store: &mut SqliteConnection, query: &'static str) -> Vec<SqliteRow> {
        let found = sqlx::query(query).fetch_all(store).await;
        found.unwrap_or_else(|error| {
            self.damage.push(format!("{query}: {error}"));
            Vec::new()
        })
    }

    fn batch(&mut self, row: &SqliteRow) {
        let batch = Batch {
            id: row.get::<i64, _>(0).try_into().unwrap(),
            format: row.get::<i64, _>(1).try_into().unwrap(),
            count: row.get::<i64, _>(2).try_into().unwrap(),
            records: row.get::<Vec<u8>, _>(3).into(),
            personal: row.get::<Vec<u8>, _>(4).into(),
        };
        match batch.read() {
            Ok(records) => {
                for logged in records {
                    let record = logged.record;
                    if let (Kind::NodeAttested, Some(node), Some(key)) = (record.kind, &record.node, record.key_sha256)
                    {
                        self.enrolled.entry(node.to_string()).or_default().insert(hex::encode(key));
                    }
                    self.events.insert(record.event.to_string());
                }
            }
            Err(error) => self.damage.push(format!("batch {}: {error}", batch.id)),
        }
    }
}
