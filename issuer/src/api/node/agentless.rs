//! `MintAgentless`: a token and a request in, one SVID out. Reachable by anybody, so that everything is bounded.

use std::time::Duration;

use mayfly_proto::node::{Bundle, MintAgentlessRequest, MintAgentlessResponse, X509Issue};
use mayfly_sdk::{PublicKey, Reason, Refusal, SpiffeId, key::KeyType, x509::CertificateRequest};

use super::{Inner, renew::request_id};
use crate::mint::AgentlessWish;

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// The most bits of an RSA key.
const MAX_RSA_BITS: u32 = 4096;

impl Inner {
    pub(super) async fn mint_agentless(&self, request: MintAgentlessRequest) -> Result<MintAgentlessResponse, Refusal> {
        let _place = self.agentless.enter()?;
        let minted = tokio::time::timeout(DEADLINE, self.serve_agentless(request)).await;
        minted.unwrap_or_else(|_elapsed| Err(Refusal::new(Reason::Overloaded, "the call took longer than 10 s")))
    }

    /// The token is verified first, and then the request: a stranger costs one signature at the most.
    async fn serve_agentless(&self, request: MintAgentlessRequest) -> Result<MintAgentlessResponse, Refusal> {
        let directory = &self.minter.directory;
        if request.trust_domain != directory.trust_domain().as_str() {
            let what = format!("this issuer serves the trust domain {}", directory.trust_domain());
            return Err(Refusal::new(Reason::UnknownTrustDomain, what));
        }
        let request_id = request_id(&request.request_id)?;
        let spiffe_id = match request.spiffe_id.as_str() {
            "" => None,
            id => Some(id.parse::<SpiffeId>()?),
        };
        let csr = CertificateRequest::parse(&request.csr)?;
        check_size(csr.claimed_key())?;
        let token = self.agentless.verify(&request.token).await?;
        let public_key = csr.verify()?;
        let wish = AgentlessWish { request_id, public_key, spiffe_id };
        let minted = self.minter.mint_agentless(token, wish).await?;
        let svid = minted.issued.credential;
        self.metrics.issued("x509_agentless");
        let entry = minted.consent.entry.name();
        tracing::info!(spiffe_id = %svid.spiffe_id, entry, serial = %svid.serial, "svid issued without a node agent");

        let federated = minted.consent.entry.spec.extra().federates_with.iter();
        let bundles = std::iter::once(directory.trust_domain()).chain(federated).filter_map(|of| directory.bundle(of));
        let bundles = bundles.map(|row| Bundle {
            trust_domain: row.trust_domain.to_string(),
            document: row.document.into(),
            sequence: row.sequence,
        });
        Ok(MintAgentlessResponse {
            bundles: bundles.collect(),
            svid: Some(X509Issue {
                spiffe_id: svid.spiffe_id.to_string(),
                leaf: svid.der,
                intermediates: svid.intermediates.to_vec(),
                lifetime_s: minted.issued.lifetime_s,
                renew_after_s: minted.issued.renew_after_s,
                serial: svid.serial.to_string(),
            }),
        })
    }
}

fn check_size(key: &PublicKey) -> Result<(), Refusal> {
    if key.key_type() == KeyType::Rsa && key.bits() > MAX_RSA_BITS {
        return Err(Refusal::new(
            Reason::RequestInvalid,
            format!("the key has {} bits, and RSA up to {MAX_RSA_BITS} is certified", key.bits()),
        ));
    }
    Ok(())
}
