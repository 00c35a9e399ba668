use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use zeroize::Zeroizing;

use super::{KeyAlgorithm, KeyError, KeyType, PublicKey, SignatureAlgorithm};

/// The longest PKCS#8 that is looked at, in bytes: RSA with 8192 bits has about 4700.
const MAX_PKCS8_BYTES: usize = 8192;

/// A private key, kept as PKCS#8 that is wiped when the last clone is dropped. Cheap to clone; shows nothing of itself.
#[derive(Clone)]
pub struct PrivateKey {
    pkcs8: Arc<Zeroizing<Vec<u8>>>,
    public: PublicKey,
}

/// A private key that was parsed once for one signature algorithm, for those who sign often.
#[derive(Clone)]
pub struct SigningKey(Arc<Signing>);

struct Signing {
    pair: Pair,
    algorithm: SignatureAlgorithm,
    public: PublicKey,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
}

impl PrivateKey {
    /// A new key. P-256 takes some 12 microseconds; RSA takes up to seconds and belongs off the async workers.
    ///
    /// # Errors
    /// [`KeyError::Failed`] if the library cannot make one.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, KeyError> {
        let (pair, pkcs8) = match algorithm {
            KeyAlgorithm::EcP256 | KeyAlgorithm::EcP384 | KeyAlgorithm::EcP521 => {
                let key_type = algorithm.key_type();
                let signer = SignatureAlgorithm::for_x509(key_type).ec_signer(key_type).ok_or(KeyError::Failed)?;
                let pair = EcdsaKeyPair::generate(signer).ok().ok_or(KeyError::Failed)?;
                let pkcs8 = pair.to_pkcs8v1().ok().ok_or(KeyError::Failed)?;
                (Pair::Ec(pair), pkcs8.as_ref().to_vec())
            }
            KeyAlgorithm::Rsa2048 => rsa(KeySize::Rsa2048)?,
            KeyAlgorithm::Rsa3072 => rsa(KeySize::Rsa3072)?,
            KeyAlgorithm::Rsa4096 => rsa(KeySize::Rsa4096)?,
            KeyAlgorithm::Ed25519 => {
                let pair = Ed25519KeyPair::generate().ok().ok_or(KeyError::Failed)?;
                let pkcs8 = pair.to_pkcs8v1().ok().ok_or(KeyError::Failed)?;
                (Pair::Ed25519(pair), pkcs8.as_ref().to_vec())
            }
        };
        let public = pair.public_key()?;
        Ok(Self { pkcs8: Arc::new(Zeroizing::new(pkcs8)), public })
    }

    /// Reads unencrypted PKCS#8 in DER (RFC 5208, RFC 5958).
    ///
    /// # Errors
    /// [`KeyError::Malformed`] if it is no such key or a weak one.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        if pkcs8.len() > MAX_PKCS8_BYTES {
            return Err(KeyError::Malformed);
        }
        let candidates = [KeyType::EcP256, KeyType::EcP384, KeyType::EcP521, KeyType::Ed25519, KeyType::Rsa];
        let pair =
            candidates.into_iter().find_map(|kind| Pair::parse(pkcs8, kind, SignatureAlgorithm::for_x509(kind)).ok());
        let public = pair.ok_or(KeyError::Malformed)?.public_key()?;
        Ok(Self { pkcs8: Arc::new(Zeroizing::new(pkcs8.to_vec())), public })
    }

    /// The key of a point on a curve and its private number, which has the full length of the field.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] if the number is not that of the point, [`KeyError::Unsupported`] for other types of key.
    pub(crate) fn from_ec_number(public: &PublicKey, number: &[u8]) -> Result<Self, KeyError> {
        let key_type = public.key_type();
        let signer = SignatureAlgorithm::for_x509(key_type).ec_signer(key_type).ok_or(KeyError::Unsupported)?;
        // What an SPKI of a curve ends with: the uncompressed point (RFC 5480 2.2).
        let length = 2 * number.len() + 1;
        let point = public.spki().len().checked_sub(length).and_then(|start| public.spki().get(start..));
        let point = point.ok_or(KeyError::Malformed)?;
        let pair = EcdsaKeyPair::from_private_key_and_public_key(signer, number, point);
        let pkcs8 = pair.ok().ok_or(KeyError::Malformed)?.to_pkcs8v1().ok().ok_or(KeyError::Failed)?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    /// The private number of a key on a curve, in the full length of the field.
    ///
    /// # Errors
    /// [`KeyError::Unsupported`] for other types of key.
    pub(crate) fn expose_ec_number(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let key_type = self.public.key_type();
        let Pair::Ec(pair) = Pair::parse(&self.pkcs8, key_type, SignatureAlgorithm::for_x509(key_type))? else {
            return Err(KeyError::Unsupported);
        };
        let number: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().ok().ok_or(KeyError::Failed)?;
        Ok(Zeroizing::new(number.as_ref().to_vec()))
    }

    /// The key itself, as unencrypted PKCS#8 in DER. Whoever calls this answers for where the bytes go.
    #[must_use]
    pub fn expose_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The DER `SubjectPublicKeyInfo` of the public half.
    #[must_use]
    pub fn public_key_spki(&self) -> Vec<u8> {
        self.public.spki().to_vec()
    }

    /// Parses the key for one signature algorithm.
    ///
    /// # Errors
    /// [`KeyError::Mismatch`] if this key does not make such signatures.
    pub fn signing_key(&self, algorithm: SignatureAlgorithm) -> Result<SigningKey, KeyError> {
        let pair = Pair::parse(&self.pkcs8, self.public.key_type(), algorithm)?;
        Ok(SigningKey(Arc::new(Signing { pair, algorithm, public: self.public.clone() })))
    }

    /// Signs once. Who signs often keeps a [`SigningKey`].
    ///
    /// # Errors
    /// As [`PrivateKey::signing_key`] and [`SigningKey::sign`].
    pub fn sign(&self, algorithm: SignatureAlgorithm, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.signing_key(algorithm)?.sign(message)
    }
}

