//! What a stranger with a key of its own can have signed: anything.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_sdk::key::{KeyAlgorithm, PrivateKey, SignatureAlgorithm};

/// A key, made anew for each run.
///
/// # Panics
/// Where there is no randomness.
#[must_use]
pub fn key() -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::EcP256).expect("a key")
}

/// A JWS in compact form with this header and payload, whatever they are, and a signature that holds.
///
/// # Panics
/// Where the key cannot sign.
#[must_use]
pub fn signed(key: &PrivateKey, header: &str, payload: &str) -> String {
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = key.sign(SignatureAlgorithm::EcP256Sha256Fixed, input.as_bytes()).expect("a signature");
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}
