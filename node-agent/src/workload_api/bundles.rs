use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use mayfly_proto::workload as wire;
use mayfly_sdk::TrustDomain;

use super::Shared;
use super::entitlement::Entitlement;
use super::stream::{Rendered, View};
use super::svids::{map_key, put_map};
use crate::holdings::{Entry, HeldBundle, Holdings};

/// `FetchX509Bundles`: the own trust domain's and those that the caller's entries federate with.
#[derive(Debug)]
pub(super) struct X509Bundles;

/// `FetchJWTBundles`.
#[derive(Debug)]
pub(super) struct JwtBundles;

impl View for X509Bundles {
    type Message = wire::X509BundlesResponse;

    fn render(&mut self, shared: &Shared, entitlement: &Entitlement) -> Rendered<Self::Message> {
        match all(shared, entitlement, |bundle| unless_empty(bundle.x509())) {
            Some(bundles) => Rendered::Complete(wire::X509BundlesResponse { crl: Vec::new(), bundles }),
            None => Rendered::Pending(None),
        }
    }

    fn canonical(message: &Self::Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_map(&mut bytes, &message.bundles);
        bytes
    }
}

impl View for JwtBundles {
    type Message = wire::JwtBundlesResponse;

    fn render(&mut self, shared: &Shared, entitlement: &Entitlement) -> Rendered<Self::Message> {
        match all(shared, entitlement, |bundle| unless_empty(bundle.jwks())) {
            Some(bundles) => Rendered::Complete(wire::JwtBundlesResponse { bundles }),
            None => Rendered::Pending(None),
        }
    }

    fn canonical(message: &Self::Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_map(&mut bytes, &message.bundles);
        bytes
    }
}

/// The own bundle, which is always there (rows WA-27, WA-44, WA-65), and the federated ones that have this form.
pub(super) fn all<V: Clone>(
    shared: &Shared,
    entitlement: &Entitlement,
    form: fn(&HeldBundle) -> Option<&V>,
) -> Option<HashMap<String, V>> {
    let holdings = shared.link.holdings.borrow();
    let own = holdings.bundle(&shared.trust_domain).and_then(|own| form(own))?;
    let mut bundles = federated(&holdings, &entitlement.entries, &shared.trust_domain, form);
    bundles.insert(map_key(&shared.trust_domain), own.clone());
    Some(bundles)
}

/// The bundles of foreign trust domains that these entries federate with: never the own one (row WA-25), and none that is empty, which
/// would make a client refuse the whole message.
pub(super) fn federated<V: Clone>(
    holdings: &Holdings,
    entries: &[Arc<Entry>],
    own: &TrustDomain,
    form: fn(&HeldBundle) -> Option<&V>,
) -> HashMap<String, V> {
    let foreign = entries.iter().flat_map(|entry| entry.federates_with()).filter(|trust_domain| *trust_domain != own);
    foreign
        .filter_map(|trust_domain| holdings.bundle(trust_domain))
        .filter_map(|bundle| Some((map_key(bundle.trust_domain()), form(bundle)?.clone())))
        .collect()
}

pub(super) fn unless_empty(bytes: &Bytes) -> Option<&Bytes> {
    Some(bytes).filter(|bytes| !bytes.is_empty())
}
