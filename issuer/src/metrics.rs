//! What the issuer counts.

use std::sync::{Arc, atomic::AtomicU64};

use mayfly_sdk::Reason;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// The counters. Shared behind an `Arc`.
#[derive(Debug, Default)]
pub struct Metrics {
    issued: Family<Profile, Counter>,
    refused: Family<Refused, Counter>,
    attested: Counter,
    renewed: Counter,
    connected: Gauge<u64, AtomicU64>,
    web: Family<Answered, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Profile {
    profile: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    call: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    status: u16,
}

impl Metrics {
    /// The counters, and the registry that `/metrics` shows.
    #[must_use]
    pub fn registered() -> (Arc<Self>, Registry) {
        let metrics = Self::default();
        let mut registry = Registry::with_prefix("mayfly_issuer");
        registry.register("issued", "Credentials released, by profile", metrics.issued.clone());
        registry.register("refused", "Calls and items refused, by call and reason", metrics.refused.clone());
        registry.register("nodes_attested", "Nodes attested", metrics.attested.clone());
        registry.register("nodes_renewed", "Node SVIDs renewed", metrics.renewed.clone());
        registry.register("nodes_connected", "Nodes in sync", metrics.connected.clone());
        registry.register("web_answers", "Answers of the HTTPS listener, by HTTP status", metrics.web.clone());
        (Arc::new(metrics), registry)
    }

    /// A credential was released.
    pub fn issued(&self, profile: &'static str) {
        self.issued.get_or_create(&Profile { profile }).inc();
    }

    /// A call or an item was refused.
    pub fn refused(&self, call: &'static str, reason: Reason) {
        self.refused.get_or_create(&Refused { call, reason: reason.code() }).inc();
    }

    /// A node attested.
    pub fn attested(&self) {
        self.attested.inc();
    }

    /// A node SVID was renewed.
    pub fn renewed(&self) {
        self.renewed.inc();
    }

    /// So many nodes are in sync.
    pub fn connected(&self, nodes: usize) {
        self.connected.set(nodes as u64);
    }

    /// The HTTPS listener answered with this status.
    pub fn web_answered(&self, status: u16) {
        self.web.get_or_create(&Answered { status }).inc();
    }
}
