//! Certificate requests (PKCS#10, RFC 2986): a public key, and the proof that whoever asks has the private one.
//!
//! Nothing else is taken from a request: which names a certificate gets is for the issuer to decide (rows ).

use x509_parser::asn1_rs::FromDer as _;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::x509::X509Version;

use super::signature;
use crate::der::{Signed, element};
use crate::key::{KeyError, KeyType, PrivateKey, PublicKey, SignatureAlgorithm};
use crate::reason::{Reason, Refusal};

/// The longest request that is read, in bytes.
pub const MAX_REQUEST_BYTES: usize = 8 * 1024;

/// `SEQUENCE { ecdsa-with-SHA256 }` (RFC 5758 3.2).
const ECDSA_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";

/// A request that was read, and whose signature was not checked.
#[derive(Debug)]
pub struct CertificateRequest<'a> {
    signed: Signed<'a>,
    key: PublicKey,
    algorithm: SignatureAlgorithm,
}

/// Why a request certifies nothing. The caller's to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Not one PKCS#10 request of version 1 in DER, or longer than [`MAX_REQUEST_BYTES`].
    #[error("the certificate request cannot be read")]
    Malformed,
    /// Its key cannot be used.
    #[error("the key of the certificate request is not accepted: {0}")]
    Key(KeyError),
    /// Its signature is not one by its own key.
    #[error("the certificate request was not signed by the key that it is about")]
    BadSignature,
}

impl<'a> CertificateRequest<'a> {
    /// Reads one request and nothing after it. No cryptography.
    ///
    /// # Errors
    /// [`RequestError::Malformed`] or [`RequestError::Key`].
    pub fn parse(der: &'a [u8]) -> Result<Self, RequestError> {
        if der.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::Malformed);
        }
        let signed = Signed::read(der).ok_or(RequestError::Malformed)?;
        let (rest, inner) = X509CertificationRequest::from_der(der).ok().ok_or(RequestError::Malformed)?;
        if !rest.is_empty() || inner.certification_request_info.version != X509Version::V1 {
            return Err(RequestError::Malformed);
        }
        let key = PublicKey::from_spki(inner.certification_request_info.subject_pki.raw).map_err(RequestError::Key)?;
        let algorithm = signature::algorithm(signed.algorithm).ok_or(RequestError::BadSignature)?;
        Ok(Self { signed, key, algorithm })
    }

    /// The key, before anybody has proved to have it.
    #[must_use]
    pub fn claimed_key(&self) -> &PublicKey {
        &self.key
    }

    /// Checks the signature. What is left of the request is its key.
    ///
    /// # Errors
    /// [`RequestError::BadSignature`].
    pub fn verify(self) -> Result<PublicKey, RequestError> {
        let held = self.key.verify(self.algorithm, self.signed.content, self.signed.signature);
        held.ok().map(|()| self.key).ok_or(RequestError::BadSignature)
    }

    /// A request for an ECDSA P-256 key, without a subject or attributes, in DER.
    ///
    /// # Errors
    /// [`KeyError::Unsupported`] for another kind of key, [`KeyError::Failed`].
    pub fn sign(key: &PrivateKey) -> Result<Vec<u8>, KeyError> {
        if key.public_key().key_type() != KeyType::EcP256 {
            return Err(KeyError::Unsupported);
        }
        let (version, no_subject, no_attributes) = ([0x02, 0x01, 0x00], [0x30, 0x00], [0xa0, 0x00]);
        let content = [&version[..], &no_subject, key.public_key().spki(), &no_attributes].concat();
        let info = element(0x30, &content);
        let signature = key.sign(SignatureAlgorithm::EcSha256Der, &info)?;
        let bits = element(0x03, &[&[0], &signature[..]].concat());
        Ok(element(0x30, &[&info, ECDSA_SHA256, &bits].concat()))
    }
}

impl RequestError {
    /// The stable reason code of this error.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Malformed | Self::BadSignature => Reason::RequestInvalid,
            Self::Key(error) => error.reason(),
        }
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        Refusal::new(error.reason(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::key::KeyAlgorithm;

    fn foreign(key: &KeyPair) -> Vec<u8> {
        let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.serialize_request(key).unwrap().der().to_vec()
    }

    fn verdict(der: &[u8]) -> Result<PublicKey, RequestError> {
        CertificateRequest::parse(der)?.verify()
    }

    /// Rows: X-31.
    #[test]
    fn a_request_gives_its_key_and_only_if_that_key_signed_it() {
        let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
        let own = CertificateRequest::sign(&key).unwrap();
        assert_eq!(verdict(&own).unwrap(), *key.public_key());
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let private = PrivateKey::from_pkcs8(&key.serialize_der()).unwrap();
            assert_eq!(verdict(&foreign(&key)).unwrap(), *private.public_key());
        }
        // The key of somebody else in the place of one's own: both have the same length.
        let other = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
        let at = own.windows(91).position(|window| window == key.public_key().spki()).unwrap();
        let mut swapped = own.clone();
        swapped[at..at + 91].copy_from_slice(other.public_key().spki());
        assert_eq!(verdict(&swapped), Err(RequestError::BadSignature));
        // Another byte anywhere.
        for at in 0..own.len() {
            for change in (0..8).map(|bit| 1 << bit) {
                let mut changed = own.clone();
                changed[at] ^= change;
                assert!(verdict(&changed).is_err(), "byte {at}, changed by {change:#04x}");
            }
        }
        assert_eq!(verdict(&[&own[..], &[0]].concat()), Err(RequestError::Malformed));
        assert_eq!(verdict(&own[..own.len() - 1]), Err(RequestError::Malformed));
        assert_eq!(verdict(&vec![0x30; MAX_REQUEST_BYTES + 1]), Err(RequestError::Malformed));
        assert_eq!(verdict(b""), Err(RequestError::Malformed));
    }

    #[test]
    fn a_request_of_another_version_or_with_bits_left_over_is_refused() {
        let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
        let made = |version: u8, unused: u8| {
            let content = [&[0x02, 0x01, version, 0x30, 0x00], key.public_key().spki(), &[0xa0, 0x00]].concat();
            let info = element(0x30, &content);
            let signature = key.sign(SignatureAlgorithm::EcSha256Der, &info).unwrap();
            let bits = element(0x03, &[&[unused], &signature[..]].concat());
            element(0x30, &[&info, ECDSA_SHA256, &bits].concat())
        };
        assert_eq!(verdict(&made(0, 0)).unwrap(), *key.public_key());
        assert_eq!(verdict(&made(1, 0)), Err(RequestError::Malformed));
        assert!(verdict(&made(0, 1)).is_err());
    }

    #[test]
    fn only_p256_requests_are_made_here() {
        let key = PrivateKey::generate(KeyAlgorithm::Ed25519).unwrap();
        assert_eq!(CertificateRequest::sign(&key), Err(KeyError::Unsupported));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(verdict(&bytes).is_err());
        }
    }
}
