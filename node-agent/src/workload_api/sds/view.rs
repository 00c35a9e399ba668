//! The secrets of one stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use mayfly_proto::sds as wire;
use mayfly_sdk::{Reason, Refusal, TrustDomain};
use tonic::Status;

use super::SECRET_TYPE;
use super::secret::{Named, version};
use super::subscription::{Asked, Outcome, Subscription};
use crate::config::Sds;
use crate::holdings::{Entry, HeldBundle, Holdings};
use crate::identity::X509;
use crate::workload_api::Shared;
use crate::workload_api::entitlement::{Entitlement, no_identity};
use crate::workload_api::leases::{Leases, Slot, as_lack_of_identity, slot};
use crate::workload_api::stream::{Rendered, View};
use crate::workload_api::svids::put;

/// How much of a name that is not the caller's goes into the answer, characters.
const SHOWN_OF_A_NAME: usize = 200;

/// What goes out at once, in either form.
#[derive(Debug, Default)]
pub(super) struct SecretSet {
    /// In the order of their names.
    secrets: Vec<Named>,
    /// Incremental only: names that the proxy wants, or had, and that are not the caller's.
    removed: Vec<String>,
    /// State of the world: empty until it goes out.
    nonce: String,
}

/// Secrets for the names that a proxy asks for.
pub(super) struct Secrets<S> {
    settings: Arc<Sds>,
    /// None: no more will come.
    requests: Option<S>,
    subscription: Subscription,
    refused: Option<Refusal>,
    leases: Leases<X509>,
    /// Messages sent.
    sent: u64,
    /// Incremental: the version of each secret that the proxy has; empty for one that it was told to be without.
    known: Option<BTreeMap<String, String>>,
}

/// What was found under the names that are wanted.
#[derive(Default)]
struct Found {
    secrets: BTreeMap<String, Named>,
    /// Names that are the caller's, and whose secret is being made.
    making: BTreeSet<String>,
    /// Why one of them is not made.
    refused: Option<Arc<Refusal>>,
    unsettled: bool,
}

impl<S> Secrets<S> {
    pub(super) fn new(settings: Arc<Sds>, requests: S, delta: bool) -> Self {
        Self {
            settings,
            requests: Some(requests),
            subscription: Subscription::default(),
            refused: None,
            leases: Leases::default(),
            sent: 0,
            known: delta.then(BTreeMap::new),
        }
    }

    fn nonce(&self) -> String {
        if self.sent == 0 { String::new() } else { self.sent.to_string() }
    }

    /// Takes a request; whether it changes what is to be sent.
    fn take(&mut self, asked: Asked) -> bool {
        let nonce = self.nonce();
        match self.subscription.take(asked, &nonce) {
            Ok(Outcome::Nothing) => false,
            Ok(Outcome::Wanted(again)) => {
                if let Some(known) = &mut self.known {
                    for name in &again {
                        known.remove(name);
                    }
                    known.retain(|name, _| self.subscription.wants(name));
                }
                true
            }
            Err(refusal) => {
                self.refused = Some(refusal);
                true
            }
        }
    }

    /// The X.509-SVIDs that are wanted, each with the names that it goes by here.
    fn wanted(&self, entitlement: &Entitlement) -> Vec<(Arc<Entry>, Vec<String>)> {
        let mut taken = BTreeSet::new();
        let mut wanted = Vec::new();
        for (at, entry) in entitlement.entries.iter().enumerate() {
            let mut names = Vec::new();
            if at == 0 && self.subscription.names().any(|name| name == self.settings.default_svid_name) {
                names.push(self.settings.default_svid_name.clone());
            }
            // Of several entries with one SPIFFE ID, the first.
            let id = entry.rendered(&entitlement.facts).filter(|id| taken.insert(id.clone()));
            names.extend(id.filter(|id| self.subscription.wants(id)));
            if !names.is_empty() {
                wanted.push((Arc::clone(entry), names));
            }
        }
        wanted
    }

