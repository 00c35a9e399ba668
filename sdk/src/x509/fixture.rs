//! Certificates for tests, made at run time: a good root, intermediate and leaf, and a way to change any of them.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

use super::{Authority, Usage, VerifiedPeer, X509Error, verify};
use crate::bundle::{X509Bundle, X509BundleSet};
use crate::key::PrivateKey;
use crate::time::Timestamp;

pub(crate) const NOW: Timestamp = Timestamp::from_unix_s(1_760_000_000);

/// A moment this many seconds from now.
pub(crate) fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW.unix_s() + seconds).unwrap()
}

/// A certificate and the key that it certifies.
pub(crate) struct Made {
    pub(crate) params: CertificateParams,
    pub(crate) key: KeyPair,
    pub(crate) der: Vec<u8>,
}

impl Made {
    pub(crate) fn private_key(&self) -> PrivateKey {
        PrivateKey::from_pkcs8(&self.key.serialize_der()).unwrap()
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (at(-60), at(3600));
    params.use_authority_key_identifier_extension = true;
    params
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// What a good authority is made from.
pub(crate) fn ca(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// What a good leaf is made from.
pub(crate) fn leaf(id: &str) -> CertificateParams {
    let mut params = named("leaf");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![uri(id)];
    params
}

pub(crate) fn extension(oid: &[u64], critical: bool, content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

pub(crate) fn self_signed(params: CertificateParams) -> Made {
    let key = KeyPair::generate().unwrap();
    let der = params.self_signed(&key).unwrap().der().to_vec();
    Made { params, key, der }
}

pub(crate) fn signed(params: CertificateParams, issuer: &Made) -> Made {
    signed_with(params, issuer, KeyPair::generate().unwrap())
}

pub(crate) fn signed_with(params: CertificateParams, issuer: &Made, key: KeyPair) -> Made {
    let by = Issuer::from_params(&issuer.params, &issuer.key);
    let der = params.signed_by(&key, &by).unwrap().der().to_vec();
    Made { params, key, der }
}

pub(crate) fn bundle(trust_domain: &str, anchors: &[&Made]) -> X509Bundle {
    let anchors = anchors.iter().map(|made| Authority::from_der(&made.der).unwrap()).collect();
    X509Bundle::new(trust_domain.parse().unwrap(), anchors)
}

/// A trust domain `td` with a root and an intermediate.
pub(crate) struct Domain {
    pub(crate) root: Made,
    pub(crate) intermediate: Made,
    pub(crate) bundles: X509BundleSet,
}

impl Domain {
    pub(crate) fn new() -> Self {
        Self::named("td")
    }

    pub(crate) fn named(trust_domain: &str) -> Self {
        Self::of(trust_domain, ca("root"), ca("intermediate"))
    }

    pub(crate) fn of(trust_domain: &str, root: CertificateParams, intermediate: CertificateParams) -> Self {
        let root = self_signed(root);
        let intermediate = signed(intermediate, &root);
        let bundles = bundle(trust_domain, &[&root]).into();
        Self { root, intermediate, bundles }
    }

    /// The verdict on root, intermediate and this leaf.
    pub(crate) fn verdict_as(&self, params: CertificateParams, usage: Usage) -> Result<VerifiedPeer, X509Error> {
        let leaf = signed(params, &self.intermediate);
        verify(&[&leaf.der, &self.intermediate.der], &self.bundles, NOW, usage)
    }

    pub(crate) fn verdict(&self, params: CertificateParams) -> Result<VerifiedPeer, X509Error> {
        self.verdict_as(params, Usage::Server)
    }
}
