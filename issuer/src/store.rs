//! The store: what must survive the process. SQLite through sqlx, one writer, everything else from memory.
//!
//! - **One writer task** owns the only connection that writes. It takes whatever waits, puts it into one transaction,
//!   commits, and answers everybody: one `fsync` serves a thousand issues. A request that fails by its own fault (a
//!   compare-and-set) is rolled back to its savepoint and the others go on; one that fails by the disk fails with all
//!   its neighbours, and the writer tries again with the next ones.
//! - **Durable before visible**: an `Ok` means that it is on disk (WAL, `synchronous=FULL`).
//! - **Revisions** are given inside the transaction, so that they are gap-free and in commit order.
//! - The minting path reads nothing here. What is read later (ledger, history) has a connection of its own.
//!
//! SQL is written so that PostgreSQL takes the same text; only `migrations/` and `connection` name an engine.

mod assertions;
mod bundles;
mod change;
mod changes;
mod connection;
mod entries;
mod error;
mod forget;
mod join_tokens;
mod ledger;
mod machines;
mod nodes;
mod policies;
mod refusals;
mod row;
mod silences;
mod slots;
mod tasks;
mod transaction;
mod used_tokens;
mod users;
mod writer;

use std::path::Path;
use std::sync::Arc;

use mayfly_sdk::{Clock, Revision, SpiffeId, TrustDomain};
use parking_lot::Mutex;
use tokio::sync::{MappedMutexGuard, MutexGuard, mpsc, oneshot, watch};
use tokio::task::JoinSet;

pub use assertions::{AssertionBinding, BindAssertion};
pub use bundles::{BundleRow, PutBundle};
pub use change::{Change, Committed, Op};
pub use changes::{ChangeRow, ChangedKind, History};
pub use connection::{Durability, Options};
pub use entries::{EntryPages, EntryRow, PutEntry, issuance};
pub use error::{Cause, StoreError};
pub use join_tokens::JoinTokenRow;
pub use ledger::Follower;
pub use machines::{EnrolMachine, MachineEnrolment};
pub use nodes::{EnrolNode, Enrolment, NodeRow, NodeState, ReattestNode, RenewNode, Renewal};
pub use policies::{PolicyRow, PutPolicy};
pub use refusals::RefuseTask;
pub use silences::{HushTasks, KeepSilences};
pub use slots::{PutSlot, SlotKey, SlotKind, SlotOrigin, SlotRow, SlotState};
pub use tasks::{BeginTask, MoveTask, Moved, TaskBegin, TaskRow, kind_of};
pub use used_tokens::{RedeemToken, Redemption, UsedToken};
pub use users::{Barred, LogOut, LoggedOut, SuspendUser, TaskUser};

use crate::ledger::{Encoded, Record};
use changes::BeginEpoch;
use connection::Connection;
use forget::ForgetAt;
use join_tokens::CreateJoinToken;
use transaction::{Asked, Head, Work};
use writer::{QUEUE, Request, Writer};

/// A handle on the store. Cheap to clone; the writer ends after the last one is gone, or, waited for, at
/// [`shut`](Self::shut).
///
/// Dropping the future of a request does not take the request back.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    trust_domain: TrustDomain,
    queue: mpsc::Sender<Request>,
    /// `None` once the store is shut.
    reader: tokio::sync::Mutex<Option<Connection>>,
    durable: watch::Receiver<u64>,
    trouble: watch::Receiver<Option<StoreError>>,
    tasks: Mutex<JoinSet<()>>,
    forget_at: ForgetAt,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Nobody can ask any more: the writer ends by itself, and holds the lock until the database is closed. Aborted,
        // it would let go of the lock while the engine's thread still commits.
        self.tasks.get_mut().detach_all();
    }
}

