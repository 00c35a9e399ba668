use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::presentation::Presentation;
use super::token::Confirmation;
use super::{AUTHORIZATION, Carrier, IDENTITY_HEADER, PROOF_HEADER, PROOF_TYP, ProofError, TargetUri};
use crate::claims;
use crate::json::Object;
use crate::jws::{self, JwsError, Signer};
use crate::time::{Timestamp, Ttl};

/// The longest life of a proof that can be asked for or configured.
pub const MAX_PROOF_LIFE: Ttl = Ttl::from_s(600);
/// The life of a proof where nobody says otherwise.
const LIFE: Ttl = Ttl::from_s(60);
/// How long the `jti` of a proof is, in characters: 16 of them are the 128 bits that the draft asks for.
const ID_CHARS: std::ops::RangeInclusive<usize> = 16..=256;

/// What a proof is made for: one request.
#[derive(Debug, Clone)]
pub struct ProofRequest<'a> {
    target: TargetUri,
    life: Ttl,
    transaction: Option<&'a str>,
    context: Vec<(String, &'a str)>,
}

/// A proof of possession for one request, with the token that it is about. It shows nothing of itself.
pub struct Proof {
    token: String,
    proof: Zeroizing<String>,
}

/// What a proof says that holds: its id, and until when the id must be remembered.
pub(super) struct Checked {
    pub(super) id: String,
    pub(super) expires_at: Timestamp,
}

impl<'a> ProofRequest<'a> {
    /// A request to this URI.
    #[must_use]
    pub fn new(target: TargetUri) -> Self {
        Self { target, life: LIFE, transaction: None, context: Vec::new() }
    }

    /// With a proof that lives this long in place of a minute.
    ///
    /// # Errors
    /// [`ProofError::OutOfRange`] outside 1 s to [`MAX_PROOF_LIFE`].
    pub fn with_life(self, life: Ttl) -> Result<Self, ProofError> {
        if life.is_zero() || life > MAX_PROOF_LIFE { Err(ProofError::OutOfRange) } else { Ok(Self { life, ..self }) }
    }

    /// That also has this transaction token, in the header `Txn-Token`.
    #[must_use]
    pub fn with_transaction(self, token: &'a str) -> Self {
        Self { transaction: Some(token.trim_matches([' ', '\t'])), ..self }
    }

    /// That also has a token which says something about whom it is for, in a header of its own.
    ///
    /// # Errors
    /// [`ProofError::BadHeaderName`].
    pub fn with_context(mut self, header: &str, value: &'a str) -> Result<Self, ProofError> {
        self.context.push((context_header(header)?, value.trim_matches([' ', '\t'])));
        Ok(self)
    }

    /// The payload of the proof.
    pub(super) fn claims(&self, token: &str, token_ends: Timestamp, now: Timestamp) -> Result<Value, ProofError> {
        let mut id = [0; 16];
        SystemRandom::new().fill(&mut id).ok().ok_or(ProofError::NoRandomness)?;
        let mut claims = Object::new();
        claims.insert("aud".into(), json!(self.target.as_str()));
        claims.insert("exp".into(), json!(now.saturating_add(self.life).min(token_ends).unix_s()));
        claims.insert("jti".into(), json!(URL_SAFE_NO_PAD.encode(id)));
        claims.insert("wth".into(), json!(hash(token)));
        if let Some(transaction) = self.transaction {
            claims.insert("tth".into(), json!(hash(transaction)));
        }
        if !self.context.is_empty() {
            let hashes = self.context.iter().map(|(name, value)| (name.clone(), json!(hash(value))));
            claims.insert("oth".into(), hashes.collect());
        }
        Ok(Value::Object(crate::json::sorted(claims)))
    }
}

impl Proof {
    pub(super) fn sign(signer: &Signer, token: &str, claims: &Value) -> Result<Self, ProofError> {
        let proof = signer.sign(claims.to_string().as_bytes()).ok().ok_or(ProofError::Jws(JwsError::BadSignature))?;
        Ok(Self { token: token.to_owned(), proof: Zeroizing::new(proof) })
    }

