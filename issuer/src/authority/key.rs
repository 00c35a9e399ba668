//! Private keys: where one is kept, and how it signs.
//!
//! Signing is asynchronous so that a key service fits later. For a key in this process the future is ready at its first
//! poll: no task, no box, no copy.

use mayfly_sdk::key::{KeyError, SigningKey};
use mayfly_sdk::{PrivateKey, PublicKey, SignatureAlgorithm};

/// A key that signs. A key in a key service will be a second place.
#[derive(Debug, Clone)]
pub struct KeyHandle(Place);

#[derive(Debug, Clone)]
enum Place {
    Local(SigningKey),
}

impl KeyHandle {
    /// A key in the memory of this process, for certificates.
    ///
    /// # Errors
    /// [`KeyError`] if the key cannot sign.
    pub(super) fn local(key: &PrivateKey) -> Result<Self, KeyError> {
        let algorithm = SignatureAlgorithm::for_x509(key.public_key().key_type());
        Ok(Self(Place::Local(key.signing_key(algorithm)?)))
    }

    /// Signs `message`.
    ///
    /// # Errors
    /// [`KeyError::Failed`].
    #[expect(clippy::unused_async, reason = "a key service will be awaited here")]
    pub async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.0 {
            Place::Local(key) => key.sign(message),
        }
    }

    /// The algorithm of its signatures.
    #[must_use]
    pub fn algorithm(&self) -> SignatureAlgorithm {
        match &self.0 {
            Place::Local(key) => key.algorithm(),
        }
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        match &self.0 {
            Place::Local(key) => key.public_key(),
        }
    }
}
