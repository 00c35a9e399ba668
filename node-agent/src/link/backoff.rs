use std::time::Duration;

/// Pauses between attempts: each is drawn evenly between nothing and a bound that doubles, so that many agents which lost the same
/// issuer do not come back together ("full jitter").
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// A pause of up to `first` after the first failure, never more than `cap`.
    pub(crate) const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, failures: 0 }
    }

    /// How many failures there were since the last success.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Forgets the failures.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure. How long to wait: never less than `asked`, which is what the other side wants.
    pub(crate) fn failed(&mut self, asked: Option<Duration>) -> Duration {
        let bound = self.first.saturating_mul(2_u32.saturating_pow(self.failures.min(20))).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        asked.unwrap_or_default().saturating_add(bound.mul_f64(fastrand::f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        for _ in 0..200 {
            assert!(backoff.failed(None) <= Duration::from_secs(30));
        }
        assert_eq!(backoff.failures(), 200);
        backoff.succeeded();
        assert!(backoff.failed(None) <= Duration::from_millis(100));
    }

    #[test]
    fn a_pause_that_the_issuer_asks_for_is_kept() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        assert!(backoff.failed(Some(Duration::from_secs(7))) >= Duration::from_secs(7));
    }
}
