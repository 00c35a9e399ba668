use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{members, number, public_key};
use crate::der;
use crate::json::Object;
use crate::jws::JwsAlgorithm;
use crate::key::{KeyError, PrivateKey};

/// A private key on a curve as the text of a JWK: `kty` and the public numbers, `alg`, and `d` (RFC 7518 6.2.2). Whoever
/// calls this answers for where the text goes.
///
/// # Errors
/// [`KeyError::Unsupported`] for RSA and Ed25519.
pub fn private_text(key: &PrivateKey) -> Result<Zeroizing<String>, KeyError> {
    let number = key.expose_ec_number()?;
    let algorithm = JwsAlgorithm::for_key(key.public_key().key_type()).ok_or(KeyError::Unsupported)?;
    let mut jwk = members(key.public_key());
    jwk.insert("alg".into(), json!(algorithm.name()));
    let public = crate::json::canonical(jwk);
    let body = public.strip_suffix('}').ok_or(KeyError::Failed)?;
    // Written here, so that no other copy of the number stays behind; the capacity keeps the text where it is.
    let mut text = Zeroizing::new(String::with_capacity(body.len() + 2 * number.len() + 16));
    text.push_str(body);
    text.push_str(",\"d\":\"");
    URL_SAFE_NO_PAD.encode_string(&number[..], &mut text);
    text.push_str("\"}");
    Ok(text)
}

/// Reads a private EC or RSA key from the members of a JWK; other members are not looked at.
///
/// # Errors
/// [`KeyError::Unsupported`] for another `kty` or curve, or RSA without its primes; [`KeyError::Malformed`] for numbers
/// that are no key or do not belong together, also where there are no private ones; [`KeyError::Weak`].
pub fn private_key(jwk: &Object) -> Result<PrivateKey, KeyError> {
    let public = public_key(jwk)?;
    if jwk.get("kty").and_then(Value::as_str) == Some("EC") {
        return PrivateKey::from_ec_number(&public, &secret(jwk, "d")?);
    }
    if jwk.contains_key("oth") {
        return Err(KeyError::Unsupported);
    }
    let mut numbers = der::unsigned(&[0]);
    for name in ["n", "e"] {
        numbers.extend_from_slice(&der::unsigned(&number(jwk, name)?));
    }
    let mut numbers = Zeroizing::new(numbers);
    for name in ["d", "p", "q", "dp", "dq", "qi"] {
        numbers.extend_from_slice(&Zeroizing::new(der::unsigned(&secret(jwk, name)?)));
    }
    // PrivateKeyInfo { 0, rsaEncryption, OCTET STRING { RSAPrivateKey } } (RFC 5208 5, RFC 8017 A.1.2).
    let key = Zeroizing::new(der::element(0x30, &numbers));
    let key = Zeroizing::new(der::element(0x04, &key));
    let info = Zeroizing::new([&der::unsigned(&[0]), super::RSA_ALGORITHM, &key[..]].concat());
    let read = PrivateKey::from_pkcs8(&Zeroizing::new(der::element(0x30, &info)))?;
    if *read.public_key() == public { Ok(read) } else { Err(KeyError::Malformed) }
}

fn secret(jwk: &Object, name: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    number(jwk, name).map(Zeroizing::new)
}
