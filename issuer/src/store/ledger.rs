//! The ledger's rows, and how they are followed.

use std::collections::VecDeque;

use bytes::Bytes;
use mayfly_sdk::Serial;
use tokio::sync::watch;

use super::connection::{Connection, Row};
use super::row::{get, stored, unsigned};
use super::{Store, StoreError};
use crate::ledger::{BATCH_FORMAT, Batch, Encoded, Logged, MAX_SPAN_MS};

/// Batches that a follower takes at a time.
const PAGE: i64 = 8;
const COLUMNS: usize = 5;

/// Reads the ledger in commit order, and waits at its end. It misses nothing and holds a few batches at most, however
/// slow its reader is.
pub struct Follower {
    store: Store,
    durable: watch::Receiver<u64>,
    /// The last batch that was read.
    after: u64,
    /// Records of the first batch that are older than what was asked for.
    skip: u64,
    pending: VecDeque<Batch>,
}

impl Follower {
    /// The next records, as soon as there are any: those of one group commit, or of a part of one.
    ///
    /// # Errors
    /// [`StoreError::Shut`] at the store's end, [`StoreError::Corrupt`] if the ledger was altered, [`StoreError::Io`].
    pub async fn next(&mut self) -> Result<Vec<Logged>, StoreError> {
        loop {
            let durable = *self.durable.borrow_and_update();
            if let Some(records) = self.page(durable).await? {
                return Ok(records);
            }
            self.durable.changed().await.ok().ok_or(StoreError::Shut)?;
        }
    }

    /// The next records up to the batch `durable`, without waiting.
    async fn page(&mut self, durable: u64) -> Result<Option<Vec<Logged>>, StoreError> {
        if self.pending.is_empty() && self.after < durable {
            self.pending = self.store.batches_after(self.after).await?.into();
        }
        let Some(batch) = self.pending.pop_front() else { return Ok(None) };
        self.after = batch.id;
        let mut records = batch.read()?;
        let skipped = usize::try_from(std::mem::take(&mut self.skip)).unwrap_or(usize::MAX).min(records.len());
        records.drain(..skipped);
        Ok(Some(records))
    }
}

impl Store {
    /// The newest `last` records, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the ledger was altered, [`StoreError::Io`].
    pub async fn tail(&self, last: usize) -> Result<Vec<Logged>, StoreError> {
        let mut follower = self.follow(last).await?;
        let end = *follower.durable.borrow();
        let mut all = Vec::new();
        while follower.after < end
            && let Some(records) = follower.page(end).await?
        {
            all.extend(records);
        }
        // Batches that became durable while it was read.
        all.drain(..all.len().saturating_sub(last));
        Ok(all)
    }

    /// Follows the ledger, beginning with the newest `last` records; 0: with the next one.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub async fn follow(&self, last: usize) -> Result<Follower, StoreError> {
        let durable = self.durable();
        let end = *durable.borrow();
        let (after, skip) = self.start_of_tail(end, u64::try_from(last).unwrap_or(u64::MAX)).await?;
        Ok(Follower { store: self.clone(), durable, after, skip, pending: VecDeque::new() })
    }

    /// Every record made durable from now on; [`follow`](Self::follow) from nothing before.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub async fn subscribe(&self) -> Result<Follower, StoreError> {
        self.follow(0).await
    }

    /// The record with this id: a serial number or `jti` finds its issue.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the ledger was altered, [`StoreError::Io`].
    pub async fn find(&self, event: Serial) -> Result<Option<Logged>, StoreError> {
        let ms = event.time_ms();
        let mut reader = self.reader().await?;
        let rows = sqlx::query(
            "SELECT batch, format, count, records, personal FROM ledger
             WHERE trust_domain = $1 AND first_ms BETWEEN $2 AND $3 AND last_ms >= $3 ORDER BY batch",
        )
        .bind(self.trust_domain().as_str())
        .bind(ms - MAX_SPAN_MS)
        .bind(ms)
        .fetch_all(&mut *reader)
        .await?;
        drop(reader);
        for row in &rows {
            if let Some(found) = batch(row)?.find(event)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn batches_after(&self, after: u64) -> Result<Vec<Batch>, StoreError> {
        let mut reader = self.reader().await?;
        let rows = sqlx::query(
            "SELECT batch, format, count, records, personal FROM ledger
             WHERE trust_domain = $1 AND batch > $2 ORDER BY batch LIMIT $3",
        )
        .bind(self.trust_domain().as_str())
        .bind(stored(after))
        .bind(PAGE)
        .fetch_all(&mut *reader)
        .await?;
        rows.iter().map(batch).collect()
    }

    /// The batch before the one with the first of the `last` records up to `end`, and how many records of that one are
    /// older.
    async fn start_of_tail(&self, end: u64, last: u64) -> Result<(u64, u64), StoreError> {
        let mut counted = 0;
        let mut start = end;
        while counted < last && start > 0 {
            let mut reader = self.reader().await?;
            let counts: Vec<i64> = sqlx::query_scalar(
                "SELECT count FROM ledger WHERE trust_domain = $1 AND batch <= $2 ORDER BY batch DESC LIMIT 256",
            )
            .bind(self.trust_domain().as_str())
            .bind(stored(start))
            .fetch_all(&mut *reader)
            .await?;
            drop(reader);
            if counts.is_empty() {
                break;
            }
            for count in counts {
                if counted >= last {
                    break;
                }
                counted += unsigned(count)?;
                start -= 1;
            }
        }
        Ok((start, counted.saturating_sub(last)))
    }
}

/// Writes one row.
pub(super) async fn insert_batch(
    connection: &mut Connection,
    trust_domain: &str,
    id: u64,
    part: Encoded,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO ledger (batch, trust_domain, first_ms, last_ms, count, format, records, personal)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(stored(id))
    .bind(trust_domain)
    .bind(part.first_ms)
    .bind(part.last_ms)
    .bind(i64::from(part.count))
    .bind(i64::from(BATCH_FORMAT))
    .bind(part.records)
    .bind(part.personal)
    .execute(connection)
    .await?;
    Ok(())
}

fn batch(row: &Row) -> Result<Batch, StoreError> {
    debug_assert_eq!(sqlx::Row::len(row), COLUMNS, "the columns of every query of batches");
    let out_of_range = || StoreError::Corrupt { what: "a count of the ledger is out of range".into() };
    Ok(Batch {
        id: unsigned(get(row, 0)?)?,
        format: u16::try_from(get::<i64>(row, 1)?).ok().ok_or_else(out_of_range)?,
        count: u32::try_from(get::<i64>(row, 2)?).ok().ok_or_else(out_of_range)?,
        records: Bytes::from(get::<Vec<u8>>(row, 3)?),
        personal: Bytes::from(get::<Vec<u8>>(row, 4)?),
    })
}
