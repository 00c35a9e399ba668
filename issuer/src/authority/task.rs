//! Task tokens: signed, and read back.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use mayfly_sdk::task::{TYP, TaskClaims};
use mayfly_sdk::{PrivateKey, PublicKey, Serial, SpiffeId, Timestamp, Ttl, jwk};
use serde_json::Value;

use super::certificate::Birth;
use super::keyring::{Keyring, Roster};
use super::kind::Kind;
use super::slot::Active;
use super::token::TokenSigner;
use super::{AuthorityError, AuthorityId};
use crate::store::SlotKind;

/// The longest token, bytes: half of what a validator reads.
const MAX_TOKEN: usize = 4 * 1024;

/// Signs task tokens; shared by all issuers of the trust domain.
#[derive(Debug)]
pub enum Task {}

/// A task token to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPlan {
    /// What it says.
    pub claims: TaskClaims,
}

/// A signed task token, read back and found to be as planned. It is released once its record is durable.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedTask {
    /// The token, in compact serialization: never log it.
    pub token: String,
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// Its `jti`.
    pub jti: Serial,
    /// `exp`.
    pub not_after: Timestamp,
    /// The key that signed it: its `kid`.
    pub authority: AuthorityId,
}

impl std::fmt::Debug for SignedTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedTask").field("spiffe_id", &self.spiffe_id).field("jti", &self.jti).finish_non_exhaustive()
    }
}

impl TaskPlan {
    /// How long the token is to live.
    #[must_use]
    pub fn life(&self) -> Ttl {
        self.claims.expires_at.remaining(self.claims.issued_at)
    }
}

impl Active<Task> {
    /// Signs a token, reads it back and compares it with the plan.
    ///
    /// # Errors
    /// [`AuthorityError::Plan`] if this cannot be a task token, [`AuthorityError::NotAsPlanned`] if something else was
    /// signed.
    pub async fn sign(&self, plan: &TaskPlan) -> Result<SignedTask, AuthorityError> {
        let holder = plan.claims.holder().ok_or(AuthorityError::Plan { what: "a task token has a holder" })?;
        if plan.life().is_zero() {
            return Err(AuthorityError::Plan { what: "a task token lives for a second at the least" });
        }
        let signer = self.signer();
        let token = signer.sign(Value::Object(plan.claims.to_json()).to_string().as_bytes()).await?;
        if token.len() > MAX_TOKEN {
            return Err(AuthorityError::TaskTooLarge);
        }
        let read = signer.read(&token, TYP)?;
        let found = read.insecure_claims().ok().as_ref().and_then(TaskClaims::parse);
        if found.as_ref() != Some(&plan.claims) {
            return Err(AuthorityError::NotAsPlanned { field: "claims" });
        }
        signer.check_signature(read)?;
        Ok(SignedTask {
            token,
            spiffe_id: holder.spiffe_id.clone(),
            jti: plan.claims.jti,
            not_after: plan.claims.expires_at,
            authority: signer.id().clone(),
        })
    }
}

impl Kind for Task {
    const NAME: SlotKind = SlotKind::Task;
    type Signer = TokenSigner;

    fn authority_id(key: &PublicKey) -> AuthorityId {
        AuthorityId::new(&jwk::thumbprint(key))
    }

    /// The bare key is published.
    async fn certify(_: &Birth<'_>, _: &PrivateKey) -> Result<Vec<Bytes>, AuthorityError> {
        Ok(Vec::new())
    }

    fn signer(key: &PrivateKey, _: &[Bytes]) -> Result<TokenSigner, AuthorityError> {
        TokenSigner::new(key, TYP)
    }

    fn roster(keyring: &Keyring) -> &Roster<Self> {
        &keyring.task
    }

    fn roster_mut(keyring: &mut Keyring) -> &mut Roster<Self> {
        &mut keyring.task
    }
}
