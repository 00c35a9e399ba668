//! Secrets in the form in which Envoy takes them.

use bytes::Bytes;
use mayfly_proto::sds as wire;
use mayfly_proto::sds::data_source::Specifier;
use mayfly_proto::sds::secret::Type;
use mayfly_proto::sds::spiffe_cert_validator_config::TrustDomain;
use mayfly_sdk::pem;
use prost::Message as _;
use ring::digest::{SHA256, digest};

use super::SECRET_TYPE;
use crate::holdings::HeldBundle;
use crate::identity::{Held, X509};
use crate::workload_api::svids::put;

/// Envoy's name for its SPIFFE validator, and the type of its settings.
const VALIDATOR: &str = "envoy.tls.cert_validator.spiffe";
const VALIDATOR_TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";

/// One secret under one name.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) name: String,
    /// Of its public content, which its private content follows: equal where nothing has changed.
    pub(super) version: String,
    pub(super) resource: prost_types::Any,
}

impl Named {
    /// An X.509-SVID with its key.
    pub(super) fn svid(name: &str, held: &Held<X509>) -> Self {
        let credential = held.credential();
        let chain: String = credential.certificates().iter().map(|der| pem::certificate(der)).collect();
        let version = version(&[chain.as_bytes()]);
        let key = Bytes::from_owner(KeyText(pem::private_key_der(credential.key())));
        let certificate = wire::TlsCertificate { certificate_chain: Some(inline(chain)), private_key: Some(data(key)) };
        Self::new(name, version, Type::TlsCertificate(certificate))
    }

    /// A validation context that holds each trust domain to its own bundle.
    pub(super) fn validator(name: &str, bundles: &[&HeldBundle]) -> Self {
        let trust_domains: Vec<_> = bundles
            .iter()
            .map(|held| TrustDomain {
                name: held.trust_domain().to_string(),
                trust_bundle: Some(inline(held.bundle().x509.to_pem())),
            })
            .collect();
        let settings = wire::SpiffeCertValidatorConfig { trust_domains }.encode_to_vec();
        let version = version(&[&settings]);
        let typed_config = prost_types::Any { type_url: VALIDATOR_TYPE.to_owned(), value: settings };
        let extension = wire::TypedExtensionConfig { name: VALIDATOR.to_owned(), typed_config: Some(typed_config) };
        let context = wire::CertificateValidationContext { trusted_ca: None, custom_validator_config: Some(extension) };
        Self::new(name, version, Type::ValidationContext(context))
    }

    /// A validation context that believes whatever this bundle's authorities have signed.
    pub(super) fn trusted_ca(name: &str, bundle: &HeldBundle) -> Self {
        let text = bundle.bundle().x509.to_pem();
        let version = version(&[text.as_bytes()]);
        let context =
            wire::CertificateValidationContext { trusted_ca: Some(inline(text)), custom_validator_config: None };
        Self::new(name, version, Type::ValidationContext(context))
    }

    fn new(name: &str, version: String, content: Type) -> Self {
        let value = wire::Secret { name: name.to_owned(), r#type: Some(content) }.encode_to_vec();
        Self { name: name.to_owned(), version, resource: prost_types::Any { type_url: SECRET_TYPE.to_owned(), value } }
    }
}

/// What [`Bytes`] keeps alive; wiped at the end.
struct KeyText(zeroize::Zeroizing<String>);

impl AsRef<[u8]> for KeyText {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

fn inline(text: String) -> wire::DataSource {
    data(text.into())
}

fn data(bytes: Bytes) -> wire::DataSource {
    wire::DataSource { specifier: Some(Specifier::InlineBytes(bytes)) }
}

/// 16 bytes of a digest, in hex.
pub(super) fn version(parts: &[&[u8]]) -> String {
    let mut bytes = Vec::new();
    for part in parts {
        put(&mut bytes, part);
    }
    let digest = digest(&SHA256, &bytes);
    hex::encode(digest.as_ref().get(..16).unwrap_or_default())
}
