//! JWT-SVIDs: from a plan to a signed token that was read back and found to be as planned.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use mayfly_sdk::jws::{JwsAlgorithm, Object, Signer, Unverified};
use mayfly_sdk::key::{KeyError, KeyType};
use mayfly_sdk::{PrivateKey, PublicKey, Serial, SpiffeId, Timestamp, Ttl, json, jwk};
use serde_json::{Value, json};

use super::certificate::Birth;
use super::keyring::{Keyring, Roster};
use super::kind::Kind;
use super::leaf::VERIFIED_OF;
use super::slot::Active;
use super::{AuthorityError, AuthorityId};
use crate::store::SlotKind;

/// The `typ` of a JWT-SVID here (JWT-SVID 2.3).
const TYP: &str = mayfly_sdk::jwt::TYP;
/// Claims that only the issuer writes: those of RFC 7519 4.1, and what other kinds of token are told by.
const OWN_CLAIMS: [&str; 9] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf", "act"];
/// The most audiences of a token: deployed clients refuse more.
const MAX_AUDIENCES: usize = 32;
/// The longest payload, bytes.
pub(super) const MAX_PAYLOAD: usize = 16 * 1024;

/// Signs JWT-SVIDs; shared by all issuers of the trust domain.
#[derive(Debug)]
pub enum Jwt {}

/// A JWT-SVID to be signed.
#[derive(Debug, Clone, PartialEq)]
pub struct JwtPlan {
    /// Whose identity it is; has a path (JWT-SVID 3.1).
    pub spiffe_id: SpiffeId,
    /// Whom it is for: at least one, none empty, written in this order (JWT-SVID 3.2).
    pub audience: Vec<String>,
    /// How long it is valid from `now`.
    pub ttl: Ttl,
    /// Its `jti`, which is the id of its ledger record too.
    pub jti: Serial,
    /// The issuer's public URL, where there is one.
    pub iss: Option<Arc<str>>,
    /// Further claims, none of those that only the issuer writes.
    pub claims: Object,
    /// The time by the issuer's clock: `iat`.
    pub now: Timestamp,
}

/// A signed JWT-SVID, read back and found to be as planned. It is released once its record is durable.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedJwt {
    /// The token, in compact serialization. Whoever has it has the identity: never log it.
    pub token: String,
    /// Its id.
    pub spiffe_id: SpiffeId,
    /// Its `jti`.
    pub jti: Serial,
    /// `iat`.
    pub issued_at: Timestamp,
    /// `exp`.
    pub not_after: Timestamp,
    /// The key that signed it: its `kid`.
    pub authority: AuthorityId,
}

/// A token key, ready to sign. A key in a key service will be a second place.
pub struct TokenSigner {
    place: Place,
    id: AuthorityId,
    signed: AtomicU64,
}

enum Place {
    Local(Signer),
}

impl Active<Jwt> {
    /// Signs a token, reads it back and compares it with the plan.
    ///
    /// # Errors
    /// [`AuthorityError::Plan`] if this cannot be a JWT-SVID, [`AuthorityError::NotAsPlanned`] if something else was
    /// signed.
    pub async fn sign(&self, plan: &JwtPlan) -> Result<SignedJwt, AuthorityError> {
        check_plan(plan)?;
        let not_after = plan.now.checked_add(plan.ttl);
        let not_after = not_after.ok_or(AuthorityError::Plan { what: "its end cannot be written" })?;
        let payload = json::canonical(claims(plan, not_after));
        if payload.len() > MAX_PAYLOAD {
            return Err(AuthorityError::Plan { what: "its claims are more than 16 KiB" });
        }
        let signer = self.signer();
        let token = signer.sign(payload.as_bytes()).await?;
        signer.check(&token, plan, not_after)?;
        Ok(SignedJwt {
            token,
            spiffe_id: plan.spiffe_id.clone(),
            jti: plan.jti,
            issued_at: plan.now,
            not_after,
            authority: signer.id.clone(),
        })
    }
}

fn check_plan(plan: &JwtPlan) -> Result<(), AuthorityError> {
    let refuse = |what| Err(AuthorityError::Plan { what });
    if plan.spiffe_id.is_root() {
        return refuse("a JWT-SVID is for a SPIFFE ID with a path");
    }
    if plan.ttl.is_zero() {
        return refuse("a JWT-SVID lives for a second at the least");
    }
    if plan.audience.is_empty() || plan.audience.iter().any(String::is_empty) {
        return refuse("a JWT-SVID has at least one audience, and none that is empty");
    }
    if plan.audience.len() > MAX_AUDIENCES {
        return refuse("a JWT-SVID has at most 32 audiences");
    }
    if OWN_CLAIMS.iter().any(|own| plan.claims.contains_key(*own)) {
        return refuse("iss, sub, aud, exp, nbf, iat, jti, cnf and act are not for an entry to set");
    }
    Ok(())
}

