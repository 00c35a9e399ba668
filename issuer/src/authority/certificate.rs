//! The certificates of authorities: the root, and what it signs.
//!
//! `rcgen` writes what is to be signed; the signature is made by whoever holds the key, asynchronously. Each certificate
//! is read back and checked before anybody sees it, and again when it is loaded.

use bytes::Bytes;
use mayfly_sdk::key::KeyType;
use mayfly_sdk::{PrivateKey, PublicKey, Serial, SignatureAlgorithm, Timestamp, TrustDomain, Ttl};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyIdMethod, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber, SigningKey,
};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::key::KeyHandle;
use super::keyring::{Keyring, Roster};
use super::kind::{Kind, key_bits, subject_key_id};
use super::{AuthorityError, AuthorityId, der};
use crate::store::SlotKind;

/// How far back a leaf's validity begins: clocks differ.
pub(super) const BACKDATE: Ttl = Ttl::from_s(60);
/// How far back that of an authority begins. It is made once and used for long: a clock that is set back by an hour later
/// must not find it invalid.
pub(super) const AUTHORITY_BACKDATE: Ttl = Ttl::from_s(2 * 60 * 60);

/// The trust domain's root.
#[derive(Debug)]
pub enum X509Root {}

/// What is known about a key that is being made into an authority.
#[derive(Debug)]
pub struct Birth<'a> {
    pub(super) trust_domain: &'a TrustDomain,
    pub(super) serial: Serial,
    pub(super) made_at: Timestamp,
    pub(super) not_after: Timestamp,
}

/// The root's key, ready to sign intermediates.
pub struct RootIssuer {
    key: KeyHandle,
    certificate: Bytes,
}

impl Kind for X509Root {
    const NAME: SlotKind = SlotKind::X509Root;
    type Signer = RootIssuer;

    fn authority_id(key: &PublicKey) -> AuthorityId {
        AuthorityId::of_x509(key)
    }

    async fn certify(birth: &Birth<'_>, key: &PrivateKey) -> Result<Vec<Bytes>, AuthorityError> {
        let handle = KeyHandle::local(key)?;
        let subject = Unsigned(key.public_key());
        let params = authority_params(birth, SlotKind::X509Root, key.public_key(), BasicConstraints::Unconstrained)?;
        let issuer = Issuer::from_params(&params, &subject);
        let der = signed(&params, &subject, &issuer, &handle).await?;
        check_authority(&der, birth.trust_domain, key.public_key(), key.public_key())?;
        Ok(vec![der])
    }

    fn signer(key: &PrivateKey, chain: &[Bytes]) -> Result<RootIssuer, AuthorityError> {
        let certificate = chain.first().ok_or(AuthorityError::NotAsPlanned { field: "certificate of the root" })?;
        Ok(RootIssuer { key: KeyHandle::local(key)?, certificate: certificate.clone() })
    }

    fn roster(keyring: &Keyring) -> &Roster<Self> {
        &keyring.roots
    }

    fn roster_mut(keyring: &mut Keyring) -> &mut Roster<Self> {
        &mut keyring.roots
    }
}

impl RootIssuer {
    /// Its certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &Bytes {
        &self.certificate
    }

    /// Signs an intermediate for this process: it signs leaves only (`pathLenConstraint` 0).
    ///
    /// # Errors
    /// [`AuthorityError`] if the certificate cannot be made or is not as planned.
    pub(super) async fn sign_intermediate(&self, birth: &Birth<'_>, key: &PublicKey) -> Result<Bytes, AuthorityError> {
        let own = self.key.public_key();
        let params = authority_params(birth, SlotKind::X509Intermediate, key, BasicConstraints::Constrained(0))?;
        let issuer = issuer(SlotKind::X509Root, own);
        let der = signed(&params, &Unsigned(key), &issuer, &self.key).await?;
        check_authority(&der, birth.trust_domain, key, own)?;
        Ok(der)
    }
}

/// A key as `rcgen` sees it: it may be written into a certificate; signatures are put in afterwards.
pub(super) struct Unsigned<'a>(pub(super) &'a PublicKey);

impl PublicKeyData for Unsigned<'_> {
    fn der_bytes(&self) -> &[u8] {
        key_bits(self.0)
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self.0.key_type() {
            KeyType::EcP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyType::EcP521 => &rcgen::PKCS_ECDSA_P521_SHA512,
            KeyType::Rsa => &rcgen::PKCS_RSA_SHA256,
            KeyType::Ed25519 => &rcgen::PKCS_ED25519,
            _ => &rcgen::PKCS_ECDSA_P256_SHA256,
        }
    }
}

impl SigningKey for Unsigned<'_> {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(vec![0])
    }
}

/// The issuer that `rcgen` names in certificates: the subject and key identifier of an authority of ours.
pub(super) fn issuer(kind: SlotKind, key: &PublicKey) -> Issuer<'static, Unsigned<'_>> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(kind, key);
    params.key_identifier_method = KeyIdMethod::PreSpecified(subject_key_id(key).to_vec());
    Issuer::new(params, Unsigned(key))
}

