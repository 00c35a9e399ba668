use std::fmt;
use std::str::FromStr;

use super::JwsError;
use crate::key::{KeyType, SignatureAlgorithm};

/// An `alg` of RFC 7518 3.1 that a JWT-SVID may have (JWT-SVID 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JwsAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
}

impl JwsAlgorithm {
    /// All nine.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
    ];

    /// Its name in a header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
        }
    }

    /// The algorithm with which a key of this type signs tokens here; `None` for Ed25519, which JWT-SVID does not know.
    #[must_use]
    pub const fn for_key(key: KeyType) -> Option<Self> {
        match key {
            KeyType::EcP256 => Some(Self::Es256),
            KeyType::EcP384 => Some(Self::Es384),
            KeyType::EcP521 => Some(Self::Es512),
            KeyType::Rsa => Some(Self::Rs256),
            KeyType::Ed25519 => None,
        }
    }

    /// Whether a key of this type can have made such a signature (row J-6).
    #[must_use]
    pub const fn fits(self, key: KeyType) -> bool {
        matches!(
            (self, key),
            (Self::Es256, KeyType::EcP256)
                | (Self::Es384, KeyType::EcP384)
                | (Self::Es512, KeyType::EcP521)
                | (Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512, KeyType::Rsa)
        )
    }

    /// How the signature is made.
    #[must_use]
    pub const fn signature(self) -> SignatureAlgorithm {
        match self {
            Self::Rs256 => SignatureAlgorithm::RsaPkcs1Sha256,
            Self::Rs384 => SignatureAlgorithm::RsaPkcs1Sha384,
            Self::Rs512 => SignatureAlgorithm::RsaPkcs1Sha512,
            Self::Ps256 => SignatureAlgorithm::RsaPssSha256,
            Self::Ps384 => SignatureAlgorithm::RsaPssSha384,
            Self::Ps512 => SignatureAlgorithm::RsaPssSha512,
            Self::Es256 => SignatureAlgorithm::EcP256Sha256Fixed,
            Self::Es384 => SignatureAlgorithm::EcP384Sha384Fixed,
            Self::Es512 => SignatureAlgorithm::EcP521Sha512Fixed,
        }
    }
}

impl FromStr for JwsAlgorithm {
    type Err = JwsError;

    fn from_str(name: &str) -> Result<Self, JwsError> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or(JwsError::UnsupportedAlgorithm)
    }
}

impl fmt::Display for JwsAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
