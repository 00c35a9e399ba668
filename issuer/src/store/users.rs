//! Users on whose behalf tasks run: suspended, logged out, and what follows for their tasks.
//!
//! A task of such a user is suspended beside whatever else suspends it (see [`super::silences`]): lifting one reason does not
//! lift the other. Whether a user may begin a task is decided in the transaction that begins it, so that no begin slips past a
//! logout.

use std::collections::BTreeSet;

use mayfly_sdk::task::User;
use mayfly_sdk::{Serial, Timestamp, Ttl};

use super::connection::Row;
use super::row::{get, optional_time};
use super::tasks::{Moved, kind_of, serial};
use super::transaction::{Tx, Work};
use super::used_tokens::use_up;
use super::{Redemption, StoreError, UsedToken, silences};
use crate::ledger::Record;

/// For how long it is remembered who has logged out: longer than any token is accepted (`OLDEST` in `users/subject.rs`), and the clock
/// may be set back.
const REMEMBERED: Ttl = Ttl::from_s(2 * 86_400);

/// The user's token that a task was begun on, as it matters afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskUser {
    /// Who.
    pub user: User,
    /// The session that the token named.
    pub session: Option<String>,
    /// When the token was issued.
    pub token_at: Timestamp,
}

/// Why a user may not begin a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barred {
    /// An administrator suspended the user.
    Suspended,
    /// The user, or the session of the token, was logged out after the token was issued.
    LoggedOut,
}

/// Suspends a user, or lifts that.
#[derive(Debug, Clone)]
pub struct SuspendUser {
    /// Who.
    pub user: User,
    /// Whether the user is suspended; otherwise the tasks are resumed that this or a logout suspended.
    pub suspended: bool,
    /// The record of it; of each task that this changes one like it, with an id and kind of its own.
    pub record: Record,
}

/// Logs a user out, or ends one session.
#[derive(Debug, Clone)]
pub struct LogOut {
    /// The provider that says so.
    pub provider: String,
    /// Who; none: whoever's session it is.
    pub subject: Option<String>,
    /// Which session; none: all of them.
    pub session: Option<String>,
    /// When the provider said it: tokens that it issued later are good.
    pub at: Timestamp,
    /// The logout token, which is used up.
    pub token: UsedToken,
    /// The record of it; of each task that this changes one like it, with an id and kind of its own.
    pub record: Record,
}

/// What became of a logout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedOut {
    /// Whether the token was good for it; if not, nothing changed.
    pub token: Redemption,
    /// How the tasks of the trees that this is about stand.
    pub moved: Vec<Moved>,
}

impl Work for SuspendUser {
    type Answer = Vec<Moved>;

    async fn run(self, tx: &mut Tx<'_>) -> Result<Vec<Moved>, StoreError> {
        sqlx::query(
            "INSERT INTO task_users (trust_domain, provider, subject, suspended, forget_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (trust_domain, provider, subject) DO UPDATE SET suspended = excluded.suspended,
             forget_at = CASE WHEN task_users.forget_at > excluded.forget_at THEN task_users.forget_at ELSE excluded.forget_at END",
        )
        .bind(tx.trust_domain)
        .bind(self.user.provider())
        .bind(self.user.subject())
        .bind(i64::from(self.suspended))
        .bind(tx.now.unix_s())
        .execute(&mut *tx.connection)
        .await?;
        let rows = sqlx::query(
            "UPDATE tasks SET halted = $4 WHERE trust_domain = $1 AND user_provider = $2 AND user_subject = $3
             AND state IN ('open', 'suspended') AND halted <> $4 RETURNING root",
        )
        .bind(tx.trust_domain)
        .bind(self.user.provider())
        .bind(self.user.subject())
        .bind(i64::from(self.suspended))
        .fetch_all(&mut *tx.connection)
        .await?;
        let why = if self.suspended { "its user was suspended" } else { "its user was resumed" };
        tx.record(std::slice::from_ref(&self.record))?;
        restate(tx, &rows, &self.record, why).await
    }
}

