//! Why the store did not do what it was asked.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use mayfly_sdk::{Reason, Refusal, Revision};

use crate::ledger::LedgerError;

/// Why the store did not do what it was asked. Whatever the variant, nothing of the request is visible.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    // The caller's move.
    /// The change was made for a revision that is no longer the newest. Look again, and make the change anew.
    #[error("the registry has changed meanwhile: it is at revision {current} now")]
    Stale {
        /// The newest revision.
        current: Revision,
    },
    /// A compare-and-set did not find what it expected, or a name is taken. Look again, and make the change anew.
    #[error("{what}")]
    Conflict {
        /// What stood in the way.
        what: String,
    },
    /// What should be changed is not there.
    #[error("{what} does not exist")]
    Missing {
        /// What was named.
        what: String,
    },
    /// The request is more than one transaction takes. Split it.
    #[error("{what}")]
    TooLarge {
        /// What is too large, and the limit.
        what: String,
    },

    /// A record cannot be written down, or was altered since.
    #[error(transparent)]
    Ledger(#[from] LedgerError),

    // The operator's move: at run time. The writer tries again with the next request.
    /// The disk or the quota is full. Nothing is issued until there is room.
    #[error("the store's disk is full")]
    Full(#[source] Cause),
    /// The directory or the file system is read-only. Nothing is issued until it is writable.
    #[error("the store cannot be written: it is read-only")]
    ReadOnly(#[source] Cause),
    /// The disk failed. Nothing is issued until a write succeeds.
    #[error("the store's disk failed")]
    Io(#[source] Cause),
    /// The database holds something that this build did not write. Restore it, or report a bug.
    #[error("the store is damaged: {what}")]
    Corrupt {
        /// What was found.
        what: String,
    },
    /// The database holds a change that was reported as failed, because the disk failed while it was being committed.
    /// The issuer's memory is behind: it must be restarted.
    #[error("the store is at revision {stored}, the issuer at {known}: a failed commit became durable after all")]
    Diverged {
        /// In the database.
        stored: Revision,
        /// In memory.
        known: Revision,
    },

    // The operator's move: at start.
    /// Another process has this store open.
    #[error("the store in {} is in use by {holder}", .directory.display())]
    InUse {
        /// The store's directory.
        directory: PathBuf,
        /// `process 1234`, as far as it said.
        holder: String,
    },
    /// The directory cannot be made or opened.
    #[error("the store's directory {} cannot be used", .directory.display())]
    Directory {
        /// The store's directory.
        directory: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// A newer build wrote this store, and says that this one is too old to use it.
    #[error(
        "the store has schema {found}, which needs a build that reads schema {oldest_reader}; this one reads {ours}"
    )]
    NewerSchema {
        /// The schema in the store.
        found: i64,
        /// The oldest schema whose builds may use it.
        oldest_reader: i64,
        /// The schema of this build.
        ours: i64,
    },
    /// The store belongs to another trust domain.
    #[error("the store belongs to the trust domain {found}, not to {wanted}")]
    OtherTrustDomain {
        /// In the store.
        found: String,
        /// In the configuration.
        wanted: String,
    },

    // Ours.
    /// The store is shut, or its writer has ended.
    #[error("the store is shut")]
    Shut,
    /// The database refused a statement that it should have taken.
    #[error("the database refused a statement")]
    Statement(#[source] Cause),
}

/// What the database said. For logs, never for callers.
pub type Cause = Arc<sqlx::Error>;

impl StoreError {
    /// The stable code for the wire, metrics and the ledger.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Stale { .. } => Reason::Stale,
            Self::Conflict { .. } => Reason::Conflict,
            Self::Missing { .. } => Reason::NotFound,
            Self::TooLarge { .. } => Reason::InvalidArgument,
            Self::Ledger(error) => error.reason(),
            Self::Full(_) => Reason::StoreFull,
            Self::ReadOnly(_) => Reason::StoreReadOnly,
            Self::Io(_) => Reason::StoreUnavailable,
            Self::Directory { source, .. } => match source.kind() {
                ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => Reason::StoreReadOnly,
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Reason::StoreFull,
                _ => Reason::StoreUnavailable,
            },
            Self::Corrupt { .. } => Reason::StoreCorrupt,
            Self::Diverged { .. } => Reason::StoreDiverged,
            Self::InUse { .. } => Reason::StoreInUse,
            Self::NewerSchema { .. } => Reason::StoreNewerSchema,
            Self::OtherTrustDomain { .. } => Reason::StoreOtherTrustDomain,
            Self::Shut => Reason::ShuttingDown,
            Self::Statement(_) => Reason::Internal,
        }
    }

    /// Whether the request itself is at fault, so that others go on.
    pub(super) fn is_requests_own(&self) -> bool {
        matches!(
            self,
            Self::Stale { .. } | Self::Conflict { .. } | Self::Missing { .. } | Self::TooLarge { .. } | Self::Ledger(_)
        )
    }

    /// A conflict with these words, if the database refused a duplicate.
    pub(super) fn if_taken(error: sqlx::Error, what: &str) -> Self {
        match &error {
            sqlx::Error::Database(refused) if refused.is_unique_violation() => Self::Conflict { what: what.into() },
            _ => error.into(),
        }
    }

    /// Missing, if a statement that should have touched one row touched none.
    pub(super) fn if_missing(rows: u64, what: impl FnOnce() -> String) -> Result<(), Self> {
        if rows == 0 { Err(Self::Missing { what: what() }) } else { Ok(()) }
    }

    /// Whether the disk stands in the way, so that nothing at all can be recorded now: for readiness.
    #[must_use]
    pub fn stops_issuing(&self) -> bool {
        matches!(
            self,
            Self::Full(_) | Self::ReadOnly(_) | Self::Io(_) | Self::Corrupt { .. } | Self::Diverged { .. } | Self::Shut
        )
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Refusal::new(error.reason(), error.to_string())
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(refused) => match refused.code().and_then(|code| code.parse().ok()) {
                Some(code) => Self::from_sqlite(code, error),
                None => Self::Statement(Arc::new(error)),
            },
            sqlx::Error::Io(_) => Self::Io(Arc::new(error)),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Corrupt { what: error.to_string() },
            sqlx::Error::WorkerCrashed | sqlx::Error::PoolClosed => Self::Shut,
            _ => Self::Statement(Arc::new(error)),
        }
    }
}

impl StoreError {
    /// By SQLite's extended result code, whose low byte is the primary one (<https://www.sqlite.org/rescode.html>).
    fn from_sqlite(code: i32, error: sqlx::Error) -> Self {
        const IOERR_SHMSIZE: i32 = 4874;
        match (code, code & 0xff) {
            // FULL, and the shared memory beside the log that could not grow.
            (IOERR_SHMSIZE, _) | (_, 13) => Self::Full(Arc::new(error)),
            // READONLY
            (_, 8) => Self::ReadOnly(Arc::new(error)),
            // BUSY, LOCKED, IOERR, CANTOPEN
            (_, 5 | 6 | 10 | 14) => Self::Io(Arc::new(error)),
            // CORRUPT, NOTADB
            (_, 11 | 26) => Self::Corrupt { what: error.to_string() },
            // CONSTRAINT
            (_, 19) => Self::Conflict { what: "something with this name or id exists already".into() },
            _ => Self::Statement(Arc::new(error)),
        }
    }
}
