//! Who a caller is, by what the kernel says of its process.
//!
//! ```text
//! socket --accept--> HeldProcess --attest (one file for each attestor)--> Attestation: facts, and what is undetermined
//!                         └──────> Instances: which running process this is
//! ```
//!
//! Each attestor has three answers, which are never mixed: a fact; no such fact; *undetermined*, with the reason and what the operator can do.
//! A further attestor is a file with an [`Attestor`] in it and a line in [`Attestors::new`].

mod attestation;
mod attestor;
pub mod boot;
mod cgroup;
mod fuzz;
mod instances;
mod pidfd;
mod process;
#[cfg(test)]
mod running;
mod systemd;
mod undetermined;
mod unix;

pub use attestation::{AttestError, Attestation, Attestors, Verdict};
pub use attestor::{Attestor, Facts, Needs};
pub use fuzz::fuzz_process_files;
pub use instances::{InstanceError, InstanceKey, Instances};
pub use pidfd::Death;
pub use process::{FileId, HeldProcess, HoldError, Program};
pub use undetermined::Undetermined;