/// What is to be signed, as `rcgen` writes it.
pub(super) fn unsigned(
    params: &CertificateParams,
    subject: &Unsigned<'_>,
    issuer: &Issuer<'_, impl SigningKey>,
) -> Result<Vec<u8>, AuthorityError> {
    let draft = params.signed_by(subject, issuer);
    let draft = draft.map_err(|error| AuthorityError::Encoding { what: error.to_string() })?;
    Ok(parse(draft.der())?.tbs_certificate.as_ref().to_vec())
}

async fn signed(
    params: &CertificateParams,
    subject: &Unsigned<'_>,
    issuer: &Issuer<'_, impl SigningKey>,
    key: &KeyHandle,
) -> Result<Bytes, AuthorityError> {
    let algorithm = der::algorithm_identifier(key.algorithm()).ok_or(mayfly_sdk::key::KeyError::Mismatch)?;
    let tbs = unsigned(params, subject, issuer)?;
    let signature = key.sign(&tbs).await?;
    Ok(der::certificate(&tbs, algorithm, &signature).into())
}

fn authority_params(
    birth: &Birth<'_>,
    kind: SlotKind,
    key: &PublicKey,
    constraints: BasicConstraints,
) -> Result<CertificateParams, AuthorityError> {
    let uri = format!("spiffe://{}", birth.trust_domain);
    let uri = uri.try_into().map_err(|error: rcgen::Error| AuthorityError::Encoding { what: error.to_string() })?;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(birth.serial.as_bytes()));
    params.not_before = date(birth.made_at.saturating_sub(AUTHORITY_BACKDATE))?;
    params.not_after = date(birth.not_after)?;
    params.distinguished_name = subject(kind, key);
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.key_identifier_method = KeyIdMethod::PreSpecified(subject_key_id(key).to_vec());
    params.use_authority_key_identifier_extension = kind != SlotKind::X509Root;
    Ok(params)
}

/// A subject of its own for each authority, so that no path builder takes one for another.
fn subject(kind: SlotKind, key: &PublicKey) -> DistinguishedName {
    let role = if kind == SlotKind::X509Root { "root" } else { "intermediate" };
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Mayfly");
    name.push(DnType::CommonName, format!("{role} {}", AuthorityId::of_x509(key)));
    name
}

pub(super) fn date(at: Timestamp) -> Result<OffsetDateTime, AuthorityError> {
    let date = OffsetDateTime::from_unix_timestamp(at.unix_s());
    date.ok().ok_or_else(|| AuthorityError::Encoding { what: format!("{at} cannot be written in a certificate") })
}

pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, AuthorityError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(AuthorityError::NotAsPlanned { field: "a certificate that can be read" }),
    }
}

/// The serial number of a certificate of ours.
pub(super) fn serial_of(der: &[u8]) -> Result<Serial, AuthorityError> {
    let bytes = parse(der)?.serial.to_bytes_be();
    let mut padded = [0; 16];
    let to = padded.get_mut(16_usize.saturating_sub(bytes.len())..).filter(|to| to.len() == bytes.len());
    to.ok_or(AuthorityError::NotAsPlanned { field: "serial number of the authority" })?.copy_from_slice(&bytes);
    Serial::try_from(padded).or(Err(AuthorityError::NotAsPlanned { field: "serial number of the authority" }))
}

/// Checks that a certificate is an authority of this trust domain for this key, signed by that one (X509-SVID 3.2, 4.1,
/// 4.3): what was just made, and what the store gives back.
///
/// # Errors
/// [`AuthorityError::NotAsPlanned`].
pub(super) fn check_authority(
    der: &[u8],
    trust_domain: &TrustDomain,
    key: &PublicKey,
    signed_by: &PublicKey,
) -> Result<(), AuthorityError> {
    let differs = |field| Err(AuthorityError::NotAsPlanned { field });
    let certificate = parse(der)?;
    if certificate.public_key().raw != key.spki() {
        return differs("public key of the authority");
    }
    if !certificate.basic_constraints().is_ok_and(|found| found.is_some_and(|bc| bc.critical && bc.value.ca)) {
        return differs("cA of the authority");
    }
    // keyCertSign is bit 5, cRLSign bit 6.
    if !certificate
        .key_usage()
        .is_ok_and(|found| found.is_some_and(|usage| usage.critical && usage.value.flags == 0x60))
    {
        return differs("key usage of the authority");
    }
    let id = format!("spiffe://{trust_domain}");
    let named = certificate.subject_alternative_name().ok().flatten();
    match named.map(|san| san.value.general_names.as_slice()) {
        Some([GeneralName::URI(uri)]) if **uri == *id => {}
        _ => return differs("SPIFFE ID of the authority"),
    }
    let (tbs, signature) = (certificate.tbs_certificate.as_ref(), &certificate.signature_value.data);
    let algorithm = SignatureAlgorithm::for_x509(signed_by.key_type());
    signed_by.verify(algorithm, tbs, signature).or_else(|_| differs("signature on the authority"))
}
