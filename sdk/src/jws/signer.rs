use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::JwsAlgorithm;
use crate::key::{KeyError, PrivateKey, PublicKey, SigningKey};

/// Signs tokens with one key, which was parsed once, and one header, which was encoded once.
#[derive(Debug, Clone)]
pub struct Signer {
    key: SigningKey,
    algorithm: JwsAlgorithm,
    key_id: String,
    /// The encoded header and the dot behind it.
    prefix: String,
}

impl Signer {
    /// A signer whose tokens have the header members `alg`, `kid` and `typ`, and no others (row J-2). The key id is
    /// the key's RFC 7638 thumbprint.
    ///
    /// # Errors
    /// [`KeyError::Mismatch`] if the key is not one for the algorithm.
    pub fn new(key: &PrivateKey, algorithm: JwsAlgorithm, typ: &str) -> Result<Self, KeyError> {
        Self::with_key_id(key, algorithm, typ, &crate::jwk::thumbprint(key.public_key()))
    }

    /// Like [`Signer::new`], with a key id of the caller's choice.
    ///
    /// # Errors
    /// [`KeyError::Mismatch`] if the key is not one for the algorithm.
    pub fn with_key_id(key: &PrivateKey, algorithm: JwsAlgorithm, typ: &str, key_id: &str) -> Result<Self, KeyError> {
        Self::with_header(
            key,
            algorithm,
            key_id,
            &serde_json::json!({ "alg": algorithm.name(), "kid": key_id, "typ": typ }),
        )
    }

    /// Like [`Signer::new`], for tokens whose reader knows the key from elsewhere: without `kid`.
    ///
    /// # Errors
    /// [`KeyError::Mismatch`] if the key is not one for the algorithm.
    pub fn without_key_id(key: &PrivateKey, algorithm: JwsAlgorithm, typ: &str) -> Result<Self, KeyError> {
        Self::with_header(key, algorithm, "", &serde_json::json!({ "alg": algorithm.name(), "typ": typ }))
    }

    fn with_header(
        key: &PrivateKey,
        algorithm: JwsAlgorithm,
        key_id: &str,
        header: &serde_json::Value,
    ) -> Result<Self, KeyError> {
        if !algorithm.fits(key.public_key().key_type()) {
            return Err(KeyError::Mismatch);
        }
        Ok(Self {
            key: key.signing_key(algorithm.signature())?,
            algorithm,
            key_id: key_id.to_owned(),
            prefix: URL_SAFE_NO_PAD.encode(header.to_string()) + ".",
        })
    }

    /// A token over these bytes, which are a JSON object.
    ///
    /// # Errors
    /// [`KeyError::Failed`] if the library cannot sign.
    pub fn sign(&self, payload: &[u8]) -> Result<String, KeyError> {
        let mut token = String::with_capacity(self.prefix.len() + (payload.len() * 4).div_ceil(3) + 180);
        token.push_str(&self.prefix);
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = self.key.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// The algorithm of its tokens.
    #[must_use]
    pub fn algorithm(&self) -> JwsAlgorithm {
        self.algorithm
    }

    /// The `kid` of its tokens; empty where they have none.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The key that verifies its tokens.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        self.key.public_key()
    }
}
