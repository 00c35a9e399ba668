//! The one writer: everything that waits becomes one transaction.

use std::path::PathBuf;
use std::time::Duration;

use mayfly_sdk::Clock;
use tokio::sync::{mpsc, oneshot, watch};

use super::connection::{Connection, Lock, Options, close, connect_writer};
use super::ledger::insert_batch;
use super::transaction::{Head, Job, Settled, Tx, begin, tell};
use super::{StoreError, changes};
use crate::ledger::Encoded;

/// Requests that may wait before callers do.
pub(super) const QUEUE: usize = 4096;
/// Requests of one transaction.
const MAX_REQUESTS: usize = 1024;
/// Bytes of records of one transaction; the request that passes it is the last.
const MAX_BYTES: usize = 8 << 20;

/// How long nothing is asked, after a failure, until the writer tries by itself: whoever waits for the issuer to be ready
/// asks nothing.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// What is asked of the writer.
pub(super) enum Request {
    /// Records alone, encoded by their caller: the path of every issue.
    Record { parts: Vec<Encoded>, done: oneshot::Sender<Result<(), StoreError>> },
    /// Anything else.
    Work(Box<dyn Job>),
    /// Ends the writer, once everything before it is answered.
    Shut,
}

/// The writer's own state. It ends when nobody can ask any more.
pub(super) struct Writer {
    pub(super) queue: mpsc::Receiver<Request>,
    pub(super) clock: Clock,
    pub(super) directory: PathBuf,
    pub(super) options: Options,
    /// Lost when the engine's thread died; made anew for the next group.
    pub(super) connection: Option<Connection>,
    pub(super) head: Head,
    /// Tells followers of the ledger which batch is durable.
    pub(super) durable: watch::Sender<u64>,
    /// Set after a failed commit, until the database was asked what became of it.
    pub(super) in_doubt: bool,
    /// Why the last group failed, as long as nothing was written since: logged once, and shown by readiness.
    pub(super) trouble: watch::Sender<Option<StoreError>>,
    /// Let go of once the connection is closed.
    pub(super) _lock: Lock,
}

/// The requests of one transaction.
#[derive(Default)]
struct Group {
    parts: Vec<Encoded>,
    bytes: usize,
    recorders: Vec<oneshot::Sender<Result<(), StoreError>>>,
    jobs: Vec<Box<dyn Job>>,
    last: bool,
}

impl Writer {
    /// Serves until everybody who could ask is gone, or somebody shuts the store.
    pub(super) async fn run(mut self) {
        let mut shut = false;
        while !shut && let Some(first) = self.next().await {
            let mut group = Group::default();
            group.take(first);
            while group.has_room()
                && let Ok(next) = self.queue.try_recv()
            {
                group.take(next);
            }
            shut = group.last;
            self.serve(group).await;
        }
        self.queue.close();
        while let Some(late) = self.queue.recv().await {
            let mut group = Group::default();
            group.take(late);
            group.refuse(&StoreError::Shut);
        }
        if let Some(connection) = self.connection.take() {
            close(connection).await;
        }
    }

    /// The next request. Meanwhile looks from time to time whether what failed works again.
    async fn next(&mut self) -> Option<Request> {
        while self.trouble.borrow().is_some() {
            match tokio::time::timeout(TRY_AGAIN, self.queue.recv()).await {
                Ok(next) => return next,
                Err(_elapsed) => {
                    let written = self.write_nothing_new().await;
                    self.in_doubt |= written.is_err();
                    self.note(written.as_ref());
                }
            }
        }
        self.queue.recv().await
    }

    /// Writes what is there already: as durable as everything else, if it succeeds.
    async fn write_nothing_new(&mut self) -> Result<(), StoreError> {
        self.be_certain().await?;
        let connection = self.connection.as_mut().ok_or(StoreError::Shut)?;
        self.head.write(connection, self.options.trust_domain.as_str()).await
    }

    async fn serve(&mut self, group: Group) {
        if let Err(error) = self.be_certain().await {
            self.note(Err(&error));
            return group.refuse(&error);
        }
        let Group { parts, recorders, jobs, .. } = group;
        let (settled, committed) = self.transact(parts, jobs).await;
        self.in_doubt |= committed.is_err();
        self.note(committed.as_ref());
        for recorder in recorders {
            tell(recorder, committed.clone());
        }
        for one in settled {
            one.answer(committed.clone());
        }
    }

    fn note(&self, outcome: Result<&(), &StoreError>) {
        let failing = self.trouble.borrow().is_some();
        match outcome {
            Err(error) => {
                if !failing {
                    tracing::error!(reason = error.reason().code(), cause = ?error, "the store cannot record");
                }
                self.trouble.send_replace(Some(error.clone()));
            }
            Ok(()) if failing => {
                tracing::info!("the store records again");
                self.trouble.send_replace(None);
            }
            Ok(()) => {}
        }
    }

