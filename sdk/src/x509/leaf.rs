use x509_parser::extensions::GeneralName;

use super::{Certificate, Usage, X509Error};
use crate::id::SpiffeId;
use crate::key::PublicKey;
use crate::time::Validity;

/// What a certificate that may authenticate a workload says. Its signature and times are not checked.
///
/// Making one checks everything that X509-SVID 5.2 asks of a leaf by itself.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Leaf {
    /// Whom it names.
    pub spiffe_id: SpiffeId,
    /// The key of the workload.
    pub public_key: PublicKey,
    /// From when until when.
    pub validity: Validity,
    /// The serial number, big-endian.
    pub serial: Vec<u8>,
    /// The extended key usage as `(serverAuth, clientAuth)`, if there is one.
    pub usage: Option<(bool, bool)>,
}

impl Leaf {
    /// Checks a certificate by the rules for leaves (rows ).
    ///
    /// # Errors
    /// The [`X509Error`] of the first rule that does not hold.
    pub fn of(certificate: &Certificate<'_>) -> Result<Self, X509Error> {
        let key_usage = certificate.key_usage();
        let signs = key_usage.is_some_and(|usage| usage.key_cert_sign() || usage.crl_sign());
        if certificate.basic_constraints_ca() == Some(true) || signs {
            return Err(X509Error::LeafIsAuthority);
        }
        if !key_usage.is_some_and(super::KeyUsage::digital_signature) {
            return Err(X509Error::LeafKeyUsage);
        }
        if certificate.has_unknown_critical_extension() || certificate.name_constraints().is_some() {
            return Err(X509Error::CriticalExtension);
        }
        let spiffe_id = spiffe_id(certificate)?;
        if spiffe_id.is_root() {
            return Err(X509Error::RootId);
        }
        Ok(Self {
            spiffe_id,
            public_key: certificate.public_key()?,
            validity: certificate.validity(),
            serial: certificate.serial().to_vec(),
            usage: certificate.extended_key_usage(),
        })
    }

    /// Whether the extended key usage allows this role; a leaf without one allows all (row X-20).
    pub(super) fn check_usage(&self, usage: Usage) -> Result<(), X509Error> {
        let allowed = match (self.usage, usage) {
            (None, _) => true,
            (Some((server, _)), Usage::Server) => server,
            (Some((_, client)), Usage::Client) => client,
            (Some((server, client)), Usage::Any) => server && client,
        };
        if allowed { Ok(()) } else { Err(X509Error::ExtendedKeyUsage) }
    }
}

/// The one URI among the names, of whatever scheme the others might be. A name that cannot be read might be one.
fn spiffe_id(certificate: &Certificate<'_>) -> Result<SpiffeId, X509Error> {
    if certificate.names().iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
        return Err(X509Error::Malformed);
    }
    let mut uris = certificate.uri_names();
    let uri = uris.next().ok_or(X509Error::NoUriSan)?;
    if uris.next().is_some() {
        return Err(X509Error::MultipleUriSan);
    }
    uri.parse().map_err(X509Error::BadSpiffeId)
}
