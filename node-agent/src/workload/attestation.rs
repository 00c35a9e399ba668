//! All attestors together.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use mayfly_sdk::selector::Selector;
use tokio::sync::Semaphore;

use super::cgroup::Cgroup;
use super::systemd::Systemd;
use super::unix::Unix;
use super::{Attestor, Facts, HeldProcess, Needs, Program, Undetermined};

/// How long a slow fact is waited for. Hashing goes on behind, so that the next call finds the digest.
const PATIENCE: Duration = Duration::from_secs(5);
/// Slow facts being found out, at a time.
const AT_A_TIME: usize = 8;

/// What is known of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attestation {
    /// What is so.
    pub facts: BTreeSet<Selector>,
    /// What may or may not be so. What is in neither is not so.
    pub undetermined: Vec<Undetermined>,
}

/// Whether an entry's selectors hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// All of them hold.
    Holds,
    /// One of them does not.
    Fails,
    /// None is known to fail, and of this one it is not known.
    Undetermined(&'a Undetermined),
}

/// Why there is no attestation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttestError {
    /// Nobody is there to be answered.
    #[error("the process has ended")]
    Dead,
    /// What was read may be of the one program or the other. It must connect again.
    #[error("the process runs another program than the one that connected")]
    OtherProgram,
}

impl Attestation {
    /// Whether all these selectors hold.
    pub fn judge<'a>(&self, selectors: impl IntoIterator<Item = &'a Selector>) -> Verdict<'_> {
        let mut verdict = Verdict::Holds;
        for selector in selectors {
            if self.facts.contains(selector) {
                continue;
            }
            match self.undetermined.iter().find(|undetermined| undetermined.covers(selector)) {
                Some(undetermined) => verdict = Verdict::Undetermined(undetermined),
                None => return Verdict::Fails,
            }
        }
        verdict
    }

    fn take(&mut self, facts: Facts) {
        self.facts.extend(facts.found);
        self.undetermined.extend(facts.undetermined);
    }
}

/// The attestors of this node.
#[derive(Debug)]
pub struct Attestors {
    all: Vec<Arc<dyn Attestor>>,
    blocking: Arc<Semaphore>,
    patience: Duration,
}

impl Default for Attestors {
    fn default() -> Self {
        Self::new()
    }
}

impl Attestors {
    /// `unix`, `systemd` and `cgroup`.
    #[must_use]
    pub fn new() -> Self {
        Self::of(vec![Arc::new(Unix::default()), Arc::new(Systemd), Arc::new(Cgroup)])
    }

    /// These attestors.
    #[must_use]
    pub fn of(attestors: Vec<Arc<dyn Attestor>>) -> Self {
        Self { all: attestors, blocking: Arc::new(Semaphore::new(AT_A_TIME)), patience: PATIENCE }
    }

    /// What is so of this process now, of what is needed.
    ///
    /// # Errors
    /// [`AttestError`] if the process ended or became another program meanwhile: then nothing that was read is believed.
    pub async fn attest(&self, process: &Arc<HeldProcess>, needs: &Needs) -> Result<Attestation, AttestError> {
        let mut attestation = Attestation::default();
        let mut slow = Vec::new();
        for attestor in &self.all {
            attestation.take(attestor.attest(process, needs));
            let keys = attestor.slow_keys().iter().filter(|key| needs.want(attestor.name(), key));
            slow.extend(keys.map(|key| self.attest_slowly(attestor, process, key)));
        }
        join_all(slow).await.into_iter().for_each(|facts| attestation.take(facts));
        match process.same_executable() {
            Program::Same | Program::Undetermined(_) => Ok(attestation),
            Program::Changed => Err(AttestError::OtherProgram),
            Program::Dead => Err(AttestError::Dead),
        }
    }

    async fn attest_slowly(
        &self,
        attestor: &Arc<dyn Attestor>,
        process: &Arc<HeldProcess>,
        key: &'static str,
    ) -> Facts {
        let work = async {
            let permit = Arc::clone(&self.blocking).acquire_owned().await.ok()?;
            let (attestor, process) = (Arc::clone(attestor), Arc::clone(process));
            let found = tokio::task::spawn_blocking(move || {
                let facts = attestor.attest_slowly(&process, key);
                drop(permit);
                facts
            });
            found.await.ok()
        };
        if let Ok(Some(facts)) = tokio::time::timeout(self.patience, work).await {
            return facts;
        }
        let mut facts = Facts::none(attestor.name());
        facts.undetermined(Undetermined::passing(
            attestor.name(),
            key,
            "the node agent could not find out in time".to_owned(),
        ));
        facts
    }
}

#[cfg(test)]
mod tests;
