//! WIT-SVIDs for raw public keys that were made on the node.

use mayfly_sdk::{PublicKey, Refusal, Serial};

use super::{Authorized, Batched, Caller, Holder, Minter, Profile, Request, step};
use crate::{
    authority::{Authorities, SignedWit, WitPlan},
    ledger::Kind,
    registry::{MintRequest, Wanted},
};

/// WIT-SVIDs.
#[derive(Debug)]
pub enum WitProfile {}

/// What a node asks for.
#[derive(Debug)]
pub struct WitRequest {
    /// The workload's public key; its strength was checked when it was read.
    pub public_key: PublicKey,
}

impl Profile for WitProfile {
    type Plan = WitPlan;
    type Credential = SignedWit;

    async fn sign(authorities: &Authorities, plan: &WitPlan) -> Result<SignedWit, Refusal> {
        Ok(authorities.sign_wit(plan).await?)
    }

    fn describe(svid: &SignedWit, plan: &WitPlan) -> step::Description {
        step::Description {
            kind: Kind::WitSvidIssued,
            serial: svid.jti,
            spiffe_id: svid.spiffe_id.clone(),
            authority: svid.authority.clone(),
            key_sha256: Some(plan.public_key.spki_sha256()),
            released_sha256: step::sha256(&[svid.token.as_bytes()]),
            not_after: svid.not_after,
        }
    }
}

impl Batched for WitProfile {
    type Wanted = WitRequest;

    fn authorize(
        minter: &Minter,
        caller: &Caller<'_>,
        request: Request<WitRequest>,
    ) -> Result<Authorized<Self>, Refusal> {
        let mint = MintRequest {
            node: caller.facts,
            entry: request.entry,
            issuance: request.issuance,
            facts: &request.facts,
            wanted: Wanted::Wit,
        };
        let consent = minter.directory.with_registry(|registry| registry.authorize(&mint, caller.now))?;
        let instance = step::instance(&consent.entry, request.instance)?;
        let node = &caller.facts.spiffe_id;
        let uid = consent.entry.uid;
        let instance_bytes = instance.as_ref().map_or(&[][..], |instance| instance.as_bytes());
        // A holder of its own: a key that is certified is not bound to a token as well, nor the reverse.
        let holder = Holder::of(&[node.as_str().as_bytes(), uid.as_bytes(), instance_bytes, b"wit"]);
        let until = caller.now.saturating_add(consent.ttl);
        let key_sha256 = request.wanted.public_key.spki_sha256();
        minter.live_keys.claim(&key_sha256, holder, until, caller.now)?;
        let plan = WitPlan {
            spiffe_id: consent.spiffe_id.clone(),
            public_key: request.wanted.public_key,
            ttl: consent.ttl,
            jti: Serial::generate(minter.directory.clock().now_ms())?,
            now: caller.now,
        };
        Ok(Authorized { plan, on_behalf: step::OnBehalf::new(caller, instance, consent.entry, request.request_id) })
    }
}
