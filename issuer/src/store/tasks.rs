//! Tasks: begun, suspended and ended, each with everything below it, in the transaction that records it.

use std::collections::HashSet;

use mayfly_sdk::task::TaskState;
use mayfly_sdk::{Serial, SpiffeId, Timestamp};

use super::connection::{Connection, Row};
use super::row::{fixed, get, optional_fixed, parsed, time};
use super::transaction::{Tx, Work};
use super::users::{self, Barred, TaskUser};
use super::{Store, StoreError, silences};
use crate::ledger::{Kind, Record};

/// A task that has ended is kept this long beyond its deadline, so that whoever asks is told what became of it.
const KEEP_ENDED_S: i64 = 86_400;
/// How far clocks may differ: tokens are taken for a while after their end.
const CLOCKS_APART_S: i64 = 60;
/// Ended tasks that are forgotten at a time.
const FORGOTTEN_AT_A_TIME: i64 = 1000;

/// A task as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRow {
    /// The id of the ledger's record of its begin.
    pub id: Serial,
    /// The task at the top of its tree.
    pub root: Serial,
    /// The task above.
    pub parent: Option<Serial>,
    /// The node of its instance.
    pub node: SpiffeId,
    /// How it stands.
    pub state: TaskState,
    /// The task whose suspension it is under.
    pub suspended_by: Option<Serial>,
    /// When it ends by itself.
    pub deadline: Timestamp,
    /// Everything else, JSON.
    pub document: String,
    /// Whether its node was silent for too long.
    pub silent: bool,
    /// The user on whose behalf it runs, if there is one.
    pub user: Option<TaskUser>,
}

/// Begins a task, if the one above is open.
#[derive(Debug, Clone)]
pub struct BeginTask {
    /// The task.
    pub task: TaskRow,
    /// Why, JSON.
    pub decision: String,
    /// Written in the same transaction, if it is begun.
    pub records: Vec<Record>,
}

/// What became of a begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskBegin {
    /// It is begun, and what is recorded may be released.
    Begun,
    /// The task above is not open; nothing is recorded.
    ParentNotOpen,
    /// Its user may not begin it; nothing is recorded.
    Barred(Barred),
}

/// Moves a task, and what is below it, to another state.
#[derive(Debug, Clone)]
pub struct MoveTask {
    /// The task.
    pub id: Serial,
    /// Where to.
    pub to: TaskState,
    /// The record of it; of each task below one like it, with an id of its own.
    pub record: Record,
}

/// How a task stands after a move of its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Which.
    pub id: Serial,
    /// How it stands now.
    pub state: TaskState,
    /// Whether it stood otherwise before.
    pub changed: bool,
}

impl Work for BeginTask {
    type Answer = TaskBegin;

    async fn run(self, tx: &mut Tx<'_>) -> Result<TaskBegin, StoreError> {
        let task = self.task;
        if let Some(parent) = task.parent
            && !is_open(tx, parent).await?
        {
            return Ok(TaskBegin::ParentNotOpen);
        }
        // What is below a task may go on for as long as that is open.
        if task.parent.is_none()
            && let Some(user) = &task.user
            && let Some(barred) = users::barred(tx, user).await?
        {
            return Ok(TaskBegin::Barred(barred));
        }
        let user = task.user.as_ref();
        let inserted = sqlx::query(
            "INSERT INTO tasks (trust_domain, id, root, parent, node, state, suspended_by, deadline, document, decision,
                 user_provider, user_subject, user_session, user_token_at)
             VALUES ($1, $2, $3, $4, $5, $6, NULL, $7, $8, $9, $10, $11, $12, $13)",
        )
        .bind(tx.trust_domain)
        .bind(task.id.as_bytes().to_vec())
        .bind(task.root.as_bytes().to_vec())
        .bind(task.parent.map(|parent| parent.as_bytes().to_vec()))
        .bind(task.node.as_str())
        .bind(task.state.as_str())
        .bind(task.deadline.unix_s())
        .bind(task.document)
        .bind(self.decision)
        .bind(user.map(|user| user.user.provider()))
        .bind(user.map(|user| user.user.subject()))
        .bind(user.and_then(|user| user.session.as_deref()))
        .bind(user.map(|user| user.token_at.unix_s()))
        .execute(&mut *tx.connection)
        .await;
        inserted.map_err(|error| StoreError::if_taken(error, "this task exists already"))?;
        tx.record(&self.records)?;
        Ok(TaskBegin::Begun)
    }
}