fn claims(plan: &JwtPlan, not_after: Timestamp) -> Object {
    let mut claims = plan.claims.clone();
    claims.insert("sub".to_owned(), json!(plan.spiffe_id.as_str()));
    claims.insert("aud".to_owned(), json!(plan.audience));
    claims.insert("iat".to_owned(), json!(plan.now.unix_s()));
    claims.insert("exp".to_owned(), json!(not_after.unix_s()));
    claims.insert("jti".to_owned(), json!(plan.jti.to_string()));
    if let Some(iss) = &plan.iss {
        claims.insert("iss".to_owned(), json!(&**iss));
    }
    claims
}

impl TokenSigner {
    /// A key that signs tokens of this `typ`.
    pub(super) fn new(key: &PrivateKey, typ: &str) -> Result<Self, AuthorityError> {
        let signer = Signer::new(key, algorithm(key.public_key().key_type())?, typ)?;
        let id = AuthorityId::new(signer.key_id());
        Ok(Self { place: Place::Local(signer), id, signed: AtomicU64::new(0) })
    }

    /// Its `kid`.
    pub(super) fn id(&self) -> &AuthorityId {
        &self.id
    }

    #[expect(clippy::unused_async, reason = "a key service will be awaited here")]
    pub(super) async fn sign(&self, payload: &[u8]) -> Result<String, KeyError> {
        match &self.place {
            Place::Local(signer) => signer.sign(payload),
        }
    }

    fn public_key(&self) -> &PublicKey {
        match &self.place {
            Place::Local(signer) => signer.public_key(),
        }
    }

    /// Compares a token with its plan, and verifies its signature: the first of the key, and every 256th.
    fn check(&self, token: &str, plan: &JwtPlan, not_after: Timestamp) -> Result<(), AuthorityError> {
        let differs = |field| AuthorityError::NotAsPlanned { field };
        let read = self.read(token, TYP)?;
        let mut found = read.insecure_claims().ok().ok_or_else(|| differs("claims"))?;
        let mut take = |name| found.remove(name).unwrap_or(Value::Null);
        let audience = take("aud");
        let audience = audience.as_array().is_some_and(|found| {
            found.len() == plan.audience.len()
                && found.iter().zip(&plan.audience).all(|(found, planned)| found == planned)
        });
        let comparisons = [
            ("sub", take("sub") == plan.spiffe_id.as_str()),
            ("aud", audience),
            ("iat", take("iat").as_i64() == Some(plan.now.unix_s())),
            ("exp", take("exp").as_i64() == Some(not_after.unix_s())),
            ("jti", take("jti").as_str().is_some_and(|jti| jti.parse() == Ok(plan.jti))),
            ("iss", take("iss").as_str() == plan.iss.as_deref()),
            ("claims", found == plan.claims),
        ];
        if let Some((field, _)) = comparisons.into_iter().find(|(_, as_planned)| !as_planned) {
            return Err(differs(field));
        }
        self.check_signature(read)
    }

    /// Takes a token apart that has just been made, and compares its header with the one that tokens of this `typ` have.
    pub(super) fn read<'a>(&self, token: &'a str, typ: &str) -> Result<Unverified<'a>, AuthorityError> {
        let read = Unverified::parse(token).ok().ok_or(AuthorityError::NotAsPlanned { field: "token" })?;
        let header = read.header();
        let found = header.get("typ").and_then(Value::as_str);
        if header.len() != 3 || found != Some(typ) || read.key_id() != Some(self.id.as_str()) {
            return Err(AuthorityError::NotAsPlanned { field: "header" });
        }
        Ok(read)
    }

    /// Verifies the signature of the first token of the key, and of every 256th.
    pub(super) fn check_signature(&self, token: Unverified<'_>) -> Result<(), AuthorityError> {
        if self.signed.fetch_add(1, Ordering::Relaxed).is_multiple_of(VERIFIED_OF) {
            let held = token.verify(self.public_key()).ok();
            held.ok_or(AuthorityError::NotAsPlanned { field: "signature" })?;
        }
        Ok(())
    }
}

impl Kind for Jwt {
    const NAME: SlotKind = SlotKind::Jwt;
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
        &keyring.jwt
    }

    fn roster_mut(keyring: &mut Keyring) -> &mut Roster<Self> {
        &mut keyring.jwt
    }
}

/// The algorithm with which a key of this type signs tokens here.
fn algorithm(key: KeyType) -> Result<JwsAlgorithm, KeyError> {
    match key {
        KeyType::EcP256 => Ok(JwsAlgorithm::Es256),
        KeyType::EcP384 => Ok(JwsAlgorithm::Es384),
        KeyType::EcP521 => Ok(JwsAlgorithm::Es512),
        KeyType::Rsa => Ok(JwsAlgorithm::Rs256),
        _ => Err(KeyError::Unsupported),
    }
}
