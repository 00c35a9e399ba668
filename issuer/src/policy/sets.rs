//! Every set that is applied, and what they say together.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use cedar_policy::{Authorizer, Decision, Effect, PolicyId};
use mayfly_sdk::{Reason, Refusal, Revision};

use super::question::Asked;
use super::read::{MAX_POLICIES, MAX_SETS, MAX_TEXT, PolicySet};
use super::verdict::{NAMED, SetVerdict, Verdict};

/// The sets that are applied. Cheap to clone; a change makes a new value.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    revision: Option<Revision>,
    sets: BTreeMap<String, Applied>,
}

/// A set and the change that applied it.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The set.
    pub set: Arc<PolicySet>,
    /// The change.
    pub revision: Revision,
}

impl Policies {
    /// The newest change of any of them; `None`: there never was one.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        self.revision
    }

    /// Every set, by name.
    pub fn sets(&self) -> impl Iterator<Item = &Applied> {
        self.sets.values()
    }

    /// One set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Applied> {
        self.sets.get(name)
    }

    /// Whether there is room for this set in place of the one with its name.
    ///
    /// # Errors
    /// [`Reason::InvalidPolicy`].
    pub fn has_room(&self, set: &PolicySet) -> Result<(), Refusal> {
        let others = || self.sets.iter().filter(|(name, _)| *name != set.name()).map(|(_, applied)| &applied.set);
        let (sets, policies) = (others().count() + 1, others().map(|set| set.len()).sum::<usize>() + set.len());
        let bytes = others().map(|set| set.bytes()).sum::<usize>() + set.bytes();
        if sets > MAX_SETS || policies > MAX_POLICIES || bytes > MAX_TEXT {
            let what = format!(
                "there are at most {MAX_SETS} sets with {MAX_POLICIES} policies and 1 MiB of text together; with this one it \
                 would be {sets}, {policies} and {bytes} bytes"
            );
            return Err(Refusal::new(Reason::InvalidPolicy, what));
        }
        Ok(())
    }

    /// A set was applied, or, with `None`, deleted.
    pub fn put(&mut self, name: &str, set: Option<Arc<PolicySet>>, revision: Revision) {
        self.revision = self.revision.max(Some(revision));
        match set {
            Some(set) => {
                self.sets.insert(name.to_owned(), Applied { set, revision });
            }
            None => {
                self.sets.remove(name);
            }
        }
    }

    /// What they say to a question. The first set that does not permit is the last that is asked.
    ///
    /// # Errors
    /// [`Reason::Internal`] if the question is none; whether the sets permit is for [`Verdict::demand`].
    pub fn judge(&self, context: serde_json::Value, asked: &Asked) -> Result<Verdict, Refusal> {
        let mut verdict = Verdict { revision: self.revision, sets: Vec::with_capacity(self.sets.len()) };
        if self.sets.is_empty() {
            return Ok(verdict);
        }
        let (request, entities) = asked.request(context)?;
        let authorizer = Authorizer::new();
        for (name, Applied { set, revision }) in &self.sets {
            let response = authorizer.is_authorized(&request, &set.cedar, &entities);
            let failed: HashSet<&PolicyId> = response.diagnostics().errors().map(failed).collect();
            let failed_forbid = |(id, effect): &(PolicyId, Effect)| *effect == Effect::Forbid && failed.contains(id);
            let broken = set.ids().iter().any(failed_forbid);
            let permits = response.decision() == Decision::Allow && !broken;
            let reasons: HashSet<&PolicyId> = response.diagnostics().reason().collect();
            let named = |one: &&(PolicyId, Effect)| {
                let effect = if permits { Effect::Permit } else { Effect::Forbid };
                one.1 == effect && (reasons.contains(&one.0) || (broken && failed.contains(&one.0)))
            };
            let all: Vec<_> = set.ids().iter().filter(named).collect();
            verdict.sets.push(SetVerdict {
                name: name.clone(),
                revision: *revision,
                permits,
                policies: all.iter().take(NAMED).map(|(id, _)| id.to_string()).collect(),
                more: all.len().saturating_sub(NAMED),
            });
            if !permits {
                break;
            }
        }
        Ok(verdict)
    }
}

/// The policy that failed.
fn failed(error: &cedar_policy::AuthorizationError) -> &PolicyId {
    match error {
        cedar_policy::AuthorizationError::PolicyEvaluationError(error) => error.policy_id(),
    }
}
