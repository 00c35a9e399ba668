//! Mayfly end to end: real issuers, node agents and workloads, each a process with its own addresses and directories.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test root"
)]

mod agentless;
mod attacks;
mod attestation;
mod container;
mod files;
mod idle;
mod machine;
mod metrics;
mod newcomer;
mod policies;
mod remote_admin;
mod restored;
mod rogue;
mod rotation;
mod silence;
mod supervised;
mod task_rules;
mod tasks;
mod traffic;
mod upgrade;
mod users;
mod wits;

/// Whether the long forms were asked for (`tests/full`).
fn full() -> bool {
    std::env::var_os("MAYFLY_TESTS").is_some_and(|forms| forms == "full")
}
