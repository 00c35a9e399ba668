//! WIT-SVIDs: tokens that bind a workload's name to its key, signed and read back. Off unless `wit.enabled`.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use mayfly_sdk::jws::{JwsAlgorithm, Object};
use mayfly_sdk::key::KeyError;
use mayfly_sdk::wit::TYP;
use mayfly_sdk::{PrivateKey, PublicKey, Serial, SpiffeId, Timestamp, Ttl, json, jwk};
use serde_json::{Value, json};

use super::certificate::Birth;
use super::keyring::{Keyring, Roster};
use super::kind::Kind;
use super::slot::Active;
use super::token::{MAX_PAYLOAD, TokenSigner};
use super::{AuthorityError, AuthorityId};
use crate::store::SlotKind;

/// Signs WIT-SVIDs; shared by all issuers of the trust domain.
#[derive(Debug)]
pub enum Wit {}

/// A WIT-SVID to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitPlan {
    /// Whose identity it is; has a path.
    pub spiffe_id: SpiffeId,
    /// The workload's key, of a type that signs tokens: `cnf` (WIT-SVID 3.2).
    pub public_key: PublicKey,
    /// How long it is valid from `now`.
    pub ttl: Ttl,
    /// Its `jti`, which is the id of its ledger record too.
    pub jti: Serial,
    /// The time by the issuer's clock: `iat`.
    pub now: Timestamp,
}

/// A signed WIT-SVID, read back and found to be as planned. It is released once its record is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedWit {
    /// The token, in compact serialization. Of no use without the key that it is bound to.
    pub token: String,
    /// Its id.
    pub spiffe_id: SpiffeId,
    /// Its `jti`.
    pub jti: Serial,
    /// `exp`.
    pub not_after: Timestamp,
    /// The key that signed it: its `kid`.
    pub authority: AuthorityId,
}

impl Active<Wit> {
    /// Signs a token, reads it back and compares it with the plan.
    ///
    /// # Errors
    /// [`AuthorityError::Plan`] if this cannot be a WIT-SVID, [`AuthorityError::Key`] if the workload's key signs no tokens,
    /// [`AuthorityError::NotAsPlanned`] if something else was signed.
    pub async fn sign(&self, plan: &WitPlan) -> Result<SignedWit, AuthorityError> {
        let claims = Planned::of(plan)?;
        let payload = json::canonical(claims.to_object());
        if payload.len() > MAX_PAYLOAD {
            return Err(AuthorityError::Plan { what: "its claims are more than 16 KiB" });
        }
        let signer = self.signer();
        let token = signer.sign(payload.as_bytes()).await?;
        claims.check(signer, &token)?;
        Ok(SignedWit {
            token,
            spiffe_id: plan.spiffe_id.clone(),
            jti: plan.jti,
            not_after: claims.not_after,
            authority: signer.id().clone(),
        })
    }
}

/// A plan that can be a WIT-SVID.
struct Planned<'a> {
    plan: &'a WitPlan,
    algorithm: JwsAlgorithm,
    not_after: Timestamp,
}

impl<'a> Planned<'a> {
    fn of(plan: &'a WitPlan) -> Result<Self, AuthorityError> {
        if plan.spiffe_id.is_root() {
            return Err(AuthorityError::Plan { what: "a WIT-SVID is for a SPIFFE ID with a path" });
        }
        if plan.ttl.is_zero() {
            return Err(AuthorityError::Plan { what: "a WIT-SVID lives for a second at the least" });
        }
        let algorithm = JwsAlgorithm::for_key(plan.public_key.key_type()).ok_or(KeyError::Unsupported)?;
        let not_after = plan.now.checked_add(plan.ttl);
        let not_after = not_after.ok_or(AuthorityError::Plan { what: "its end cannot be written" })?;
        Ok(Self { plan, algorithm, not_after })
    }

    /// Its claims: no `aud` and no `iss` (WIT-SVID 3.7, 3.8).
    fn to_object(&self) -> Object {
        let mut key = jwk::members(&self.plan.public_key);
        key.insert("alg".to_owned(), json!(self.algorithm.name()));
        let mut claims = Object::new();
        claims.insert("sub".to_owned(), json!(self.plan.spiffe_id.as_str()));
        claims.insert("iat".to_owned(), json!(self.plan.now.unix_s()));
        claims.insert("exp".to_owned(), json!(self.not_after.unix_s()));
        claims.insert("jti".to_owned(), json!(self.plan.jti.to_string()));
        claims.insert("cnf".to_owned(), json!({ "jwk": key }));
        claims
    }

    /// Compares a token with the plan, as whoever reads it will: its key by what it means, not by its text.
    fn check(&self, signer: &TokenSigner, token: &str) -> Result<(), AuthorityError> {
        let differs = |field| AuthorityError::NotAsPlanned { field };
        let read = signer.read(token, TYP)?;
        let mut found = read.insecure_claims().ok().ok_or_else(|| differs("claims"))?;
        let mut take = |name| found.remove(name).unwrap_or(Value::Null);
        let Value::Object(mut confirmed) = take("cnf") else { return Err(differs("cnf")) };
        let key = match confirmed.remove("jwk") {
            Some(Value::Object(key)) if confirmed.is_empty() && !jwk::is_secret(&key) => key,
            _ => return Err(differs("cnf")),
        };
        let comparisons = [
            ("sub", take("sub") == self.plan.spiffe_id.as_str()),
            ("iat", take("iat").as_i64() == Some(self.plan.now.unix_s())),
            ("exp", take("exp").as_i64() == Some(self.not_after.unix_s())),
            ("jti", take("jti").as_str().is_some_and(|jti| jti.parse() == Ok(self.plan.jti))),
            ("cnf", jwk::public_key(&key).as_ref() == Ok(&self.plan.public_key)),
            ("cnf", key.get("alg").and_then(Value::as_str) == Some(self.algorithm.name())),
            ("claims", found.is_empty()),
        ];
        if let Some((field, _)) = comparisons.into_iter().find(|(_, as_planned)| !as_planned) {
            return Err(differs(field));
        }
        signer.check_signature(read)
    }
}

impl Kind for Wit {
    const NAME: SlotKind = SlotKind::Wit;
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
        &keyring.wit
    }

    fn roster_mut(keyring: &mut Keyring) -> &mut Roster<Self> {
        &mut keyring.wit
    }
}