/// What the issuer serves from memory, as the store holds it at start.
#[derive(Debug)]
pub struct Loaded {
    /// Whether the store was made just now.
    pub fresh: bool,
    /// The newest change.
    pub revision: Revision,
    /// Every registration entry. To be read before the first change.
    pub entries: EntryPages,
    /// Every bundle.
    pub bundles: Vec<BundleRow>,
    /// Every authority, by kind, issuer and generation.
    pub slots: Vec<SlotRow>,
    /// Every node.
    pub nodes: Vec<NodeRow>,
    /// Every join token that has not expired long since.
    pub join_tokens: Vec<JoinTokenRow>,
    /// Every task that has not ended, and those that ended before their deadline, which lies ahead.
    pub tasks: Vec<TaskRow>,
    /// For how long nodes that have tasks have been silent, seconds.
    pub silences: Vec<(SpiffeId, u32)>,
    /// Every set of policies, and the one that was deleted last.
    pub policies: Vec<PolicyRow>,
    /// The newest changes.
    pub history: History,
}

impl Store {
    /// Opens the store in `directory`, which is made (0700) if it is missing, and begins to write.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Directory`], [`StoreError::NewerSchema`], [`StoreError::OtherTrustDomain`],
    /// [`StoreError::Corrupt`], or what the disk says.
    pub async fn open(directory: &Path, options: Options, clock: Clock) -> Result<(Self, Loaded), StoreError> {
        let lock = connection::lock(directory)?;
        let mut connection = connection::connect_writer(directory, &options).await?;
        connection::migrate(&mut connection).await?;
        let trust_domain = options.trust_domain.clone();
        let (head, fresh) = head_or_first(&mut connection, &trust_domain).await?;
        let loaded = Loaded {
            fresh,
            revision: head.revision,
            entries: EntryPages::read(connection::connect_reader(directory).await?, trust_domain.to_string()),
            bundles: bundles::load(&mut connection, trust_domain.as_str()).await?,
            slots: slots::load(&mut connection, trust_domain.as_str()).await?,
            nodes: nodes::load(&mut connection, trust_domain.as_str()).await?,
            join_tokens: join_tokens::load(&mut connection, trust_domain.as_str()).await?,
            tasks: tasks::load(&mut connection, trust_domain.as_str(), clock.now()).await?,
            silences: silences::load(&mut connection, trust_domain.as_str()).await?,
            policies: policies::load(&mut connection, trust_domain.as_str()).await?,
            history: changes::load(&mut connection, trust_domain.as_str(), head.revision).await?,
        };

        let (queue, requests) = mpsc::channel(QUEUE);
        let (durable, followers) = watch::channel(head.batch);
        let (trouble, troubles) = watch::channel(None);
        let writer = Writer {
            queue: requests,
            clock,
            directory: directory.into(),
            options,
            connection: Some(connection),
            head,
            durable,
            in_doubt: false,
            trouble,
            _lock: lock,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run());
        let reader = tokio::sync::Mutex::new(Some(connection::connect_reader(directory).await?));
        let shared = Shared {
            trust_domain,
            queue,
            reader,
            durable: followers,
            trouble: troubles,
            tasks: Mutex::new(tasks),
            forget_at: ForgetAt::unknown(),
        };
        Ok((Self(Arc::new(shared)), loaded))
    }

    /// Whether there is a store in this directory.
    #[must_use]
    pub fn is_in(directory: &Path) -> bool {
        directory.join(connection::FILE).is_file()
    }

    /// Makes records durable. They share one commit with whatever else waits; once this is `Ok`, what they record may
    /// be released.
    ///
    /// # Errors
    /// The disk's ([`StoreError::stops_issuing`]); [`StoreError::Ledger`] if a field is too long.
    pub async fn record(&self, records: Vec<Record>) -> Result<(), StoreError> {
        // Here, so that many callers encode at the same time and the writer only joins.
        let parts = Encoded::new(&records)?;
        let (done, answer) = oneshot::channel();
        self.ask(Request::Record { parts, done }, answer).await
    }

    /// Makes a change, as one revision.
    ///
    /// # Errors
    /// [`StoreError::Stale`], [`StoreError::Conflict`], [`StoreError::Missing`], [`StoreError::TooLarge`], or the
    /// disk's.
    pub async fn commit(&self, change: Change) -> Result<Committed, StoreError> {
        self.work(change).await
    }

