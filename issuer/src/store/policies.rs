//! Sets of task policies.

use mayfly_sdk::{Revision, Timestamp};

use super::StoreError;
use super::connection::Connection;
use super::row::{get, revision, stored, time};
use super::transaction::Tx;

/// A set of policies as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRow {
    /// Its name.
    pub name: String,
    /// Who applied or deleted it.
    pub owner: String,
    /// Its files, JSON; `None`: it was deleted, by the newest change of any set.
    pub document: Option<String>,
    /// The change that wrote it last.
    pub revision: Revision,
    /// When that was.
    pub updated_at: Timestamp,
}

/// A set to be applied, in place of the one with its name, or to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutPolicy {
    /// Its name.
    pub name: String,
    /// Who does it.
    pub owner: String,
    /// Its files, JSON; `None`: it is deleted.
    pub document: Option<String>,
}

/// Applies or deletes a set.
pub(super) async fn put(tx: &mut Tx<'_>, put: PutPolicy, at: Timestamp) -> Result<(), StoreError> {
    let revision = tx.head.revision;
    // Of what is deleted, the newest is remembered: by its revision it is known that there ever was a policy.
    sqlx::query("DELETE FROM policies WHERE trust_domain = $1 AND document IS NULL")
        .bind(tx.trust_domain)
        .execute(&mut *tx.connection)
        .await?;
    if put.document.is_none() {
        let found: i64 = sqlx::query_scalar("SELECT count(*) FROM policies WHERE trust_domain = $1 AND name = $2")
            .bind(tx.trust_domain)
            .bind(put.name.as_str())
            .fetch_one(&mut *tx.connection)
            .await?;
        StoreError::if_missing(u64::try_from(found).unwrap_or_default(), || format!("the policy set {}", put.name))?;
    }
    sqlx::query(
        "INSERT INTO policies (trust_domain, name, owner, document, epoch, n, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (trust_domain, name) DO UPDATE SET owner = excluded.owner, document = excluded.document,
         epoch = excluded.epoch, n = excluded.n, updated_at = excluded.updated_at",
    )
    .bind(tx.trust_domain)
    .bind(put.name)
    .bind(put.owner)
    .bind(put.document)
    .bind(stored(revision.epoch))
    .bind(stored(revision.n))
    .bind(at.unix_s())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// Every set, and the one that was deleted last.
pub(super) async fn load(connection: &mut Connection, trust_domain: &str) -> Result<Vec<PolicyRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT name, owner, document, epoch, n, updated_at FROM policies WHERE trust_domain = $1 ORDER BY name",
    )
    .bind(trust_domain)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(PolicyRow {
                name: get(row, 0)?,
                owner: get(row, 1)?,
                document: get(row, 2)?,
                revision: revision(row, 3)?,
                updated_at: time(row, 5)?,
            })
        })
        .collect()
}
