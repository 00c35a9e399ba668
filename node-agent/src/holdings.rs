//! What the agent holds of the registry: the entries of this node, the bundles, and what is denied, at one revision.
//!
//! ```text
//! Snapshot parts ─> Gathering ─done─> Holdings <─apply─ Delta
//! ```
//!
//! The link is the only writer and changes it in place; readers borrow for as long as a decision takes.

mod bundle;
mod entry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use mayfly_proto::node;
use mayfly_sdk::{Revision, Selector, SelectorIndex, SpiffeId, Timestamp, TrustDomain};

use crate::workload::Needs;

pub use self::bundle::HeldBundle;
pub use self::entry::Entry;

/// What the agent holds of the registry, at one revision.
#[derive(Debug, Clone)]
pub struct Holdings {
    revision: Revision,
    entries: HashMap<Arc<str>, Arc<Entry>>,
    index: SelectorIndex<Arc<str>>,
    bundles: BTreeMap<TrustDomain, Arc<HeldBundle>>,
    denials: Denials,
    /// Entries that cannot be served, by uid; a newer build may.
    problems: BTreeMap<String, (node::Entry, node::EntryProblem)>,
    needs: Arc<Needs>,
}

/// What is refused although it would still verify.
#[derive(Debug, Clone, Default)]
pub struct Denials {
    /// Key ids (hex) of authorities whose signatures are minted anew.
    pub tainted_authorities: HashSet<String>,
    /// Serials and jtis.
    pub serials: HashSet<String>,
    /// Identities that nobody may use.
    pub spiffe_ids: HashSet<String>,
    /// Instances that get nothing.
    pub instances: HashSet<String>,
    /// SHA-256 of `SubjectPublicKeyInfo`, hex.
    pub keys: HashSet<String>,
}

/// Why an update was not taken. The connection starts again with a snapshot.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UpdateError {
    /// A delta does not start where the agent stands. The issuer's to mend: it sends a snapshot.
    #[error("the issuer sent changes since {from}, and this agent holds {held}")]
    Gap {
        /// Where the delta starts.
        from: Revision,
        /// Where the agent stands.
        held: Revision,
    },
    /// A revision lies before what is held: a replay, or an issuer that lost its newest changes.
    #[error("the issuer sent revision {sent}, which is older than {held} that this agent holds")]
    Older {
        /// What was sent.
        sent: Revision,
        /// Where the agent stands.
        held: Revision,
    },
    /// A message lacks a part that it must have.
    #[error("the issuer sent an update without {0}")]
    Incomplete(&'static str),
}

impl Holdings {
    /// Nothing yet.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            revision: Revision::NONE,
            entries: HashMap::new(),
            index: SelectorIndex::new(),
            bundles: BTreeMap::new(),
            denials: Denials::default(),
            problems: BTreeMap::new(),
            needs: Arc::default(),
        }
    }

    /// Where it stands; `0.0` where nothing was received yet.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Whether anything was received yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.revision == Revision::NONE
    }

    /// Every entry, in no particular order.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    /// An entry by uid.
    #[must_use]
    pub fn entry(&self, uid: &str) -> Option<&Arc<Entry>> {
        self.entries.get(uid)
    }

    /// The entries that a workload with these facts is entitled to now, the default identity first.
    #[must_use]
    pub fn entitled<'a>(&self, facts: impl IntoIterator<Item = &'a Selector>, now: Timestamp) -> Vec<Arc<Entry>> {
        let mut entries: Vec<Arc<Entry>> = self
            .index
            .matches(facts)
            .iter()
            .filter_map(|uid| self.entries.get(uid))
            .filter(|entry| entry.expires_at().is_none_or(|end| now < end))
            .cloned()
            .collect();
        entries.sort_by(|a, b| a.order().cmp(&b.order()));
        entries
    }

    /// Which facts the entries ask for; what nobody asks for need not be found out.
    #[must_use]
    pub fn needs(&self) -> &Arc<Needs> {
        &self.needs
    }

    /// The bundle of a trust domain.
    #[must_use]
    pub fn bundle(&self, trust_domain: &TrustDomain) -> Option<&Arc<HeldBundle>> {
        self.bundles.get(trust_domain)
    }

    /// Every bundle, by trust domain.
    pub fn bundles(&self) -> impl Iterator<Item = &Arc<HeldBundle>> {
        self.bundles.values()
    }

    /// What is refused although it would still verify.
    #[must_use]
    pub fn denials(&self) -> &Denials {
        &self.denials
    }

    /// What this node cannot serve, in a stable order.
    #[must_use]
    pub fn problems(&self) -> Vec<node::EntryProblem> {
        self.problems.values().map(|(_, problem)| problem.clone()).collect()
    }

    /// The whole, as a snapshot on the wire: what a warm restart keeps.
    #[must_use]
    pub fn to_snapshot(&self) -> node::Snapshot {
        let unserved = self.problems.values().map(|(entry, _)| entry);
        node::Snapshot {
            revision: Some(to_wire(self.revision)),
            entries: self.entries.values().map(|entry| entry.wire()).chain(unserved).cloned().collect(),
            bundles: self.bundles.values().map(|bundle| bundle.to_wire()).collect(),
            denials: Some(self.denials.to_wire()),
            done: true,
        }
    }

    /// Applies changes that start where this stands.
    ///
    /// # Errors
    /// [`UpdateError`]; nothing was changed then.
    pub fn apply(&mut self, delta: node::Delta) -> Result<(), UpdateError> {
        let from = from_wire(delta.from.as_ref().ok_or(UpdateError::Incomplete("a starting revision"))?);
        let revision = from_wire(delta.revision.as_ref().ok_or(UpdateError::Incomplete("a revision"))?);
        if from != self.revision {
            return Err(UpdateError::Gap { from, held: self.revision });
        }
        if revision < self.revision {
            return Err(UpdateError::Older { sent: revision, held: self.revision });
        }
        let entries_change = !(delta.removed.is_empty() && delta.put.is_empty());
        for uid in delta.removed {
            self.remove(&uid);
        }
        for entry in delta.put {
            self.put(entry);
        }
        for name in delta.removed_bundles {
            self.bundles.retain(|trust_domain, _| trust_domain.as_str() != name);
        }
        for bundle in delta.bundles {
            self.put_bundle(&bundle);
        }
        if let Some(denials) = delta.denials {
            self.denials = Denials::from_wire(denials);
        }
        if entries_change {
            self.note_needs();
        }
        self.revision = revision;
        Ok(())
    }

    fn note_needs(&mut self) {
        let asked = Needs::of(self.entries.values().flat_map(|entry| entry.selectors()));
        let named = self.entries.values().flat_map(|entry| entry.placeholders());
        self.needs = Arc::new(named.fold(asked, |needs, (kind, key)| needs.and(kind, key)));
    }

    fn put(&mut self, wire: node::Entry) {
        let uid = wire.uid.clone();
        self.remove(&uid);
        match Entry::read(wire.clone()) {
            Ok(entry) => {
                self.index.insert(entry.uid().clone(), entry.selectors());
                self.entries.insert(entry.uid().clone(), Arc::new(entry));
            }
            Err(problem) => {
                tracing::warn!(entry = uid, reason = problem.reason, what = problem.what, "an entry cannot be served");
                self.problems.insert(uid, (wire, problem));
            }
        }
    }

    fn remove(&mut self, uid: &str) {
        self.problems.remove(uid);
        if let Some((uid, _)) = self.entries.remove_entry(uid) {
            self.index.remove(&uid);
        }
    }

    /// Takes a bundle, unless it cannot be read: what is held then stays. The revision orders bundles, not their sequences: an operator who
    /// deletes a foreign bundle and sets an older one means it.
    fn put_bundle(&mut self, wire: &node::Bundle) {
        match HeldBundle::read(wire) {
            Ok(bundle) => {
                self.bundles.insert(bundle.trust_domain().clone(), Arc::new(bundle));
            }
            Err(refusal) => {
                tracing::warn!(
                    trust_domain = wire.trust_domain,
                    reason = refusal.reason.code(),
                    "a bundle cannot be read"
                );
            }
        }
    }
}

