use std::sync::Arc;

use bytes::Bytes;
use mayfly_proto::node;
use mayfly_sdk::{InstanceId, Selector};

use crate::holdings::Entry;

/// Whom a credential is for: an entry, as it is rendered for one workload. Workloads for which it is the same share the credential.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SubjectKey {
    entry: Arc<str>,
    /// Only where each instance has credentials of its own.
    instance: Option<InstanceId>,
    /// The facts that the entry's template names: what the SPIFFE ID is rendered from.
    facts: Arc<[Selector]>,
}

impl SubjectKey {
    /// The subject of a workload that is entitled to `entry`. `shown`: its facts.
    pub(crate) fn new<'a>(entry: &Entry, shown: impl IntoIterator<Item = &'a Selector>, instance: InstanceId) -> Self {
        Self {
            entry: entry.uid().clone(),
            instance: entry.is_per_instance().then_some(instance),
            facts: entry.template_facts(shown),
        }
    }

    pub(crate) fn entry_uid(&self) -> &Arc<str> {
        &self.entry
    }

    pub(super) fn instance(&self) -> Option<InstanceId> {
        self.instance
    }

    pub(super) fn of_parts(entry: Arc<str>, instance: Option<InstanceId>, facts: Arc<[Selector]>) -> Self {
        Self { entry, instance, facts }
    }

    pub(crate) fn to_wire(&self, issuance: u64) -> node::Subject {
        node::Subject {
            entry_uid: self.entry.to_string(),
            issuance,
            instance: self.instance.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(id.as_bytes())),
            facts: self.facts.iter().map(ToString::to_string).collect(),
        }
    }
}
