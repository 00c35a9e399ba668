//! The kinds of authority, and what each adds to the one generic slot.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use mayfly_sdk::key::KeyType;
use mayfly_sdk::{PrivateKey, PublicKey};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::AuthorityError;
use super::certificate::Birth;
use super::keyring::{Keyring, Roster};
use crate::store::SlotKind;

/// The stable id of an authority: of a key of tokens its `kid` (RFC 7638 thumbprint), of an X.509 one its subject key
/// identifier in hexadecimal. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuthorityId(Arc<str>);

impl AuthorityId {
    /// As stored or as somebody typed it; whether there is such an authority is another question.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// The id of an X.509 authority with this key.
    #[must_use]
    pub fn of_x509(key: &PublicKey) -> Self {
        Self(hex::encode(subject_key_id(key)).into())
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its text, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for AuthorityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key identifier of RFC 5280 4.2.1.2 (1): SHA-1 of the key's BIT STRING. A name, not a proof: nothing is trusted
/// because of it.
#[must_use]
pub fn subject_key_id(key: &PublicKey) -> [u8; 20] {
    let mut id = [0; 20];
    id.copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, key_bits(key)).as_ref());
    id
}

/// The content of the SPKI's BIT STRING. [`PublicKey`] holds canonical bytes only, so what stands before it depends on
/// the type of the key alone, or for RSA on the one length that its tag carries.
pub(super) fn key_bits(key: &PublicKey) -> &[u8] {
    let spki = key.spki();
    let skip = match key.key_type() {
        KeyType::EcP256 => 26,
        KeyType::EcP384 => 23,
        KeyType::EcP521 => 25,
        KeyType::Ed25519 => 12,
        // SEQUENCE (4), SEQUENCE { rsaEncryption, NULL } (15), BIT STRING (4) and its count of unused bits (1).
        _ => 24,
    };
    spki.get(skip..).unwrap_or(spki)
}

/// What a kind of authority adds to the generic slot. A further token kind (task, status) is a name, a signer and
/// its place in the [`Keyring`].
pub trait Kind: Sized + Send + Sync + 'static {
    /// Its name.
    const NAME: SlotKind;
    /// Its private key, parsed once, with what else a signature needs.
    type Signer: Send + Sync;

    /// The id of an authority with this key.
    fn authority_id(key: &PublicKey) -> AuthorityId;

    /// The certificates that stand for a new key, its own first; none where the bare key is published.
    fn certify(birth: &Birth<'_>, key: &PrivateKey) -> impl Future<Output = Result<Vec<Bytes>, AuthorityError>> + Send;

    /// Makes a key ready to sign.
    ///
    /// # Errors
    /// [`AuthorityError`] if key and certificates do not fit together.
    fn signer(key: &PrivateKey, chain: &[Bytes]) -> Result<Self::Signer, AuthorityError>;

    /// Where the keyring keeps its slots.
    #[doc(hidden)]
    fn roster(keyring: &Keyring) -> &Roster<Self>;

    /// Where the keyring keeps its slots.
    #[doc(hidden)]
    fn roster_mut(keyring: &mut Keyring) -> &mut Roster<Self>;
}
