//! The registry as one node sees it, and which of the connected nodes a change concerns.

mod connected;

use std::sync::Arc;

use mayfly_sdk::{Refusal, Selector, Timestamp, TrustDomain, Ttl};

pub use connected::{ConnectedNodes, NodeDelta};

use super::Registry;
use super::entry::{Entry, Sharing};
use super::facts::NodeFacts;
use super::rules::Rules;
use super::uid::Uid;

/// An entry as a node needs it: the fields of `mayfly.node.v1.Entry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// The entry's uid.
    pub uid: Uid,
    /// The entry's name.
    pub name: Arc<str>,
    /// Changes only when what is issued changes.
    pub issuance: u64,
    /// May hold templates of workload facts; node facts are rendered already.
    pub spiffe_id: String,
    /// All must match.
    pub selectors: Box<[Selector]>,
    /// Empty: none.
    pub hint: Box<str>,
    /// Trust domains whose bundles the workload gets.
    pub federates_with: Box<[TrustDomain]>,
    /// Lifetime of X.509-SVIDs.
    pub x509_ttl: Ttl,
    /// Lifetime of JWT-SVIDs.
    pub jwt_ttl: Ttl,
    /// Empty: any.
    pub jwt_audiences: Box<[Box<str>]>,
    /// Whether workloads share a key and SVID.
    pub sharing: Sharing,
    /// When the entry ends.
    pub expires_at: Option<Timestamp>,
    /// Abilities that an agent must have to serve this entry.
    pub required_features: Box<[Box<str>]>,
    /// Order of identities: lower first.
    pub order: u64,
    /// Whether its workloads may begin tasks.
    pub tasks: bool,
    /// Resource URIs whose task tokens its workloads may validate.
    pub serves: Box<[Box<str>]>,
}

impl NodeEntry {
    /// The entry as `node` needs it.
    ///
    /// # Errors
    /// The template needs a fact that this node does not have; the refusal says which. The node cannot serve the entry.
    pub fn new(entry: &Entry, node: &NodeFacts, rules: &Rules) -> Result<Self, Refusal> {
        let (spec, extra) = (&entry.spec, entry.spec.extra());
        Ok(Self {
            uid: entry.uid,
            name: Arc::clone(&spec.name),
            issuance: entry.issuance,
            spiffe_id: spec.spiffe_id.render_node(node)?,
            selectors: spec.selectors.clone(),
            hint: extra.hint.clone().unwrap_or_default(),
            federates_with: extra.federates_with.clone(),
            x509_ttl: spec.x509_ttl.unwrap_or(rules.default_x509_ttl),
            jwt_ttl: spec.jwt_ttl.unwrap_or(rules.default_jwt_ttl),
            jwt_audiences: extra.jwt_audiences.clone(),
            sharing: spec.effective_sharing(),
            expires_at: spec.expires_at,
            required_features: extra.required_features.clone(),
            order: entry.order(),
            tasks: extra.task.is_some(),
            serves: extra.serves.clone(),
        })
    }
}

impl Registry {
    /// Everything that a node may serve, for a snapshot.
    #[must_use]
    pub fn snapshot_for_node(&self, node: &NodeFacts) -> NodeDelta {
        let mut delta = NodeDelta::default();
        for entry in self.entries_for_node(node) {
            delta.put(&entry, node, self.rules());
        }
        delta
    }

    /// The entries that name this node and that it cannot serve, and why: their templates need a fact that it does not have.
    #[must_use]
    pub fn problems_of_node(&self, node: &NodeFacts) -> Vec<(Uid, Refusal)> {
        let problem = |entry: Arc<Entry>| Some((entry.uid, entry.spec.spiffe_id.render_node(node).err()?));
        self.entries_for_node(node).into_iter().filter_map(problem).collect()
    }

    /// What a node must hear after these entries changed, as far as it can be told from what is there now: for a node that
    /// comes back. An entry that the node may not serve is named as removed, whether the node had it or not.
    #[must_use]
    pub fn delta_for_node(&self, node: &NodeFacts, changed: impl IntoIterator<Item = Uid>) -> NodeDelta {
        let mut delta = NodeDelta::default();
        for uid in changed {
            match self.get(uid).filter(|entry| entry.may_be_served_by(node)) {
                Some(entry) => delta.put(entry, node, self.rules()),
                None => delta.removed.push(uid),
            }
        }
        delta
    }
}
