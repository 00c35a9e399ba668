//! Begins and renewals of tasks that were refused, for whoever asks why.

use mayfly_sdk::{Serial, Timestamp};

use super::row::get;
use super::tasks::serial;
use super::transaction::{Tx, Work};
use super::{Store, StoreError};
use crate::ledger::Record;

/// The most that are kept; beyond them the oldest are forgotten.
const KEPT: i64 = 10_000;
/// How long they are kept.
const KEPT_MS: i64 = 7 * 86_400_000;

/// Records a refusal, with what it rested on.
#[derive(Debug, Clone)]
pub struct RefuseTask {
    /// The id of its record.
    pub id: Serial,
    /// What was asked and why it was refused, JSON.
    pub document: String,
    /// Written in the same transaction.
    pub records: Vec<Record>,
}

impl Work for RefuseTask {
    type Answer = ();

    async fn run(self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let inserted = sqlx::query("INSERT INTO task_refusals (trust_domain, id, document) VALUES ($1, $2, $3)")
            .bind(tx.trust_domain)
            .bind(self.id.as_bytes().to_vec())
            .bind(self.document)
            .execute(&mut *tx.connection)
            .await;
        inserted.map_err(|error| StoreError::if_taken(error, "this refusal exists already"))?;
        tx.record(&self.records)
    }
}

/// Forgets the oldest refusals, where there are too many or they are too old. When there is something to forget next, if ever.
pub(super) async fn forget(tx: &mut Tx<'_>) -> Result<Option<Timestamp>, StoreError> {
    let oldest = tx.now.unix_s().saturating_mul(1000).saturating_sub(KEPT_MS).max(0);
    // Ids begin with the time: 48 bits of milliseconds.
    let mut oldest_id = [0_u8; 16];
    oldest_id[..6].copy_from_slice(oldest.to_be_bytes().split_at(2).1);
    sqlx::query(
        "DELETE FROM task_refusals WHERE trust_domain = $1 AND (id < $2 OR id <= (
             SELECT id FROM task_refusals WHERE trust_domain = $1 ORDER BY id DESC LIMIT 1 OFFSET $3))",
    )
    .bind(tx.trust_domain)
    .bind(oldest_id.to_vec())
    .bind(KEPT)
    .execute(&mut *tx.connection)
    .await?;
    let oldest = sqlx::query("SELECT id FROM task_refusals WHERE trust_domain = $1 ORDER BY id LIMIT 1")
        .bind(tx.trust_domain)
        .fetch_optional(&mut *tx.connection)
        .await?;
    let Some(oldest) = oldest else { return Ok(None) };
    let until_ms = serial(&oldest, 0)?.time_ms().saturating_add(KEPT_MS);
    Ok(Some(Timestamp::from_unix_s(until_ms / 1000 + 1)))
}

impl Store {
    /// What was refused under this id, JSON; not once it was forgotten.
    ///
    /// # Errors
    /// The disk's.
    pub async fn task_refusal(&self, id: Serial) -> Result<Option<String>, StoreError> {
        self.document_of("SELECT document FROM task_refusals WHERE trust_domain = $1 AND id = $2", id).await
    }

    /// Why a task was begun, JSON.
    ///
    /// # Errors
    /// The disk's.
    pub async fn task_decision(&self, id: Serial) -> Result<Option<String>, StoreError> {
        self.document_of("SELECT decision FROM tasks WHERE trust_domain = $1 AND id = $2", id).await
    }

    async fn document_of(&self, query: &'static str, id: Serial) -> Result<Option<String>, StoreError> {
        let mut reader = self.reader().await?;
        let row = sqlx::query(query)
            .bind(self.trust_domain().as_str())
            .bind(id.as_bytes().to_vec())
            .fetch_optional(&mut *reader)
            .await?;
        Ok(row.map(|row| get::<Option<String>>(&row, 0)).transpose()?.flatten())
    }
}
