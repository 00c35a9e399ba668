//! X.509-SVIDs: certificates that name a workload (X509-SVID).
//!
//! ```text
//! chain ──Certificate (read)──> leaf rules ──bundle of the leaf's own trust domain──> path ──> VerifiedPeer
//! ```
//!
//! Anchors come from the bundle of the leaf's own trust domain and from nowhere else, and what a peer sends is never an
//! anchor. Everything is bounded before anything is computed: the number and size of certificates, and the number of
//! signatures that one chain can make us check. Names are compared byte for byte, as Go does. Revocation is by short
//! lifetimes and by the denials that Mayfly pushes, not by CRLs.

mod authority;
mod certificate;
mod client;
mod constraints;
mod leaf;
mod path;
mod request;
mod signature;
mod svid;

use std::fmt;

use rustls_pki_types::CertificateDer;

pub use authority::Authority;
pub use certificate::{Certificate, KeyUsage, split_certificates};
pub use client::verify_client;
pub use leaf::Leaf;
pub use request::{CertificateRequest, MAX_REQUEST_BYTES, RequestError};
pub use svid::X509Svid;

use crate::bundle::X509BundleSet;
use crate::id::{IdError, SpiffeId, TrustDomain};
use crate::key::PublicKey;
use crate::reason::{Reason, Refusal};
use crate::time::{Timestamp, Validity};

/// The most certificates of a chain, the leaf among them.
pub const MAX_CHAIN: usize = 16;
/// The longest certificate that is read, in bytes.
pub const MAX_CERTIFICATE_BYTES: usize = 64 * 1024;

/// What the peer is on this connection, which its extended key usage must allow (rows X-13, X-20).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// The peer is a TLS server: `serverAuth`.
    Server,
    /// The peer is a TLS client: `clientAuth`.
    Client,
    /// There is no TLS role to match: a leaf that restricts its usage must allow both.
    Any,
}

/// A peer whose chain was verified. Who it is says nothing about what it may do: that is for the caller to decide, by
/// [`VerifiedPeer::spiffe_id`].
#[derive(Clone)]
pub struct VerifiedPeer {
    leaf: Leaf,
    certificate: CertificateDer<'static>,
    valid_until: Timestamp,
}

impl VerifiedPeer {
    /// Who it is.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.leaf.spiffe_id
    }

    /// The trust domain that says so.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        self.leaf.spiffe_id.trust_domain()
    }

    /// The key that it has proved, or is yet to prove, to hold.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.leaf.public_key
    }

    /// The leaf's own times.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.leaf.validity
    }

    /// The last moment at which every certificate of the path, the anchor among them, is valid.
    #[must_use]
    pub fn valid_until(&self) -> Timestamp {
        self.valid_until
    }

    /// The serial number of the leaf, big-endian.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.leaf.serial
    }

    /// The leaf, in DER.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }
}

impl fmt::Debug for VerifiedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifiedPeer({} until {})", self.leaf.spiffe_id, self.valid_until)
    }
}

/// Verifies the chain that a peer sent, leaf first, against the bundle of the leaf's own trust domain
/// (X509-SVID 5, RFC 5280 6; rows X-2 to X-28).
///
/// # Errors
/// An [`X509Error`]: what is wrong with the leaf, or with the most promising path that was tried.
pub fn verify<C: AsRef<[u8]>>(
    chain: &[C],
    bundles: &X509BundleSet,
    now: Timestamp,
    usage: Usage,
) -> Result<VerifiedPeer, X509Error> {
    let (leaf_der, intermediates) = chain.split_first().ok_or(X509Error::NoCertificate)?;
    if chain.len() > MAX_CHAIN {
        return Err(X509Error::ChainTooLong);
    }
    let certificate = Certificate::parse(leaf_der.as_ref())?;
    let leaf = Leaf::of(&certificate)?;
    leaf.check_usage(usage)?;
    if now < leaf.validity.not_before() {
        return Err(X509Error::NotYetValid);
    }
    if now > leaf.validity.not_after() {
        return Err(X509Error::Expired);
    }
    let bundle = bundles.get(leaf.spiffe_id.trust_domain()).ok_or(X509Error::NoBundle)?;
    let intermediates =
        intermediates.iter().map(|der| Certificate::parse(der.as_ref())).collect::<Result<Vec<_>, _>>()?;
    let path = path::find(&certificate, &intermediates, bundle.authorities(), now, usage)?;
    Ok(VerifiedPeer {
        valid_until: path.until.min(leaf.validity.not_after()),
        certificate: CertificateDer::from(leaf_der.as_ref().to_vec()),
        leaf,
    })
}