    fn svids(&mut self, shared: &Shared, entitlement: &Entitlement, found: &mut Found) -> Result<(), Refusal> {
        let wanted = self.wanted(entitlement);
        let entries: Vec<_> = wanted.iter().map(|(entry, _)| Arc::clone(entry)).collect();
        self.leases.hold(&shared.identities.x509, entitlement, &entries)?;
        let holdings = shared.link.holdings.borrow();
        for ((entry, names), lease) in wanted.into_iter().zip(self.leases.iter()) {
            let held = match slot(&entry, lease, &holdings) {
                Slot::Good(held) => held,
                Slot::Old(held) => {
                    found.unsettled = true;
                    held
                }
                Slot::Making => {
                    found.unsettled = true;
                    found.making.extend(names);
                    continue;
                }
                Slot::Refused(why) => {
                    found.refused.get_or_insert(why);
                    found.making.extend(names);
                    continue;
                }
            };
            for name in names {
                // What is certified is the issuer's word; a name that it does not bear is not answered with it.
                if name == self.settings.default_svid_name || name == held.spiffe_id().as_str() {
                    found.secrets.insert(name.clone(), Named::svid(&name, &held));
                } else {
                    found.unsettled = true;
                    found.making.insert(name);
                }
            }
        }
        Ok(())
    }

    fn bundles(
        &self,
        own: &HeldBundle,
        holdings: &Holdings,
        entitlement: &Entitlement,
        found: &mut Found,
    ) -> Result<(), Refusal> {
        let foreign: BTreeSet<&TrustDomain> =
            entitlement.entries.iter().flat_map(|entry| entry.federates_with()).collect();
        let foreign = foreign.into_iter().filter(|domain| *domain != own.trust_domain());
        let foreign = foreign.filter_map(|domain| holdings.bundle(domain)).map(Arc::as_ref);
        let all: Vec<&HeldBundle> = std::iter::once(own).chain(foreign.filter(|it| !it.x509().is_empty())).collect();
        let validator = self.settings.spiffe_cert_validation && !self.subscription.plain_trust;
        let one = |name: &str, held: &HeldBundle| {
            if validator { Named::validator(name, &[held]) } else { Named::trusted_ca(name, held) }
        };
        for held in &all {
            let name = held.trust_domain().id().to_string();
            if self.subscription.wants(&name) {
                found.secrets.insert(name.clone(), one(&name, held));
            }
        }
        for name in self.subscription.names() {
            if name == self.settings.default_bundle_name {
                found.secrets.insert(name.to_owned(), one(name, own));
            } else if name == self.settings.all_bundles_name {
                if !validator {
                    let what = format!("`{name}` needs Envoy's SPIFFE validator, which is switched off for this proxy");
                    return Err(Refusal::new(Reason::InvalidArgument, what));
                }
                found.secrets.insert(name.to_owned(), Named::validator(name, &all));
            }
        }
        Ok(())
    }

    /// The message for what was found; none where the proxy has it already.
    fn set(&self, found: Found) -> Result<Option<SecretSet>, Refusal> {
        let names = self.subscription.names();
        let missing = names.filter(|name| !found.secrets.contains_key(*name) && !found.making.contains(*name));
        let Some(known) = &self.known else {
            let missing: Vec<_> = missing.collect();
            if let Some(name) = missing.first() {
                let name: String = name.chars().take(SHOWN_OF_A_NAME).collect();
                let what = format!("{}: {name:?} is not an identity or a bundle of this process", no_identity().what);
                return Err(Refusal::new(Reason::NoIdentity, what));
            }
            let secrets: Vec<_> = found.secrets.into_values().collect();
            return Ok((!secrets.is_empty()).then(|| SecretSet { secrets, ..SecretSet::default() }));
        };
        let gone = known.keys().map(String::as_str);
        let gone = gone.filter(|name| !found.secrets.contains_key(*name) && !found.making.contains(*name));
        let untold = |name: &&str| known.get(*name).is_none_or(|version| !version.is_empty());
        let removed: BTreeSet<String> = missing.chain(gone).filter(untold).map(str::to_owned).collect();
        let is_new = |secret: &Named| known.get(&secret.name) != Some(&secret.version);
        let secrets: Vec<_> = found.secrets.into_values().filter(is_new).collect();
        let removed: Vec<_> = removed.into_iter().collect();
        let empty = secrets.is_empty() && removed.is_empty();
        Ok((!empty).then(|| SecretSet { secrets, removed, nonce: (self.sent + 1).to_string() }))
    }

