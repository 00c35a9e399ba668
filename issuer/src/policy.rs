//! Policies: who may begin which task, beyond what its entry allows, in Cedar.
//!
//! ```text
//! files ──read──> PolicySet (parsed, checked against the schema) ──apply──> Policies, revisioned with everything else
//! Question (who, what, with what) ──Policies::judge──> Verdict: by which revision, sets and policies
//! ```
//!
//! Decisions:
//! - Sets have names, and each must permit by itself: one team's `permit` cannot undo another's missing one.
//! - As long as no set was ever applied, entries alone decide. A set without policies denies everything. After the last one
//!   was deleted entries alone decide again, and decisions name the revision of that.
//! - A `forbid` that fails while it is evaluated denies; Cedar would pass it over.
//! - Evaluation reads memory only. Text, sets and policies are bounded, since each decision asks all of them.
//! - Cedar's types stay in here.

mod question;
mod read;
mod sets;
mod verdict;

pub use question::{Action, Question};
pub use read::{MAX_POLICIES, MAX_SETS, MAX_TEXT, PolicyFile, PolicySet};
pub use sets::{Applied, Policies};
pub use verdict::{SetVerdict, Verdict};

/// The schema that policies are checked against, in Cedar's syntax.
pub const SCHEMA: &str = include_str!("policy/tasks.cedarschema");
