//! `FetchWITSVID` and `FetchWITBundles`, where the trust domain issues WIT-SVIDs: its own bundle says so by having keys for
//! them (WIT-SVID 6.2).

use std::sync::Arc;

use mayfly_proto::workload as wire;
use mayfly_sdk::{Reason, Refusal, SpiffeId};

use super::Shared;
use super::bundles::all;
use super::entitlement::{Entitlement, no_identity};
use super::hints::unique_hints;
use super::leases::Leases;
use super::stream::{Rendered, View};
use super::svids::{put, put_map};
use crate::holdings::{Entry, HeldBundle};
use crate::identity::{Held, Wit};

/// `FetchWITSVID`: every WIT-SVID of the caller with its key, or the one that it named.
#[derive(Debug, Default)]
pub(super) struct WitSvids {
    leases: Leases<Wit>,
    /// Only this identity; empty: all.
    only: String,
}

/// `FetchWITBundles`.
#[derive(Debug)]
pub(super) struct WitBundles;

impl Shared {
    /// Whether WIT-SVIDs are to be had here.
    ///
    /// # Errors
    /// [`Reason::Unimplemented`] where it is known that they are not: clients stop asking then, for good (row WA-60). So it is
    /// not said while it may be otherwise: [`Reason::Unavailable`].
    pub(super) fn has_wit(&self) -> Result<(), Refusal> {
        let (holdings, status) = (self.link.holdings.borrow(), self.link.status.borrow());
        match holdings.bundle(&self.trust_domain) {
            Some(own) if own.wit_jwks().is_some() => Ok(()),
            Some(_) if status.is_in_sync() => Err(is_off()),
            _ => Err(status.why()),
        }
    }
}

fn is_off() -> Refusal {
    Refusal::new(Reason::Unimplemented, "this trust domain does not issue WIT-SVIDs")
}

impl WitSvids {
    /// What a request asks for.
    ///
    /// # Errors
    /// The SPIFFE ID that it names is none.
    pub(super) fn of(request: wire::WitsvidRequest) -> Result<Self, Refusal> {
        if !request.spiffe_id.is_empty() {
            let named = request.spiffe_id.parse::<SpiffeId>();
            named.map_err(|error| Refusal::new(error.reason(), error.to_string()))?;
        }
        Ok(Self { leases: Leases::default(), only: request.spiffe_id })
    }
}

impl View for WitSvids {
    type Message = wire::WitsvidResponse;

    fn render(&mut self, shared: &Shared, entitlement: &Entitlement) -> Rendered<Self::Message> {
        if shared.link.holdings.borrow().bundle(&shared.trust_domain).is_some_and(|own| own.wit_jwks().is_none()) {
            return Rendered::Refused(is_off());
        }
        let wanted = |entry: &&Arc<Entry>| {
            self.only.is_empty() || entry.rendered(&entitlement.facts).as_ref() == Some(&self.only)
        };
        let entries: Vec<_> = entitlement.entries.iter().filter(wanted).cloned().collect();
        if entries.is_empty() {
            let what = format!("{}: {} is not this workload's", no_identity().what, self.only);
            return Rendered::Refused(Refusal::new(Reason::NoIdentity, what));
        }
        let entries = unique_hints(&entries);
        if let Err(refusal) = self.leases.hold(&shared.identities.wit, entitlement, &entries) {
            return Rendered::Refused(refusal);
        }
        let holdings = shared.link.holdings.borrow();
        self.leases.shown(&entries, &holdings).render(|held| wire::WitsvidResponse {
            svids: held.iter().map(|(entry, held)| svid(held, entry)).collect(),
        })
    }

    fn canonical(message: &Self::Message) -> Vec<u8> {
        // Not the key: the token says which one it is.
        let mut bytes = Vec::new();
        for svid in &message.svids {
            for part in [&svid.spiffe_id, &svid.wit_svid, &svid.hint] {
                put(&mut bytes, part.as_bytes());
            }
        }
        bytes
    }

    fn mark_seen(&mut self) {
        self.leases.mark_seen();
    }

    async fn changed(&mut self) {
        self.leases.changed().await;
    }
}

impl View for WitBundles {
    type Message = wire::WitBundlesResponse;

    fn render(&mut self, shared: &Shared, entitlement: &Entitlement) -> Rendered<Self::Message> {
        match all(shared, entitlement, HeldBundle::wit_jwks) {
            Some(bundles) => Rendered::Complete(wire::WitBundlesResponse { bundles }),
            None => Rendered::Refused(is_off()),
        }
    }

    fn canonical(message: &Self::Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_map(&mut bytes, &message.bundles);
        bytes
    }
}

fn svid(held: &Held<Wit>, entry: &Entry) -> wire::Witsvid {
    let credential = held.credential();
    wire::Witsvid {
        spiffe_id: held.spiffe_id().to_string(),
        wit_svid: credential.token().to_owned(),
        // The text of a JWK, which is ASCII.
        wit_svid_key: String::from_utf8_lossy(credential.key()).into_owned(),
        hint: entry.wire().hint.clone(),
    }
}
