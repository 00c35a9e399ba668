//! Join tokens: stored hashed, consumed by one statement.

use mayfly_sdk::{Selector, SpiffeId, Timestamp};

use super::StoreError;
use super::connection::Connection;
use super::row::{fixed, get, optional_fixed, parsed, selectors, selectors_text, time};
use super::transaction::{Tx, Work};
use crate::ledger::{Digest, Record};

/// A join token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinTokenRow {
    /// SHA-256 of the token.
    pub token_sha256: Digest,
    /// The identity of the node to be.
    pub spiffe_id: SpiffeId,
    /// Extra node selectors.
    pub selectors: Vec<Selector>,
    /// Who made it.
    pub owner: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From this moment on it enrols nobody.
    pub expires_at: Timestamp,
    /// SHA-256 of the key that it enrolled.
    pub bound_key_sha256: Option<Digest>,
}

/// Expired tokens are kept this long, so that whoever comes too late is told so.
const KEEP_EXPIRED_S: i64 = 86_400;

/// Stores a new token.
pub(super) struct CreateJoinToken {
    pub(super) token: JoinTokenRow,
    pub(super) records: Vec<Record>,
}

impl Work for CreateJoinToken {
    type Answer = ();

    async fn run(self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let Self { token, records } = self;
        sqlx::query("DELETE FROM join_tokens WHERE trust_domain = $1 AND expires_at < $2")
            .bind(tx.trust_domain)
            .bind(tx.now.unix_s().saturating_sub(KEEP_EXPIRED_S))
            .execute(&mut *tx.connection)
            .await?;
        let inserted = sqlx::query(
            "INSERT INTO join_tokens (trust_domain, token_sha256, spiffe_id, selectors, owner, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(tx.trust_domain)
        .bind(token.token_sha256.to_vec())
        .bind(token.spiffe_id.as_str())
        .bind(selectors_text(&token.selectors))
        .bind(token.owner)
        .bind(token.created_at.unix_s())
        .bind(token.expires_at.unix_s())
        .execute(&mut *tx.connection)
        .await;
        inserted.map_err(|error| StoreError::if_taken(error, "this join token exists already"))?;
        tx.record(&records)
    }
}

/// What became of a token that a key presents.
pub(super) enum Consumed {
    /// It is bound to this key now.
    Bound {
        /// Who made it.
        owner: String,
        /// Whether it was bound to this key before: a lost answer is asked for again.
        again: bool,
    },
    /// Unknown, or for another identity.
    Unknown,
    /// Its time is over.
    Expired,
    /// Bound to another key.
    Used,
}

/// Binds the token to the key. One statement decides, so that of any number of keys one wins; what is read before is
/// for the words of the answer.
pub(super) async fn consume(
    tx: &mut Tx<'_>,
    token_sha256: &Digest,
    key_sha256: &Digest,
    spiffe_id: &SpiffeId,
) -> Result<Consumed, StoreError> {
    let row = sqlx::query(
        "SELECT owner, expires_at, bound_key_sha256 FROM join_tokens
         WHERE trust_domain = $1 AND token_sha256 = $2 AND spiffe_id = $3",
    )
    .bind(tx.trust_domain)
    .bind(token_sha256.to_vec())
    .bind(spiffe_id.as_str())
    .fetch_optional(&mut *tx.connection)
    .await?;
    let Some(row) = row else { return Ok(Consumed::Unknown) };
    let bound = sqlx::query(
        "UPDATE join_tokens SET bound_key_sha256 = $1
         WHERE trust_domain = $2 AND token_sha256 = $3 AND spiffe_id = $4
         AND (bound_key_sha256 IS NULL OR bound_key_sha256 = $1) AND expires_at > $5",
    )
    .bind(key_sha256.to_vec())
    .bind(tx.trust_domain)
    .bind(token_sha256.to_vec())
    .bind(spiffe_id.as_str())
    .bind(tx.now.unix_s())
    .execute(&mut *tx.connection)
    .await?;
    Ok(if bound.rows_affected() == 1 {
        Consumed::Bound { owner: get(&row, 0)?, again: optional_fixed(&row, 2)? == Some(*key_sha256) }
    } else if time(&row, 1)? <= tx.now {
        Consumed::Expired
    } else {
        Consumed::Used
    })
}

/// Every token that is kept.
pub(super) async fn load(connection: &mut Connection, trust_domain: &str) -> Result<Vec<JoinTokenRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT token_sha256, spiffe_id, selectors, owner, created_at, expires_at, bound_key_sha256 FROM join_tokens
         WHERE trust_domain = $1 ORDER BY created_at",
    )
    .bind(trust_domain)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(JoinTokenRow {
                token_sha256: fixed(row, 0)?,
                spiffe_id: parsed(row, 1)?,
                selectors: selectors(row, 2)?,
                owner: get(row, 3)?,
                created_at: time(row, 4)?,
                expires_at: time(row, 5)?,
                bound_key_sha256: optional_fixed(row, 6)?,
            })
        })
        .collect()
}
