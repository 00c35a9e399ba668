//! Registration entries.

use futures_util::TryStreamExt;
use mayfly_sdk::{Revision, Timestamp};
use sqlx::QueryBuilder;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::StoreError;
use super::change::Committed;
use super::connection::{Connection, Engine, Row, close};
use super::row::{get, revision, stored, stored_len, time, unsigned};
use super::transaction::Tx;

/// An entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRow {
    /// Given by the issuer; a new one when a name is used again.
    pub uid: String,
    /// Unique in the trust domain.
    pub name: String,
    /// Whose file it came from.
    pub owner: String,
    /// The entry as canonical JSON.
    pub document: String,
    /// The change that wrote it last.
    pub revision: Revision,
    /// The change that last altered what is issued, as [`issuance`] writes it.
    pub issuance: u64,
    /// Ascending in the order of creation.
    pub order: u64,
    /// When the uid was first put.
    pub created_at: Timestamp,
    /// When it was last put.
    pub updated_at: Timestamp,
}

/// An entry to be created or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutEntry {
    /// Which entry; one that is new creates it.
    pub uid: String,
    /// Unique in the trust domain, else [`StoreError::Conflict`](super::StoreError::Conflict).
    pub name: String,
    /// Whose file it came from.
    pub owner: String,
    /// The entry as canonical JSON.
    pub document: String,
    /// Whether what is issued changes, so that SVIDs are minted anew. Of a new entry it always does.
    pub reissues: bool,
}

impl EntryRow {
    /// What the store holds after the `index`-th put of a change, so that memory follows without reading. `previous`:
    /// the row with this uid before. `at` is [`Change::at`](super::Change::at).
    #[must_use]
    pub fn next(previous: Option<&Self>, put: PutEntry, committed: Committed, index: u64, at: Timestamp) -> Self {
        let PutEntry { uid, name, owner, document, reissues } = put;
        let kept = previous.filter(|_| !reissues);
        Self {
            uid,
            name,
            owner,
            document,
            revision: committed.revision,
            issuance: kept.map_or_else(|| issuance(committed.revision), |row| row.issuance),
            order: previous.map_or_else(|| committed.first_order.saturating_add(index), |row| row.order),
            created_at: previous.map_or(at, |row| row.created_at),
            updated_at: at,
        }
    }
}

/// A revision as one number, which no other revision of this store has: the epoch in the bits from 40 on, then `n`.
#[must_use]
pub fn issuance(revision: Revision) -> u64 {
    const N_BITS: u32 = 40;
    revision.epoch << N_BITS | revision.n & ((1 << N_BITS) - 1)
}

/// Rows of one statement.
const ROWS: usize = 200;
/// Rows that the loader hands over at a time.
const PAGE: usize = 4096;

/// Every entry, read while the caller takes them: a million never stand in memory twice.
pub struct EntryPages {
    pages: mpsc::Receiver<Result<Vec<EntryRow>, StoreError>>,
    _reader: JoinSet<()>,
}

impl EntryPages {
    /// The next few thousand, in no order; `None` at the end.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::Io`].
    pub async fn next(&mut self) -> Result<Option<Vec<EntryRow>>, StoreError> {
        self.pages.recv().await.transpose()
    }

    /// All of them.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::Io`].
    pub async fn all(mut self) -> Result<Vec<EntryRow>, StoreError> {
        let mut all = Vec::new();
        while let Some(page) = self.next().await? {
            all.extend(page);
        }
        Ok(all)
    }

    /// Begins to read. One statement, so that it sees one state of the store.
    pub(super) fn read(mut connection: Connection, trust_domain: String) -> Self {
        let (to, pages) = mpsc::channel(2);
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            let read = read_pages(&mut connection, &trust_domain, &to).await;
            close(connection).await;
            if let Err(error) = read
                && to.send(Err(error)).await.is_err()
            {
                tracing::debug!("nobody reads the entries any more");
            }
        });
        Self { pages, _reader: reader }
    }
}

impl std::fmt::Debug for EntryPages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntryPages").finish_non_exhaustive()
    }
}

