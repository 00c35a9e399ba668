use serde_json::Value;

use super::{TYP, WitError};
use crate::bundle::WitBundleSet;
use crate::claims::{subject, time};
use crate::id::SpiffeId;
use crate::json::Object;
use crate::jwk;
use crate::jws::{self, JwsAlgorithm, JwsError};
use crate::key::PublicKey;
use crate::time::Timestamp;

/// What a WIT-SVID says that nobody has verified. Only its holder may rely on it.
#[derive(Debug, Clone)]
pub struct UnverifiedWit {
    key_id: String,
    spiffe_id: SpiffeId,
    confirmation: Confirmation,
    expires_at: Timestamp,
    not_before: Option<Timestamp>,
    claims: Object,
}

/// The key of the workload, and the one algorithm that it signs proofs with (WIT-SVID 3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Confirmation {
    pub(super) key: PublicKey,
    pub(super) algorithm: JwsAlgorithm,
}

impl UnverifiedWit {
    /// Reads a token without looking at its signature, for those who need to know what it says before they have a reason
    /// to believe it: its holder, and people who look into one.
    ///
    /// # Errors
    /// A [`WitError`] about the form of the token.
    pub fn read(token: &str) -> Result<Self, WitError> {
        let parsed = parse(token)?;
        Self::from_claims(parsed.key_id().unwrap_or_default().to_owned(), parsed.insecure_claims()?)
    }

    fn from_claims(key_id: String, claims: Object) -> Result<Self, WitError> {
        if claims.contains_key("aud") {
            return Err(WitError::HasAudience);
        }
        let spiffe_id = subject(&claims)?;
        if spiffe_id.is_root() {
            return Err(WitError::RootSubject);
        }
        // Only its form counts: `iat` never limits when a token begins to be valid (row W-17).
        time(&claims, "iat")?;
        Ok(Self {
            key_id,
            spiffe_id,
            confirmation: Confirmation::read(&claims)?,
            expires_at: time(&claims, "exp")?.ok_or(WitError::NoExpiry)?,
            not_before: time(&claims, "nbf")?,
            claims,
        })
    }

    /// Who it names.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    /// The key that signed it, as it says.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The key that it is bound to.
    #[must_use]
    pub fn bound_key(&self) -> &PublicKey {
        &self.confirmation.key
    }

    /// The algorithm of the proofs that go with it.
    #[must_use]
    pub fn proof_algorithm(&self) -> JwsAlgorithm {
        self.confirmation.algorithm
    }

    /// From when on it is not valid.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// From when on it is valid, if it says so.
    #[must_use]
    pub fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }

    /// All its claims.
    #[must_use]
    pub fn claims(&self) -> &Object {
        &self.claims
    }

    pub(super) fn confirmation(&self) -> &Confirmation {
        &self.confirmation
    }
}

/// A token whose signature holds under the one key that it names, in the bundle of its subject's own trust domain. It says
/// nothing about whoever shows it, so that it does not leave this module's parent.
///
/// # Errors
/// A [`WitError`] about form, key or signature; times are the caller's to check.
pub(super) fn issued(token: &str, bundles: &WitBundleSet) -> Result<UnverifiedWit, WitError> {
    let parsed = parse(token)?;
    let key_id = parsed.key_id().unwrap_or_default().to_owned();
    // Unverified, and read for one purpose: to know whose keys to ask.
    let trust_domain = subject(&parsed.insecure_claims()?)?.trust_domain().clone();
    let bundle = bundles.get(&trust_domain).ok_or(WitError::NoBundle)?;
    let authority = bundle.find(&key_id).ok_or(WitError::NoAuthority)?;
    if !authority.allows(parsed.algorithm()) {
        return Err(JwsError::BadSignature.into());
    }
    let verified = parsed.verify(authority.public_key())?;
    UnverifiedWit::from_claims(key_id, verified.claims()?)
}

/// Takes a token apart and checks its header (rows W-1 to W-6).
fn parse(token: &str) -> Result<jws::Unverified<'_>, WitError> {
    let parsed = jws::Unverified::parse(token)?;
    let header = parsed.header();
    if header.get("typ").and_then(Value::as_str) != Some(TYP) {
        return Err(WitError::WrongType);
    }
    if header.contains_key("crit") {
        return Err(WitError::Critical);
    }
    if parsed.key_id().is_none_or(str::is_empty) {
        return Err(WitError::NoKeyId);
    }
    Ok(parsed)
}

impl Confirmation {
    /// Reads `cnf` (RFC 7800 3.1, WIT-SVID 3.2; rows W-8 to W-11).
    fn read(claims: &Object) -> Result<Self, WitError> {
        let members = claims.get("cnf").and_then(Value::as_object).ok_or(WitError::NoConfirmation)?;
        let jwk = members.get("jwk").and_then(Value::as_object).ok_or(WitError::NoConfirmation)?;
        // At most one of these names the key.
        let ambiguous = members.contains_key("jwe") || members.contains_key("jku");
        if ambiguous || jwk::is_secret(jwk) {
            return Err(WitError::BadConfirmation);
        }
        let algorithm = jwk.get("alg").and_then(Value::as_str).and_then(|name| name.parse::<JwsAlgorithm>().ok());
        let (algorithm, key) = algorithm.zip(jwk::public_key(jwk).ok()).ok_or(WitError::BadConfirmation)?;
        if !algorithm.fits(key.key_type()) {
            return Err(WitError::BadConfirmation);
        }
        Ok(Self { key, algorithm })
    }
}
