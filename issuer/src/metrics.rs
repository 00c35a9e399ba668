//! What the issuer counts.

use std::sync::{Arc, atomic::AtomicU64};

use mayfly_sdk::{
    Reason,
    ops::{Metric, MetricKind},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// What the names of all metrics here begin with.
pub const PREFIX: &str = "mayfly_issuer";

/// Every metric of the issuer, in the order of the document.
pub const ALL: [Metric; 6] = [ISSUED, REFUSED, NODES_ATTESTED, NODES_RENEWED, NODES_CONNECTED, WEB_ANSWERS];

const ISSUED: Metric = Metric {
    name: "issued",
    kind: MetricKind::Counter,
    unit: None,
    labels: &[("profile", "`x509`, `jwt`, `wit`, `x509_agentless`: what was issued")],
    help: "Credentials released, each with its durable record",
    remedy: "Each workload that is in use renews at about half of its identity's life, so the rate follows from your fleet. If it falls and `mayfly_issuer_refused_total` does \
             not grow, agents cannot reach the issuer: look at `mayfly_issuer_nodes_connected`. If it grows without a rollout, a workload may be restarting in a loop",
};
const REFUSED: Metric = Metric {
    name: "refused",
    kind: MetricKind::Counter,
    unit: None,
    labels: &[
        (
            "call",
            "`attest`, `renew`, `sync`, `mint` (a whole call), `mint_x509`, `mint_jwt` (one identity), `mint_agentless`, `caller` (who calls is no node, or \
             none any more), `admin`",
        ),
        ("reason", "the [reason code](reasons.md)"),
    ],
    help: "Calls refused, and identities refused within a call",
    remedy: "The reason's remedy stands in [reasons.md](reasons.md); the issuer's log has each with the node and what was wrong. `overloaded`: the issuer has too little CPU or too slow a \
             disk. `node_frozen` and `node_banned` deserve a look at once",
};
const NODES_ATTESTED: Metric = Metric {
    name: "nodes_attested",
    kind: MetricKind::Counter,
    unit: None,
    labels: &[],
    help: "Nodes that attested: new ones, and those that were away for too long to renew",
    remedy: "Growth that no new machine explains: agents lose their state directory, or are out of reach for longer than the life of their own identity (`ttl.node`)",
};
const NODES_RENEWED: Metric = Metric {
    name: "nodes_renewed",
    kind: MetricKind::Counter,
    unit: None,
    labels: &[],
    help: "Identities of nodes that were renewed",
    remedy: "Each connected node renews at about half of `ttl.node`. If this stands still while nodes are connected, look at `mayfly_issuer_refused_total{call=\"renew\"}`",
};
const NODES_CONNECTED: Metric = Metric {
    name: "nodes_connected",
    kind: MetricKind::Gauge,
    unit: None,
    labels: &[],
    help: "Nodes in sync with this issuer at this moment",
    remedy: "Alarm when it falls below the number of machines that you run: `mayfly node list` names those that are not connected, and `/ready` of their agents says why. Near \
             `limits.connections`, raise that",
};
const WEB_ANSWERS: Metric = Metric {
    name: "web_answers",
    kind: MetricKind::Counter,
    unit: None,
    labels: &[("status", "the HTTP status")],
    help: "Answers of the HTTPS listener, which shows the bundle to other trust domains",
    remedy: "`404`: somebody asks for another path than `bundle_endpoint.path`. If `200` and `304` stop growing, those who federate with this trust domain no longer fetch its bundle, and \
             will miss the next keys",
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
        let mut registry = Registry::with_prefix(PREFIX);
        ISSUED.register(&mut registry, metrics.issued.clone());
        REFUSED.register(&mut registry, metrics.refused.clone());
        NODES_ATTESTED.register(&mut registry, metrics.attested.clone());
        NODES_RENEWED.register(&mut registry, metrics.renewed.clone());
        NODES_CONNECTED.register(&mut registry, metrics.connected.clone());
        WEB_ANSWERS.register(&mut registry, metrics.web.clone());
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