    /// Stores a join token.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it exists, or the disk's.
    pub async fn create_join_token(&self, token: JoinTokenRow, records: Vec<Record>) -> Result<(), StoreError> {
        self.work(CreateJoinToken { token, records }).await
    }

    /// Consumes a join token for a node key and enrols the node, at once or not at all.
    ///
    /// # Errors
    /// The disk's.
    pub async fn enrol(&self, enrol: EnrolNode) -> Result<Enrolment, StoreError> {
        self.work(enrol).await
    }

    /// Enrols a node whose machine proved possession of a certificate's key.
    ///
    /// # Errors
    /// The disk's.
    pub async fn enrol_machine(&self, enrol: EnrolMachine) -> Result<MachineEnrolment, StoreError> {
        self.work(enrol).await
    }

    /// Enrols a node anew that proved to hold its enrolled key.
    ///
    /// # Errors
    /// The disk's.
    pub async fn reattest_node(&self, reattest: ReattestNode) -> Result<Enrolment, StoreError> {
        self.work(reattest).await
    }

    /// Renews a node's SVID once for each request id.
    ///
    /// # Errors
    /// The disk's.
    pub async fn renew_node(&self, renew: RenewNode) -> Result<Renewal, StoreError> {
        self.work(renew).await
    }

    /// Uses up a token of an identity provider, and records what for, at once or not at all.
    ///
    /// # Errors
    /// The disk's.
    pub async fn redeem_token(&self, redeem: RedeemToken) -> Result<Redemption, StoreError> {
        self.work(redeem).await
    }

    /// Binds the JWT-SVID of a client to the key that came with it, if it is bound to none yet.
    ///
    /// # Errors
    /// The disk's.
    pub async fn bind_assertion(&self, bind: BindAssertion) -> Result<AssertionBinding, StoreError> {
        self.work(bind).await
    }

    /// Begins a task. `then` is called with the outcome once it is durable, in the order of the commits and before whoever
    /// asked is answered, and whether or not he still waits: what is held in memory follows the store by it.
    ///
    /// # Errors
    /// The disk's; `then` is dropped.
    pub async fn begin_task(
        &self,
        begin: BeginTask,
        then: impl FnOnce(&TaskBegin) + Send + 'static,
    ) -> Result<TaskBegin, StoreError> {
        self.work_then(begin, then).await
    }

    /// Moves a task and what is below it to another state; `then` as in [`Store::begin_task`].
    ///
    /// # Errors
    /// The disk's; `then` is dropped.
    pub async fn move_task(
        &self,
        change: MoveTask,
        then: impl FnOnce(&Vec<Moved>) + Send + 'static,
    ) -> Result<Vec<Moved>, StoreError> {
        self.work_then(change, self.0.forget_at.left_by(then)).await
    }

    /// Says of tasks of one tree whether their node is silent; `then` as in [`Store::begin_task`].
    ///
    /// # Errors
    /// The disk's; `then` is dropped.
    pub async fn hush_tasks(
        &self,
        hush: HushTasks,
        then: impl FnOnce(&Vec<Moved>) + Send + 'static,
    ) -> Result<Vec<Moved>, StoreError> {
        self.work_then(hush, then).await
    }

    /// Suspends a user's tasks or resumes them; `then` as in [`Store::begin_task`].
    ///
    /// # Errors
    /// The disk's; `then` is dropped.
    pub async fn suspend_user(
        &self,
        change: SuspendUser,
        then: impl FnOnce(&Vec<Moved>) + Send + 'static,
    ) -> Result<Vec<Moved>, StoreError> {
        self.work_then(change, self.0.forget_at.left_by(then)).await
    }

    /// Logs a user out; `then` as in [`Store::begin_task`].
    ///
    /// # Errors
    /// The disk's; `then` is dropped.
    pub async fn log_out(
        &self,
        logout: LogOut,
        then: impl FnOnce(&LoggedOut) + Send + 'static,
    ) -> Result<LoggedOut, StoreError> {
        self.work_then(logout, self.0.forget_at.left_by(then)).await
    }

