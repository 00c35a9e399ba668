use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use mayfly_sdk::{Refusal, Selector, SpiffeId};

use super::NodeEntry;
use crate::registry::{Entry, EntryChange, NodeFacts, NodeMatch, Rules, Uid};

/// The nodes that are connected, found by what entries say of them: the cost of a change follows the nodes that it
/// concerns and not the nodes that are connected (figure P3).
#[derive(Debug, Default)]
pub struct ConnectedNodes {
    nodes: HashMap<SpiffeId, NodeFacts>,
    having: HashMap<Selector, BTreeSet<SpiffeId>>,
}

/// What one node must hear.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct NodeDelta {
    /// Entries that are new, or changed in something that the node sees.
    pub put: Vec<NodeEntry>,
    /// Entries that the node may no longer serve.
    pub removed: Vec<Uid>,
    /// Entries that the node should serve and cannot, because it lacks a fact of the template; they are in `removed` too.
    pub problems: Vec<(Uid, Refusal)>,
}

impl NodeDelta {
    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.removed.is_empty()
    }

    pub(super) fn put(&mut self, entry: &Entry, node: &NodeFacts, rules: &Rules) {
        match NodeEntry::new(entry, node, rules) {
            Ok(entry) => self.put.push(entry),
            Err(refusal) => {
                self.removed.push(entry.uid);
                self.problems.push((entry.uid, refusal));
            }
        }
    }
}

impl ConnectedNodes {
    /// The number of connected nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no node is connected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node has connected, or its facts have changed.
    pub fn insert(&mut self, node: NodeFacts) {
        self.remove(&node.spiffe_id);
        for selector in node.selectors.iter() {
            self.having.entry(selector.clone()).or_default().insert(node.spiffe_id.clone());
        }
        self.nodes.insert(node.spiffe_id.clone(), node);
    }

    /// A node is no longer connected.
    pub fn remove(&mut self, node: &SpiffeId) {
        let Some(facts) = self.nodes.remove(node) else { return };
        for selector in facts.selectors.iter() {
            if let Some(having) = self.having.get_mut(selector) {
                having.remove(node);
                if having.is_empty() {
                    self.having.remove(selector);
                }
            }
        }
    }

    /// What is known about a connected node.
    #[must_use]
    pub fn get(&self, node: &SpiffeId) -> Option<&NodeFacts> {
        self.nodes.get(node)
    }

    /// The connected nodes that may serve an entry.
    #[must_use]
    pub fn serving(&self, entry: &Entry) -> BTreeSet<SpiffeId> {
        let mut serving = BTreeSet::new();
        for alternative in &entry.spec.node {
            match alternative {
                NodeMatch::Id(id) => serving.extend(self.nodes.get_key_value(id).map(|(id, _)| id.clone())),
                NodeMatch::Selectors(all) => serving.extend(self.having_all(all).cloned()),
                NodeMatch::Agentless(_) => {}
            }
        }
        serving
    }

    /// What each connected node must hear after these changes. A node to which nothing changed is not among them.
    #[must_use]
    pub fn deltas(&self, changes: &[EntryChange], rules: &Rules) -> HashMap<SpiffeId, NodeDelta> {
        let mut deltas: HashMap<SpiffeId, NodeDelta> = HashMap::new();
        for EntryChange { before, after } in changes {
            let had = before.as_ref().map(|entry| self.serving(entry)).unwrap_or_default();
            let has = after.as_ref().map(|entry| self.serving(entry)).unwrap_or_default();
            for node in has.union(&had).filter_map(|node| self.nodes.get(node)) {
                let before = before.as_ref().filter(|_| had.contains(&node.spiffe_id));
                let after = after.as_ref().filter(|_| has.contains(&node.spiffe_id));
                let mut delta = NodeDelta::default();
                tell(&mut delta, before, after, node, rules);
                if !delta.is_empty() || !delta.problems.is_empty() {
                    let whole = deltas.entry(node.spiffe_id.clone()).or_default();
                    whole.put.append(&mut delta.put);
                    whole.removed.append(&mut delta.removed);
                    whole.problems.append(&mut delta.problems);
                }
            }
        }
        deltas
    }

    /// The nodes that have all of these selectors; none for no selector.
    fn having_all<'a>(&'a self, all: &'a [Selector]) -> impl Iterator<Item = &'a SpiffeId> {
        let rarest = all
            .iter()
            .map(|selector| self.having.get(selector))
            .min_by_key(|having| having.map_or(0, BTreeSet::len))
            .flatten();
        rarest.into_iter().flatten().filter(|id| {
            self.nodes.get(*id).is_some_and(|node| all.iter().all(|selector| node.selectors.contains(selector)))
        })
    }
}

/// Tells a node what became of an entry that it had as `before` and may serve as `after`.
fn tell(
    delta: &mut NodeDelta,
    before: Option<&Arc<Entry>>,
    after: Option<&Arc<Entry>>,
    node: &NodeFacts,
    rules: &Rules,
) {
    let had = before.and_then(|entry| NodeEntry::new(entry, node, rules).ok());
    match after.map(|entry| (entry.uid, NodeEntry::new(entry, node, rules))) {
        Some((_, Ok(has))) if had.as_ref() == Some(&has) => {}
        Some((_, Ok(has))) => delta.put.push(has),
        Some((uid, Err(refusal))) => {
            delta.problems.push((uid, refusal));
            delta.removed.extend(had.map(|had| had.uid));
        }
        None => delta.removed.extend(had.map(|had| had.uid)),
    }
    // A name that was reused: the node had another entry of that name.
    if let (Some(before), Some(after)) = (before, after)
        && before.uid != after.uid
    {
        delta.removed.push(before.uid);
    }
}
