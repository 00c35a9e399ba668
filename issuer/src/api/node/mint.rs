//! `MintX509`, `MintJwt` and `MintWit`: batches in, one outcome an item out.

use bytes::Bytes;
use mayfly_proto::node::{
    JwtIssue, MintJwtRequest, MintJwtResponse, MintWitRequest, MintWitResponse, MintX509Request, MintX509Response,
    MintedJwt, MintedWit, MintedX509, Refused, Subject, WitIssue, X509Issue, minted_jwt, minted_wit, minted_x509,
};
use mayfly_sdk::{InstanceId, PublicKey, Reason, Refusal, Retry};

use super::{Inner, renew::request_id};
use crate::{
    authority::AuthorityError,
    mint::{JwtProfile, JwtRequest, Request, WitProfile, WitRequest, X509Profile, X509Request},
    registry::{AssertedFacts, Uid},
    store::NodeRow,
};

impl Inner {
    pub(super) async fn mint_x509(
        &self,
        node: &NodeRow,
        request: MintX509Request,
    ) -> Result<MintX509Response, Refusal> {
        self.check_batch(request.items.len())?;
        let urgency = request.items.iter().map(|item| item.remaining_s).min().unwrap_or_default();
        let items = request
            .items
            .into_iter()
            .map(|item| {
                let wanted = PublicKey::from_spki(&item.public_key).map_err(Refusal::from);
                read(&item.request_id, item.subject, wanted.map(|public_key| X509Request { public_key }))
            })
            .collect();
        let outcomes = self.minter.mint::<X509Profile>(node, items, urgency).await?;
        let items = outcomes.into_iter().map(|outcome| {
            let outcome = match outcome {
                Ok(issued) => {
                    self.metrics.issued("x509");
                    minted_x509::Outcome::Svid(X509Issue {
                        spiffe_id: issued.credential.spiffe_id.to_string(),
                        leaf: issued.credential.der,
                        intermediates: issued.credential.intermediates.to_vec(),
                        lifetime_s: issued.lifetime_s,
                        renew_after_s: issued.renew_after_s,
                        serial: issued.serial.to_string(),
                    })
                }
                Err(refusal) => minted_x509::Outcome::Refused(self.refused_item("mint_x509", node, &refusal)),
            };
            MintedX509 { outcome: Some(outcome) }
        });
        Ok(MintX509Response { items: items.collect() })
    }

    pub(super) async fn mint_jwt(&self, node: &NodeRow, request: MintJwtRequest) -> Result<MintJwtResponse, Refusal> {
        self.check_batch(request.items.len())?;
        let urgency = request.items.iter().map(|item| item.remaining_s).min().unwrap_or_default();
        let items = request
            .items
            .into_iter()
            .map(|item| read(&item.request_id, item.subject, Ok(JwtRequest { audience: item.audience })))
            .collect();
        let outcomes = self.minter.mint::<JwtProfile>(node, items, urgency).await?;
        let items = outcomes.into_iter().map(|outcome| {
            let outcome = match outcome {
                Ok(issued) => {
                    self.metrics.issued("jwt");
                    minted_jwt::Outcome::Svid(JwtIssue {
                        spiffe_id: issued.credential.spiffe_id.to_string(),
                        token: issued.credential.token,
                        lifetime_s: issued.lifetime_s,
                        renew_after_s: issued.renew_after_s,
                        jti: issued.serial.to_string(),
                    })
                }
                Err(refusal) => minted_jwt::Outcome::Refused(self.refused_item("mint_jwt", node, &refusal)),
            };
            MintedJwt { outcome: Some(outcome) }
        });
        Ok(MintJwtResponse { items: items.collect() })
    }

    pub(super) async fn mint_wit(&self, node: &NodeRow, request: MintWitRequest) -> Result<MintWitResponse, Refusal> {
        if self.minter.authorities.snapshot().wit().is_none() {
            return Err(AuthorityError::WitOff.into());
        }
        self.check_batch(request.items.len())?;
        let urgency = request.items.iter().map(|item| item.remaining_s).min().unwrap_or_default();
        let items = request
            .items
            .into_iter()
            .map(|item| {
                let wanted = PublicKey::from_spki(&item.public_key).map_err(Refusal::from);
                read(&item.request_id, item.subject, wanted.map(|public_key| WitRequest { public_key }))
            })
            .collect();
        let outcomes = self.minter.mint::<WitProfile>(node, items, urgency).await?;
        let items = outcomes.into_iter().map(|outcome| {
            let outcome = match outcome {
                Ok(issued) => {
                    self.metrics.issued("wit");
                    minted_wit::Outcome::Svid(WitIssue {
                        spiffe_id: issued.credential.spiffe_id.to_string(),
                        token: issued.credential.token,
                        lifetime_s: issued.lifetime_s,
                        renew_after_s: issued.renew_after_s,
                        jti: issued.serial.to_string(),
                    })
                }
                Err(refusal) => minted_wit::Outcome::Refused(self.refused_item("mint_wit", node, &refusal)),
            };
            MintedWit { outcome: Some(outcome) }
        });
        Ok(MintWitResponse { items: items.collect() })
    }

    fn check_batch(&self, items: usize) -> Result<(), Refusal> {
        if items > self.batch {
            let what = format!("a call may ask for at most {} credentials, not {items}", self.batch);
            return Err(Refusal::new(Reason::InvalidArgument, what));
        }
        Ok(())
    }

    fn refused_item(&self, call: &'static str, node: &NodeRow, refusal: &Refusal) -> Refused {
        let reason = refusal.reason;
        tracing::info!(call, node = %node.spiffe_id, reason = reason.code(), what = refusal.what, "item refused");
        self.metrics.refused(call, reason);
        let retry_after_ms = match reason.retry() {
            Retry::No => 0,
            Retry::Now => 1,
            Retry::Later => 1000,
        };
        Refused {
            reason: reason.code().to_owned(),
            what: refusal.what.clone(),
            remedy: reason.remedy().to_owned(),
            retry_after_ms,
        }
    }
}

pub(super) fn read<W>(id: &Bytes, subject: Option<Subject>, wanted: Result<W, Refusal>) -> Result<Request<W>, Refusal> {
    let subject = subject.ok_or_else(|| Refusal::new(Reason::InvalidArgument, "an item has no subject"))?;
    let instance = match subject.instance.len() {
        0 => None,
        _ => Some(InstanceId::try_from(&*subject.instance)?),
    };
    Ok(Request {
        request_id: request_id(id)?,
        entry: subject.entry_uid.parse::<Uid>()?,
        issuance: subject.issuance,
        instance,
        facts: AssertedFacts::parse(&subject.facts)?,
        wanted: wanted?,
    })
}