impl Work for LogOut {
    type Answer = LoggedOut;

    async fn run(self, tx: &mut Tx<'_>) -> Result<LoggedOut, StoreError> {
        let token = use_up(tx, &self.token).await?;
        // Where no more tokens can be remembered, a logout still counts: saying it twice changes nothing.
        if token == Redemption::UsedBefore {
            return Ok(LoggedOut { token, moved: Vec::new() });
        }
        forget(tx).await?;
        self.remember(tx).await?;
        let rows = self.halt(tx).await?;
        tx.record(std::slice::from_ref(&self.record))?;
        let moved = restate(tx, &rows, &self.record, "its user was logged out").await?;
        Ok(LoggedOut { token, moved })
    }
}

impl LogOut {
    async fn remember(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let forget_at = tx.now.saturating_add(REMEMBERED).unix_s();
        if let Some(session) = &self.session {
            sqlx::query(
                "INSERT INTO task_sessions (trust_domain, provider, session, forget_at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (trust_domain, provider, session) DO UPDATE SET forget_at = excluded.forget_at",
            )
            .bind(tx.trust_domain)
            .bind(&self.provider)
            .bind(session)
            .bind(forget_at)
            .execute(&mut *tx.connection)
            .await?;
        }
        let Some(subject) = &self.subject else { return Ok(()) };
        let (of_all, of_sessionless) = match self.session {
            None => (self.at.unix_s(), 0),
            Some(_) => (0, self.at.unix_s()),
        };
        sqlx::query(
            "INSERT INTO task_users (trust_domain, provider, subject, logged_out_at, sessionless_out_at, forget_at)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (trust_domain, provider, subject) DO UPDATE SET
             logged_out_at = CASE WHEN task_users.logged_out_at > excluded.logged_out_at THEN task_users.logged_out_at ELSE excluded.logged_out_at END,
             sessionless_out_at = CASE WHEN task_users.sessionless_out_at > excluded.sessionless_out_at THEN task_users.sessionless_out_at ELSE excluded.sessionless_out_at END,
             forget_at = CASE WHEN task_users.forget_at > excluded.forget_at THEN task_users.forget_at ELSE excluded.forget_at END",
        )
        .bind(tx.trust_domain)
        .bind(&self.provider)
        .bind(subject)
        .bind(of_all)
        .bind(of_sessionless)
        .bind(forget_at)
        .execute(&mut *tx.connection)
        .await?;
        Ok(())
    }

    /// Marks the tasks; the roots of their trees. A task whose token named no session may be of any.
    async fn halt(&self, tx: &mut Tx<'_>) -> Result<Vec<Row>, StoreError> {
        // Each statement has a place for all five.
        let update = match (&self.subject, &self.session) {
            (Some(_), None) => {
                "UPDATE tasks SET halted = 1 WHERE trust_domain = $1 AND user_provider = $2 AND user_subject = $3
                 AND user_token_at <= $5 AND $4 IS NULL AND state IN ('open', 'suspended') AND halted = 0 RETURNING root"
            }
            (Some(_), Some(_)) => {
                "UPDATE tasks SET halted = 1 WHERE trust_domain = $1 AND user_provider = $2 AND user_subject = $3
                 AND (user_session = $4 OR (user_session IS NULL AND user_token_at <= $5))
                 AND state IN ('open', 'suspended') AND halted = 0 RETURNING root"
            }
            (None, _) => {
                "UPDATE tasks SET halted = 1 WHERE trust_domain = $1 AND user_provider = $2 AND user_session = $4
                 AND $3 IS NULL AND $5 >= 0 AND state IN ('open', 'suspended') AND halted = 0 RETURNING root"
            }
        };
        let rows = sqlx::query(update)
            .bind(tx.trust_domain)
            .bind(&self.provider)
            .bind(self.subject.as_deref())
            .bind(self.session.as_deref())
            .bind(self.at.unix_s())
            .fetch_all(&mut *tx.connection)
            .await?;
        Ok(rows)
    }
}