/// The tasks at and below $2. The joins are in the order in which they are to be made: left to itself the engine goes through every task
/// that is below another one, at each step.
macro_rules! tree {
    ($rest:literal) => {
        concat!(
            "WITH RECURSIVE tree (id) AS (
                 SELECT id FROM tasks WHERE trust_domain = $1 AND id = $2
                 UNION ALL
                 SELECT tasks.id FROM tree CROSS JOIN tasks WHERE tasks.trust_domain = $1 AND tasks.parent = tree.id
             ) ",
            $rest
        )
    };
}

pub(super) use tree;

impl Work for MoveTask {
    type Answer = Vec<Moved>;

    /// How each task of the tree stands afterwards, changed or not, so that whoever missed an answer catches up.
    async fn run(self, tx: &mut Tx<'_>) -> Result<Vec<Moved>, StoreError> {
        let mut changed = HashSet::new();
        if self.to != TaskState::Open || self.may_resume(tx).await? {
            // Of a tree that is suspended as a whole, what was suspended by itself before stays so when the whole is resumed.
            let update = match self.to {
                // Whether it is open then, the rest says that it may be suspended for.
                TaskState::Open => tree!(
                    "UPDATE tasks SET suspended_by = NULL
                     WHERE trust_domain = $1 AND id IN (SELECT id FROM tree)
                     AND state = 'suspended' AND suspended_by = $2 AND $3 = 'open' RETURNING id"
                ),
                // What is suspended by a task above stays so once that one is resumed: somebody else has said so of this one.
                TaskState::Suspended => tree!(
                    "UPDATE tasks SET state = $3, suspended_by = $2
                     WHERE trust_domain = $1 AND id IN (SELECT id FROM tree)
                     AND (state = 'open' OR (state = 'suspended'
                          AND (suspended_by IS NULL OR suspended_by NOT IN (SELECT id FROM tree)))) RETURNING id"
                ),
                _ => tree!(
                    "UPDATE tasks SET state = $3, suspended_by = NULL
                     WHERE trust_domain = $1 AND id IN (SELECT id FROM tree)
                     AND state IN ('open', 'suspended') RETURNING id"
                ),
            };
            let rows = sqlx::query(update)
                .bind(tx.trust_domain)
                .bind(self.id.as_bytes().to_vec())
                .bind(self.to.as_str())
                .fetch_all(&mut *tx.connection)
                .await?;
            if self.to == TaskState::Open {
                if let Some(root) = self.root(tx).await? {
                    let restated = silences::restate(tx, root).await?;
                    changed.extend(restated.iter().filter(|task| task.changed).map(|task| task.id));
                }
            } else {
                for row in &rows {
                    changed.insert(serial(row, 0)?);
                }
            }
        }
        let stand = tree!("SELECT id, state FROM tasks WHERE trust_domain = $1 AND id IN (SELECT id FROM tree)");
        let rows = sqlx::query(stand)
            .bind(tx.trust_domain)
            .bind(self.id.as_bytes().to_vec())
            .fetch_all(&mut *tx.connection)
            .await?;
        let moved: Result<Vec<_>, StoreError> = rows
            .iter()
            .map(|row| {
                let id = serial(row, 0)?;
                Ok(Moved { id, state: state(row, 1)?, changed: changed.contains(&id) })
            })
            .collect();
        let moved = moved?;
        let records: Result<Vec<_>, _> =
            moved.iter().filter(|task| task.changed).map(|task| self.record_of(task.id)).collect();
        tx.record(&records?)?;
        Ok(moved)
    }
}

