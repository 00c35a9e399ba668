//! JWT-SVIDs that clients name themselves by: each is good for the key that it first came with, and for no other.

use mayfly_sdk::Timestamp;

use super::row::{fixed, unsigned};
use super::transaction::{Tx, Work};
use super::{Store, StoreError};
use crate::ledger::Digest;

/// The most that are remembered at a time: with 5 minutes of life each, 200 new ones a second.
const MOST: u64 = 200_000;
/// One is remembered for longer than it lives, seconds: the clock may be set back.
const KEEP_EXPIRED_S: i64 = 600;

/// Binds an assertion to a key, if it is not bound yet.
#[derive(Debug, Clone)]
pub struct BindAssertion {
    /// SHA-256 of the JWT-SVID.
    pub assertion: Digest,
    /// The thumbprint of the key.
    pub key: Digest,
    /// When the JWT-SVID ends.
    pub expires_at: Timestamp,
}

/// What an assertion is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssertionBinding {
    /// For this key, now or already.
    ThisKey,
    /// For another one.
    AnotherKey,
    /// As many are remembered as there may be.
    Full,
}

impl Work for BindAssertion {
    type Answer = AssertionBinding;

    async fn run(self, tx: &mut Tx<'_>) -> Result<AssertionBinding, StoreError> {
        sqlx::query("DELETE FROM client_assertions WHERE trust_domain = $1 AND expires_at < $2")
            .bind(tx.trust_domain)
            .bind(tx.now.unix_s().saturating_sub(KEEP_EXPIRED_S))
            .execute(&mut *tx.connection)
            .await?;
        // Without a condition, so that the engine counts pages and not rows.
        let held: i64 =
            sqlx::query_scalar("SELECT count(*) FROM client_assertions").fetch_one(&mut *tx.connection).await?;
        let room = unsigned(held)? < MOST;
        // One statement decides, so that of any number of callers with one assertion one binds it.
        let bound = sqlx::query(
            "INSERT INTO client_assertions (trust_domain, assertion_sha256, key_sha256, expires_at)
             SELECT $1, $2, $3, $4 WHERE $5 ON CONFLICT (trust_domain, assertion_sha256) DO NOTHING",
        )
        .bind(tx.trust_domain)
        .bind(self.assertion.to_vec())
        .bind(self.key.to_vec())
        .bind(self.expires_at.unix_s())
        .bind(room)
        .execute(&mut *tx.connection)
        .await?;
        if bound.rows_affected() == 1 {
            return Ok(AssertionBinding::ThisKey);
        }
        let key: Option<Vec<u8>> = sqlx::query_scalar(KEY_OF)
            .bind(tx.trust_domain)
            .bind(self.assertion.to_vec())
            .fetch_optional(&mut *tx.connection)
            .await?;
        Ok(key.map_or(AssertionBinding::Full, |key| binding(&key, &self.key)))
    }
}

const KEY_OF: &str = "SELECT key_sha256 FROM client_assertions WHERE trust_domain = $1 AND assertion_sha256 = $2";

fn binding(bound: &[u8], key: &Digest) -> AssertionBinding {
    if bound == key { AssertionBinding::ThisKey } else { AssertionBinding::AnotherKey }
}

impl Store {
    /// What an assertion is good for, if it is bound already.
    ///
    /// # Errors
    /// The disk's.
    pub async fn assertion(&self, assertion: &Digest, key: &Digest) -> Result<Option<AssertionBinding>, StoreError> {
        let mut reader = self.reader().await?;
        let row = sqlx::query(KEY_OF)
            .bind(self.trust_domain().as_str())
            .bind(assertion.to_vec())
            .fetch_optional(&mut *reader)
            .await?;
        row.map(|row| Ok(binding(&fixed::<32>(&row, 0)?, key))).transpose()
    }
}
