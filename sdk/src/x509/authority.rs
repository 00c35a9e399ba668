use std::fmt;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use super::{Certificate, X509Error};
use crate::key::PublicKey;
use crate::time::Validity;

/// A trust anchor: a certificate that the operator or a bundle says is to be believed. Cheap to clone.
///
/// Its names carry no authority (decision K5); its times, path length and constraints bind (row X-27).
#[derive(Clone)]
pub struct Authority(Arc<Inner>);

struct Inner {
    der: CertificateDer<'static>,
    subject: Box<[u8]>,
    public_key: PublicKey,
    validity: Validity,
    /// What basic constraints and key usage say about signing certificates; `None` if they say nothing.
    signs: Option<bool>,
}

impl Authority {
    /// Reads an anchor.
    ///
    /// # Errors
    /// An [`X509Error`] about its form, or [`X509Error::Key`].
    pub fn from_der(der: &[u8]) -> Result<Self, X509Error> {
        let certificate = Certificate::parse(der)?;
        let usage = certificate.key_usage().map(super::KeyUsage::key_cert_sign);
        let signs = match (certificate.basic_constraints_ca(), usage) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), _) => Some(true),
            (None, _) => None,
        };
        Ok(Self(Arc::new(Inner {
            subject: certificate.subject_der().into(),
            public_key: certificate.public_key()?,
            validity: certificate.validity(),
            signs,
            der: CertificateDer::from(der.to_vec()),
        })))
    }

    /// The certificate, in DER.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.0.der
    }

    /// Its key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public_key
    }

    /// Its times.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.0.validity
    }

    /// Its subject, in DER.
    #[must_use]
    pub fn subject_der(&self) -> &[u8] {
        &self.0.subject
    }

    /// Whether it says that it is a certificate authority.
    #[must_use]
    pub fn is_ca(&self) -> bool {
        self.0.signs == Some(true)
    }

    pub(super) fn is_ca_or_silent(&self) -> bool {
        self.0.signs != Some(false)
    }
}

impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Authority {}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({:?}, until {})", self.0.public_key, self.0.validity.not_after())
    }
}
