use bytes::{Bytes, BytesMut};
use mayfly_proto::node;
use mayfly_proto::node::minted_x509::Outcome as Sent;
use mayfly_sdk::bundle::X509BundleSet;
use mayfly_sdk::x509::{self, Certificate, Usage, X509Svid};
use mayfly_sdk::{Clock, KeyAlgorithm, PrivateKey, Reason, Refusal, Timestamp, Ttl};
use rustls_pki_types::CertificateDer;

use super::Life;
use super::accept::workload_id;
use super::secret::{SecretBytes, locked};
use super::slot::{Accepted, Credential, Outcome};
use crate::holdings::HeldBundle;
use crate::link::NodeClient;

/// An X.509-SVID in the form in which workloads get it, made once and shared.
#[derive(Debug)]
pub(crate) struct X509 {
    /// DER one after the other, leaf first, root excluded (row WA-21).
    chain: Bytes,
    /// Unencrypted PKCS#8 DER (row WA-22), in a locked page that is wiped when the last user is gone.
    key: SecretBytes,
    /// Of the leaf, for checks against a bundle that changes.
    certificates: Vec<CertificateDer<'static>>,
    /// A moment within its validity.
    issued: Timestamp,
}

impl X509 {
    pub(crate) fn chain(&self) -> &Bytes {
        &self.chain
    }

    pub(crate) fn key(&self) -> &Bytes {
        &self.key
    }

    /// DER of each certificate, leaf first.
    pub(crate) fn certificates(&self) -> Vec<Bytes> {
        self.certificates.iter().map(|der| Bytes::copy_from_slice(der)).collect()
    }

    /// An SVID that a restart has kept; none if it does not hold.
    pub(super) fn restored(
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKey,
        lifetime_s: u32,
        own: &HeldBundle,
    ) -> Option<Accepted<Self>> {
        let (credential, checked) = Self::check(certificates, key, lifetime_s, own).ok()?;
        Some(Accepted {
            credential,
            spiffe_id: checked.id,
            life: Life::ended(),
            serial: checked.serial,
            authorities: checked.authorities,
            key_sha256: checked.key_sha256,
        })
    }

    /// Checks a chain and key that the issuer or a warm restart brought.
    ///
    /// # Errors
    /// What does not hold.
    fn check(
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKey,
        lifetime_s: u32,
        own: &HeldBundle,
    ) -> Result<(Self, Checked), Refusal> {
        let svid = X509Svid::new(certificates, key).map_err(|error| Refusal::new(error.reason(), error.to_string()))?;
        let id = workload_id(svid.spiffe_id().as_str(), own.trust_domain())?;
        // By the issuer's clock: if ours is wrong, a valid SVID must still be taken.
        let issued = svid.validity().not_after().saturating_sub(Ttl::from_s(lifetime_s));
        verify(svid.chain(), own, issued)?;
        let mut chain = BytesMut::new();
        svid.chain().iter().for_each(|der| chain.extend_from_slice(der));
        let key = locked(svid.key().expose_pkcs8())?;
        let checked = Checked {
            id,
            serial: hex::encode(svid.serial()),
            authorities: authorities(svid.chain()),
            key_sha256: hex::encode(svid.key().public_key().spki_sha256()),
        };
        let certificates = svid.chain().to_vec();
        Ok((Self { chain: chain.freeze(), key, certificates, issued }, checked))
    }
}

/// What a check has found.
struct Checked {
    id: mayfly_sdk::SpiffeId,
    serial: String,
    authorities: Vec<String>,
    key_sha256: String,
}

impl Credential for X509 {
    type Request = ();
    type Item = node::MintX509Item;
    type Issue = node::X509Issue;
    type Made = PrivateKey;

    const KIND: &'static str = "x509_svid";

    fn ask((): &(), subject: node::Subject, remaining_s: u32) -> Result<(node::MintX509Item, PrivateKey), Refusal> {
        let key = PrivateKey::generate(KeyAlgorithm::EcP256)
            .map_err(|error| Refusal::new(error.reason(), error.to_string()))?;
        let item = node::MintX509Item {
            request_id: Bytes::copy_from_slice(&crate::random_id()?),
            subject: Some(subject),
            public_key: key.public_key_spki().into(),
            remaining_s,
        };
        Ok((item, key))
    }

    async fn mint(
        mut client: NodeClient,
        items: Vec<node::MintX509Item>,
    ) -> Result<Vec<Outcome<node::X509Issue>>, tonic::Status> {
        let answer = client.mint_x509(node::MintX509Request { items }).await?.into_inner();
        let outcome = |sent| match sent {
            Sent::Svid(issue) => Ok(issue),
            Sent::Refused(refused) => Err(refused),
        };
        Ok(answer.items.into_iter().map(|minted| minted.outcome.map(outcome)).collect())
    }

    fn accept(
        (): &(),
        issue: node::X509Issue,
        key: PrivateKey,
        own: &HeldBundle,
        clock: &Clock,
    ) -> Result<Accepted<Self>, Refusal> {
        let life = Life::begin(issue.lifetime_s, issue.renew_after_s, clock);
        let chain = std::iter::once(&issue.leaf).chain(&issue.intermediates);
        let certificates = chain.map(|der| CertificateDer::from(der.to_vec())).collect();
        let (credential, checked) = Self::check(certificates, key, issue.lifetime_s, own)?;
        if checked.id.as_str() != issue.spiffe_id {
            let what = format!("the issuer named {} and certified {}", issue.spiffe_id, checked.id);
            return Err(Refusal::new(Reason::MessageInvalid, what));
        }
        Ok(Accepted {
            credential,
            spiffe_id: checked.id,
            life,
            // As the issuer writes it: a leading zero octet of the certificate's INTEGER is not part of the name.
            serial: if issue.serial.is_empty() { checked.serial } else { issue.serial },
            authorities: checked.authorities,
            key_sha256: checked.key_sha256,
        })
    }

    fn verifies(&self, own: &HeldBundle) -> bool {
        verify(&self.certificates, own, self.issued).is_ok()
    }
}

fn verify(chain: &[CertificateDer<'static>], own: &HeldBundle, at: Timestamp) -> Result<(), Refusal> {
    let trust = X509BundleSet::from_iter([own.bundle().x509.clone()]);
    let verified = x509::verify(chain, &trust, at, Usage::Any);
    verified.map(|_| ()).map_err(|error| Refusal::new(error.reason(), format!("the SVID does not verify: {error}")))
}

/// The key ids of everything that signed something in the chain.
fn authorities(chain: &[CertificateDer<'_>]) -> Vec<String> {
    let signer = |der: &CertificateDer<'_>| {
        Certificate::parse(der).ok().and_then(|cert| cert.authority_key_id().map(hex::encode))
    };
    chain.iter().filter_map(signer).collect()
}