/// Why a certificate or chain is not believed. The peer's to mend, but for `NoBundle`, which is the operator's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum X509Error {
    /// No certificate at all.
    #[error("no certificate was presented")]
    NoCertificate,
    /// More than [`MAX_CHAIN`] certificates.
    #[error("the chain has more than 16 certificates")]
    ChainTooLong,
    /// Not one X.509 version 3 certificate in DER, or longer than [`MAX_CERTIFICATE_BYTES`].
    #[error("the certificate cannot be read")]
    Malformed,
    /// An extension occurs twice (RFC 5280 4.2).
    #[error("an extension occurs twice in the certificate")]
    DuplicateExtension,
    /// A critical extension that is not understood here (RFC 5280 4.2).
    #[error("the certificate has a critical extension that is not supported")]
    CriticalExtension,
    /// The key of a certificate cannot be used.
    #[error("the key of the certificate is not supported or too weak")]
    Key,
    /// No URI among the subject alternative names.
    #[error("the certificate has no URI SAN")]
    NoUriSan,
    /// More than one (X509-SVID 2).
    #[error("the certificate has more than one URI SAN")]
    MultipleUriSan,
    /// The URI is not a SPIFFE ID.
    #[error("the URI SAN of the certificate is not a SPIFFE ID: {0}")]
    BadSpiffeId(IdError),
    /// The id is that of a trust domain, not of a workload (X509-SVID 5.2).
    #[error("the SPIFFE ID of the certificate is that of a trust domain and not of a workload")]
    RootId,
    /// The leaf may sign certificates (X509-SVID 5.2).
    #[error("a signing certificate cannot authenticate a peer")]
    LeafIsAuthority,
    /// The leaf may not sign handshakes: `digitalSignature` is missing (X509-SVID 4.3).
    #[error("the key usage of the certificate does not allow digital signatures")]
    LeafKeyUsage,
    /// The leaf's extended key usage does not allow this role (X509-SVID 4.4).
    #[error("the extended key usage of the certificate does not allow this role")]
    ExtendedKeyUsage,
    /// The leaf has expired.
    #[error("the certificate has expired")]
    Expired,
    /// The leaf is not valid yet.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// No bundle is known for the leaf's trust domain.
    #[error("no bundle is known for the trust domain of the certificate")]
    NoBundle,
    /// No path leads to the bundle.
    #[error("the certificate does not lead to the bundle of its trust domain")]
    NoPath,
    /// Too many signatures would have to be checked.
    #[error("the chain takes too many signatures to check")]
    TooManySignatures,
    /// A signature on the path does not hold, or is of an unknown kind.
    #[error("a signature of the chain does not hold")]
    BadSignature,
    /// An issuer is not a certificate authority.
    #[error("an issuer of the chain is not a certificate authority")]
    NotAnAuthority,
    /// An issuer is outside its times.
    #[error("an issuer of the chain has expired or is not valid yet")]
    AuthorityNotValid,
    /// More certificates follow an issuer than it allows.
    #[error("the chain is longer than an issuer allows")]
    PathLength,
    /// An issuer's name constraints do not allow a name, or are of a kind that is not supported.
    #[error("the name constraints of an issuer do not allow a name of the chain")]
    NameConstraint,
    /// The private key is not that of the leaf.
    #[error("the private key is not that of the certificate")]
    KeyMismatch,
}

impl X509Error {
    /// The stable reason code of this error.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Expired => Reason::Expired,
            Self::NotYetValid => Reason::NotYetValid,
            Self::NoBundle => Reason::UnknownTrustDomain,
            Self::NoPath
            | Self::TooManySignatures
            | Self::BadSignature
            | Self::NotAnAuthority
            | Self::AuthorityNotValid
            | Self::PathLength
            | Self::NameConstraint => Reason::X509SvidUntrusted,
            _ => Reason::X509SvidInvalid,
        }
    }
}

impl From<X509Error> for Refusal {
    fn from(error: X509Error) -> Self {
        Refusal::new(error.reason(), error.to_string())
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