impl MoveTask {
    /// Nothing below a suspended task is open.
    async fn may_resume(&self, tx: &mut Tx<'_>) -> Result<bool, StoreError> {
        let parent: Option<Option<Vec<u8>>> =
            sqlx::query_scalar("SELECT parent FROM tasks WHERE trust_domain = $1 AND id = $2")
                .bind(tx.trust_domain)
                .bind(self.id.as_bytes().to_vec())
                .fetch_optional(&mut *tx.connection)
                .await?;
        match parent.flatten() {
            None => Ok(true),
            Some(parent) => is_not_suspended(tx, serial_of(&parent)?).await,
        }
    }

    async fn root(&self, tx: &mut Tx<'_>) -> Result<Option<Serial>, StoreError> {
        let root: Option<Vec<u8>> = sqlx::query_scalar("SELECT root FROM tasks WHERE trust_domain = $1 AND id = $2")
            .bind(tx.trust_domain)
            .bind(self.id.as_bytes().to_vec())
            .fetch_optional(&mut *tx.connection)
            .await?;
        root.map(|root| serial_of(&root)).transpose()
    }

    fn record_of(&self, id: Serial) -> Result<Record, StoreError> {
        let mut record = self.record.clone();
        if id != self.id {
            let event = Serial::generate(record.event.time_ms());
            record.event = event.map_err(|refusal| StoreError::Corrupt { what: refusal.what })?;
        }
        record.personal.detail = Some(format!("task {id}").into());
        Ok(record)
    }
}

/// Forgets a thousand of the tasks that ended long ago. When there is something to forget next, if ever.
pub(super) async fn forget(tx: &mut Tx<'_>) -> Result<Option<Timestamp>, StoreError> {
    sqlx::query(
        "DELETE FROM tasks WHERE trust_domain = $1 AND id IN (
             SELECT id FROM tasks
             WHERE trust_domain = $1 AND state NOT IN ('open', 'suspended') AND deadline < $2 LIMIT $3)",
    )
    .bind(tx.trust_domain)
    .bind(tx.now.unix_s().saturating_sub(KEEP_ENDED_S))
    .bind(FORGOTTEN_AT_A_TIME)
    .execute(&mut *tx.connection)
    .await?;
    let next: Option<i64> = sqlx::query_scalar(
        "SELECT min(deadline) FROM tasks WHERE trust_domain = $1 AND state NOT IN ('open', 'suspended')",
    )
    .bind(tx.trust_domain)
    .fetch_one(&mut *tx.connection)
    .await?;
    Ok(next.map(|deadline| Timestamp::from_unix_s(deadline.saturating_add(KEEP_ENDED_S + 1))))
}

/// The record kind of a task's move to this state.
#[must_use]
pub const fn kind_of(state: TaskState) -> Kind {
    match state {
        TaskState::Open => Kind::TaskResumed,
        TaskState::Suspended => Kind::TaskSuspended,
        TaskState::Completed => Kind::TaskCompleted,
        TaskState::Failed => Kind::TaskFailed,
        TaskState::Expired => Kind::TaskExpired,
        TaskState::Abandoned => Kind::TaskAbandoned,
        TaskState::Revoked => Kind::TaskRevoked,
    }
}

async fn is_open(tx: &mut Tx<'_>, id: Serial) -> Result<bool, StoreError> {
    let state: Option<String> = sqlx::query_scalar("SELECT state FROM tasks WHERE trust_domain = $1 AND id = $2")
        .bind(tx.trust_domain)
        .bind(id.as_bytes().to_vec())
        .fetch_optional(&mut *tx.connection)
        .await?;
    Ok(state.as_deref() == Some(TaskState::Open.as_str()))
}