impl SigningKey {
    /// Signs `message`.
    ///
    /// # Errors
    /// [`KeyError::Failed`] if the library cannot sign.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let Signing { pair, algorithm, .. } = &*self.0;
        match pair {
            Pair::Ec(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message).ok().ok_or(KeyError::Failed)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Rsa(pair) => {
                let encoding = algorithm.rsa_signer().ok_or(KeyError::Mismatch)?;
                let mut signature = vec![0; pair.public_modulus_len()];
                let made = pair.sign(encoding, &SystemRandom::new(), message, &mut signature);
                made.ok().map(|()| signature).ok_or(KeyError::Failed)
            }
            Pair::Ed25519(pair) => {
                let signature = pair.try_sign(message).ok().ok_or(KeyError::Failed)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }

    /// The algorithm it was parsed for.
    #[must_use]
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public
    }
}

fn rsa(size: KeySize) -> Result<(Pair, Vec<u8>), KeyError> {
    let pair = RsaKeyPair::generate(size).ok().ok_or(KeyError::Failed)?;
    let pkcs8 = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).ok().ok_or(KeyError::Failed)?;
    let pkcs8 = pkcs8.as_ref().to_vec();
    Ok((Pair::Rsa(Box::new(pair)), pkcs8))
}

impl Pair {
    fn parse(pkcs8: &[u8], key_type: KeyType, algorithm: SignatureAlgorithm) -> Result<Self, KeyError> {
        match key_type {
            KeyType::EcP256 | KeyType::EcP384 | KeyType::EcP521 => {
                let signer = algorithm.ec_signer(key_type).ok_or(KeyError::Mismatch)?;
                EcdsaKeyPair::from_pkcs8(signer, pkcs8).map(Self::Ec)
            }
            KeyType::Rsa => {
                algorithm.rsa_signer().ok_or(KeyError::Mismatch)?;
                RsaKeyPair::from_pkcs8(pkcs8).map(Box::new).map(Self::Rsa)
            }
            KeyType::Ed25519 if algorithm == SignatureAlgorithm::Ed25519 => {
                Ed25519KeyPair::from_pkcs8(pkcs8).map(Self::Ed25519)
            }
            KeyType::Ed25519 => return Err(KeyError::Mismatch),
        }
        .ok()
        .ok_or(KeyError::Malformed)
    }

    fn public_key(&self) -> Result<PublicKey, KeyError> {
        let spki: Result<PublicKeyX509Der<'_>, _> = match self {
            Self::Ec(pair) => pair.public_key().as_der(),
            Self::Rsa(pair) => pair.public_key().as_der(),
            Self::Ed25519(pair) => pair.public_key().as_der(),
        };
        PublicKey::from_spki(spki.ok().ok_or(KeyError::Failed)?.as_ref())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {:?})", self.public)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?}, of {:?})", self.0.algorithm, self.0.public)
    }
}
