//! Other people's SPIFFE clients and verifiers against Mayfly: `tests/clients.rs` runs them as workloads.

#![allow(clippy::explicit_write, clippy::unwrap_used, reason = "for tests")]

use std::{io::Write as _, path::PathBuf};

use mayfly_rig::repository;

/// The first of these that is there (a variable with a path, a path, a path in the repository), as `tests/run` has prepared it; without one
/// the test says so.
///
/// # Panics
/// Where nothing may be skipped (`CI` is set).
#[must_use]
pub fn tool(places: &[&str]) -> Option<PathBuf> {
    let path = |place: &&str| std::env::var_os(place).map_or_else(|| repository().join(place), PathBuf::from);
    let found = places.iter().map(path).find(|path| path.is_file());
    if found.is_none() {
        not_run(&format!("{} is missing; tests/run installs it", places.last().unwrap_or(&"it")));
    }
    found
}

/// A test cannot be run here.
///
/// # Panics
/// Where nothing may be skipped (`CI` is set).
pub fn not_run(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    // Written past the test harness's capture, which hides what passes.
    writeln!(std::io::stderr(), "NOT RUN: {why}").unwrap();
}
