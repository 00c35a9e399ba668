use bytes::Bytes;
use mayfly_proto::node;
use mayfly_sdk::bundle::Bundle;
use mayfly_sdk::{Refusal, TrustDomain};

/// A bundle with the forms in which workloads get it, made once.
#[derive(Debug)]
pub struct HeldBundle {
    bundle: Bundle,
    document: Bytes,
    sequence: u64,
    x509: Bytes,
    jwks: Bytes,
    wit_jwks: Option<String>,
}

impl HeldBundle {
    /// Reads a bundle from the wire.
    ///
    /// # Errors
    /// [`mayfly_sdk::Reason::InvalidTrustDomain`] or [`mayfly_sdk::Reason::BundleInvalid`].
    pub fn read(wire: &node::Bundle) -> Result<Self, Refusal> {
        let trust_domain: TrustDomain = wire
            .trust_domain
            .parse()
            .map_err(|error: mayfly_sdk::id::IdError| Refusal::new(error.reason(), error.to_string()))?;
        let bundle = Bundle::from_spiffe_json(trust_domain, &wire.document)?;
        let x509 = bundle.x509.to_der().into();
        let jwks = bundle.jwt.to_jwks().into();
        let wit_jwks = (!bundle.wit.is_empty()).then(|| bundle.wit.to_jwks());
        Ok(Self { bundle, document: wire.document.clone(), sequence: wire.sequence, x509, jwks, wit_jwks })
    }

    /// Whose it is.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        self.bundle.trust_domain()
    }

    /// The bundle itself.
    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The SPIFFE bundle document that it was read from.
    #[must_use]
    pub fn document(&self) -> &Bytes {
        &self.document
    }

    /// Higher with each change.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Its X.509 authorities, DER one after the other (row WA-23); empty where it has none.
    #[must_use]
    pub fn x509(&self) -> &Bytes {
        &self.x509
    }

    /// Its JWT authorities as a JWK Set (row WA-45).
    #[must_use]
    pub fn jwks(&self) -> &Bytes {
        &self.jwks
    }

    /// Its WIT authorities as a JWK Set (row WA-65); none where the trust domain does not issue WIT-SVIDs (WIT-SVID 6.2).
    #[must_use]
    pub fn wit_jwks(&self) -> Option<&String> {
        self.wit_jwks.as_ref()
    }

    /// As it came over the wire.
    pub(super) fn to_wire(&self) -> node::Bundle {
        node::Bundle {
            trust_domain: self.trust_domain().to_string(),
            document: self.document.clone(),
            sequence: self.sequence,
        }
    }
}
