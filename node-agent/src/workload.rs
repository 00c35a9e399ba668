//! Who a caller is, by what the kernel says of its process.
//!
//! ```text
//! socket --accept--> HeldProcess --attest (one file for each attestor)--> facts + what is undetermined
//! ```
//!
//! Each attestor has three answers, which are never mixed: a fact; no such fact; *undetermined*, with the reason and what the operator can do.

mod pidfd;
pub mod process;
mod undetermined;

pub use pidfd::Death;
pub use process::{FileId, HeldProcess, HoldError, Program};
pub use undetermined::Undetermined;
