//! What operators see: `/metrics` and `/ready`.

use std::fmt;
use std::sync::Arc;

use mayfly_sdk::Clock;
use mayfly_sdk::ops::{Metric, MetricKind, Readiness};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::identity::{Identities, MintCounters, Minters};
use crate::link::{LinkState, LinkView};
use crate::streams::Streams;
use crate::tasks::Tasks;

/// What the names of all metrics here begin with.
pub const PREFIX: &str = "mayfly_agent";

/// Every metric of the node agent, in the order of the document.
pub const ALL: [Metric; 22] = [
    LINK_STATE,
    OUT_OF_SYNC,
    CLOCK_SKEW,
    ENTRIES,
    ENTRY_PROBLEMS,
    WORKLOAD_STREAMS,
    X509_HELD,
    X509[0],
    X509[1],
    X509[2],
    JWT_HELD,
    JWT[0],
    JWT[1],
    JWT[2],
    WIT_HELD,
    WIT[0],
    WIT[1],
    WIT[2],
    TASKS_HELD,
    TASK[0],
    TASK[1],
    TASK[2],
];

const LINK_STATE: Metric = Metric {
    labels: &[(
        "state",
        "`starting`, `unenrolled`, `attesting`, `connecting`, `in_sync`, `disconnected`, `refused` (the issuer refuses this node)",
    )],
    ..gauge(
        "link_state",
        "How the agent stands with the issuer: 1 for the state that it is in, 0 for the others",
        "Anything but `in_sync` for longer than a minute: `curl localhost:9465/ready` on that machine says why and what to do",
    )
};
const OUT_OF_SYNC: Metric = Metric {
    unit: Some("seconds"),
    ..gauge(
        "out_of_sync",
        "For how long the agent has not been in sync; 0 while it is",
        "Alarm at a third of `ttl.x509`: what workloads hold lives for at least 45 % of it from when the outage began. The network, or the issuer itself; `/ready` says which",
    )
};
const CLOCK_SKEW: Metric = Metric {
    unit: Some("seconds"),
    ..gauge(
        "clock_skew",
        "The issuer's wall clock less that of this node; there from the first connection on",
        "More than 5 s either way: mend the clock (chrony, systemd-timesyncd). Identities are renewed all the same, but others may take them for not yet or no longer valid",
    )
};
const ENTRIES: Metric = gauge(
    "entries",
    "Registration entries that this node may serve",
    "0 on a node that has workloads: no entry's `node` names it or one of its selectors (`mayfly node show`)",
);
const ENTRY_PROBLEMS: Metric = gauge(
    "entry_problems",
    "Registration entries that this node is meant to serve and cannot",
    "Not 0: an entry needs what this build of the agent lacks. Upgrade the agent; `mayfly node show` has the entries and why",
);
const WORKLOAD_STREAMS: Metric = gauge(
    "workload_streams",
    "Open streams of workloads",
    "Falls to nothing while workloads run: they no longer reach the socket. Near `limits.streams_per_uid` of one user: a program opens streams and does not close them",
);
const X509_HELD: Metric = gauge(
    "x509_svids_held",
    "X.509-SVIDs held",
    "Memory grows with it. More than workloads run here: entries that are rendered for many names (`quotas.renderings`)",
);
const JWT_HELD: Metric = gauge(
    "jwt_svids_held",
    "JWT-SVIDs held, one for each workload and audience",
    "At `limits.jwt_svids` the oldest give way and are minted again: raise it, or find who asks for ever new audiences",
);
const WIT_HELD: Metric = gauge(
    "wit_svids_held",
    "WIT-SVIDs held",
    "Memory grows with it. More than workloads run here: entries that are rendered for many names (`quotas.renderings`)",
);
const TASKS_HELD: Metric = gauge(
    "tasks_held",
    "Tasks of this node's workloads that have not ended",
    "Growth without end: workloads that begin tasks and do not complete them; `mayfly task list` as that user, and shorter deadlines in the entry's `task` part",
);
const TASK: [Metric; 3] = minted(["task_tokens_minted", "task_tokens_renewed", "task_tokens_failed"]);
const X509: [Metric; 3] = minted(["x509_svids_minted", "x509_svids_renewed", "x509_svids_failed"]);
const JWT: [Metric; 3] = minted(["jwt_svids_minted", "jwt_svids_renewed", "jwt_svids_failed"]);
const WIT: [Metric; 3] = minted(["wit_svids_minted", "wit_svids_renewed", "wit_svids_failed"]);

