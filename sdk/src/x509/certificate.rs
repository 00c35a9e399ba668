use x509_parser::asn1_rs::{Any, FromDer, Tag};
use x509_parser::certificate::X509CertificateParser;
use x509_parser::extensions::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, GeneralName, KeyIdentifier, SubjectAlternativeName,
    X509Extension,
};
use x509_parser::nom::Parser as _;
use x509_parser::oid_registry::{
    OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_EXTENDED_KEY_USAGE,
    OID_X509_EXT_KEY_USAGE, OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_SUBJECT_ALT_NAME,
    OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
};
use x509_parser::prelude::{X509Certificate, X509Version};

use super::constraints::NameConstraints;
use super::{MAX_CERTIFICATE_BYTES, X509Error};
use crate::der::{Signed, take};
use crate::key::{PublicKey, SignatureAlgorithm};
use crate::time::{Timestamp, Validity};

/// A certificate that was read and not checked: every extension once, every known one well-formed, nothing left over.
///
/// The issuer reads back what it signed through this, and compares it with its plan field by field.
#[derive(Debug, Clone)]
pub struct Certificate<'a> {
    inner: X509Certificate<'a>,
    signed: Signed<'a>,
    validity: Validity,
    extensions: Extensions<'a>,
}

/// The bits of a key usage extension (RFC 5280 4.2.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUsage {
    bits: u16,
    critical: bool,
}

#[derive(Debug, Clone, Default)]
struct Extensions<'a> {
    basic: Option<(bool, Option<u32>)>,
    key_usage: Option<KeyUsage>,
    extended: Option<ExtendedKeyUsage<'a>>,
    names: Vec<GeneralName<'a>>,
    name_constraints: Option<NameConstraints<'a>>,
    subject_key_id: Option<&'a [u8]>,
    authority_key_id: Option<&'a [u8]>,
    unknown_critical: bool,
}

impl<'a> Certificate<'a> {
    /// Reads one DER certificate of version 3 and nothing after it. No cryptography.
    ///
    /// # Errors
    /// [`X509Error::Malformed`] or [`X509Error::DuplicateExtension`].
    pub fn parse(der: &'a [u8]) -> Result<Self, X509Error> {
        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err(X509Error::Malformed);
        }
        let signed = Signed::read(der).ok_or(X509Error::Malformed)?;
        let parsed = X509CertificateParser::new().with_deep_parse_extensions(false).parse(der);
        let (rest, inner) = parsed.ok().ok_or(X509Error::Malformed)?;
        if !rest.is_empty()
            || inner.version != X509Version::V3
            || inner_algorithm(signed.content) != Some(signed.algorithm)
        {
            return Err(X509Error::Malformed);
        }
        let at = |time: &x509_parser::time::ASN1Time| Timestamp::from_unix_s(time.timestamp());
        let validity = Validity::new(at(&inner.validity.not_before), at(&inner.validity.not_after));
        let validity = validity.ok().ok_or(X509Error::Malformed)?;
        let extensions = Extensions::read(&inner)?;
        Ok(Self { inner, signed, validity, extensions })
    }

    /// The serial number, big-endian, as it is encoded.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        self.inner.raw_serial()
    }

    /// The subject, in DER.
    #[must_use]
    pub fn subject_der(&self) -> &[u8] {
        self.inner.tbs_certificate.subject.as_raw()
    }

    /// The issuer, in DER.
    #[must_use]
    pub fn issuer_der(&self) -> &[u8] {
        self.inner.tbs_certificate.issuer.as_raw()
    }

    /// Whether the subject has no attributes at all.
    #[must_use]
    pub fn has_empty_subject(&self) -> bool {
        self.inner.tbs_certificate.subject.iter_rdn().next().is_none()
    }

    /// Its times.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The DER `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        self.inner.tbs_certificate.subject_pki.raw
    }

    /// Its key, checked for kind and strength.
    ///
    /// # Errors
    /// [`X509Error::Key`].
    pub fn public_key(&self) -> Result<PublicKey, X509Error> {
        PublicKey::from_spki(self.spki()).ok().ok_or(X509Error::Key)
    }

    /// Whether basic constraints are there, and if so whether they say `cA`.
    #[must_use]
    pub fn basic_constraints_ca(&self) -> Option<bool> {
        self.extensions.basic.map(|(ca, _)| ca)
    }

    /// The path length constraint.
    #[must_use]
    pub fn path_len(&self) -> Option<u32> {
        self.extensions.basic.and_then(|(_, path_len)| path_len)
    }

    /// The key usage.
    #[must_use]
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.extensions.key_usage
    }

    /// The extended key usage as `(serverAuth, clientAuth)`, if there is one.
    #[must_use]
    pub fn extended_key_usage(&self) -> Option<(bool, bool)> {
        self.extensions.extended.as_ref().map(|usage| (usage.server_auth, usage.client_auth))
    }

    /// Every URI among the subject alternative names.
    pub fn uri_names(&self) -> impl Iterator<Item = &str> {
        self.extensions.names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
    }

    /// Every DNS name among the subject alternative names.
    pub fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.extensions.names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        })
    }

    /// The subject key identifier.
    #[must_use]
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.extensions.subject_key_id
    }

    /// The key identifier of the authority key identifier.
    #[must_use]
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.extensions.authority_key_id
    }

    /// The signature algorithm, if it is one that is known here.
    #[must_use]
    pub fn signature_algorithm(&self) -> Option<SignatureAlgorithm> {
        super::signature::algorithm(self.signed.algorithm)
    }

    /// Whether this key signed it. Says nothing else about either.
    ///
    /// # Errors
    /// [`X509Error::BadSignature`].
    pub fn verify_signature(&self, issuer: &PublicKey) -> Result<(), X509Error> {
        let algorithm = self.signature_algorithm().ok_or(X509Error::BadSignature)?;
        let held = issuer.verify(algorithm, self.signed.content, self.signed.signature);
        held.ok().ok_or(X509Error::BadSignature)
    }

    pub(super) fn names(&self) -> &[GeneralName<'a>] {
        &self.extensions.names
    }

    pub(super) fn name_constraints(&self) -> Option<&NameConstraints<'a>> {
        self.extensions.name_constraints.as_ref()
    }

    pub(super) fn has_unknown_critical_extension(&self) -> bool {
        self.extensions.unknown_critical
    }

    pub(super) fn is_self_issued(&self) -> bool {
        self.subject_der() == self.issuer_der()
    }
}

