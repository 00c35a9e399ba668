//! JWS in compact serialization (RFC 7515), with the nine algorithms of JWT-SVID 2.1 and WIT-SVID 2.3.
//!
//! Small and strict: base64url without padding and without stray bits, one JSON object a segment, signatures of the
//! exact length. A token of this module says nothing yet: [`Unverified`] becomes [`Verified`] by [`Unverified::verify`],
//! which is the only way.

mod algorithm;
mod signer;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub use algorithm::JwsAlgorithm;
pub use signer::Signer;

use crate::json;
pub use crate::json::Object;
use crate::key::{PublicKey, ReadyKey};

/// The longest segment of a token that is read, in bytes (row J-26).
pub const MAX_SEGMENT_BYTES: usize = 64 * 1024;

/// Why a text is not a token, or its signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwsError {
    /// Not three segments of base64url. JSON serialization ends here too.
    #[error("not a token in JWS compact serialization")]
    NotCompact,
    /// A segment is longer than [`MAX_SEGMENT_BYTES`].
    #[error("a segment of the token is longer than 64 KiB")]
    TooLong,
    /// The header is not a JSON object with each member once.
    #[error("the header of the token is not a JSON object with each member once")]
    BadHeader,
    /// `alg` is missing, or none of the nine.
    #[error("the algorithm of the token is not one of RS, PS, ES with 256, 384, 512")]
    UnsupportedAlgorithm,
    /// `kid` is there and not a string.
    #[error("the key id of the token is not a string")]
    BadKeyId,
    /// The payload is not a JSON object with each member once.
    #[error("the payload of the token is not a JSON object with each member once")]
    BadPayload,
    /// The signature does not hold under this key, or this key is not one for the algorithm.
    #[error("the signature of the token does not hold")]
    BadSignature,
}

/// A token that was taken apart and not checked.
#[derive(Clone)]
pub struct Unverified<'a> {
    token: &'a str,
    signing_input: &'a str,
    header: Object,
    algorithm: JwsAlgorithm,
    key_id: Option<String>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// A token whose signature holds under one key.
#[derive(Clone)]
pub struct Verified<'a>(Unverified<'a>);

impl<'a> Unverified<'a> {
    /// Takes a token apart. The algorithm is checked here, before anybody looks for a key (row J-4).
    ///
    /// # Errors
    /// Any [`JwsError`] but `BadPayload` and `BadSignature`.
    pub fn parse(token: &'a str) -> Result<Self, JwsError> {
        let (signing_input, signature) = token.rsplit_once('.').ok_or(JwsError::NotCompact)?;
        let (header, payload) = signing_input.split_once('.').ok_or(JwsError::NotCompact)?;
        if [header, payload, signature].iter().any(|segment| segment.len() > MAX_SEGMENT_BYTES) {
            return Err(JwsError::TooLong);
        }
        let header = json::object(&decode(header)?).ok().ok_or(JwsError::BadHeader)?;
        let algorithm = header.get("alg").and_then(|alg| alg.as_str()).ok_or(JwsError::UnsupportedAlgorithm)?;
        let algorithm = algorithm.parse()?;
        let key_id = match header.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str().ok_or(JwsError::BadKeyId)?.to_owned()),
        };
        let (payload, signature) = (decode(payload)?, decode(signature)?);
        Ok(Self { token, signing_input, header, algorithm, key_id, payload, signature })
    }

    /// All members of the header. Not checked.
    #[must_use]
    pub fn header(&self) -> &Object {
        &self.header
    }

    /// The algorithm that the token claims.
    #[must_use]
    pub fn algorithm(&self) -> JwsAlgorithm {
        self.algorithm
    }

    /// The key that the token names, if it names one.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// The payload as a JSON object. Not checked: only good for choosing the key to check with.
    ///
    /// # Errors
    /// [`JwsError::BadPayload`].
    pub fn insecure_claims(&self) -> Result<Object, JwsError> {
        json::object(&self.payload).ok().ok_or(JwsError::BadPayload)
    }

    /// Checks the signature under one key.
    ///
    /// # Errors
    /// [`JwsError::BadSignature`], also when the key is not one for the algorithm (row J-6).
    pub fn verify(self, key: &PublicKey) -> Result<Verified<'a>, JwsError> {
        if self.holds_under(key) { Ok(Verified(self)) } else { Err(JwsError::BadSignature) }
    }

    /// Like [`Unverified::verify`] under a key that was made ready for one algorithm, which has to be the token's; `refuse` says
    /// what it means that the signature does not hold.
    pub(crate) fn verify_ready<E>(self, key: &ReadyKey, refuse: impl FnOnce(&Self) -> E) -> Result<Verified<'a>, E> {
        let held =
            self.algorithm.signature() == key.algorithm() && key.holds(self.signing_input.as_bytes(), &self.signature);
        if held { Ok(Verified(self)) } else { Err(refuse(&self)) }
    }

    /// Like [`Unverified::verify`] for several keys, of which any may have signed.
    pub(crate) fn verify_with_any<'k>(
        self,
        keys: impl IntoIterator<Item = &'k PublicKey>,
    ) -> Result<Verified<'a>, JwsError> {
        let held = keys.into_iter().any(|key| self.holds_under(key));
        if held { Ok(Verified(self)) } else { Err(JwsError::BadSignature) }
    }

    fn holds_under(&self, key: &PublicKey) -> bool {
        self.algorithm.fits(key.key_type())
            && key.verify(self.algorithm.signature(), self.signing_input.as_bytes(), &self.signature).is_ok()
    }
}

impl<'a> Verified<'a> {
    /// The token's own text.
    #[must_use]
    pub fn token(&self) -> &'a str {
        self.0.token
    }

    /// All members of the header.
    #[must_use]
    pub fn header(&self) -> &Object {
        &self.0.header
    }

    /// The key that the token names, if it names one.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.0.key_id()
    }

    /// The signed bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.0.payload
    }

    /// The payload as a JSON object.
    ///
    /// # Errors
    /// [`JwsError::BadPayload`].
    pub fn claims(&self) -> Result<Object, JwsError> {
        self.0.insecure_claims()
    }
}

// A token is a credential: what is shown of it must not be one.
impl fmt::Debug for Unverified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unverified({} by {:?})", self.algorithm, self.key_id)
    }
}

impl fmt::Debug for Verified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verified({} by {:?})", self.0.algorithm, self.0.key_id)
    }
}

/// Header and payload of a token of any algorithm, as JSON objects. Nothing is checked: for showing a token to a person.
///
/// # Errors
/// [`JwsError::NotCompact`], [`JwsError::TooLong`], [`JwsError::BadHeader`], [`JwsError::BadPayload`].
pub fn insecure_parts(token: &str) -> Result<(Object, Object), JwsError> {
    let mut segments = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (segments.next(), segments.next(), segments.next(), segments.next())
    else {
        return Err(JwsError::NotCompact);
    };
    if [header, payload, signature].iter().any(|segment| segment.len() > MAX_SEGMENT_BYTES) {
        return Err(JwsError::TooLong);
    }
    let header = json::object(&decode(header)?).ok().ok_or(JwsError::BadHeader)?;
    Ok((header, json::object(&decode(payload)?).ok().ok_or(JwsError::BadPayload)?))
}

fn decode(segment: &str) -> Result<Vec<u8>, JwsError> {
    URL_SAFE_NO_PAD.decode(segment).ok().ok_or(JwsError::NotCompact)
}

#[cfg(test)]
mod tests;