const fn gauge(name: &'static str, help: &'static str, remedy: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, unit: None, labels: &[], help, remedy }
}

/// The three counters of one kind of credential.
const fn minted([minted, renewed, failed]: [&'static str; 3]) -> [Metric; 3] {
    const fn counter(name: &'static str, help: &'static str, remedy: &'static str) -> Metric {
        Metric { name, kind: MetricKind::Counter, unit: None, labels: &[], help, remedy }
    }
    [
        counter(
            minted,
            "Credentials minted on first use",
            "Grows with workloads that start. Growth that no start explains: instances that come and go, or ever new audiences",
        ),
        counter(
            renewed,
            "Credentials minted in the place of an older one",
            "If it stands still for as long as the credentials live, and some are held, look at the failures",
        ),
        counter(
            failed,
            "Attempts to mint that brought nothing; what is held stays in use",
            "Growth: the agent's log has the reason of each, and [reasons.md](reasons.md) its remedy. During an outage it grows by a few a minute",
        ),
    ]
}

/// Every metric of the agent, all with the prefix `mayfly_agent`.
pub(crate) fn registry(
    link: &LinkView,
    streams: &Streams,
    minters: &Minters,
    identities: &Identities,
    tasks: &Tasks,
    clock: &Clock,
) -> Arc<Registry> {
    let mut registry = Registry::with_prefix(PREFIX);
    for (metrics, counters) in [X509, JWT, WIT].iter().zip(minters.counters()) {
        count(&mut registry, metrics, &counters);
    }
    count(&mut registry, &TASK, tasks.counters());
    registry.register_collector(Box::new(Snapshot {
        link: link.clone(),
        streams: streams.clone(),
        identities: identities.clone(),
        tasks: tasks.clone(),
        clock: clock.clone(),
    }));
    Arc::new(registry)
}

/// The answer of `/ready`: in sync, or serving what is held while the issuer is out of reach.
pub(crate) fn readiness(link: &LinkView) -> impl Fn() -> Readiness + Send + Sync + 'static {
    let link = link.clone();
    move || {
        let warm = !link.holdings.borrow().is_empty();
        link.status.borrow().readiness(warm)
    }
}

fn count(registry: &mut Registry, [minted, renewed, failed]: &[Metric; 3], counters: &MintCounters) {
    minted.register(registry, counters.minted.clone());
    renewed.register(registry, counters.renewed.clone());
    failed.register(registry, counters.failed.clone());
}

/// What is read at each scrape.
#[derive(Debug)]
struct Snapshot {
    link: LinkView,
    streams: Streams,
    identities: Identities,
    tasks: Tasks,
    clock: Clock,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let status = self.link.status.borrow().clone();
        LINK_STATE.encode(encoder, |mut family| {
            LinkState::NAMES.iter().try_for_each(|name| {
                let here = i64::from(status.state.class() == *name);
                ConstGauge::new(here).encode(family.encode_family(&[("state", *name)])?)
            })
        })?;
        let out_of_sync = status.out_of_sync_since.map(|since| self.clock.monotonic().saturating_sub(since));
        show(encoder, &OUT_OF_SYNC, out_of_sync.unwrap_or_default().as_secs_f64())?;
        if let Some(skew_ms) = status.clock_skew_ms {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a difference of clocks that needs 53 bits is as good as any"
            )]
            let skew_s = skew_ms as f64 / 1000.0;
            show(encoder, &CLOCK_SKEW, skew_s)?;
        }
        let holdings = self.link.holdings.borrow();
        let (entries, problems) = (holdings.entries().count(), holdings.problems().len());
        drop(holdings);
        for (metric, value) in [
            (ENTRIES, entries),
            (ENTRY_PROBLEMS, problems),
            (WORKLOAD_STREAMS, self.streams.count()),
            (X509_HELD, self.identities.x509.len()),
            (JWT_HELD, self.identities.jwt.len()),
            (WIT_HELD, self.identities.wit.len()),
            (TASKS_HELD, self.tasks.count()),
        ] {
            show(encoder, &metric, i64::try_from(value).unwrap_or(i64::MAX))?;
        }
        Ok(())
    }
}

fn show(encoder: &mut DescriptorEncoder<'_>, metric: &Metric, value: impl EncodeGaugeValue) -> fmt::Result {
    metric.encode(encoder, |metric| ConstGauge::new(value).encode(metric))
}
