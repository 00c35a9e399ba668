//! The registry: which workload on which node may have which identity (DESIGN 6).
//!
//! ```text
//! file ──parse──> EntriesFile ──plan──> Plan ──(store commits)──> apply ──> EntryChange ──ConnectedNodes──> NodeDelta
//! node ──entries_for_node──> NodeEntry              mint request ──authorize──> Authorization
//! caller without a node ──authorize_agentless──> Authorization
//! ```
//!
//! Everything is served from memory; the store is written elsewhere, and a [`Plan`] becomes visible only by
//! [`Registry::apply`] after its commit. Whoever applies must hold one lock from plan to apply, so that no two plans
//! rest on the same state.
//!
//! Decisions:
//! - The order of a workload's identities is priority, then age (WA-14), in one number: [`Entry::order`]. Of two
//!   identities with one hint the agent keeps the first.
//! - `task`, `serves` and `admin` are checked and stored although nothing reads them yet: an entry may be written before
//!   the version that honours it, and without it the request is refused anyway. `downstream: true` and
//!   `instance: cgroup` are refused: they would change what is issued today.
//! - An entry's end bounds the life of what is issued for it. That is the one way in which a lifetime is shortened.

mod agentless;
mod authorize;
mod diff;
mod entry;
mod facts;
mod file;
mod node;
mod plan;
mod problem;
mod rules;
mod template;
mod uid;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use mayfly_sdk::{Reason, Refusal, SelectorIndex, SpiffeId};

pub use agentless::{AgentlessCaller, AgentlessRequest};
pub use authorize::{Authorization, MintRequest, Wanted};
pub use diff::EntryChange;
pub use entry::{
    AdminGrant, AllowedDetails, Entry, EntrySpec, Extra, NodeAsserted, NodeMatch, Quotas, Sharing, TaskGrant, UsersOf,
};
pub use facts::{AssertedFacts, MAX_ASSERTED_FACTS, NodeFacts};
pub use file::{EntriesFile, MAX_DOCUMENT_BYTES, fuzz_entries_document};
pub use node::{ConnectedNodes, NodeDelta, NodeEntry};
pub use plan::{Creation, Plan, Update};
pub use problem::{Problem, Problems};
pub use rules::Rules;
pub use template::{FactOf, MAX_PLACEHOLDERS, Placeholder, Template};
pub use uid::Uid;

use crate::store::EntryRow;

/// Every entry of the trust domain, in memory, indexed.
#[derive(Debug)]
pub struct Registry {
    rules: Arc<Rules>,
    slots: Vec<Option<Arc<Entry>>>,
    free: Vec<u32>,
    by_uid: HashMap<Uid, u32>,
    by_name: BTreeMap<Arc<str>, u32>,
    by_owner: HashMap<Arc<str>, BTreeSet<u32>>,
    by_node: HashMap<SpiffeId, Vec<u32>>,
    by_selectors: SelectorIndex<Alternative>,
    administrators: BTreeMap<SpiffeId, BTreeSet<u32>>,
    by_claims: SelectorIndex<Alternative>,
    renderings: authorize::Renderings,
}

