//! The transaction that a group of requests shares, and the work that one request does in it.

use std::future::Future;

use futures_util::future::BoxFuture;
use mayfly_sdk::{Revision, Timestamp};
use tokio::sync::oneshot;

use super::StoreError;
use super::connection::Connection;
use super::row::{stored, unsigned};
use crate::ledger::{Encoded, Record};

/// What a request does inside the transaction. It is run at most once; if it fails by its own fault
/// ([`StoreError::is_requests_own`]), it is undone and its neighbours go on.
pub(crate) trait Work: Send + 'static {
    /// What the caller gets once everything is durable.
    type Answer: Send + 'static;

    /// Does it.
    fn run(self, tx: &mut Tx<'_>) -> impl Future<Output = Result<Self::Answer, StoreError>> + Send;
}

/// The transaction as a request sees it.
pub(crate) struct Tx<'a> {
    /// Inside `BEGIN`.
    pub(super) connection: &'a mut Connection,
    /// Whether it is one request's and nobody else's: undoing that request is undoing everything.
    pub(super) alone: bool,
    /// Whose store.
    pub(super) trust_domain: &'a str,
    /// The time of this transaction.
    pub(super) now: Timestamp,
    /// Where the history of changes stands; written at the end.
    pub(super) head: Head,
    /// Records to be written at the end.
    pub(super) parts: Vec<Encoded>,
}

/// Where the history stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// The newest change.
    pub(super) revision: Revision,
    /// The order that the next new entry gets.
    pub(super) next_order: u64,
    /// Rows ever written to `changes`.
    pub(super) changed: u64,
    /// Batches ever written to the ledger.
    pub(super) batch: u64,
}

/// What the disk did not yet undo.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    head: Head,
    parts: usize,
}

impl Tx<'_> {
    /// Adds records to those of the transaction.
    pub(super) fn record(&mut self, records: &[Record]) -> Result<(), StoreError> {
        // As parts of their own, so that an undone request's are cut off again.
        self.parts.extend(Encoded::new(records)?);
        Ok(())
    }

    /// Adds records of a change: those without a revision get this one.
    pub(super) fn record_at(&mut self, mut records: Vec<Record>, revision: Revision) -> Result<(), StoreError> {
        for record in &mut records {
            record.revision.get_or_insert(revision);
        }
        self.record(&records)
    }

    /// Begins what can be undone alone.
    pub(super) async fn mark(&mut self) -> Result<Mark, StoreError> {
        if !self.alone {
            sqlx::query("SAVEPOINT request").execute(&mut *self.connection).await?;
        }
        Ok(Mark { head: self.head, parts: self.parts.len() })
    }

    /// Keeps what was done since the mark.
    pub(super) async fn keep(&mut self) -> Result<(), StoreError> {
        if !self.alone {
            sqlx::query("RELEASE SAVEPOINT request").execute(&mut *self.connection).await?;
        }
        Ok(())
    }

    /// Undoes what was done since the mark.
    pub(super) async fn undo(&mut self, mark: Mark) -> Result<(), StoreError> {
        if self.alone {
            sqlx::query("ROLLBACK").execute(&mut *self.connection).await?;
            begin(self.connection).await?;
        } else {
            sqlx::query("ROLLBACK TO SAVEPOINT request").execute(&mut *self.connection).await?;
            self.keep().await?;
        }
        self.head = mark.head;
        self.parts.truncate(mark.parts);
        Ok(())
    }
}

/// Begins a transaction that writes.
pub(super) async fn begin(connection: &mut Connection) -> Result<(), sqlx::Error> {
    sqlx::query("BEGIN IMMEDIATE").execute(connection).await?;
    Ok(())
}

impl Head {
    /// As the database has it.
    pub(super) async fn read(connection: &mut Connection, trust_domain: &str) -> Result<Option<Self>, StoreError> {
        let row: Option<(i64, i64, i64)> =
            sqlx::query_as("SELECT epoch, n, next_order FROM store WHERE trust_domain = $1")
                .bind(trust_domain)
                .fetch_optional(&mut *connection)
                .await?;
        let Some((epoch, n, next_order)) = row else { return Ok(None) };
        let last = "SELECT COALESCE(MAX(seq), 0) FROM changes WHERE trust_domain = $1";
        let changed: i64 = sqlx::query_scalar(last).bind(trust_domain).fetch_one(&mut *connection).await?;
        let last = "SELECT COALESCE(MAX(batch), 0) FROM ledger WHERE trust_domain = $1";
        let batch: i64 = sqlx::query_scalar(last).bind(trust_domain).fetch_one(&mut *connection).await?;
        Ok(Some(Self {
            revision: Revision { epoch: unsigned(epoch)?, n: unsigned(n)? },
            next_order: unsigned(next_order)?,
            changed: unsigned(changed)?,
            batch: unsigned(batch)?,
        }))
    }

    /// Writes what a change moved.
    pub(super) async fn write(&self, connection: &mut Connection, trust_domain: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE store SET epoch = $1, n = $2, next_order = $3 WHERE trust_domain = $4")
            .bind(stored(self.revision.epoch))
            .bind(stored(self.revision.n))
            .bind(stored(self.next_order))
            .bind(trust_domain)
            .execute(connection)
            .await?;
        Ok(())
    }
}

/// Work of any kind, with somebody who waits for it.
pub(super) trait Job: Send {
    /// Does the work; what it says is held back until it is durable.
    fn run<'t>(self: Box<Self>, tx: &'t mut Tx<'_>) -> BoxFuture<'t, Settled>;

    /// Says that it was not done.
    fn refuse(self: Box<Self>, error: StoreError);
}

/// Work that was done or failed, and waits for the commit.
pub(super) struct Settled {
    /// Why it failed.
    pub(super) failed: Option<StoreError>,
    answer: Box<dyn FnOnce(Result<(), StoreError>) + Send>,
}

impl Settled {
    /// Tells the caller, now that the commit's outcome is known.
    pub(super) fn answer(self, committed: Result<(), StoreError>) {
        (self.answer)(committed);
    }
}

/// [`Work`], what follows once it is durable, and the one who waits for its answer.
pub(super) struct Asked<W: Work, T> {
    pub(super) work: W,
    /// Called in the order of the commits.
    pub(super) then: T,
    pub(super) answer: oneshot::Sender<Result<W::Answer, StoreError>>,
}

impl<W: Work, T: FnOnce(&W::Answer) + Send + 'static> Job for Asked<W, T> {
    fn run<'t>(self: Box<Self>, tx: &'t mut Tx<'_>) -> BoxFuture<'t, Settled> {
        Box::pin(async move {
            let Self { work, then, answer } = *self;
            let outcome = work.run(tx).await;
            Settled {
                failed: outcome.as_ref().err().cloned(),
                answer: Box::new(move |committed| {
                    let outcome = outcome.and_then(|done| committed.map(|()| done));
                    if let Ok(done) = &outcome {
                        then(done);
                    }
                    tell(answer, outcome);
                }),
            }
        })
    }

    fn refuse(self: Box<Self>, error: StoreError) {
        tell(self.answer, Err(error));
    }
}

/// Answers somebody who may have gone.
pub(super) fn tell<T>(to: oneshot::Sender<T>, answer: T) {
    if to.send(answer).is_err() {
        tracing::debug!("nobody waits for this answer any more");
    }
}
