use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature as aws;
use serde::{Deserialize, Serialize};

use super::KeyError;

/// A kind of key that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum KeyAlgorithm {
    /// ECDSA on P-256, the default everywhere.
    EcP256,
    /// ECDSA on P-384.
    EcP384,
    /// ECDSA on P-521.
    EcP521,
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 3072 bits.
    Rsa3072,
    /// RSA with 4096 bits.
    Rsa4096,
    /// Ed25519. Not for JWT-SVIDs (JWT-SVID 2.1), and unknown to java-spiffe.
    Ed25519,
}

impl KeyAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 7] =
        [Self::EcP256, Self::EcP384, Self::EcP521, Self::Rsa2048, Self::Rsa3072, Self::Rsa4096, Self::Ed25519];

    /// Its name in configuration: `ec-p256`, `rsa-2048`, `ed25519` and so on.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EcP256 => "ec-p256",
            Self::EcP384 => "ec-p384",
            Self::EcP521 => "ec-p521",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
            Self::Ed25519 => "ed25519",
        }
    }

    /// The type of its public keys.
    #[must_use]
    pub const fn key_type(self) -> KeyType {
        match self {
            Self::EcP256 => KeyType::EcP256,
            Self::EcP384 => KeyType::EcP384,
            Self::EcP521 => KeyType::EcP521,
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => KeyType::Rsa,
            Self::Ed25519 => KeyType::Ed25519,
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KeyAlgorithm {
    type Err = KeyError;

    fn from_str(name: &str) -> Result<Self, KeyError> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or(KeyError::Unsupported)
    }
}

impl TryFrom<String> for KeyAlgorithm {
    type Error = KeyError;

    fn try_from(name: String) -> Result<Self, KeyError> {
        name.parse()
    }
}

impl From<KeyAlgorithm> for String {
    fn from(algorithm: KeyAlgorithm) -> String {
        algorithm.name().to_owned()
    }
}

/// What a public key is, apart from its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyType {
    /// A point on P-256.
    EcP256,
    /// A point on P-384.
    EcP384,
    /// A point on P-521.
    EcP521,
    /// An RSA modulus and exponent.
    Rsa,
    /// Ed25519.
    Ed25519,
}

/// How a signature is made and checked.
///
/// JOSE writes ECDSA signatures as `R || S` of fixed length (RFC 7518 3.4), X.509 as a DER SEQUENCE (RFC 3279 2.2.3);
/// both have rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256: RS256, and X.509.
    RsaPkcs1Sha256,
    /// RSASSA-PKCS1-v1_5 with SHA-384: RS384, and X.509.
    RsaPkcs1Sha384,
    /// RSASSA-PKCS1-v1_5 with SHA-512: RS512, and X.509.
    RsaPkcs1Sha512,
    /// RSASSA-PSS with SHA-256, MGF1 with the same and a salt as long as the digest: PS256, and X.509.
    RsaPssSha256,
    /// RSASSA-PSS with SHA-384: PS384, and X.509.
    RsaPssSha384,
    /// RSASSA-PSS with SHA-512: PS512, and X.509.
    RsaPssSha512,
    /// ECDSA on P-256 with SHA-256, 64 bytes: ES256.
    EcP256Sha256Fixed,
    /// ECDSA on P-384 with SHA-384, 96 bytes: ES384.
    EcP384Sha384Fixed,
    /// ECDSA on P-521 with SHA-512, 132 bytes: ES512.
    EcP521Sha512Fixed,
    /// ECDSA on any of the three curves with SHA-256, in DER: X.509.
    EcSha256Der,
    /// ECDSA on any of the three curves with SHA-384, in DER: X.509.
    EcSha384Der,
    /// ECDSA on any of the three curves with SHA-512, in DER: X.509.
    EcSha512Der,
    /// Ed25519: X.509.
    Ed25519,
}

impl SignatureAlgorithm {
    /// The one algorithm with which a key of this type signs certificates here.
    #[must_use]
    pub const fn for_x509(key: KeyType) -> Self {
        match key {
            KeyType::EcP256 => Self::EcSha256Der,
            KeyType::EcP384 => Self::EcSha384Der,
            KeyType::EcP521 => Self::EcSha512Der,
            KeyType::Rsa => Self::RsaPkcs1Sha256,
            KeyType::Ed25519 => Self::Ed25519,
        }
    }

