use std::collections::HashMap;

use mayfly_proto::workload as wire;
use mayfly_sdk::TrustDomain;

use super::Shared;
use super::bundles::{federated, unless_empty};
use super::entitlement::Entitlement;
use super::hints::unique_hints;
use super::leases::Leases;
use super::stream::{Rendered, View};
use crate::holdings::{Entry, HeldBundle};
use crate::identity::{Held, X509};

/// `FetchX509SVID`: every X.509-SVID of the caller with the bundles to go with them.
#[derive(Debug, Default)]
pub(super) struct X509Svids {
    leases: Leases<X509>,
}

impl View for X509Svids {
    type Message = wire::X509svidResponse;

    fn render(&mut self, shared: &Shared, entitlement: &Entitlement) -> Rendered<Self::Message> {
        let entries = unique_hints(&entitlement.entries);
        if let Err(refusal) = self.leases.hold(&shared.identities.x509, entitlement, &entries) {
            return Rendered::Refused(refusal);
        }
        let holdings = shared.link.holdings.borrow();
        let Some(own) = holdings.bundle(&shared.trust_domain).filter(|own| !own.x509().is_empty()) else {
            return Rendered::Pending(None);
        };
        self.leases.shown(&entries, &holdings).render(|held| {
            let svids = held.iter().map(|(entry, held)| svid(held, entry, own)).collect();
            let federated_bundles =
                federated(&holdings, &entitlement.entries, &shared.trust_domain, |bundle| unless_empty(bundle.x509()));
            wire::X509svidResponse { svids, crl: Vec::new(), federated_bundles }
        })
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

fn svid(held: &Held<X509>, entry: &Entry, own: &HeldBundle) -> wire::X509svid {
    wire::X509svid {
        spiffe_id: held.spiffe_id().to_string(),
        x509_svid: held.credential().chain().clone(),
        x509_svid_key: held.credential().key().clone(),
        bundle: own.x509().clone(),
        hint: entry.wire().hint.clone(),
    }
}

/// Appends a part with its length, so that two messages that differ never look the same.
pub(super) fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&part.len().to_be_bytes());
    bytes.extend_from_slice(part);
}

/// Appends a map in the order of its keys.
pub(super) fn put_map<V: AsRef<[u8]>>(bytes: &mut Vec<u8>, map: &HashMap<String, V>) {
    let mut entries: Vec<_> = map.iter().map(|(key, value)| (key, value.as_ref())).collect();
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
