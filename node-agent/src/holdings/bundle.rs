use bytes::Bytes;
use mayfly_proto::node;
use mayfly_sdk::{Bundle, Reason, Refusal, TrustDomain};

/// A bundle with the forms in which workloads get it, made once.
#[derive(Debug)]
pub struct HeldBundle {
    bundle: Bundle,
    document: Bytes,
    sequence: u64,
    x509: Bytes,
    jwks: Bytes,
}

impl HeldBundle {
    /// Reads a bundle from the wire.
    ///
    /// # Errors
    /// [`Reason::InvalidTrustDomain`] or [`Reason::BundleInvalid`].
    pub fn read(wire: &node::Bundle) -> Result<Self, Refusal> {
        let trust_domain: TrustDomain =
            wire.trust_domain.parse().map_err(|error: mayfly_sdk::id::IdError| Refusal::new(error.reason(), error.to_string()))?;
        let bundle = Bundle::from_spiffe_json(trust_domain, &wire.document)?;
        let x509 = bundle.x509_authorities().flat_map(|der| der.to_vec()).collect::<Vec<u8>>().into();
        let jwks = bundle.jwt_bundle().to_jwks().into();
        Ok(Self { bundle, document: wire.document.clone(), sequence: wire.sequence, x509, jwks })
    }
}