    /// Remembers for how long nodes have been silent.
    ///
    /// # Errors
    /// The disk's.
    pub async fn keep_silences(&self, keep: KeepSilences) -> Result<(), StoreError> {
        self.work(keep).await
    }

    /// Records that a begin or a renewal was refused.
    ///
    /// # Errors
    /// The disk's.
    pub async fn refuse_task(&self, refusal: RefuseTask) -> Result<(), StoreError> {
        self.work_then(refusal, self.0.forget_at.left_by(|()| ())).await
    }

    /// Begins a new epoch, after the store was restored from a backup: no revision of the old one is resumed from. It is `least`
    /// or a later one: a backup that is restored twice knows nothing of the first time.
    ///
    /// # Errors
    /// The disk's.
    pub async fn begin_epoch(&self, least: u64, records: Vec<Record>) -> Result<Revision, StoreError> {
        self.work(BeginEpoch { least, records }).await
    }

    /// Answers what was asked before, refuses what comes after, and closes the database.
    pub async fn shut(&self) {
        if self.0.queue.send(Request::Shut).await.is_err() {
            tracing::debug!("the store was shut before");
        }
        let mut tasks = std::mem::take(&mut *self.0.tasks.lock());
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(cause = %error, "the store's writer did not end well");
            }
        }
        if let Some(reader) = self.0.reader.lock().await.take() {
            connection::close(reader).await;
        }
    }

    /// Waits until the store takes no more requests: it was shut, or its writer died.
    pub async fn ended(&self) {
        self.0.queue.closed().await;
    }

    /// The trust domain that it belongs to.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    /// Why nothing can be written at the moment: the newest failure, until something was written again, which the store
    /// tries by itself every 2 s.
    #[must_use]
    pub fn trouble(&self) -> Option<StoreError> {
        self.0.trouble.borrow().clone().filter(StoreError::stops_issuing)
    }

    fn durable(&self) -> watch::Receiver<u64> {
        self.0.durable.clone()
    }

    async fn reader(&self) -> Result<MappedMutexGuard<'_, Connection>, StoreError> {
        MutexGuard::try_map(self.0.reader.lock().await, Option::as_mut).ok().ok_or(StoreError::Shut)
    }

    async fn work<W: Work>(&self, work: W) -> Result<W::Answer, StoreError> {
        self.work_then(work, |_| ()).await
    }

    /// Does the work, and calls `then` as [`Store::begin_task`] does.
    pub(crate) async fn work_then<W: Work>(
        &self,
        work: W,
        then: impl FnOnce(&W::Answer) + Send + 'static,
    ) -> Result<W::Answer, StoreError> {
        let (to, answer) = oneshot::channel();
        self.ask(Request::Work(Box::new(Asked { work, then, answer: to })), answer).await
    }

    async fn ask<T>(
        &self,
        request: Request,
        answer: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.0.queue.send(request).await.ok().ok_or(StoreError::Shut)?;
        answer.await.unwrap_or(Err(StoreError::Shut))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("trust_domain", &self.0.trust_domain).finish_non_exhaustive()
    }
}

/// Where the history stands; in a new store, where it begins, and `true`.
async fn head_or_first(connection: &mut Connection, wanted: &TrustDomain) -> Result<(Head, bool), StoreError> {
    let found: Option<String> =
        sqlx::query_scalar("SELECT trust_domain FROM store").fetch_optional(&mut *connection).await?;
    let fresh = match found {
        Some(found) if found != wanted.as_str() => {
            return Err(StoreError::OtherTrustDomain { found, wanted: wanted.to_string() });
        }
        Some(_) => false,
        None => {
            sqlx::query("INSERT INTO store (trust_domain, epoch, n, next_order) VALUES ($1, 1, 0, 1)")
                .bind(wanted.as_str())
                .execute(&mut *connection)
                .await?;
            true
        }
    };
    let head = Head::read(connection, wanted.as_str()).await?;
    Ok((head.ok_or_else(|| StoreError::Corrupt { what: "its history is gone".into() })?, fresh))
}
