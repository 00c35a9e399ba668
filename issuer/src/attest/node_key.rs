//! The node key: claimed, challenged, proved.

use mayfly_sdk::{PublicKey, Reason, Refusal, SignatureAlgorithm, key::KeyType};
use ring::rand::{SecureRandom, SystemRandom};

use crate::{ledger::Digest, mint::sha256};

/// What the node signs: this, the nonce, and the TLS exporter of the connection.
pub const SIGNED_CONTEXT: &[u8] = b"mayfly node attestation v1\0";

/// A public key that a node says is its own.
#[derive(Debug)]
pub struct ClaimedKey(PublicKey);

/// A question that only the holder of the key can answer, on this connection, once.
#[derive(Debug)]
pub struct Challenge {
    key: ClaimedKey,
    nonce: [u8; 32],
    binding: [u8; 32],
}

/// A public key whose holder is at the other end of the connection.
#[derive(Debug)]
pub struct ProvenKey {
    spki: Vec<u8>,
    public_key: PublicKey,
    sha256: Digest,
    nonce: [u8; 32],
    binding: [u8; 32],
}

impl ClaimedKey {
    /// Reads a DER `SubjectPublicKeyInfo`; node keys are ECDSA P-256.
    ///
    /// # Errors
    /// It is not such a key.
    pub fn read(spki: &[u8]) -> Result<Self, Refusal> {
        let key = PublicKey::from_spki(spki)?;
        if key.key_type() != KeyType::EcP256 {
            return Err(Refusal::new(Reason::KeyUnsupported, "a node key is ECDSA P-256"));
        }
        Ok(Self(key))
    }

    /// Asks for a proof on the connection with this exporter value.
    ///
    /// # Errors
    /// The kernel gave no random bytes.
    pub fn challenge(self, binding: [u8; 32]) -> Result<Challenge, Refusal> {
        let mut nonce = [0; 32];
        SystemRandom::new().fill(&mut nonce).map_err(|ring::error::Unspecified| Refusal::no_randomness())?;
        Ok(Challenge { key: self, nonce, binding })
    }
}

impl Challenge {
    /// What the node must sign, together with the context and the exporter.
    #[must_use]
    pub fn nonce(&self) -> &[u8; 32] {
        &self.nonce
    }

    /// Verifies the answer.
    ///
    /// # Errors
    /// [`Reason::SignatureInvalid`].
    pub fn verify(self, signature: &[u8]) -> Result<ProvenKey, Refusal> {
        let Self { key: ClaimedKey(public_key), nonce, binding } = self;
        let message = [SIGNED_CONTEXT, &nonce, &binding].concat();
        public_key.verify(SignatureAlgorithm::EcSha256Der, &message, signature).map_err(|_refused| {
            Refusal::new(Reason::SignatureInvalid, "the challenge was not signed by the node key on this connection")
        })?;
        let spki = public_key.spki().to_vec();
        Ok(ProvenKey { sha256: sha256(&[&spki]), spki, public_key, nonce, binding })
    }
}

impl ProvenKey {
    /// The key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Its DER `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of that.
    #[must_use]
    pub fn sha256(&self) -> &Digest {
        &self.sha256
    }

    /// What another key must sign to vouch for this one: the context, the same challenge on the same connection, and this
    /// key. Good for nothing on another connection or for another node key.
    pub(super) fn statement(&self, context: &[u8]) -> Vec<u8> {
        [context, &self.nonce, &self.binding, &self.sha256].concat()
    }
}

#[cfg(test)]
mod tests {
    use mayfly_sdk::{KeyAlgorithm, PrivateKey};

    use super::*;

    fn answer(key: &PrivateKey, nonce: &[u8], binding: &[u8]) -> Vec<u8> {
        key.sign(SignatureAlgorithm::EcSha256Der, &[SIGNED_CONTEXT, nonce, binding].concat()).unwrap()
    }

    #[test]
    fn only_the_holder_of_the_key_on_this_connection_answers_a_challenge() {
        let (key, other) =
            (PrivateKey::generate(KeyAlgorithm::EcP256).unwrap(), PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
        let challenge = || ClaimedKey::read(key.public_key().spki()).unwrap().challenge([1; 32]).unwrap();

        let asked = challenge();
        let good = answer(&key, asked.nonce(), &[1; 32]);
        assert_eq!(asked.verify(&good).unwrap().spki(), key.public_key().spki());

        let asked = challenge();
        let relayed = answer(&key, asked.nonce(), &[2; 32]);
        assert_eq!(asked.verify(&relayed).unwrap_err().reason, Reason::SignatureInvalid);
        let asked = challenge();
        let stolen = answer(&other, asked.nonce(), &[1; 32]);
        assert_eq!(asked.verify(&stolen).unwrap_err().reason, Reason::SignatureInvalid);
        assert_eq!(challenge().verify(&good).unwrap_err().reason, Reason::SignatureInvalid, "a replayed answer");
    }

    #[test]
    fn other_kinds_of_keys_are_refused_before_any_signature() {
        let ed25519 = PrivateKey::generate(KeyAlgorithm::Ed25519).unwrap();
        assert_eq!(ClaimedKey::read(ed25519.public_key().spki()).unwrap_err().reason, Reason::KeyUnsupported);
        assert!(ClaimedKey::read(b"nonsense").is_err());
    }
}