impl KeyUsage {
    /// `digitalSignature`.
    #[must_use]
    pub fn digital_signature(self) -> bool {
        self.bits & 1 != 0
    }

    /// `keyCertSign`.
    #[must_use]
    pub fn key_cert_sign(self) -> bool {
        self.bits & (1 << 5) != 0
    }

    /// `cRLSign`.
    #[must_use]
    pub fn crl_sign(self) -> bool {
        self.bits & (1 << 6) != 0
    }

    /// Whether it allows `digitalSignature` and nothing else.
    #[must_use]
    pub fn is_digital_signature_only(self) -> bool {
        self.bits == 1
    }

    /// Whether the extension is critical.
    #[must_use]
    pub fn is_critical(self) -> bool {
        self.critical
    }
}

impl<'a> Extensions<'a> {
    fn read(certificate: &X509Certificate<'a>) -> Result<Self, X509Error> {
        let mut read = Self::default();
        let all = certificate.extensions();
        for (at, extension) in all.iter().enumerate() {
            if all.iter().take(at).any(|earlier| earlier.oid == extension.oid) {
                return Err(X509Error::DuplicateExtension);
            }
            read.take(extension)?;
        }
        Ok(read)
    }

    fn take(&mut self, extension: &X509Extension<'a>) -> Result<(), X509Error> {
        let oid = &extension.oid;
        let value = extension.value;
        if *oid == OID_X509_EXT_BASIC_CONSTRAINTS {
            let basic: BasicConstraints = whole(value)?;
            self.basic = Some((basic.ca, basic.path_len_constraint));
        } else if *oid == OID_X509_EXT_KEY_USAGE {
            let usage: x509_parser::extensions::KeyUsage = whole(value)?;
            self.key_usage = Some(KeyUsage { bits: usage.flags, critical: extension.critical });
        } else if *oid == OID_X509_EXT_EXTENDED_KEY_USAGE {
            self.extended = Some(whole(value)?);
        } else if *oid == OID_X509_EXT_SUBJECT_ALT_NAME {
            self.names = whole::<SubjectAlternativeName<'a>>(value)?.general_names;
        } else if *oid == OID_X509_EXT_NAME_CONSTRAINTS {
            self.name_constraints = Some(NameConstraints::parse(value)?);
        } else if *oid == OID_X509_EXT_SUBJECT_KEY_IDENTIFIER {
            self.subject_key_id = Some(whole::<KeyIdentifier<'a>>(value)?.0);
        } else if *oid == OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER {
            let of: AuthorityKeyIdentifier<'a> = whole(value)?;
            self.authority_key_id = of.key_identifier.map(|id| id.0);
        } else {
            self.unknown_critical |= extension.critical;
        }
        Ok(())
    }
}

/// A value of this type that fills the bytes.
fn whole<'a, T>(bytes: &'a [u8]) -> Result<T, X509Error>
where
    T: FromDer<'a, x509_parser::error::X509Error>,
{
    match T::from_der(bytes) {
        Ok(([], value)) => Ok(value),
        _ => Err(X509Error::Malformed),
    }
}

/// The content of the algorithm identifier within what is signed, which must be that of the frame byte for byte
/// (RFC 5280 4.1.1.2): version, serial number, algorithm.
fn inner_algorithm(signed: &[u8]) -> Option<&[u8]> {
    let (content, _) = take(0x30, signed)?;
    let (_version, rest) = take(0xa0, content)?;
    let (_serial, rest) = take(0x02, rest)?;
    take(0x30, rest).map(|(algorithm, _)| algorithm)
}

/// Splits DER certificates that stand one after the other, as the Workload API sends them. The pieces are not read.
pub fn split_certificates(der: &[u8]) -> impl Iterator<Item = Result<&[u8], X509Error>> {
    let mut rest = der;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let piece = match Any::from_der(rest) {
            Ok((after, any)) if any.tag() == Tag::Sequence => rest.split_at_checked(rest.len() - after.len()),
            _ => None,
        };
        rest = piece.map_or(&[], |(_, after)| after);
        Some(piece.map(|(piece, _)| piece).ok_or(X509Error::Malformed))
    })
}
