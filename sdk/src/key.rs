//! Keys and signatures, all of them by `aws-lc-rs`.
//!
//! One table, [`SignatureAlgorithm`], says which key makes which signature, for JOSE and for X.509 alike: a new kind of
//! signature is a row there and not a rewrite.

mod algorithm;
mod private;
mod public;

pub use algorithm::{KeyAlgorithm, KeyType, SignatureAlgorithm};
pub use private::{PrivateKey, SigningKey};
pub(crate) use public::ReadyKey;
pub use public::{MAX_RSA_BITS, MIN_RSA_BITS, PublicKey};

use crate::reason::{Reason, Refusal};

/// A key cannot be used, or a signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not a DER `SubjectPublicKeyInfo` in its one canonical form, or not an unencrypted PKCS#8 key. The caller's.
    #[error("the key cannot be read")]
    Malformed,
    /// A key type or curve that is not supported. The caller's.
    #[error("the type of the key is not supported")]
    Unsupported,
    /// RSA with too few or too many bits. The caller's.
    #[error("an RSA key has 2048 to 8192 bits")]
    Weak,
    /// The key is of another type than the algorithm needs. The caller's.
    #[error("the key does not fit the signature algorithm")]
    Mismatch,
    /// The signature is not one of this key over this message. The peer's.
    #[error("the signature does not hold")]
    BadSignature,
    /// The library could not make a key or a signature. A bug, or a machine out of memory.
    #[error("the cryptographic library failed")]
    Failed,
}

impl KeyError {
    /// The stable reason code of this error.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Malformed => Reason::KeyMalformed,
            Self::Unsupported | Self::Mismatch => Reason::KeyUnsupported,
            Self::Weak => Reason::KeyWeak,
            Self::BadSignature => Reason::SignatureInvalid,
            Self::Failed => Reason::KeyFailed,
        }
    }
}

impl From<KeyError> for Refusal {
    fn from(error: KeyError) -> Self {
        Refusal::new(error.reason(), error.to_string())
    }
}

#[cfg(test)]
mod tests;
