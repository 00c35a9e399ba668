//! The history of changes, for those who resume.

use futures_util::TryStreamExt;
use mayfly_sdk::Revision;
use sqlx::QueryBuilder;

use super::StoreError;
use super::connection::{Connection, Engine};
use super::row::{get, revision, stored, word};
use super::slots::stored_as_text;
use super::transaction::{Tx, Work};
use crate::ledger::Record;

stored_as_text! {
    /// What kind of thing a change touched.
    ChangedKind {
        /// An entry; the key is its uid.
        Entry = "entry",
        /// A bundle; the key is its trust domain.
        Bundle = "bundle",
        /// An authority; the key is its id.
        Slot = "slot",
        /// A node's state; the key is its SPIFFE ID.
        Node = "node",
        /// A set of policies; the key is its name.
        Policy = "policy",
    }
}

/// One thing that one change touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRow {
    /// The change.
    pub revision: Revision,
    /// What kind of thing.
    pub kind: ChangedKind,
    /// Which one.
    pub key: String,
    /// Whether it is gone.
    pub deleted: bool,
}

/// The newest changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Whoever holds this revision or a later one resumes by deltas; others, and those of an older epoch, need a
    /// snapshot.
    pub floor: Revision,
    /// Every change after the floor, in order.
    pub changes: Vec<ChangeRow>,
}

/// Changed things that are kept, about: as many whole changes as fit.
const KEEP: u64 = 100_000;
/// Things more than that before the oldest are deleted, so that it is done seldom.
const SLACK: u64 = 10_000;
/// Rows of one statement.
const ROWS: usize = 500;

/// One thing that the change in progress touches.
pub(super) struct Touched {
    pub(super) kind: ChangedKind,
    pub(super) key: String,
    pub(super) deleted: bool,
}

impl Touched {
    /// An entry was put or deleted.
    pub(super) fn entry(uid: &str, deleted: bool) -> Self {
        Self { kind: ChangedKind::Entry, key: uid.to_owned(), deleted }
    }
}

/// Writes what the newest change touched.
pub(super) async fn insert(tx: &mut Tx<'_>, touched: &[Touched]) -> Result<(), StoreError> {
    let (trust_domain, revision) = (tx.trust_domain, tx.head.revision);
    for some in touched.chunks(ROWS) {
        let mut query =
            QueryBuilder::<Engine>::new("INSERT INTO changes (seq, trust_domain, epoch, n, kind, key, deleted) ");
        let head = &mut tx.head;
        query.push_values(some, |mut row, one| {
            head.changed += 1;
            row.push_bind(stored(head.changed))
                .push_bind(trust_domain)
                .push_bind(stored(revision.epoch))
                .push_bind(stored(revision.n))
                .push_bind(one.kind.as_str())
                .push_bind(one.key.as_str())
                .push_bind(i64::from(one.deleted));
        });
        query.build().persistent(some.len() == 1).execute(&mut *tx.connection).await?;
    }
    Ok(())
}

/// Deletes the oldest changes, each whole, if there are too many. `before` and `now`: rows ever written.
pub(super) async fn prune(
    connection: &mut Connection,
    trust_domain: &str,
    before: u64,
    now: u64,
) -> Result<(), StoreError> {
    if now <= KEEP || before / SLACK == now / SLACK {
        return Ok(());
    }
    sqlx::query(
        "DELETE FROM changes WHERE trust_domain = $1
         AND n <= (SELECT n FROM changes WHERE trust_domain = $1 AND seq = $2)",
    )
    .bind(trust_domain)
    .bind(stored(now - KEEP))
    .execute(connection)
    .await?;
    Ok(())
}

/// The changes that are kept. `head`: the newest revision.
pub(super) async fn load(
    connection: &mut Connection,
    trust_domain: &str,
    head: Revision,
) -> Result<History, StoreError> {
    let mut rows = sqlx::query("SELECT epoch, n, kind, key, deleted FROM changes WHERE trust_domain = $1 ORDER BY seq")
        .bind(trust_domain)
        .fetch(connection);
    let mut changes = Vec::new();
    while let Some(row) = rows.try_next().await? {
        changes.push(ChangeRow {
            revision: revision(&row, 0)?,
            kind: word(&row, 2, ChangedKind::parse)?,
            key: get(&row, 3)?,
            deleted: get::<i64>(&row, 4)? != 0,
        });
    }
    let floor = changes
        .first()
        .map_or(head, |oldest: &ChangeRow| Revision { n: oldest.revision.n.saturating_sub(1), ..oldest.revision });
    Ok(History { floor, changes })
}

/// Begins a new epoch: whoever holds a revision of the old one needs a snapshot, and no number of the old one comes
/// back with another meaning. For a store that was restored from a backup.
pub(super) struct BeginEpoch {
    /// The epoch is not below this one: the same backup may have been restored before.
    pub(super) least: u64,
    pub(super) records: Vec<Record>,
}

impl Work for BeginEpoch {
    type Answer = Revision;

    async fn run(self, tx: &mut Tx<'_>) -> Result<Revision, StoreError> {
        tx.head.revision = Revision { epoch: (tx.head.revision.epoch + 1).max(self.least), n: 0 };
        sqlx::query("DELETE FROM changes WHERE trust_domain = $1")
            .bind(tx.trust_domain)
            .execute(&mut *tx.connection)
            .await?;
        tx.record_at(self.records, tx.head.revision)?;
        Ok(tx.head.revision)
    }
}
