use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::select_all;
use mayfly_proto::workload as wire;
use mayfly_sdk::{Reason, Refusal, TrustDomain};

use super::Shared;
use super::bundles::federated;
use super::entitlement::{Entitlement, no_identity};
use super::hints::unique_hints;
use super::stream::{Rendered, View};
use crate::holdings::{Entry, HeldBundle, Holdings};
use crate::identity::{Held, Lease, Standing, X509};

/// `FetchX509SVID`: every X.509-SVID of the caller with the bundles to go with them.
#[derive(Debug, Default)]
pub(super) struct X509Svids {
    leases: Leases,
}

/// What one stream uses: one lease for each entry that it shows, in their order.
#[derive(Debug, Default)]
pub(super) struct Leases(Vec<Lease<X509>>);

/// How one entry's credential stands.
pub(super) enum Slot {
    /// As it should be.
    Good(Arc<Held<X509>>),
    /// Valid, and about to be replaced.
    Old(Arc<Held<X509>>),
    /// Being made.
    Making,
    /// Not to be had, and why.
    Refused(Arc<Refusal>),
}

impl View for X509Svids {
    type Message = wire::X509svidResponse;

    fn render(&mut self, shared: &Shared, entitlement: &Entitlement) -> Rendered<Self::Message> {
        let entries = unique_hints(&entitlement.entries);
        if let Err(refusal) = self.leases.hold(shared, entitlement, &entries) {
            return Rendered::Refused(refusal);
        }
        let holdings = shared.link.holdings.borrow();
        let Some(own) = holdings.bundle(&shared.trust_domain).filter(|own| !own.x509().is_empty()) else {
            return Rendered::Pending(None);
        };
        let (mut svids, mut settled, mut refused) = (Vec::new(), true, None);
        for (entry, lease) in entries.iter().zip(self.leases.iter()) {
            match slot(entry, lease, &holdings) {
                Slot::Good(held) => svids.push(svid(&held, entry, own)),
                Slot::Old(held) => {
                    settled = false;
                    svids.push(svid(&held, entry, own));
                }
                Slot::Making => settled = false,
                Slot::Refused(why) => refused = refused.or(Some(why)),
            }
        }
        if svids.is_empty() {
            return match refused {
                Some(why) if settled => Rendered::Refused(as_lack_of_identity(&why)),
                why => Rendered::Pending(why.map(|why| as_lack_of_identity(&why))),
            };
        }
        let federated_bundles = federated(&holdings, &entitlement.entries, &shared.trust_domain, HeldBundle::x509);
        let message = wire::X509svidResponse { svids, crl: Vec::new(), federated_bundles };
        if settled { Rendered::Complete(message) } else { Rendered::Unsettled(message) }
    }

    fn canonical(message: &Self::Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        for svid in &message.svids {
            let parts =
                [svid.spiffe_id.as_bytes(), &svid.x509_svid, &svid.x509_svid_key, &svid.bundle, svid.hint.as_bytes()];
            for part in parts {
                put(&mut bytes, part);
            }
        }
        put_map(&mut bytes, &message.federated_bundles);
        bytes
    }

    fn mark_seen(&mut self) {
        self.leases.mark_seen();
    }

    async fn changed(&mut self) {
        self.leases.changed().await;
    }
}

impl Leases {
    /// Holds exactly the leases of these entries, and keeps those that it has.
    pub(super) fn hold(
        &mut self,
        shared: &Shared,
        entitlement: &Entitlement,
        entries: &[Arc<Entry>],
    ) -> Result<(), Refusal> {
        let mut before = std::mem::take(&mut self.0);
        for entry in entries {
            let subject = entitlement.subject(entry)?;
            let kept = before.iter().position(|lease| *lease.subject() == subject);
            self.0.push(match kept {
                Some(at) => before.swap_remove(at),
                None => shared.identities.x509.lease(subject, ()),
            });
        }
        Ok(())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Lease<X509>> {
        self.0.iter()
    }

    pub(super) fn mark_seen(&mut self) {
        self.0.iter_mut().for_each(Lease::mark_seen);
    }

    /// Resolves when one of them changes. Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.0.is_empty() {
            return std::future::pending().await;
        }
        select_all(self.0.iter_mut().map(|lease| Box::pin(lease.changed()))).await;
    }
}

pub(super) fn slot(entry: &Entry, lease: &Lease<X509>, holdings: &Holdings) -> Slot {
    let refused = lease.refused();
    let Some(held) = lease.held() else {
        return refused.map_or(Slot::Making, Slot::Refused);
    };
    match held.standing(entry, holdings) {
        Standing::Discard => refused.map_or(Slot::Making, Slot::Refused),
        Standing::Replace if refused.is_none() => Slot::Old(held),
        // A failed renewal keeps what is there.
        Standing::Replace | Standing::Good => Slot::Good(held),
    }
}

fn svid(held: &Held<X509>, entry: &Entry, own: &HeldBundle) -> wire::X509svid {
    wire::X509svid {
        spiffe_id: held.spiffe_id().to_string(),
        x509_svid: held.credential().chain().clone(),
        x509_svid_key: held.credential().key().clone(),
        bundle: own.x509().clone(),
        hint: entry.wire().hint.clone(),
    }
}

/// What a workload is told when minting was refused: whoever refuses for good has said that there is no identity.
pub(super) fn as_lack_of_identity(why: &Refusal) -> Refusal {
    match why.reason.retry() {
        mayfly_sdk::Retry::No => Refusal::new(Reason::NoIdentity, format!("{}: {}", no_identity().what, why.what)),
        mayfly_sdk::Retry::Later | mayfly_sdk::Retry::Now => {
            Refusal::new(Reason::Unavailable, format!("the identity is not issued yet: {}", why.what))
        }
    }
}

/// Appends a part with its length, so that two messages that differ never look the same.
pub(super) fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&part.len().to_be_bytes());
    bytes.extend_from_slice(part);
}

/// Appends a map in the order of its keys.
pub(super) fn put_map(bytes: &mut Vec<u8>, map: &HashMap<String, Bytes>) {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable();
    for (key, value) in entries {
        put(bytes, key.as_bytes());
        put(bytes, value);
    }
}

/// The key of a trust domain in a map of bundles (row WA-16).
pub(super) fn map_key(trust_domain: &TrustDomain) -> String {
    trust_domain.id().to_string()
}
