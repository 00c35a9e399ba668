//! Keys as JWK (RFC 7517, RFC 7518 6) and their thumbprints (RFC 7638).

mod private;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;

pub use private::{private_key, private_text};

use crate::der;
use crate::json::{self, Object};
use crate::jws::JwsAlgorithm;
use crate::key::{KeyError, KeyType, PublicKey};

/// What stands before the point in the SPKI of a key on this curve.
const EC_PREFIXES: [(&str, usize, &[u8]); 3] = [
    (
        "P-256",
        32,
        b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04",
    ),
    ("P-384", 48, b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00\x04"),
    (
        "P-521",
        66,
        b"\x30\x81\x9b\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23\x03\x81\x86\x00\x04",
    ),
];
/// `SEQUENCE { rsaEncryption, NULL }`.
const RSA_ALGORITHM: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

/// The members of RFC 7518 6 (or RFC 8037 2) for this key: `kty` and its public numbers, nothing else.
#[must_use]
pub fn members(key: &PublicKey) -> Object {
    let value = match key.key_type() {
        KeyType::EcP256 => ec(key, "P-256", 32),
        KeyType::EcP384 => ec(key, "P-384", 48),
        KeyType::EcP521 => ec(key, "P-521", 66),
        KeyType::Rsa => rsa(key),
        KeyType::Ed25519 => json!({ "crv": "Ed25519", "kty": "OKP", "x": encode(tail(key.spki(), 32)) }),
    };
    match value {
        Value::Object(members) => members,
        _ => Object::new(),
    }
}

/// The RFC 7638 thumbprint of a key: SHA-256, base64url. This is the `kid` of every key of ours.
#[must_use]
pub fn thumbprint(key: &PublicKey) -> String {
    encode(&thumbprint_sha256(key))
}

/// The same as bytes.
#[must_use]
pub fn thumbprint_sha256(key: &PublicKey) -> [u8; 32] {
    // `members` holds exactly the required members, written in the order of their names, as RFC 7638 3.3 asks.
    let canonical = json::canonical(members(key));
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, canonical.as_bytes()).as_ref());
    bytes
}

/// A JWK Set (RFC 7517 5) of keys that verify signatures, each under its thumbprint.
#[must_use]
pub fn signing_set<'a>(keys: impl IntoIterator<Item = &'a PublicKey>) -> Value {
    let keys = keys.into_iter().filter_map(|key| {
        let mut members = members(key);
        members.insert("kid".to_owned(), json!(thumbprint(key)));
        members.insert("use".to_owned(), json!("sig"));
        members.insert("alg".to_owned(), json!(JwsAlgorithm::for_key(key.key_type())?.name()));
        Some(Value::Object(members))
    });
    json!({"keys": keys.collect::<Vec<_>>()})
}

/// Reads an EC or RSA key from the members of a JWK; other members are not looked at.
///
/// # Errors
/// [`KeyError::Unsupported`] for another `kty` or curve, [`KeyError::Malformed`] for numbers that are no key,
/// [`KeyError::Weak`].
pub fn public_key(jwk: &Object) -> Result<PublicKey, KeyError> {
    match jwk.get("kty").and_then(Value::as_str) {
        Some("EC") => {
            let curve = jwk.get("crv").and_then(Value::as_str).ok_or(KeyError::Malformed)?;
            let known = EC_PREFIXES.iter().find(|(name, ..)| *name == curve);
            let (_, len, prefix) = known.ok_or(KeyError::Unsupported)?;
            let (x, y) = (number(jwk, "x")?, number(jwk, "y")?);
            // RFC 7518 6.2.1.2: always the full length of the field.
            if x.len() != *len || y.len() != *len {
                return Err(KeyError::Malformed);
            }
            PublicKey::from_spki(&[prefix, &*x, &*y].concat())
        }
        Some("RSA") => {
            let (n, e) = (number(jwk, "n")?, number(jwk, "e")?);
            let numbers = der::element(0x30, &[der::unsigned(&n), der::unsigned(&e)].concat());
            let bits = der::element(0x03, &[&[0], &*numbers].concat());
            PublicKey::from_spki(&der::element(0x30, &[RSA_ALGORITHM, &*bits].concat()))
        }
        _ => Err(KeyError::Unsupported),
    }
}

/// Whether a JWK holds what must never be published: private numbers, or a symmetric key (row BD-19).
#[must_use]
pub fn is_secret(jwk: &Object) -> bool {
    let symmetric = jwk.get("kty").and_then(Value::as_str) == Some("oct");
    symmetric || ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|name| jwk.contains_key(*name))
}

/// The longest number of a key: RSA with 8192 bits has 1024 bytes, 1366 characters.
const MAX_NUMBER_CHARS: usize = 1400;

fn number(jwk: &Object, name: &str) -> Result<Vec<u8>, KeyError> {
    let text = jwk.get(name).and_then(Value::as_str).ok_or(KeyError::Malformed)?;
    if text.len() > MAX_NUMBER_CHARS {
        return Err(KeyError::Malformed);
    }
    URL_SAFE_NO_PAD.decode(text).ok().ok_or(KeyError::Malformed)
}

fn ec(key: &PublicKey, curve: &str, len: usize) -> Value {
    let (x, y) = tail(key.spki(), 2 * len).split_at_checked(len).unwrap_or_default();
    json!({ "crv": curve, "kty": "EC", "x": encode(x), "y": encode(y) })
}

fn rsa(key: &PublicKey) -> Value {
    let info = SubjectPublicKeyInfo::from_der(key.spki());
    match info.as_ref().map(|(_, info)| info.parsed()) {
        Ok(Ok(Parsed::RSA(rsa))) => {
            json!({ "e": encode(significant(rsa.exponent)), "kty": "RSA", "n": encode(significant(rsa.modulus)) })
        }
        // Not possible: the key was read by the same parser when it was made.
        _ => Value::Null,
    }
}

fn significant(big_endian: &[u8]) -> &[u8] {
    let zeros = big_endian.iter().take_while(|byte| **byte == 0).count();
    big_endian.get(zeros..).unwrap_or_default()
}

fn tail(bytes: &[u8], len: usize) -> &[u8] {
    bytes.get(bytes.len().saturating_sub(len)..).unwrap_or_default()
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests;
