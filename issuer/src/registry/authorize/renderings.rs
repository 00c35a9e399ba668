use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use mayfly_sdk::{Reason, Refusal, SpiffeId, Timestamp};
use parking_lot::Mutex;

use crate::registry::{Entry, Rules, Uid};

/// The SPIFFE IDs that templates of workload facts gave on each node and that may still be alive there.
///
/// The facts are the node's own word; so a node that was taken over could name a thousand users. The quota bounds how
/// many it can be at a time. Kept in memory only: after a restart of the issuer the count begins anew.
#[derive(Debug, Default)]
pub(crate) struct Renderings {
    hasher: RandomState,
    nodes: Mutex<HashMap<SpiffeId, HashMap<Rendering, Timestamp>>>,
}

/// An entry and the hash of a SPIFFE ID, so that a count costs 24 bytes and not 2,048.
type Rendering = (Uid, u64);

impl Renderings {
    /// Counts one rendering, alive from `now` to `until`.
    ///
    /// # Errors
    /// The node or the entry has reached its quota.
    pub(crate) fn admit(
        &self,
        node: &SpiffeId,
        entry: &Entry,
        id: &SpiffeId,
        now: Timestamp,
        until: Timestamp,
        rules: &Rules,
    ) -> Result<(), Refusal> {
        let rendering = (entry.uid, self.hasher.hash_one(id.as_str()));
        let mut nodes = self.nodes.lock();
        let alive = nodes.entry(node.clone()).or_default();
        if let Some(end) = alive.get_mut(&rendering) {
            *end = until.max(*end);
            return Ok(());
        }
        let of_entry = entry.spec.extra().quotas.renderings.map_or(usize::MAX, |quota| quota as usize);
        let is_full = |alive: &HashMap<Rendering, Timestamp>| {
            alive.len() >= rules.renderings_per_node
                || (of_entry != usize::MAX && alive.keys().filter(|(uid, _)| *uid == entry.uid).count() >= of_entry)
        };
        if is_full(alive) {
            alive.retain(|_, end| *end > now);
        }
        if is_full(alive) {
            return Err(Refusal::new(
                Reason::RenderingQuota,
                format!("the template of the entry {} gave too many SPIFFE IDs on the node {node}", entry.name()),
            ));
        }
        alive.insert(rendering, until);
        Ok(())
    }

    /// Forgets a node.
    pub(crate) fn forget(&self, node: &SpiffeId) {
        self.nodes.lock().remove(node);
    }
}