/// Whether it has not ended, and nobody suspended it; its node may be silent.
async fn is_not_suspended(tx: &mut Tx<'_>, id: Serial) -> Result<bool, StoreError> {
    let found: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM tasks
         WHERE trust_domain = $1 AND id = $2 AND state IN ('open', 'suspended') AND suspended_by IS NULL",
    )
    .bind(tx.trust_domain)
    .bind(id.as_bytes().to_vec())
    .fetch_one(&mut *tx.connection)
    .await?;
    Ok(found == 1)
}

pub(super) fn state(row: &Row, index: usize) -> Result<TaskState, StoreError> {
    parsed(row, index)
}

pub(super) fn serial(row: &Row, index: usize) -> Result<Serial, StoreError> {
    let bytes: [u8; 16] = fixed(row, index)?;
    serial_of(&bytes)
}

pub(super) fn serial_of(bytes: &[u8]) -> Result<Serial, StoreError> {
    Serial::try_from(bytes).ok().ok_or_else(|| StoreError::Corrupt { what: "a task has an id that is none".into() })
}

impl Store {
    /// A task, whether it has ended or not; not once it was forgotten.
    ///
    /// # Errors
    /// The disk's.
    pub async fn task(&self, id: Serial) -> Result<Option<TaskRow>, StoreError> {
        let mut reader = self.reader().await?;
        let row = sqlx::query(
            "SELECT id, root, parent, node, state, suspended_by, deadline, document, silent,
             user_provider, user_subject, user_session, user_token_at FROM tasks
             WHERE trust_domain = $1 AND id = $2",
        )
        .bind(self.trust_domain().as_str())
        .bind(id.as_bytes().to_vec())
        .fetch_optional(&mut *reader)
        .await?;
        row.as_ref().map(read).transpose()
    }
}

/// Every task that has not ended, and those that have ended before their deadline, which lies ahead: tokens of them may be about.
pub(super) async fn load(
    connection: &mut Connection,
    trust_domain: &str,
    now: Timestamp,
) -> Result<Vec<TaskRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, root, parent, node, state, suspended_by, deadline, document, silent,
             user_provider, user_subject, user_session, user_token_at FROM tasks
         WHERE trust_domain = $1 AND (state IN ('open', 'suspended') OR deadline > $2)",
    )
    .bind(trust_domain)
    .bind(now.unix_s().saturating_sub(CLOCKS_APART_S))
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<TaskRow, StoreError> {
    let optional = |index| match optional_fixed::<16>(row, index)? {
        None => Ok(None),
        Some(bytes) => serial_of(&bytes).map(Some),
    };
    Ok(TaskRow {
        id: serial(row, 0)?,
        root: serial(row, 1)?,
        parent: optional(2)?,
        node: parsed(row, 3)?,
        state: state(row, 4)?,
        suspended_by: optional(5)?,
        deadline: time(row, 6)?,
        document: get(row, 7)?,
        silent: get::<i64>(row, 8)? != 0,
        user: users::read(row, 9)?,
    })
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, Executor as _, Row as _, SqliteConnection};

    /// Of a million tasks, those of one tree are found by their keys.
    #[tokio::test]
    async fn a_tree_is_found_by_keys_alone() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        connection.execute("CREATE TABLE schema_info (version, oldest_reader)").await.unwrap();
        connection.execute(include_str!("../../migrations/0003_tasks.sql")).await.unwrap();
        let plan = tree!("SELECT id, state FROM tasks WHERE trust_domain = $1 AND id IN (SELECT id FROM tree)");
        let steps = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {plan}")))
            .bind("example.org")
            .bind(vec![0_u8; 16])
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let steps: Vec<String> = steps.iter().map(|step| step.get::<String, _>(3)).collect();
        let of_tasks: Vec<_> = steps.iter().filter(|step| step.contains(" tasks")).collect();
        assert_eq!(of_tasks.len(), 3, "{steps:?}");
        assert!(of_tasks.iter().all(|step| step.contains("id=?") || step.contains("parent=?")), "{steps:?}");
    }
}
