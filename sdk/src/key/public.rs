use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{ParsedPublicKey, UnparsedPublicKey};
use ring::digest::{SHA256, digest};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{KeyError, KeyType, SignatureAlgorithm};

/// The fewest bits of an RSA key.
pub const MIN_RSA_BITS: u32 = 2048;
/// The most bits of an RSA key: one more would cost whoever verifies.
pub const MAX_RSA_BITS: u32 = 8192;

/// The longest SPKI that is looked at, in bytes; RSA with [`MAX_RSA_BITS`] has 1062.
const MAX_SPKI_BYTES: usize = 1200;

/// A public key that was read, is of a supported kind and strong enough. Cheap to clone.
///
/// Its bytes are the one canonical `SubjectPublicKeyInfo` of the key (RFC 5280 4.1.2.7), so that equal keys have equal
/// bytes and equal hashes: compressed points and other second spellings are refused.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    spki: Arc<[u8]>,
    key_type: KeyType,
    bits: u32,
}

/// What stands before an uncompressed point or raw key in the canonical SPKI, and how long the whole is.
const FIXED: [(KeyType, u32, &[u8], usize); 4] = [
    (
        KeyType::EcP256,
        256,
        b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04",
        91,
    ),
    (
        KeyType::EcP384,
        384,
        b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00\x04",
        120,
    ),
    (
        KeyType::EcP521,
        521,
        b"\x30\x81\x9b\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23\x03\x81\x86\x00\x04",
        158,
    ),
    (KeyType::Ed25519, 256, b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", 44),
];

impl PublicKey {
    /// Reads a DER `SubjectPublicKeyInfo`. A few microseconds; no signature is made or checked.
    ///
    /// # Errors
    /// [`KeyError::Malformed`], [`KeyError::Unsupported`] or [`KeyError::Weak`].
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        if spki.len() > MAX_SPKI_BYTES {
            return Err(KeyError::Malformed);
        }
        let (key_type, bits) = kind_of(spki)?;
        // Checks that a point lies on its curve, and that a modulus and exponent are possible.
        let parsed = ParsedPublicKey::new(SignatureAlgorithm::any_verifier(key_type), spki);
        let parsed = parsed.ok().ok_or(KeyError::Malformed)?;
        // The other kinds have one spelling: a fixed prefix, and coordinates of a fixed length below the prime.
        if key_type == KeyType::Rsa {
            let canonical: PublicKeyX509Der<'_> = parsed.as_der().ok().ok_or(KeyError::Malformed)?;
            if canonical.as_ref() != spki {
                return Err(KeyError::Malformed);
            }
        }
        Ok(Self { spki: spki.into(), key_type, bits })
    }

    /// Its canonical DER `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of the SPKI: how records, pins and node checks name a key.
    #[must_use]
    pub fn spki_sha256(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, &self.spki).as_ref());
        bytes
    }

    /// What kind of key it is.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The bits of the modulus or of the field.
    #[must_use]
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Checks a signature over `message`.
    ///
    /// # Errors
    /// [`KeyError::Mismatch`] if the algorithm is not one for this key, [`KeyError::BadSignature`].
    pub fn verify(&self, algorithm: SignatureAlgorithm, message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
        let verifier = algorithm.verifier(self.key_type).ok_or(KeyError::Mismatch)?;
        let held = UnparsedPublicKey::new(verifier, &self.spki).verify(message, signature);
        held.ok().ok_or(KeyError::BadSignature)
    }
}

/// A public key made ready for one algorithm: for whoever verifies with it again and again, and would read it each time.
pub(crate) struct ReadyKey {
    parsed: ParsedPublicKey,
    algorithm: SignatureAlgorithm,
}

impl ReadyKey {
    /// None if the algorithm is not one for this key.
    pub(crate) fn new(key: &PublicKey, algorithm: SignatureAlgorithm) -> Option<Self> {
        let verifier = algorithm.verifier(key.key_type)?;
        Some(Self { parsed: ParsedPublicKey::new(verifier, &key.spki).ok()?, algorithm })
    }

    /// The one algorithm.
    pub(crate) fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// Whether the signature over `message` holds.
    pub(crate) fn holds(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }
}

fn kind_of(spki: &[u8]) -> Result<(KeyType, u32), KeyError> {
    for (key_type, bits, prefix, len) in FIXED {
        if spki.starts_with(prefix) && spki.len() == len {
            return Ok((key_type, bits));
        }
    }
    let (rest, info) = SubjectPublicKeyInfo::from_der(spki).ok().ok_or(KeyError::Malformed)?;
    if !rest.is_empty() {
        return Err(KeyError::Malformed);
    }
    match info.parsed() {
        Ok(Parsed::RSA(rsa)) => {
            let bits = significant_bits(rsa.modulus);
            if (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) { Ok((KeyType::Rsa, bits)) } else { Err(KeyError::Weak) }
        }
        Ok(_) => Err(KeyError::Unsupported),
        Err(_) => Err(KeyError::Malformed),
    }
}

fn significant_bits(big_endian: &[u8]) -> u32 {
    let mut digits = big_endian.iter().skip_while(|byte| **byte == 0);
    let Some(first) = digits.next() else { return 0 };
    let rest = u32::try_from(digits.count()).unwrap_or(u32::MAX / 8 - 1);
    rest * 8 + (8 - first.leading_zeros())
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, bits) = (self.key_type, self.bits);
        write!(f, "PublicKey({kind:?} {bits} bits, sha256 {})", hex::encode(self.spki_sha256()))
    }
}
