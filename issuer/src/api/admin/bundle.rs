//! Bundles: the trust domain's own, shown; those of others, set and deleted.

use std::sync::Arc;

use mayfly_proto::admin::{
    Bundle as WireBundle, DeleteBundleResponse, GetBundleResponse, ListBundlesResponse, SetBundleRequest,
    SetBundleResponse,
};
use mayfly_sdk::{Bundle, Reason, Refusal, Serial, TrustDomain};

use super::{Admin, wire_revision};
use crate::{
    directory::Actor,
    ledger::{Kind, Personal, Record},
    store::{BundleRow, Change, Op, PutBundle},
};

impl Admin {
    pub(super) fn bundle(&self, trust_domain: &str) -> Result<GetBundleResponse, Refusal> {
        let own = self.directory.trust_domain();
        let trust_domain = if trust_domain.is_empty() { own.clone() } else { trust_domain.parse::<TrustDomain>()? };
        let bundle = self.directory.bundle(&trust_domain).ok_or_else(|| missing(&trust_domain))?;
        Ok(GetBundleResponse { bundle: Some(wire(bundle)) })
    }

    pub(super) fn bundles(&self) -> ListBundlesResponse {
        ListBundlesResponse { items: self.directory.bundles().into_iter().map(wire).collect() }
    }

    pub(super) async fn set_bundle(
        &self,
        request: SetBundleRequest,
        actor: &Actor,
    ) -> Result<SetBundleResponse, Refusal> {
        let trust_domain = self.foreign(&request.trust_domain)?;
        let bundle = Bundle::from_spiffe_json(trust_domain.clone(), &request.document)?;
        let document = String::from_utf8(request.document.to_vec())
            .map_err(|_invalid| Refusal::new(Reason::BundleInvalid, "the bundle is not UTF-8"))?;
        // What another trust domain says is ordered by its own sequence; without one, the last that was set wins.
        let held = self.directory.bundle(&trust_domain).map(|row| row.sequence);
        let before = held.unwrap_or_default();
        let sequence = bundle.sequence.unwrap_or_else(|| before.saturating_add(1));
        if sequence < before {
            let what = format!("the bundle's sequence {sequence} is older than {before}, which is in use");
            return Err(Refusal::new(Reason::Stale, what));
        }
        let put = PutBundle {
            trust_domain: trust_domain.clone(),
            owner: actor.to_string(),
            document,
            sequence,
            replaces: held,
        };
        let revision = self.change_bundle(Kind::BundleSet, Op::PutBundle(put), &trust_domain, actor).await?;
        Ok(SetBundleResponse { revision: Some(revision) })
    }

    pub(super) async fn delete_bundle(
        &self,
        trust_domain: &str,
        actor: &Actor,
    ) -> Result<DeleteBundleResponse, Refusal> {
        let trust_domain = self.foreign(trust_domain)?;
        self.directory.bundle(&trust_domain).ok_or_else(|| missing(&trust_domain))?;
        let op = Op::DeleteBundle { trust_domain: trust_domain.clone() };
        let revision = self.change_bundle(Kind::BundleDeleted, op, &trust_domain, actor).await?;
        Ok(DeleteBundleResponse { revision: Some(revision) })
    }

    async fn change_bundle(
        &self,
        kind: Kind,
        op: Op,
        of: &TrustDomain,
        actor: &Actor,
    ) -> Result<mayfly_proto::admin::Revision, Refusal> {
        let clock = self.directory.clock();
        let personal = Personal { actor: Some(Arc::clone(actor)), detail: Some(of.as_str().into()), spiffe_id: None };
        let record = Record { personal, ..Record::new(kind, Serial::generate(clock.now_ms())?) };
        let change = Change { ops: vec![op], records: vec![record], ..Change::new(clock.now()) };
        Ok(wire_revision(self.directory.commit(change).await?.revision))
    }

    fn foreign(&self, trust_domain: &str) -> Result<TrustDomain, Refusal> {
        let trust_domain: TrustDomain = trust_domain.parse()?;
        if trust_domain == *self.directory.trust_domain() {
            let what = "the trust domain's own bundle follows from its authorities and is not set by hand";
            return Err(Refusal::new(Reason::InvalidTrustDomain, what));
        }
        Ok(trust_domain)
    }
}

fn missing(trust_domain: &TrustDomain) -> Refusal {
    Refusal::new(Reason::NotFound, format!("there is no bundle of the trust domain {trust_domain}"))
}

fn wire(bundle: BundleRow) -> WireBundle {
    WireBundle {
        trust_domain: bundle.trust_domain.to_string(),
        document: bundle.document.into(),
        sequence: bundle.sequence,
    }
}
