//! What a metric is called and what operators need to know of it, in one place: the code registers it by this, and
//! `docs/metrics.md` is made of it, so that neither has what the other lacks.

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

/// A metric of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name without the daemon's prefix and without what its unit and kind append.
    pub name: &'static str,
    /// What its value can do.
    pub kind: MetricKind,
    /// What its value counts, as `OpenMetrics` names units; none for numbers of things.
    pub unit: Option<&'static str>,
    /// Each label, and in words what its values are.
    pub labels: &'static [(&'static str, &'static str)],
    /// What it says, without a full stop.
    pub help: &'static str,
    /// What looks bad, and what to do then. Markdown.
    pub remedy: &'static str,
}

/// What the value of a metric can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Grow, until the daemon starts anew at nought.
    Counter,
    /// Change.
    Gauge,
}

impl Metric {
    /// The name of its samples below a prefix, as a query has it.
    #[must_use]
    pub fn series(&self, prefix: &str) -> String {
        let mut name = format!("{prefix}_{}", self.name);
        for ending in self.unit.into_iter().chain((self.kind == MetricKind::Counter).then_some("total")) {
            name.push('_');
            name.push_str(ending);
        }
        name
    }

    /// Shows `metric` under this name from now on.
    pub fn register(&self, registry: &mut Registry, metric: impl prometheus_client::registry::Metric) {
        match self.unit() {
            Some(unit) => registry.register_with_unit(self.name, self.help, unit, metric),
            None => registry.register(self.name, self.help, metric),
        }
    }

    /// Begins this metric in a scrape: `write` is given what writes its values. For what is read when it is asked for.
    ///
    /// # Errors
    /// What `write` and the encoder say.
    pub fn encode(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        write: impl FnOnce(MetricEncoder<'_>) -> Result<(), std::fmt::Error>,
    ) -> Result<(), std::fmt::Error> {
        let unit = self.unit();
        // The registry ends its own with a full stop.
        let help = format!("{}.", self.help);
        write(encoder.encode_descriptor(self.name, &help, unit.as_ref(), self.kind.into())?)
    }

    fn unit(&self) -> Option<Unit> {
        self.unit.map(|name| Unit::Other(name.to_owned()))
    }
}

impl MetricKind {
    /// Its word in `OpenMetrics`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

impl From<MetricKind> for MetricType {
    fn from(kind: MetricKind) -> Self {
        match kind {
            MetricKind::Counter => Self::Counter,
            MetricKind::Gauge => Self::Gauge,
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    const SPENT: Metric = Metric {
        name: "spent",
        kind: MetricKind::Counter,
        unit: Some("seconds"),
        labels: &[],
        help: "Time spent",
        remedy: "",
    };

    #[test]
    fn a_series_is_called_what_a_scrape_shows() {
        let mut registry = Registry::with_prefix("mayfly_test");
        SPENT.register(&mut registry, Counter::<u64>::default());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(text.contains("# UNIT mayfly_test_spent_seconds seconds\n"), "{text}");
        assert!(text.contains(&format!("\n{} 0\n", SPENT.series("mayfly_test"))), "{text}");
        assert_eq!(Metric { kind: MetricKind::Gauge, unit: None, ..SPENT }.series("p"), "p_spent");
    }
}
