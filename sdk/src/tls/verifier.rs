//! What decides about a peer during the handshake, in both roles.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};

use super::{Authorizer, SpkiPin, Trust};
use crate::bundle::X509BundleSet;
use crate::id::TrustDomain;
use crate::reason::{Reason, Refusal};
use crate::time::Clock;
use crate::x509::{self, Usage, VerifiedPeer};

/// Where the trust anchors of a handshake come from.
#[derive(Debug, Clone)]
pub(super) enum Anchors {
    /// The bundles of the moment.
    Bundles(Trust),
    /// First contact: from the peer's own chain, by the hash of a key that was handed over out of band.
    Pinned { pin: SpkiPin, trust_domain: TrustDomain },
}

/// Verifies the presented chain, then authorizes its SPIFFE ID. There is no check of a host name: an X509-SVID names a
/// workload and not a place.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) anchors: Anchors,
    pub(super) authorizer: Authorizer,
    pub(super) clock: Clock,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    /// Whether a client must present a certificate.
    pub(super) mandatory: bool,
    /// Certificates that a chain may have, leaf included: a bound on work before anybody is authenticated.
    pub(super) max_chain: usize,
}

impl Verifier {
    /// Who presented this chain (leaf first), in the role that `usage` names.
    pub(super) fn verify(&self, chain: &[CertificateDer<'_>], usage: Usage) -> Result<VerifiedPeer, Refusal> {
        if chain.len() > self.max_chain {
            let what =
                format!("the peer's chain has {} certificates; at most {} are read", chain.len(), self.max_chain);
            return Err(Refusal::new(Reason::X509SvidInvalid, what));
        }
        let bundles = self.anchors.bundles(chain)?;
        let peer = x509::verify(chain, &bundles, self.clock.now(), usage)?;
        self.authorizer.authorize(peer.spiffe_id())?;
        Ok(peer)
    }

    /// The moment that chains are judged at, in Unix milliseconds.
    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: Usage,
    ) -> Result<(), rustls::Error> {
        let chain: Vec<CertificateDer<'_>> =
            std::iter::once(end_entity).chain(intermediates).map(|der| CertificateDer::from(der.as_ref())).collect();
        match self.verify(&chain, usage) {
            Ok(peer) => {
                Self::hand_over(peer);
                Ok(())
            }
            Err(refusal) => {
                tracing::debug!(reason = refusal.reason.code(), error = refusal.what, "peer refused in the handshake");
                Err(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal)))))
            }
        }
    }
}

impl Anchors {
    fn bundles(&self, chain: &[CertificateDer<'_>]) -> Result<Arc<X509BundleSet>, Refusal> {
        match self {
            Self::Bundles(trust) => Ok(trust.current()),
            Self::Pinned { pin, trust_domain } => Ok(Arc::new(pin.sole_anchor(chain, trust_domain)?)),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(end_entity, intermediates, Usage::Server)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge(end_entity, intermediates, Usage::Client)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