/// One set of node selectors of the entry in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Alternative {
    slot: u32,
    at: u32,
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules: Arc::new(rules),
            slots: Vec::new(),
            free: Vec::new(),
            by_uid: HashMap::new(),
            by_name: BTreeMap::new(),
            by_owner: HashMap::new(),
            by_node: HashMap::new(),
            by_selectors: SelectorIndex::new(),
            administrators: BTreeMap::new(),
            by_claims: SelectorIndex::new(),
            renderings: authorize::Renderings::default(),
        }
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Puts other rules in force. Entries that are there stay; what they may no longer do is refused at minting.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = Arc::new(rules);
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_uid.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_uid.is_empty()
    }

    /// The entry with this uid.
    #[must_use]
    pub fn get(&self, uid: Uid) -> Option<&Arc<Entry>> {
        self.at(*self.by_uid.get(&uid)?)
    }

    /// The entry with this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Arc<Entry>> {
        self.at(*self.by_name.get(name)?)
    }

    /// The entry with this name or, if none has it, this uid.
    #[must_use]
    pub fn find(&self, name_or_uid: &str) -> Option<&Arc<Entry>> {
        self.by_name(name_or_uid).or_else(|| self.get(name_or_uid.parse().ok()?))
    }

    /// The entries of an owner, in no particular order.
    pub fn of_owner(&self, owner: &str) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_owner.get(owner).into_iter().flatten().filter_map(|slot| self.at(*slot))
    }

    /// How many entries an owner has.
    #[must_use]
    pub fn count_of_owner(&self, owner: &str) -> usize {
        self.by_owner.get(owner).map_or(0, BTreeSet::len)
    }

    /// The next `limit` entries by name after the name `after`, of one owner or of all.
    #[must_use]
    pub fn page(&self, owner: Option<&str>, after: &str, limit: usize) -> Vec<Arc<Entry>> {
        self.page_of(after, limit, |entry| owner.is_none_or(|owner| *entry.owner == *owner))
    }

    /// The next `limit` entries by name after the name `after` that `keep` says yes to.
    #[must_use]
    pub fn page_of(&self, after: &str, limit: usize, keep: impl Fn(&Entry) -> bool) -> Vec<Arc<Entry>> {
        let after = (Bound::Excluded(after), Bound::Unbounded);
        self.by_name
            .range::<str, _>(after)
            .filter_map(|(_, slot)| self.at(*slot))
            .filter(|entry| keep(entry))
            .take(limit)
            .cloned()
            .collect()
    }

    /// The entries with exactly this SPIFFE ID that grant administration. What a template renders to is no administrator: facts
    /// would decide who is.
    pub fn administrators(&self, id: &SpiffeId) -> impl Iterator<Item = &Arc<Entry>> {
        self.administrators.get(id).into_iter().flatten().filter_map(|slot| self.at(*slot))
    }

    /// Every SPIFFE ID that is granted administration, with each of its entries.
    pub fn all_administrators(&self) -> impl Iterator<Item = (&SpiffeId, &Arc<Entry>)> {
        self.administrators
            .iter()
            .flat_map(move |(id, slots)| slots.iter().filter_map(move |slot| Some((id, self.at(*slot)?))))
    }

    /// Puts in what the store holds.
    ///
    /// # Errors
    /// [`Reason::StoreCorrupt`]: the row is not what any version wrote.
    pub fn load(&mut self, row: &EntryRow) -> Result<EntryChange, Refusal> {
        let corrupt = |what: &dyn std::fmt::Display| {
            Refusal::new(Reason::StoreCorrupt, format!("the stored entry {} cannot be read: {what}", row.name))
        };
        // A million entries share the names of a few owners.
        let owner = self.by_owner.get_key_value(row.owner.as_str()).map(|(owner, _)| Arc::clone(owner));
        let entry = Entry {
            uid: row.uid.parse().map_err(|refusal: Refusal| corrupt(&refusal))?,
            owner: owner.unwrap_or_else(|| row.owner.as_str().into()),
            issuance: row.issuance,
            created_order: row.order,
            created_at: row.created_at,
            updated_at: row.updated_at,
            revision: row.revision,
            spec: serde_json::from_str(&row.document).map_err(|error| corrupt(&error))?,
        };
        Ok(self.put(Arc::new(entry)))
    }

    /// Puts an entry in, in the place of what had its uid. For loading, and for changes that another issuer made; a plan
    /// goes through [`Registry::apply`].
    pub fn put(&mut self, entry: Arc<Entry>) -> EntryChange {
        let before = self.remove(entry.uid).before;
        // A name is reused only after its entry is gone; a feed that missed the removal must not leave a ghost.
        if let Some(uid) = self.by_name(entry.name()).map(|entry| entry.uid) {
            self.remove(uid);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            // 2^32 entries do not fit into any memory that this runs in.
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        self.by_uid.insert(entry.uid, slot);
        self.by_name.insert(Arc::clone(&entry.spec.name), slot);
        self.by_owner.entry(Arc::clone(&entry.owner)).or_default().insert(slot);
        for (at, node) in (0..).zip(&entry.spec.node) {
            match node {
                NodeMatch::Id(id) => self.by_node.entry(id.clone()).or_default().push(slot),
                NodeMatch::Selectors(selectors) => self.by_selectors.insert(Alternative { slot, at }, selectors),
                NodeMatch::Agentless(issuer) => {
                    // A name that is none marks nothing, and what is not marked matches nobody.
                    if let Ok(marker) = agentless::marker(issuer) {
                        let all = entry.spec.selectors.iter().chain([&marker]);
                        self.by_claims.insert(Alternative { slot, at }, all);
                    }
                }
            }
        }
        if let Some(id) = administrator(&entry) {
            self.administrators.entry(id).or_default().insert(slot);
        }
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(Arc::clone(&entry));
        }
        EntryChange { before, after: Some(entry) }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, uid: Uid) -> EntryChange {
        let Some(slot) = self.by_uid.remove(&uid) else { return EntryChange::default() };
        let Some(entry) = self.slots.get_mut(slot as usize).and_then(Option::take) else {
            return EntryChange::default();
        };
        self.by_name.remove(&entry.spec.name);
        if let Some(slots) = self.by_owner.get_mut(&entry.owner) {
            slots.remove(&slot);
            if slots.is_empty() {
                self.by_owner.remove(&entry.owner);
            }
        }
        for (at, node) in (0..).zip(&entry.spec.node) {
            match node {
                NodeMatch::Selectors(_) => {
                    self.by_selectors.remove(&Alternative { slot, at });
                }
                NodeMatch::Agentless(_) => {
                    self.by_claims.remove(&Alternative { slot, at });
                }
                NodeMatch::Id(id) => {
                    if let Some(slots) = self.by_node.get_mut(id) {
                        slots.retain(|other| *other != slot);
                        if slots.is_empty() {
                            self.by_node.remove(id);
                        }
                    }
                }
            }
        }
        if let Some(id) = administrator(&entry)
            && let Some(slots) = self.administrators.get_mut(&id)
        {
            slots.remove(&slot);
            if slots.is_empty() {
                self.administrators.remove(&id);
            }
        }
        self.free.push(slot);
        EntryChange { before: Some(entry), after: None }
    }

    /// The entries that this node may serve, in the order of identities.
    #[must_use]
    pub fn entries_for_node(&self, node: &NodeFacts) -> Vec<Arc<Entry>> {
        let mut slots: Vec<u32> = self.by_node.get(&node.spiffe_id).cloned().unwrap_or_default();
        slots.extend(self.by_selectors.matches(node.selectors.iter()).iter().map(|alternative| alternative.slot));
        slots.sort_unstable();
        slots.dedup();
        let mut entries: Vec<_> = slots.iter().filter_map(|slot| self.at(*slot)).cloned().collect();
        entries.sort_by_key(|entry| entry.order());
        entries
    }

    fn at(&self, slot: u32) -> Option<&Arc<Entry>> {
        self.slots.get(slot as usize)?.as_ref()
    }
}

/// The SPIFFE ID that an entry grants administration to.
fn administrator(entry: &Entry) -> Option<SpiffeId> {
    let template = &entry.spec.spiffe_id;
    if entry.spec.extra().admin.is_empty() || template.uses_node() || template.uses_workload() {
        return None;
    }
    template.as_str().parse().ok()
}

#[cfg(test)]
mod tests;