impl Denials {
    /// Whether an identity or an instance is denied.
    #[must_use]
    pub fn denies_id(&self, spiffe_id: &SpiffeId) -> bool {
        self.spiffe_ids.contains(spiffe_id.as_str())
    }

    fn from_wire(wire: node::Denials) -> Self {
        Self {
            tainted_authorities: wire.tainted_authorities.into_iter().map(|id| id.to_ascii_lowercase()).collect(),
            serials: wire.serials.into_iter().collect(),
            spiffe_ids: wire.spiffe_ids.into_iter().collect(),
            instances: wire.instances.into_iter().collect(),
            keys: wire.keys.into_iter().collect(),
        }
    }

    fn to_wire(&self) -> node::Denials {
        node::Denials {
            tainted_authorities: self.tainted_authorities.iter().cloned().collect(),
            serials: self.serials.iter().cloned().collect(),
            spiffe_ids: self.spiffe_ids.iter().cloned().collect(),
            instances: self.instances.iter().cloned().collect(),
            keys: self.keys.iter().cloned().collect(),
        }
    }
}

/// Parts of a snapshot, until the last one has come.
#[derive(Debug, Default)]
pub(crate) struct Gathering(Option<node::Snapshot>);

impl Gathering {
    /// Takes a part. The whole, when this was the last one; it replaces `held`, whose bundles stand in for those that cannot be read.
    ///
    /// # Errors
    /// [`UpdateError`]: without a revision, or older than `held`.
    pub(crate) fn take(&mut self, part: node::Snapshot, held: &Holdings) -> Result<Option<Holdings>, UpdateError> {
        let revision = from_wire(part.revision.as_ref().ok_or(UpdateError::Incomplete("a revision"))?);
        if revision < held.revision {
            return Err(UpdateError::Older { sent: revision, held: held.revision });
        }
        let done = part.done;
        let whole = self.0.get_or_insert_default();
        if whole.revision != part.revision {
            // The first part, or a snapshot that was begun anew.
            *whole = node::Snapshot { revision: part.revision, ..node::Snapshot::default() };
        }
        whole.entries.extend(part.entries);
        whole.bundles.extend(part.bundles);
        whole.denials = part.denials.or(whole.denials.take());
        if !done {
            return Ok(None);
        }
        let whole = self.0.take().unwrap_or_default();
        let mut next = Holdings { revision, ..Holdings::empty() };
        let named: HashSet<&str> = whole.bundles.iter().map(|bundle| bundle.trust_domain.as_str()).collect();
        next.bundles = held.bundles.clone();
        next.bundles.retain(|trust_domain, _| named.contains(trust_domain.as_str()));
        for bundle in &whole.bundles {
            next.put_bundle(bundle);
        }
        for entry in whole.entries {
            next.put(entry);
        }
        next.denials = whole.denials.map(Denials::from_wire).unwrap_or_default();
        next.note_needs();
        Ok(Some(next))
    }
}

/// A revision from the wire.
pub(crate) fn from_wire(wire: &node::Revision) -> Revision {
    Revision { epoch: wire.epoch, n: wire.n }
}

/// A revision for the wire.
pub(crate) fn to_wire(revision: Revision) -> node::Revision {
    node::Revision { epoch: revision.epoch, n: revision.n }
}
