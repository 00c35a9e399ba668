//! What operators see: `/metrics` and `/ready`.

use std::sync::Arc;

use mayfly_sdk::Clock;
use mayfly_sdk::ops::Readiness;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::identity::{Identities, MintCounters, Minters};
use crate::link::{LinkState, LinkView};
use crate::streams::Streams;

/// Every metric of the agent, all with the prefix `mayfly_agent`.
pub(crate) fn registry(
    link: &LinkView,
    streams: &Streams,
    minters: &Minters,
    identities: &Identities,
    clock: &Clock,
) -> Arc<Registry> {
    let mut registry = Registry::with_prefix("mayfly_agent");
    let (x509, jwt) = minters.counters();
    count(&mut registry, "x509_svids", &x509);
    count(&mut registry, "jwt_svids", &jwt);
    registry.register_collector(Box::new(Snapshot {
        link: link.clone(),
        streams: streams.clone(),
        identities: identities.clone(),
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

fn count(registry: &mut Registry, kind: &str, counters: &MintCounters) {
    registry.register(format!("{kind}_minted"), "Credentials minted on first use", counters.minted.clone());
    registry.register(
        format!("{kind}_renewed"),
        "Credentials minted in the place of an older one",
        counters.renewed.clone(),
    );
    registry.register(format!("{kind}_failed"), "Attempts to mint that brought nothing", counters.failed.clone());
}

/// What is read at each scrape.
#[derive(Debug)]
struct Snapshot {
    link: LinkView,
    streams: Streams,
    identities: Identities,
    clock: Clock,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let status = self.link.status.borrow().clone();
        let mut family = encoder.encode_descriptor(
            "link_state",
            "How the agent stands with the issuer: 1 for its state",
            None,
            MetricType::Gauge,
        )?;
        for name in LinkState::NAMES {
            let here = i64::from(status.state.class() == name);
            ConstGauge::new(here).encode(family.encode_family(&[("state", name)])?)?;
        }
        let out_of_sync =
            status.out_of_sync_since.map(|since| self.clock.monotonic().saturating_sub(since).as_secs_f64());
        let gauge = |encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64| {
            ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        gauge(
            &mut encoder,
            "out_of_sync_seconds",
            "For how long the agent has not been in sync",
            out_of_sync.unwrap_or(0.0),
        )?;
        if let Some(skew_ms) = status.clock_skew_ms {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a difference of clocks that needs 53 bits is as good as any"
            )]
            let skew_s = skew_ms as f64 / 1000.0;
            gauge(&mut encoder, "clock_skew_seconds", "The issuer's wall clock less that of this node", skew_s)?;
        }
        let holdings = self.link.holdings.borrow();
        let (entries, problems) = (holdings.entries().count(), holdings.problems().len());
        drop(holdings);
        let counts = [
            ("entries", "Registration entries that this node may serve", entries),
            ("entry_problems", "Registration entries that this node cannot serve", problems),
            ("workload_streams", "Open streams of workloads", self.streams.count()),
            ("x509_svids_held", "X.509-SVIDs held", self.identities.x509.len()),
            ("jwt_svids_held", "JWT-SVIDs held", self.identities.jwt.len()),
        ];
        for (name, help, value) in counts {
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                MetricType::Gauge,
            )?)?;
        }
        Ok(())
    }
}
