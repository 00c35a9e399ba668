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

mod bundles;
mod change;
mod changes;
mod entries;
mod error;
mod join_tokens;
mod nodes;
mod slots;

pub use bundles::{BundleRow, PutBundle};
pub use change::{Change, Committed, Op};
pub use changes::{ChangeRow, ChangedKind, History};
pub use entries::{EntryRow, PutEntry, issuance};
pub use error::{Cause, StoreError};
pub use join_tokens::JoinTokenRow;
pub use nodes::{EnrolNode, Enrolment, NodeRow, NodeState, ReattestNode, RenewNode, Renewal};
pub use slots::{PutSlot, SlotKey, SlotKind, SlotOrigin, SlotRow, SlotState};