    fn find(&mut self, shared: &Shared, entitlement: &Entitlement) -> Result<Option<Found>, Refusal> {
        let mut found = Found::default();
        self.svids(shared, entitlement, &mut found)?;
        if found.secrets.is_empty()
            && !found.unsettled
            && let Some(why) = &found.refused
        {
            return Err(as_lack_of_identity(why));
        }
        if found.secrets.is_empty() && !found.making.is_empty() {
            return Ok(None);
        }
        let holdings = shared.link.holdings.borrow();
        let Some(own) = holdings.bundle(&shared.trust_domain).filter(|own| !own.x509().is_empty()) else {
            return Ok(None);
        };
        self.bundles(own, &holdings, entitlement, &mut found)?;
        Ok(Some(found))
    }
}

impl<S: Stream<Item = Result<Asked, Status>> + Send + Sync + Unpin + 'static> View for Secrets<S> {
    type Message = SecretSet;

    fn render(&mut self, shared: &Shared, entitlement: &Entitlement) -> Rendered<SecretSet> {
        if let Some(refusal) = &self.refused {
            return Rendered::Refused(refusal.clone());
        }
        if !self.subscription.has_begun() {
            return Rendered::Pending(Some(Refusal::new(Reason::InvalidArgument, "no request came on this stream")));
        }
        let found = match self.find(shared, entitlement) {
            Ok(Some(found)) => found,
            Ok(None) => return Rendered::Pending(None),
            Err(refusal) => return Rendered::Refused(refusal),
        };
        let unsettled = found.unsettled;
        match self.set(found) {
            Ok(Some(set)) if unsettled => Rendered::Unsettled(set),
            Ok(Some(set)) => Rendered::Complete(set),
            Ok(None) => Rendered::Pending(None),
            Err(refusal) => Rendered::Refused(refusal),
        }
    }

    fn canonical(set: &SecretSet) -> Vec<u8> {
        let mut bytes = Vec::new();
        for secret in &set.secrets {
            put(&mut bytes, secret.name.as_bytes());
            put(&mut bytes, secret.version.as_bytes());
        }
        set.removed.iter().for_each(|name| put(&mut bytes, name.as_bytes()));
        // Incremental: what the proxy has was left out already, so whatever is here goes out, even if it is what went out last.
        put(&mut bytes, set.nonce.as_bytes());
        bytes
    }

    fn seal(&mut self, set: &mut SecretSet) {
        self.sent += 1;
        set.nonce = self.nonce();
        if let Some(known) = &mut self.known {
            known.extend(set.secrets.iter().map(|secret| (secret.name.clone(), secret.version.clone())));
            known.extend(set.removed.iter().map(|name| (name.clone(), String::new())));
        }
    }

    fn mark_seen(&mut self) {
        self.leases.mark_seen();
    }

    async fn changed(&mut self) {
        loop {
            let Some(requests) = &mut self.requests else {
                return self.leases.changed().await;
            };
            let asked = tokio::select! {
                asked = requests.next() => asked,
                () = self.leases.changed() => return,
            };
            match asked {
                Some(Ok(asked)) => {
                    if self.take(asked) {
                        return;
                    }
                }
                // Whoever has said all that he wants goes on being told what becomes of it.
                None => self.requests = None,
                Some(Err(status)) => {
                    self.refused = Some(Refusal::new(Reason::ConnectionClosed, status.message().to_owned()));
                    return;
                }
            }
        }
    }
}

impl From<SecretSet> for wire::DiscoveryResponse {
    fn from(set: SecretSet) -> Self {
        Self {
            version_info: set.version(),
            resources: set.secrets.into_iter().map(|secret| secret.resource).collect(),
            type_url: SECRET_TYPE.to_owned(),
            nonce: set.nonce,
        }
    }
}

impl From<SecretSet> for wire::DeltaDiscoveryResponse {
    fn from(set: SecretSet) -> Self {
        let system_version_info = set.version();
        let resource = |secret: Named| wire::Resource {
            name: secret.name,
            version: secret.version,
            resource: Some(secret.resource),
        };
        Self {
            system_version_info,
            resources: set.secrets.into_iter().map(resource).collect(),
            type_url: SECRET_TYPE.to_owned(),
            nonce: set.nonce,
            removed_resources: set.removed,
        }
    }
}

impl SecretSet {
    fn version(&self) -> String {
        let versions: Vec<_> = self.secrets.iter().map(|secret| secret.version.as_bytes()).collect();
        version(&versions)
    }
}
