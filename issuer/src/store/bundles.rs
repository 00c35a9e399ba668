//! Trust bundles: those of other trust domains, and the public form of our own.

use mayfly_sdk::{Revision, TrustDomain};

use super::StoreError;
use super::connection::Connection;
use super::row::{get, parsed, revision, stored, unsigned};
use super::transaction::Tx;

/// A bundle as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleRow {
    /// Whose bundle.
    pub trust_domain: TrustDomain,
    /// Who set it.
    pub owner: String,
    /// The SPIFFE bundle document, JSON.
    pub document: String,
    /// Its `spiffe_sequence`.
    pub sequence: u64,
    /// The change that wrote it last.
    pub revision: Revision,
}

/// A bundle to be created or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBundle {
    /// Whose bundle.
    pub trust_domain: TrustDomain,
    /// Who sets it.
    pub owner: String,
    /// The SPIFFE bundle document, JSON.
    pub document: String,
    /// Its `spiffe_sequence`.
    pub sequence: u64,
    /// The sequence that the store must hold, else [`StoreError::Conflict`](super::StoreError::Conflict); `None`: any,
    /// or none at all.
    pub replaces: Option<u64>,
}

/// Creates or replaces a bundle.
pub(super) async fn put(tx: &mut Tx<'_>, put: PutBundle) -> Result<(), StoreError> {
    let revision = tx.head.revision;
    if let Some(expected) = put.replaces {
        let replaced = sqlx::query(
            "UPDATE bundles SET owner = $1, document = $2, sequence = $3, epoch = $4, n = $5
             WHERE trust_domain = $6 AND subject = $7 AND sequence = $8",
        )
        .bind(put.owner)
        .bind(put.document)
        .bind(stored(put.sequence))
        .bind(stored(revision.epoch))
        .bind(stored(revision.n))
        .bind(tx.trust_domain)
        .bind(put.trust_domain.as_str())
        .bind(stored(expected))
        .execute(&mut *tx.connection)
        .await?;
        return if replaced.rows_affected() == 1 {
            Ok(())
        } else {
            Err(StoreError::Conflict { what: format!("the bundle of {} is not at {expected}", put.trust_domain) })
        };
    }
    sqlx::query(
        "INSERT INTO bundles (trust_domain, subject, owner, document, sequence, epoch, n)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (trust_domain, subject) DO UPDATE SET owner = excluded.owner, document = excluded.document,
         sequence = excluded.sequence, epoch = excluded.epoch, n = excluded.n",
    )
    .bind(tx.trust_domain)
    .bind(put.trust_domain.as_str())
    .bind(put.owner)
    .bind(put.document)
    .bind(stored(put.sequence))
    .bind(stored(revision.epoch))
    .bind(stored(revision.n))
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// Deletes a bundle.
pub(super) async fn delete(tx: &mut Tx<'_>, subject: &TrustDomain) -> Result<(), StoreError> {
    let deleted = sqlx::query("DELETE FROM bundles WHERE trust_domain = $1 AND subject = $2")
        .bind(tx.trust_domain)
        .bind(subject.as_str())
        .execute(&mut *tx.connection)
        .await?;
    StoreError::if_missing(deleted.rows_affected(), || format!("the bundle of {subject}"))
}

/// Every bundle.
pub(super) async fn load(connection: &mut Connection, trust_domain: &str) -> Result<Vec<BundleRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT subject, owner, document, sequence, epoch, n FROM bundles WHERE trust_domain = $1 ORDER BY subject",
    )
    .bind(trust_domain)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(BundleRow {
                trust_domain: parsed(row, 0)?,
                owner: get(row, 1)?,
                document: get(row, 2)?,
                sequence: unsigned(get(row, 3)?)?,
                revision: revision(row, 4)?,
            })
        })
        .collect()
}