    /// One transaction: what the jobs said, and whether it is durable.
    async fn transact(
        &mut self,
        parts: Vec<Encoded>,
        jobs: Vec<Box<dyn Job>>,
    ) -> (Vec<Settled>, Result<(), StoreError>) {
        let Some(connection) = self.connection.as_mut() else { return refused(jobs, StoreError::Shut) };
        let trust_domain = self.options.trust_domain.as_str();
        if jobs.is_empty() && parts.len() <= 1 {
            // A statement is a transaction of its own.
            let written = write_parts(connection, trust_domain, self.head, parts).await;
            return (Vec::new(), written.map(|head| self.advance(head)));
        }
        if let Err(error) = begin(connection).await {
            return refused(jobs, error.into());
        }
        let alone = jobs.len() == 1 && parts.is_empty();
        let mut tx = Tx { connection, alone, trust_domain, now: self.clock.now(), head: self.head, parts };
        let (settled, done) = run_all(&mut tx, jobs).await;
        let Tx { connection, head, parts, .. } = tx;
        let finished = match done {
            Ok(()) => finish(connection, trust_domain, self.head, head, parts).await,
            Err(error) => Err(error),
        };
        if finished.is_err()
            && let Err(error) = sqlx::query("ROLLBACK").execute(&mut *connection).await
        {
            // The engine has rolled back already after some errors.
            tracing::debug!(cause = ?error, "there was nothing to roll back");
        }
        (settled, finished.map(|head| self.advance(head)))
    }

    fn advance(&mut self, head: Head) {
        self.head = head;
        if self.durable.send_replace(head.batch) > head.batch {
            tracing::error!("the ledger went backwards");
        }
    }

    /// After a failure: has a connection, and knows what the database holds. A commit may fail and yet be durable.
    async fn be_certain(&mut self) -> Result<(), StoreError> {
        if !self.in_doubt {
            return Ok(());
        }
        let trust_domain = self.options.trust_domain.as_str();
        let stored = match &mut self.connection {
            Some(connection) => Head::read(connection, trust_domain).await,
            None => Err(StoreError::Shut),
        };
        let stored = match stored {
            Err(StoreError::Shut) => {
                let connection = self.connection.insert(connect_writer(&self.directory, &self.options).await?);
                Head::read(connection, trust_domain).await
            }
            other => other,
        };
        let stored = stored?.ok_or_else(|| StoreError::Corrupt { what: "its history is gone".into() })?;
        if stored.revision != self.head.revision {
            return Err(StoreError::Diverged { stored: stored.revision, known: self.head.revision });
        }
        self.advance(stored);
        self.in_doubt = false;
        Ok(())
    }
}

impl Group {
    fn take(&mut self, request: Request) {
        match request {
            Request::Record { parts, done } => {
                for part in parts {
                    self.bytes += part.size();
                    Encoded::gather(&mut self.parts, part);
                }
                self.recorders.push(done);
            }
            Request::Work(job) => self.jobs.push(job),
            Request::Shut => self.last = true,
        }
    }

    fn has_room(&self) -> bool {
        !self.last && self.recorders.len() + self.jobs.len() < MAX_REQUESTS && self.bytes < MAX_BYTES
    }

    fn refuse(self, error: &StoreError) {
        for recorder in self.recorders {
            tell(recorder, Err(error.clone()));
        }
        for job in self.jobs {
            job.refuse(error.clone());
        }
    }
}

fn refused(jobs: Vec<Box<dyn Job>>, error: StoreError) -> (Vec<Settled>, Result<(), StoreError>) {
    for job in jobs {
        job.refuse(error.clone());
    }
    (Vec::new(), Err(error))
}

/// Runs the jobs one after the other, each undone alone if it fails by its own fault. The first failure that is not a
/// request's own ends all.
async fn run_all(tx: &mut Tx<'_>, jobs: Vec<Box<dyn Job>>) -> (Vec<Settled>, Result<(), StoreError>) {
    let mut settled = Vec::with_capacity(jobs.len());
    let mut jobs = jobs.into_iter();
    let outcome = loop {
        let Some(job) = jobs.next() else { break Ok(()) };
        let mark = match tx.mark().await {
            Ok(mark) => mark,
            Err(error) => {
                job.refuse(error.clone());
                break Err(error);
            }
        };
        let one = job.run(tx).await;
        let failed = one.failed.clone();
        settled.push(one);
        let ended = match failed {
            None => tx.keep().await,
            Some(error) if error.is_requests_own() => tx.undo(mark).await,
            Some(error) => Err(error),
        };
        if let Err(error) = ended {
            break Err(error);
        }
    };
    if let Err(error) = &outcome {
        jobs.for_each(|job| job.refuse(error.clone()));
    }
    (settled, outcome)
}

/// Writes what the jobs left for the end, and commits.
async fn finish(
    connection: &mut Connection,
    trust_domain: &str,
    before: Head,
    head: Head,
    parts: Vec<Encoded>,
) -> Result<Head, StoreError> {
    let mut joined = Vec::with_capacity(1);
    for part in parts {
        Encoded::gather(&mut joined, part);
    }
    let head = write_parts(connection, trust_domain, head, joined).await?;
    if (head.revision, head.next_order) != (before.revision, before.next_order) {
        head.write(connection, trust_domain).await?;
    }
    changes::prune(connection, trust_domain, before.changed, head.changed).await?;
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(head)
}

async fn write_parts(
    connection: &mut Connection,
    trust_domain: &str,
    mut head: Head,
    parts: Vec<Encoded>,
) -> Result<Head, StoreError> {
    for part in parts {
        head.batch += 1;
        insert_batch(connection, trust_domain, head.batch, part).await?;
    }
    Ok(head)
}
