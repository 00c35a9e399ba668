//! Tasks of nodes that are silent: suspended beside whatever an administrator does with them.
//!
//! A task is open if nobody suspended it and neither its node nor that of a task above it is silent, and its user is neither
//! suspended nor logged out. The reasons are columns of their own: lifting one does not lift another.

use std::collections::{HashMap, HashSet};

use mayfly_sdk::task::TaskState;
use mayfly_sdk::{Serial, SpiffeId};

use super::StoreError;
use super::connection::Connection;
use super::row::{get, parsed};
use super::tasks::{Moved, kind_of, serial, serial_of, state, tree};
use super::transaction::{Tx, Work};
use crate::ledger::Record;

/// Says of tasks of one tree whether their node is silent.
#[derive(Debug, Clone)]
pub struct HushTasks {
    /// The tree.
    pub root: Serial,
    /// Which of its tasks.
    pub ids: Vec<Serial>,
    /// Whether their node is silent.
    pub silent: bool,
    /// The record of it; of each task that this changes one like it, with an id and kind of its own.
    pub record: Record,
}

impl Work for HushTasks {
    type Answer = Vec<Moved>;

    async fn run(self, tx: &mut Tx<'_>) -> Result<Vec<Moved>, StoreError> {
        for id in &self.ids {
            sqlx::query(
                "UPDATE tasks SET silent = $3 WHERE trust_domain = $1 AND id = $2 AND state IN ('open', 'suspended')",
            )
            .bind(tx.trust_domain)
            .bind(id.as_bytes().to_vec())
            .bind(i64::from(self.silent))
            .execute(&mut *tx.connection)
            .await?;
        }
        let moved = restate(tx, self.root).await?;
        let mut records = Vec::new();
        for task in moved.iter().filter(|task| task.changed) {
            let event = Serial::generate(self.record.event.time_ms());
            let mut record = self.record.clone();
            record.event = event.map_err(|refusal| StoreError::Corrupt { what: refusal.what })?;
            record.kind = kind_of(task.state);
            let why = if self.silent { "the node is silent" } else { "the node is back in sync" };
            record.personal.detail = Some(format!("task {}: {why}", task.id).into());
            records.push(record);
        }
        tx.record(&records)?;
        Ok(moved)
    }
}

struct Row {
    id: Serial,
    parent: Option<Serial>,
    state: TaskState,
    suspended: bool,
    /// Its node is silent, or its user is suspended or logged out.
    silent: bool,
}

/// Brings the states of a tree in line with the reasons that its tasks are suspended for. How each that has not ended stands then.
pub(super) async fn restate(tx: &mut Tx<'_>, root: Serial) -> Result<Vec<Moved>, StoreError> {
    let rows = sqlx::query(tree!(
        "SELECT id, parent, state, suspended_by IS NOT NULL, silent + halted FROM tasks
         WHERE trust_domain = $1 AND id IN (SELECT id FROM tree)"
    ))
    .bind(tx.trust_domain)
    .bind(root.as_bytes().to_vec())
    .fetch_all(&mut *tx.connection)
    .await?;
    let tree: Result<Vec<_>, StoreError> = rows
        .iter()
        .map(|row| {
            let parent = get::<Option<Vec<u8>>>(row, 1)?.map(|bytes| serial_of(&bytes)).transpose()?;
            let flag = |index| Ok::<_, StoreError>(get::<i64>(row, index)? != 0);
            Ok(Row { id: serial(row, 0)?, parent, state: state(row, 2)?, suspended: flag(3)?, silent: flag(4)? })
        })
        .collect();
    let tree = tree?;
    let hushed = hushed(&tree);
    let mut moved = Vec::with_capacity(tree.len());
    for task in tree.iter().filter(|task| !task.state.is_final()) {
        let suspended = task.suspended || hushed.contains(&task.id);
        let state = if suspended { TaskState::Suspended } else { TaskState::Open };
        if state != task.state {
            sqlx::query("UPDATE tasks SET state = $3 WHERE trust_domain = $1 AND id = $2")
                .bind(tx.trust_domain)
                .bind(task.id.as_bytes().to_vec())
                .bind(state.as_str())
                .execute(&mut *tx.connection)
                .await?;
        }
        moved.push(Moved { id: task.id, state, changed: state != task.state });
    }
    Ok(moved)
}

/// Those whose node is silent, and those below them.
fn hushed(tree: &[Row]) -> HashSet<Serial> {
    let mut below: HashMap<Serial, Vec<Serial>> = HashMap::new();
    for task in tree {
        if let Some(parent) = task.parent {
            below.entry(parent).or_default().push(task.id);
        }
    }
    let silent = tree.iter().filter(|task| task.silent && !task.state.is_final());
    let mut next: Vec<_> = silent.map(|task| task.id).collect();
    let mut hushed = HashSet::new();
    while let Some(id) = next.pop() {
        if hushed.insert(id) {
            next.extend(below.get(&id).into_iter().flatten());
        }
    }
    hushed
}

/// Remembers for how long nodes have been silent while an issuer ran.
#[derive(Debug, Clone)]
pub struct KeepSilences {
    /// Seconds; `None`: the node is heard again.
    pub silences: Vec<(SpiffeId, Option<u32>)>,
}

impl Work for KeepSilences {
    type Answer = ();

    async fn run(self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        for (node, silent_s) in self.silences {
            let query = match silent_s {
                Some(_) => {
                    "INSERT INTO node_silences (trust_domain, node, silent_s) VALUES ($1, $2, $3)
                     ON CONFLICT (trust_domain, node) DO UPDATE SET silent_s = excluded.silent_s"
                }
                None => "DELETE FROM node_silences WHERE trust_domain = $1 AND node = $2 AND $3 = 0",
            };
            sqlx::query(query)
                .bind(tx.trust_domain)
                .bind(node.as_str())
                .bind(i64::from(silent_s.unwrap_or_default()))
                .execute(&mut *tx.connection)
                .await?;
        }
        Ok(())
    }
}

/// For how long nodes have been silent, seconds.
pub(super) async fn load(connection: &mut Connection, trust_domain: &str) -> Result<Vec<(SpiffeId, u32)>, StoreError> {
    let rows = sqlx::query("SELECT node, silent_s FROM node_silences WHERE trust_domain = $1")
        .bind(trust_domain)
        .fetch_all(connection)
        .await?;
    let one = |row| Ok((parsed(row, 0)?, u32::try_from(get::<i64>(row, 1)?).unwrap_or_default()));
    rows.iter().map(one).collect()
}
