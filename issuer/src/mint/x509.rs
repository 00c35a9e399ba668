//! X.509-SVIDs for raw public keys that were made on the node.

use mayfly_sdk::{PublicKey, Refusal, Serial};

use super::{Authorized, Batched, Caller, Holder, Minter, Profile, Request, step};
use crate::{
    authority::{Authorities, LeafPlan, SignedX509},
    ledger::Kind,
    registry::{Authorization, MintRequest, Wanted},
};

/// X.509-SVIDs.
#[derive(Debug)]
pub enum X509Profile {}

/// What a node asks for.
#[derive(Debug)]
pub struct X509Request {
    /// The workload's public key; its strength was checked when it was read.
    pub public_key: PublicKey,
}

impl Profile for X509Profile {
    type Plan = LeafPlan;
    type Credential = SignedX509;

    async fn sign(authorities: &Authorities, plan: &LeafPlan) -> Result<SignedX509, Refusal> {
        Ok(authorities.sign_x509(plan).await?)
    }

    fn describe(svid: &SignedX509, plan: &LeafPlan) -> step::Description {
        step::Description {
            kind: Kind::X509SvidIssued,
            serial: svid.serial,
            spiffe_id: svid.spiffe_id.clone(),
            authority: svid.authority.clone(),
            key_sha256: Some(step::sha256(&[plan.public_key.spki()])),
            released_sha256: step::sha256(&[&svid.der]),
            not_after: svid.validity.not_after(),
        }
    }
}

impl Minter {
    /// The entry's consent to an identity of this node's workload.
    pub(super) fn consent<W>(&self, caller: &Caller<'_>, request: &Request<W>) -> Result<Authorization, Refusal> {
        let mint = MintRequest {
            node: caller.facts,
            entry: request.entry,
            issuance: request.issuance,
            facts: &request.facts,
            wanted: Wanted::X509,
        };
        self.directory.with_registry(|registry| registry.authorize(&mint, caller.now))
    }
}

impl Batched for X509Profile {
    type Wanted = X509Request;

    fn authorize(
        minter: &Minter,
        caller: &Caller<'_>,
        request: Request<X509Request>,
    ) -> Result<Authorized<Self>, Refusal> {
        let consent = minter.consent(caller, &request)?;
        let instance = step::instance(&consent.entry, request.instance)?;
        let node = &caller.facts.spiffe_id;
        let uid = consent.entry.uid;
        let instance_bytes = instance.as_ref().map_or(&[][..], |instance| instance.as_bytes());
        let holder = Holder::of(&[node.as_str().as_bytes(), uid.as_bytes(), instance_bytes]);
        let until = caller.now.saturating_add(consent.ttl);
        let key_sha256 = step::sha256(&[request.wanted.public_key.spki()]);
        minter.live_keys.claim(&key_sha256, holder, until, caller.now)?;
        let plan = LeafPlan {
            spiffe_id: consent.spiffe_id.clone(),
            public_key: request.wanted.public_key,
            dns_names: consent.dns_names().iter().map(ToString::to_string).collect(),
            ip_addresses: Vec::new(),
            ttl: consent.ttl,
            serial: Serial::generate(minter.directory.clock().now_ms())?,
            now: caller.now,
        };
        Ok(Authorized { plan, on_behalf: step::OnBehalf::new(caller, instance, consent.entry, request.request_id) })
    }
}
