//! Opening the database: who may, with which settings, and which schema. The only module that names the engine.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqlSafeStr};

use super::StoreError;

/// The engine of this store.
pub(super) type Engine = sqlx::Sqlite;
/// A connection to it.
pub(super) type Connection = sqlx::SqliteConnection;
/// A row from it.
pub(super) type Row = sqlx::sqlite::SqliteRow;

/// The schema that this build writes.
const SCHEMA: i64 = 7;
pub(super) const FILE: &str = "store.db";
const LOCK_FILE: &str = "store.lock";
const PAGE_BYTES: u64 = 4096;
/// Frames in the log before they are copied into the database: 16 MiB, so that a busy issuer syncs the database rarely.
const CHECKPOINT_FRAMES: &str = "4096";
/// The log is cut to this many bytes after a checkpoint.
const LOG_BYTES: &str = "67108864";

/// How durable an `Ok` is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// On disk: a power cut loses nothing.
    #[default]
    Full,
    /// Handed to the system: a power cut loses what it had not yet written. Only for the test that must notice that.
    Off,
}

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// The trust domain that it belongs to, for ever.
    pub trust_domain: mayfly_sdk::TrustDomain,
    /// How durable an `Ok` is.
    pub durability: Durability,
    /// The database grows no larger, in bytes; beyond it everything fails as on a full disk. `None`: no limit.
    pub max_bytes: Option<u64>,
}

impl Options {
    /// Durable, without a limit.
    #[must_use]
    pub const fn new(trust_domain: mayfly_sdk::TrustDomain) -> Self {
        Self { trust_domain, durability: Durability::Full, max_bytes: None }
    }
}

/// Held as long as the store is open; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Not left to the closing of the file: a process that is just being spawned holds a copy of it for a moment.
        if let Err(error) = self.0.unlock() {
            tracing::warn!(cause = %error, "the store's lock was not let go of");
        }
    }
}

/// Makes the directory (0700) where it is missing, and takes the lock in it.
pub(super) fn lock(directory: &Path) -> Result<Lock, StoreError> {
    let unusable = |source: io::Error| StoreError::Directory { directory: directory.into(), source: Arc::new(source) };
    make_directory(directory).map_err(unusable)?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(directory.join(LOCK_FILE))
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StoreError::InUse { directory: directory.into(), holder: holder(&file) });
        }
        Err(TryLockError::Error(error)) => return Err(unusable(error)),
    }
    // Who holds it is for the message of the next one who comes; on a full disk there is none.
    if file.set_len(0).and_then(|()| write!(file, "process {}", std::process::id())).is_err() {
        tracing::warn!("the lock file could not be written");
    }
    Ok(Lock(file))
}

/// A connection that may write. Makes the database (0600) where it is missing.
pub(super) async fn connect_writer(directory: &Path, options: &Options) -> Result<Connection, StoreError> {
    let path = directory.join(FILE);
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|source| StoreError::Directory { directory: directory.into(), source: Arc::new(source) })?;
    let mut connect = base(&path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(match options.durability {
            Durability::Full => SqliteSynchronous::Full,
            Durability::Off => SqliteSynchronous::Off,
        })
        .pragma("wal_autocheckpoint", CHECKPOINT_FRAMES)
        .pragma("journal_size_limit", LOG_BYTES)
        // Deleted rows (sealed keys, tokens) are overwritten where that needs no further write.
        .pragma("secure_delete", "fast");
    if let Some(bytes) = options.max_bytes {
        connect = connect.pragma("max_page_count", (bytes / PAGE_BYTES).max(1).to_string());
    }
    Ok(connect.connect().await?)
}

/// A connection that only reads.
pub(super) async fn connect_reader(directory: &Path) -> Result<Connection, StoreError> {
    Ok(base(&directory.join(FILE)).pragma("query_only", "1").connect().await?)
}

/// Closes a connection, and waits until its files are closed.
pub(super) async fn close(connection: Connection) {
    if let Err(error) = sqlx::Connection::close(connection).await {
        tracing::warn!(cause = ?error, "the store was not closed cleanly");
    }
}

fn base(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .page_size(4096)
        .busy_timeout(Duration::from_secs(5))
        .pragma("temp_store", "memory")
        // The text of a statement, without its values; at `sqlx::query=trace` only.
        .log_statements(log::LevelFilter::Trace)
        .log_slow_statements(log::LevelFilter::Off, Duration::MAX)
}

/// Brings the schema up to this build's, or says why that cannot be.
pub(super) async fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    if let Some((found, oldest_reader)) = schema(connection).await?
        && found > SCHEMA
    {
        if oldest_reader > SCHEMA {
            return Err(StoreError::NewerSchema { found, oldest_reader, ours: SCHEMA });
        }
        return Ok(());
    }
    let step = |version, name: &'static str, sql: &'static str| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let steps = vec![
        step(1, "store", include_str!("../../migrations/0001_store.sql")),
        step(2, "used tokens", include_str!("../../migrations/0002_used_tokens.sql")),
        step(3, "tasks", include_str!("../../migrations/0003_tasks.sql")),
        step(4, "policies", include_str!("../../migrations/0004_policies.sql")),
        step(5, "users", include_str!("../../migrations/0005_users.sql")),
        step(6, "client assertions", include_str!("../../migrations/0006_client_assertions.sql")),
        step(7, "machine keys", include_str!("../../migrations/0007_machine_keys.sql")),
    ];
    Migrator::with_migrations(steps).run(connection).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        other => StoreError::Corrupt { what: other.to_string() },
    })
}

/// Schema version and oldest reader; `None` in a new database.
async fn schema(connection: &mut Connection) -> Result<Option<(i64, i64)>, StoreError> {
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_master WHERE name = 'schema_info'")
        .fetch_one(&mut *connection)
        .await?;
    if tables == 0 {
        return Ok(None);
    }
    let found = sqlx::query_as("SELECT version, oldest_reader FROM schema_info").fetch_optional(connection).await?;
    found.map(Some).ok_or_else(|| StoreError::Corrupt { what: "it does not name its schema".into() })
}

fn make_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // The new name must survive a power cut as well as what is in it. Who may not read the parent cannot sync it.
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(parent) {
        Ok(parent) => parent.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

fn holder(mut file: &File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.is_empty() => text.chars().filter(|c| !c.is_control()).take(64).collect(),
        _ => "another process".into(),
    }
}
