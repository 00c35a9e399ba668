use std::sync::Arc;

use super::spiffe::Ignored;
use super::{BundleError, MAX_BUNDLE_BYTES, OfTrustDomain};
use crate::id::TrustDomain;
use crate::pem;
use crate::x509::{Authority, X509Error, split_certificates};

/// The trust anchors of one trust domain's X.509-SVIDs. Cheap to clone. Empty means that no certificate is believed
/// (row X-23).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct X509Bundle {
    trust_domain: TrustDomain,
    authorities: Arc<[Authority]>,
}

impl X509Bundle {
    /// A bundle of these anchors. One that occurs twice counts once.
    #[must_use]
    pub fn new(trust_domain: TrustDomain, authorities: Vec<Authority>) -> Self {
        let mut distinct: Vec<Authority> = Vec::with_capacity(authorities.len());
        for authority in authorities {
            if !distinct.contains(&authority) {
                distinct.push(authority);
            }
        }
        Self { trust_domain, authorities: distinct.into() }
    }

    /// Reads the form of the Workload API: DER certificates one after the other. No bytes at all are an empty bundle.
    /// A certificate whose key cannot be used is passed over and logged.
    ///
    /// # Errors
    /// [`BundleError::TooLong`], or [`BundleError::NotCertificates`].
    pub fn from_der(trust_domain: TrustDomain, der: &[u8]) -> Result<Self, BundleError> {
        if der.len() > MAX_BUNDLE_BYTES {
            return Err(BundleError::TooLong);
        }
        let mut authorities = Vec::new();
        for certificate in split_certificates(der) {
            match certificate.and_then(Authority::from_der) {
                Ok(authority) => authorities.push(authority),
                Err(X509Error::Key) => Ignored::BadKey.log(&trust_domain),
                Err(_) => return Err(BundleError::NotCertificates),
            }
        }
        Ok(Self::new(trust_domain, authorities))
    }

    /// The form of the Workload API: DER certificates one after the other (row WA-23).
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        self.authorities.iter().flat_map(|authority| authority.der().iter().copied()).collect()
    }

    /// The anchors as PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.authorities.iter().map(|authority| pem::certificate(authority.der())).collect()
    }

    /// Its anchors.
    #[must_use]
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// Whether it has no anchors.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.authorities.is_empty()
    }
}

impl OfTrustDomain for X509Bundle {
    fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }
}
