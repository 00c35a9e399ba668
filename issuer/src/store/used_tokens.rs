//! Tokens of identity providers: each is good for one credential, which is recorded in the same transaction.

use mayfly_sdk::Timestamp;

use super::StoreError;
use super::row::unsigned;
use super::transaction::{Tx, Work};
use crate::ledger::{Digest, Record};

/// The most tokens that are remembered at a time. A token lives for an hour, as a rule: this is 55 a second.
const MAX_TOKENS: u64 = 200_000;
/// A token is remembered for longer than it lives, seconds: the clock may be set back.
const KEEP_EXPIRED_S: i64 = 3600;

/// A token, as it is remembered once it was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedToken {
    /// SHA-256 of its issuer and id.
    pub sha256: Digest,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Uses a token up for what these records say.
#[derive(Debug, Clone)]
pub struct RedeemToken {
    /// The token.
    pub token: UsedToken,
    /// Written in the same transaction, if the token was not used before.
    pub records: Vec<Record>,
}

/// What became of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redemption {
    /// It is used up, and what is recorded may be released.
    Redeemed,
    /// It was used before; nothing is recorded.
    UsedBefore,
    /// As many tokens are remembered as there may be; nothing is recorded.
    Full,
}

impl Work for RedeemToken {
    type Answer = Redemption;

    async fn run(self, tx: &mut Tx<'_>) -> Result<Redemption, StoreError> {
        let outcome = use_up(tx, &self.token).await?;
        if outcome == Redemption::Redeemed {
            tx.record(&self.records)?;
        }
        Ok(outcome)
    }
}

/// Uses a token up. One statement decides, so that of any number of callers with one token one wins.
pub(super) async fn use_up(tx: &mut Tx<'_>, token: &UsedToken) -> Result<Redemption, StoreError> {
    sqlx::query("DELETE FROM used_tokens WHERE trust_domain = $1 AND expires_at < $2")
        .bind(tx.trust_domain)
        .bind(tx.now.unix_s().saturating_sub(KEEP_EXPIRED_S))
        .execute(&mut *tx.connection)
        .await?;
    // Without a condition, so that the engine counts pages and not rows.
    let held: i64 = sqlx::query_scalar("SELECT count(*) FROM used_tokens").fetch_one(&mut *tx.connection).await?;
    if unsigned(held)? >= MAX_TOKENS {
        return Ok(Redemption::Full);
    }
    let inserted = sqlx::query(
        "INSERT INTO used_tokens (trust_domain, token_sha256, expires_at) VALUES ($1, $2, $3)
         ON CONFLICT (trust_domain, token_sha256) DO NOTHING",
    )
    .bind(tx.trust_domain)
    .bind(token.sha256.to_vec())
    .bind(token.expires_at.unix_s())
    .execute(&mut *tx.connection)
    .await?;
    Ok(if inserted.rows_affected() == 0 { Redemption::UsedBefore } else { Redemption::Redeemed })
}
