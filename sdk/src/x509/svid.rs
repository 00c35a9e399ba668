use std::fmt;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use super::{Certificate, Leaf, MAX_CHAIN, X509Error, split_certificates};
use crate::id::SpiffeId;
use crate::key::PrivateKey;
use crate::pem;
use crate::time::Validity;

/// An X.509-SVID of one's own: the chain, leaf first and without the root, and the key of the leaf. Cheap to clone.
///
/// Making one checks the form of the chain and that the key is the leaf's, not that anybody would believe it.
#[derive(Clone)]
pub struct X509Svid(Arc<Inner>);

struct Inner {
    leaf: Leaf,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKey,
}

impl X509Svid {
    /// An SVID of these certificates and this key.
    ///
    /// # Errors
    /// An [`X509Error`] about the leaf, about an intermediate that is no authority, or [`X509Error::KeyMismatch`].
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKey) -> Result<Self, X509Error> {
        if chain.len() > MAX_CHAIN {
            return Err(X509Error::ChainTooLong);
        }
        let (first, intermediates) = chain.split_first().ok_or(X509Error::NoCertificate)?;
        let leaf = Leaf::of(&Certificate::parse(first)?)?;
        for der in intermediates {
            let intermediate = Certificate::parse(der)?;
            let signs = intermediate.key_usage().is_some_and(super::KeyUsage::key_cert_sign);
            if intermediate.basic_constraints_ca() != Some(true) || !signs {
                return Err(X509Error::NotAnAuthority);
            }
        }
        if leaf.public_key != *key.public_key() {
            return Err(X509Error::KeyMismatch);
        }
        Ok(Self(Arc::new(Inner { leaf, chain, key })))
    }

    /// Reads the form of the Workload API: DER certificates one after the other, and PKCS#8.
    ///
    /// # Errors
    /// As [`X509Svid::new`]; [`X509Error::Key`] if the key cannot be read.
    pub fn from_der(chain: &[u8], pkcs8: &[u8]) -> Result<Self, X509Error> {
        let mut certificates = Vec::new();
        for der in split_certificates(chain) {
            if certificates.len() == MAX_CHAIN {
                return Err(X509Error::ChainTooLong);
            }
            certificates.push(CertificateDer::from(der?.to_vec()));
        }
        Self::new(certificates, PrivateKey::from_pkcs8(pkcs8).ok().ok_or(X509Error::Key)?)
    }

    /// Whom it names.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.0.leaf.spiffe_id
    }

    /// The leaf's times.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.0.leaf.validity
    }

    /// The leaf's serial number, big-endian.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.0.leaf.serial
    }

    /// The certificates, leaf first, root excluded.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.chain
    }

    /// The certificates in the form of the Workload API: DER, one after the other (row WA-21).
    #[must_use]
    pub fn chain_der(&self) -> Vec<u8> {
        self.0.chain.iter().flat_map(|der| der.iter().copied()).collect()
    }

    /// The certificates as PEM.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.0.chain.iter().map(|der| pem::certificate(der)).collect()
    }

    /// The key of the leaf.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.0.key
    }
}

impl fmt::Debug for X509Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "X509Svid({} until {})", self.spiffe_id(), self.validity().not_after())
    }
}