async fn read_pages(
    connection: &mut Connection,
    trust_domain: &str,
    to: &mpsc::Sender<Result<Vec<EntryRow>, StoreError>>,
) -> Result<(), StoreError> {
    let mut rows = sqlx::query(
        "SELECT uid, name, owner, document, epoch, n, issuance, entry_order, created_at, updated_at
         FROM entries WHERE trust_domain = $1",
    )
    .bind(trust_domain)
    .fetch(connection);
    let mut page = Vec::with_capacity(PAGE);
    while let Some(row) = rows.try_next().await? {
        page.push(entry(&row)?);
        if page.len() == PAGE {
            let full = std::mem::replace(&mut page, Vec::with_capacity(PAGE));
            if to.send(Ok(full)).await.is_err() {
                return Ok(());
            }
        }
    }
    if !page.is_empty() && to.send(Ok(page)).await.is_err() {
        tracing::debug!("nobody reads the entries any more");
    }
    Ok(())
}

fn entry(row: &Row) -> Result<EntryRow, StoreError> {
    Ok(EntryRow {
        uid: get(row, 0)?,
        name: get(row, 1)?,
        owner: get(row, 2)?,
        document: get(row, 3)?,
        revision: revision(row, 4)?,
        issuance: unsigned(get(row, 6)?)?,
        order: unsigned(get(row, 7)?)?,
        created_at: time(row, 8)?,
        updated_at: time(row, 9)?,
    })
}

/// Creates or replaces them, as [`EntryRow::next`] says.
pub(super) async fn put(tx: &mut Tx<'_>, puts: Vec<PutEntry>, at: Timestamp) -> Result<(), StoreError> {
    let mut puts = (tx.head.next_order..).zip(puts).peekable();
    while let Some((order, _)) = puts.peek() {
        tx.head.next_order = *order;
        let (reissued, kept): (Vec<_>, Vec<_>) = puts.by_ref().take(ROWS).partition(|(_, put)| put.reissues);
        tx.head.next_order += stored_len(reissued.len() + kept.len());
        upsert(tx, reissued, ", issuance = excluded.issuance", at).await?;
        upsert(tx, kept, "", at).await?;
    }
    Ok(())
}

/// Creates entries with their orders, or replaces those with the same uid but for order and creation. `also`: what else
/// is replaced.
async fn upsert(
    tx: &mut Tx<'_>,
    puts: Vec<(u64, PutEntry)>,
    also: &'static str,
    at: Timestamp,
) -> Result<(), StoreError> {
    if puts.is_empty() {
        return Ok(());
    }
    let (trust_domain, revision) = (tx.trust_domain, tx.head.revision);
    let whole = puts.len() == ROWS || puts.len() == 1;
    let mut query = QueryBuilder::<Engine>::new(
        "INSERT INTO entries (trust_domain, uid, name, owner, document, epoch, n, issuance, entry_order, created_at, \
         updated_at) ",
    );
    query.push_values(puts, |mut row, (order, put)| {
        row.push_bind(trust_domain)
            .push_bind(put.uid)
            .push_bind(put.name)
            .push_bind(put.owner)
            .push_bind(put.document)
            .push_bind(stored(revision.epoch))
            .push_bind(stored(revision.n))
            .push_bind(stored(issuance(revision)))
            .push_bind(stored(order))
            .push_bind(at.unix_s())
            .push_bind(at.unix_s());
    });
    query.push(
        " ON CONFLICT (trust_domain, uid) DO UPDATE SET name = excluded.name, owner = excluded.owner, \
         document = excluded.document, epoch = excluded.epoch, n = excluded.n, updated_at = excluded.updated_at",
    );
    query.push(also);
    let written = query.build().persistent(whole).execute(&mut *tx.connection).await;
    written.map_err(|error| StoreError::if_taken(error, "another entry has one of these names"))?;
    Ok(())
}

/// Deletes the entries with these uids, each of which must be there.
pub(super) async fn delete(tx: &mut Tx<'_>, uids: &[String]) -> Result<(), StoreError> {
    for some in uids.chunks(ROWS) {
        let mut query = QueryBuilder::<Engine>::new("DELETE FROM entries WHERE trust_domain = ");
        query.push_bind(tx.trust_domain).push(" AND uid IN ");
        query.push_tuples(some, |mut row, uid| {
            row.push_bind(uid.as_str());
        });
        let whole = some.len() == ROWS || some.len() == 1;
        let deleted = query.build().persistent(whole).execute(&mut *tx.connection).await?;
        if deleted.rows_affected() != stored_len(some.len()) {
            let what = if let [uid] = some { format!("the entry {uid}") } else { "one of the entries".into() };
            return Err(StoreError::Missing { what });
        }
    }
    Ok(())
}
