//! What the policies say to a question, and which of them say it.

use std::fmt;

use mayfly_sdk::{Reason, Refusal, Revision};
use serde::{Deserialize, Serialize};

/// The most policies of one set that are named; the others are counted.
pub(super) const NAMED: usize = 16;

/// What the policies say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Verdict {
    /// The newest change of any policy; `None`: there never was one, and entries alone decide.
    pub revision: Option<Revision>,
    /// The sets that were asked, in the order of their names. If one does not permit, it is the last.
    pub sets: Vec<SetVerdict>,
}

/// What one set says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetVerdict {
    /// Its name.
    pub name: String,
    /// The change that applied it.
    pub revision: Revision,
    /// Whether it permits.
    pub permits: bool,
    /// The policies that make it say so, in the order of the set; none: it has no `permit` for this. The first few.
    pub policies: Vec<String>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: usize,
}

impl Verdict {
    /// Whether every set permits.
    ///
    /// # Errors
    /// [`Reason::PolicyDenied`] names the set, and the first policy that forbids.
    pub fn demand(&self) -> Result<(), Refusal> {
        let Some(set) = self.sets.iter().find(|set| !set.permits) else { return Ok(()) };
        let what = match set.policies.first() {
            Some(policy) => format!("the policy set {:?} forbids it, by {policy}", set.name),
            None => format!("the policy set {:?} has no permit for it", set.name),
        };
        Err(Refusal::new(Reason::PolicyDenied, what))
    }
}

impl fmt::Display for Verdict {
    /// As the ledger has it: `none`, or the revision and after it each set with its policies.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(revision) = self.revision else { return f.write_str("none") };
        revision.fmt(f)?;
        for set in &self.sets {
            write!(f, " {}({}", set.name, set.policies.join(","))?;
            if set.more > 0 {
                write!(f, ",+{}", set.more)?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}