    /// The two headers that go into the request, and into this request only.
    #[must_use]
    pub fn headers(&self, carrier: Carrier) -> [(&'static str, String); 2] {
        let proof = match carrier {
            Carrier::Authorization => (AUTHORIZATION, format!("WPT {}", *self.proof)),
            Carrier::ProofHeader => (PROOF_HEADER, self.proof.to_string()),
        };
        [(IDENTITY_HEADER, self.token.clone()), proof]
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof")
    }
}

/// Checks a proof for a request to one of these targets (rows W-26, W-30, W-31).
pub(super) fn check(
    presented: &Presentation<'_>,
    confirmation: &Confirmation,
    targets: &[TargetUri],
    (longest, leeway): (Ttl, Ttl),
    now: Timestamp,
) -> Result<Checked, ProofError> {
    let parsed = jws::Unverified::parse(presented.proof).map_err(ProofError::Jws)?;
    let header = parsed.header();
    if header.get("typ").and_then(Value::as_str) != Some(PROOF_TYP) {
        return Err(ProofError::WrongType);
    }
    if header.contains_key("crit") {
        return Err(ProofError::Critical);
    }
    if parsed.algorithm() != confirmation.algorithm {
        return Err(ProofError::WrongAlgorithm);
    }
    let claims = parsed.verify(&confirmation.key).and_then(|verified| verified.claims()).map_err(ProofError::Jws)?;
    check_audience(&claims, targets)?;
    let expires_at = check_times(&claims, longest, leeway, now)?;
    let id = claims.get("jti").and_then(Value::as_str).filter(|id| ID_CHARS.contains(&id.len()));
    let id = id.ok_or(ProofError::BadId)?.to_owned();
    if claims.get("wth").and_then(Value::as_str) != Some(&*hash(presented.token)) {
        return Err(ProofError::WrongToken);
    }
    if claims.get("tth").map(Value::as_str) != presented.transaction.map(hash).as_deref().map(Some) {
        return Err(ProofError::TransactionNotBound);
    }
    check_context(&claims, &presented.context)?;
    Ok(Checked { id, expires_at: expires_at.saturating_add(leeway) })
}

fn check_audience(claims: &Object, targets: &[TargetUri]) -> Result<(), ProofError> {
    let audience = match claims.get("aud") {
        Some(Value::String(one)) => one,
        Some(Value::Array(list)) => match list.as_slice() {
            // A proof is for one request.
            [Value::String(one)] => one,
            _ => return Err(ProofError::BadAudience),
        },
        _ => return Err(ProofError::BadAudience),
    };
    let audience: TargetUri = audience.parse().map_err(|_not_a_target| ProofError::BadAudience)?;
    if targets.contains(&audience) { Ok(()) } else { Err(ProofError::WrongAudience) }
}

fn check_times(claims: &Object, longest: Ttl, leeway: Ttl, now: Timestamp) -> Result<Timestamp, ProofError> {
    let time = |name| claims::time(claims, name).map_err(|_not_a_time| ProofError::BadTime);
    let expires_at = time("exp")?.ok_or(ProofError::NoExpiry)?;
    if now >= expires_at.saturating_add(leeway) {
        return Err(ProofError::Expired);
    }
    if expires_at > now.saturating_add(longest).saturating_add(leeway) {
        return Err(ProofError::LivesTooLong);
    }
    if time("nbf")?.is_some_and(|at| at > now.saturating_add(leeway)) {
        return Err(ProofError::NotYetValid);
    }
    Ok(expires_at)
}

/// Every token of the request that counts is bound, and what is bound is in the request and understood.
fn check_context(claims: &Object, context: &[(&str, &str)]) -> Result<(), ProofError> {
    let none = Object::new();
    let bound = match claims.get("oth") {
        None => &none,
        Some(bound) => bound.as_object().ok_or(ProofError::ContextUnknown)?,
    };
    if bound.keys().any(|name| !context.iter().any(|(known, _)| known == name)) {
        return Err(ProofError::ContextUnknown);
    }
    let holds = |(name, value): &(&str, &str)| bound.get(*name).and_then(Value::as_str) == Some(&*hash(value));
    if context.iter().all(holds) { Ok(()) } else { Err(ProofError::ContextNotBound) }
}

/// The name of a header for further tokens, in lower case: a token of RFC 9110 5.6.2, and none that has a meaning here.
pub(super) fn context_header(name: &str) -> Result<String, ProofError> {
    let name = name.to_ascii_lowercase();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let taken = [AUTHORIZATION, IDENTITY_HEADER, PROOF_HEADER, super::TRANSACTION_HEADER];
    let legal = (1..=128).contains(&name.len()) && name.bytes().all(is_token);
    if legal && !taken.iter().any(|taken| name.eq_ignore_ascii_case(taken)) {
        Ok(name)
    } else {
        Err(ProofError::BadHeaderName)
    }
}

/// How a proof names a token: SHA-256 of its ASCII text, base64url.
fn hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()))
}