/// Whether a user may begin no task by this token.
pub(super) async fn barred(tx: &mut Tx<'_>, user: &TaskUser) -> Result<Option<Barred>, StoreError> {
    let (provider, subject) = (user.user.provider(), user.user.subject());
    let found: Option<(i64, i64, i64)> = sqlx::query_as(
        "SELECT suspended, logged_out_at, sessionless_out_at FROM task_users
         WHERE trust_domain = $1 AND provider = $2 AND subject = $3",
    )
    .bind(tx.trust_domain)
    .bind(provider)
    .bind(subject)
    .fetch_optional(&mut *tx.connection)
    .await?;
    let token_at = user.token_at.unix_s();
    if let Some((suspended, logged_out_at, sessionless_out_at)) = found {
        if suspended != 0 {
            return Ok(Some(Barred::Suspended));
        }
        if token_at <= logged_out_at || (user.session.is_none() && token_at <= sessionless_out_at) {
            return Ok(Some(Barred::LoggedOut));
        }
    }
    let Some(session) = &user.session else { return Ok(None) };
    let ended: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM task_sessions WHERE trust_domain = $1 AND provider = $2 AND session = $3",
    )
    .bind(tx.trust_domain)
    .bind(provider)
    .bind(session)
    .fetch_one(&mut *tx.connection)
    .await?;
    Ok((ended > 0).then_some(Barred::LoggedOut))
}

/// Forgets logouts that no token can be older than. When there is something to forget next, if ever.
pub(super) async fn forget(tx: &mut Tx<'_>) -> Result<Option<Timestamp>, StoreError> {
    let mut first: Option<i64> = None;
    for (delete, next) in [
        (
            "DELETE FROM task_users WHERE trust_domain = $1 AND suspended = 0 AND forget_at < $2",
            "SELECT min(forget_at) FROM task_users WHERE trust_domain = $1 AND suspended = 0",
        ),
        (
            "DELETE FROM task_sessions WHERE trust_domain = $1 AND forget_at < $2",
            "SELECT min(forget_at) FROM task_sessions WHERE trust_domain = $1",
        ),
    ] {
        sqlx::query(delete).bind(tx.trust_domain).bind(tx.now.unix_s()).execute(&mut *tx.connection).await?;
        let next: Option<i64> = sqlx::query_scalar(next).bind(tx.trust_domain).fetch_one(&mut *tx.connection).await?;
        first = first.into_iter().chain(next).min();
    }
    Ok(first.map(|at| Timestamp::from_unix_s(at.saturating_add(1))))
}

/// The user of a stored task: provider, subject, session and time from these columns on.
pub(super) fn read(row: &Row, first: usize) -> Result<Option<TaskUser>, StoreError> {
    let (Some(provider), Some(subject)) = (get::<Option<String>>(row, first)?, get::<Option<String>>(row, first + 1)?)
    else {
        return Ok(None);
    };
    let damaged = || StoreError::Corrupt { what: "a task has a user that is none".into() };
    let user = User::new(&provider, &subject).ok().ok_or_else(damaged)?;
    let token_at = optional_time(row, first + 3)?.ok_or_else(damaged)?;
    Ok(Some(TaskUser { user, session: get(row, first + 2)?, token_at }))
}

async fn restate(tx: &mut Tx<'_>, roots: &[Row], record: &Record, why: &str) -> Result<Vec<Moved>, StoreError> {
    let roots = roots.iter().map(|row| serial(row, 0)).collect::<Result<BTreeSet<_>, _>>()?;
    let mut all = Vec::new();
    for root in roots {
        all.extend(silences::restate(tx, root).await?);
    }
    let mut records = Vec::new();
    for task in all.iter().filter(|task| task.changed) {
        let event = Serial::generate(record.event.time_ms());
        let mut record = record.clone();
        record.event = event.map_err(|refusal| StoreError::Corrupt { what: refusal.what })?;
        record.kind = kind_of(task.state);
        record.personal.detail = Some(format!("task {}: {why}", task.id).into());
        records.push(record);
    }
    tx.record(&records)?;
    Ok(all)
}
