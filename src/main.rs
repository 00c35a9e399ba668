//! The `mayfly` command: both daemons, everything an administrator does, and what a workload or its author wants to see.
//!
//! ```text
//! arguments ─cli─> one verb (cmd/<noun>.rs) ─> admin socket | Workload API socket | a daemon's run() ─> output | failure ─> exit code
//! ```
//!
//! A verb's whole life is in one file: its flags, its call, and the shape of what it prints.

mod cli;
mod failure;
mod output;

mod admin;
mod endpoint;
mod logging;
mod runtime;

mod daemon;
mod local;

mod cmd;

#[cfg(test)]
mod documents;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
