//! JWT-SVIDs with the entry's static claims.

use mayfly_sdk::{Refusal, Serial};

use super::{Authorized, Batched, Caller, Minter, Profile, Request, step};
use crate::{
    authority::{Authorities, JwtPlan, SignedJwt},
    ledger::Kind,
    registry::{MintRequest, Wanted},
};

/// JWT-SVIDs.
#[derive(Debug)]
pub enum JwtProfile {}

/// What a node asks for.
#[derive(Debug)]
pub struct JwtRequest {
    /// Whom the token is for, in this order.
    pub audience: Vec<String>,
}

impl Profile for JwtProfile {
    type Plan = JwtPlan;
    type Credential = SignedJwt;

    async fn sign(authorities: &Authorities, plan: &JwtPlan) -> Result<SignedJwt, Refusal> {
        Ok(authorities.sign_jwt(plan).await?)
    }

    fn describe(token: &SignedJwt, _plan: &JwtPlan) -> step::Description {
        step::Description {
            kind: Kind::JwtSvidIssued,
            serial: token.jti,
            spiffe_id: token.spiffe_id.clone(),
            authority: token.authority.clone(),
            key_sha256: None,
            released_sha256: step::sha256(&[token.token.as_bytes()]),
            not_after: token.not_after,
        }
    }
}

impl Batched for JwtProfile {
    type Wanted = JwtRequest;

    fn authorize(
        minter: &Minter,
        caller: &Caller<'_>,
        request: Request<JwtRequest>,
    ) -> Result<Authorized<Self>, Refusal> {
        let mint = MintRequest {
            node: caller.facts,
            entry: request.entry,
            issuance: request.issuance,
            facts: &request.facts,
            wanted: Wanted::Jwt { audiences: &request.wanted.audience },
        };
        let consent = minter.directory.with_registry(|registry| registry.authorize(&mint, caller.now))?;
        let instance = step::instance(&consent.entry, request.instance)?;
        let plan = JwtPlan {
            spiffe_id: consent.spiffe_id.clone(),
            audience: request.wanted.audience,
            ttl: consent.ttl,
            jti: Serial::generate(minter.directory.clock().now_ms())?,
            iss: minter.iss.clone(),
            claims: consent.claims().clone(),
            now: caller.now,
        };
        Ok(Authorized { plan, on_behalf: step::OnBehalf::new(caller, instance, consent.entry, request.request_id) })
    }
}