    /// The verifier of this algorithm for keys of this type, or `None` where they do not fit together.
    pub(super) fn verifier(self, key: KeyType) -> Option<&'static dyn aws::VerificationAlgorithm> {
        use KeyType::{EcP256, EcP384, EcP521, Ed25519, Rsa};
        let verifier: &'static dyn aws::VerificationAlgorithm = match (self, key) {
            (Self::RsaPkcs1Sha256, Rsa) => &aws::RSA_PKCS1_2048_8192_SHA256,
            (Self::RsaPkcs1Sha384, Rsa) => &aws::RSA_PKCS1_2048_8192_SHA384,
            (Self::RsaPkcs1Sha512, Rsa) => &aws::RSA_PKCS1_2048_8192_SHA512,
            (Self::RsaPssSha256, Rsa) => &aws::RSA_PSS_2048_8192_SHA256,
            (Self::RsaPssSha384, Rsa) => &aws::RSA_PSS_2048_8192_SHA384,
            (Self::RsaPssSha512, Rsa) => &aws::RSA_PSS_2048_8192_SHA512,
            (Self::EcP256Sha256Fixed, EcP256) => &aws::ECDSA_P256_SHA256_FIXED,
            (Self::EcP384Sha384Fixed, EcP384) => &aws::ECDSA_P384_SHA384_FIXED,
            (Self::EcP521Sha512Fixed, EcP521) => &aws::ECDSA_P521_SHA512_FIXED,
            (Self::EcSha256Der, EcP256) => &aws::ECDSA_P256_SHA256_ASN1,
            (Self::EcSha256Der, EcP384) => &aws::ECDSA_P384_SHA256_ASN1,
            (Self::EcSha256Der, EcP521) => &aws::ECDSA_P521_SHA256_ASN1,
            (Self::EcSha384Der, EcP256) => &aws::ECDSA_P256_SHA384_ASN1,
            (Self::EcSha384Der, EcP384) => &aws::ECDSA_P384_SHA384_ASN1,
            (Self::EcSha384Der, EcP521) => &aws::ECDSA_P521_SHA384_ASN1,
            (Self::EcSha512Der, EcP256) => &aws::ECDSA_P256_SHA512_ASN1,
            (Self::EcSha512Der, EcP384) => &aws::ECDSA_P384_SHA512_ASN1,
            (Self::EcSha512Der, EcP521) => &aws::ECDSA_P521_SHA512_ASN1,
            (Self::Ed25519, Ed25519) => &aws::ED25519,
            _ => return None,
        };
        Some(verifier)
    }

    /// Any verifier for keys of this type: parsing a key is the same for all of them.
    pub(super) fn any_verifier(key: KeyType) -> &'static dyn aws::VerificationAlgorithm {
        match key {
            KeyType::EcP256 => &aws::ECDSA_P256_SHA256_ASN1,
            KeyType::EcP384 => &aws::ECDSA_P384_SHA384_ASN1,
            KeyType::EcP521 => &aws::ECDSA_P521_SHA512_ASN1,
            KeyType::Rsa => &aws::RSA_PKCS1_2048_8192_SHA256,
            KeyType::Ed25519 => &aws::ED25519,
        }
    }

    /// The ECDSA signer of this algorithm for keys of this type. X.509 signatures are made with the digest that fits
    /// the curve only.
    pub(super) fn ec_signer(self, key: KeyType) -> Option<&'static aws::EcdsaSigningAlgorithm> {
        match (self, key) {
            (Self::EcP256Sha256Fixed, KeyType::EcP256) => Some(&aws::ECDSA_P256_SHA256_FIXED_SIGNING),
            (Self::EcP384Sha384Fixed, KeyType::EcP384) => Some(&aws::ECDSA_P384_SHA384_FIXED_SIGNING),
            (Self::EcP521Sha512Fixed, KeyType::EcP521) => Some(&aws::ECDSA_P521_SHA512_FIXED_SIGNING),
            (Self::EcSha256Der, KeyType::EcP256) => Some(&aws::ECDSA_P256_SHA256_ASN1_SIGNING),
            (Self::EcSha384Der, KeyType::EcP384) => Some(&aws::ECDSA_P384_SHA384_ASN1_SIGNING),
            (Self::EcSha512Der, KeyType::EcP521) => Some(&aws::ECDSA_P521_SHA512_ASN1_SIGNING),
            _ => None,
        }
    }

    /// The RSA signer of this algorithm.
    pub(super) fn rsa_signer(self) -> Option<&'static dyn aws::RsaEncoding> {
        let signer: &'static dyn aws::RsaEncoding = match self {
            Self::RsaPkcs1Sha256 => &aws::RSA_PKCS1_SHA256,
            Self::RsaPkcs1Sha384 => &aws::RSA_PKCS1_SHA384,
            Self::RsaPkcs1Sha512 => &aws::RSA_PKCS1_SHA512,
            Self::RsaPssSha256 => &aws::RSA_PSS_SHA256,
            Self::RsaPssSha384 => &aws::RSA_PSS_SHA384,
            Self::RsaPssSha512 => &aws::RSA_PSS_SHA512,
            _ => return None,
        };
        Some(signer)
    }
}
