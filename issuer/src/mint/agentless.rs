//! X.509-SVIDs for callers without a node agent, whose token and key were verified.

use mayfly_sdk::{PublicKey, Refusal, Serial, SpiffeId};

use super::{Authorized, Holder, Issued, Minter, X509Profile, step};
use crate::{
    agentless::VerifiedToken,
    authority::{LeafPlan, SignedX509},
    ledger::RequestId,
    registry::{AgentlessRequest, Authorization},
};

/// What a caller without a node agent asks for.
#[derive(Debug)]
pub struct AgentlessWish {
    /// What the caller called it; recorded.
    pub request_id: RequestId,
    /// Whose private half the caller has.
    pub public_key: PublicKey,
    /// Which identity; none: the first that the token allows.
    pub spiffe_id: Option<SpiffeId>,
}

/// An X.509-SVID on its way out, and what it was issued for.
#[derive(Debug)]
pub struct AgentlessIssue {
    /// The SVID.
    pub issued: Issued<SignedX509>,
    /// The consent that it rests on.
    pub consent: Authorization,
}

impl Minter {
    /// Mints one X.509-SVID. The token is used up by it.
    ///
    /// # Errors
    /// No entry is for this token, the key may not be certified, the token was used before, or the issuer cannot issue now.
    pub async fn mint_agentless(&self, token: VerifiedToken, wish: AgentlessWish) -> Result<AgentlessIssue, Refusal> {
        // As urgent as any first use.
        let _turn = self.admission.enter(&token.caller.origin, 0).await?;
        let VerifiedToken { caller, used, actor } = token;
        let now = self.directory.clock().now();
        let request = AgentlessRequest { caller: &caller, spiffe_id: wish.spiffe_id.as_ref() };
        let consent = self.directory.with_registry(|registry| registry.authorize_agentless(&request, now))?;

        // Two jobs may share a key and an identity, but one key never has two identities.
        let parts = [caller.origin.as_str(), consent.spiffe_id.as_str()].map(str::as_bytes);
        let holder = Holder::of(&[parts[0], consent.entry.uid.as_bytes(), parts[1]]);
        let key_sha256 = step::sha256(&[wish.public_key.spki()]);
        self.live_keys.claim(&key_sha256, holder, now.saturating_add(consent.ttl), now)?;
        let plan = LeafPlan {
            spiffe_id: consent.spiffe_id.clone(),
            public_key: wish.public_key,
            dns_names: consent.dns_names().iter().map(ToString::to_string).collect(),
            ip_addresses: Vec::new(),
            ttl: consent.ttl,
            serial: Serial::generate(self.directory.clock().now_ms())?,
            now,
        };
        let on_behalf = step::OnBehalf {
            node: caller.origin,
            instance: None,
            entry: std::sync::Arc::clone(&consent.entry),
            request_id: wish.request_id,
            actor: Some(actor),
        };
        let authorized = Authorized::<X509Profile> { plan, on_behalf };
        let signed = authorized.sign(&self.authorities, self.directory.clock()).await?;
        let issued = signed.redeem(used, &self.directory).await?.release();
        Ok(AgentlessIssue { issued, consent })
    }
}
