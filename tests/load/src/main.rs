//! The load harness: an issuer as a process of its own, simulated node agents with a TCP and TLS connection,
//! certificate and `Sync` stream each, and a real node agent for what workloads see.
//!
//! ```text
//! cargo build --release && cargo run --release -p mayfly-load
//! ```
//! CPU is user + system of the whole issuer process; the divisor is the CPU of one P-256 signature by aws-lc-rs in the
//! same run. Latencies are wall time, with the empty call and the disk's sync of the same run beside them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a harness: what fails here ends the measurement"
)]

mod admin;
mod agent;
mod figures;
mod machine;
mod memory;
mod renewals;
mod report;
mod revocations;
mod tasks;

use clap::Parser;

/// How much to measure.
#[derive(Parser, Debug)]
struct Args {
    /// Connected agents for P3 and P6
    #[arg(long, default_value_t = 1000)]
    agents: usize,
    /// SVIDs to mint for P1
    #[arg(long, default_value_t = 20_000)]
    svids: usize,
    /// Repetitions for P3 and P4
    #[arg(long, default_value_t = 100)]
    times: usize,
    /// Renewals that are due a second, for P2
    #[arg(long, default_value_t = 7_000)]
    rate: usize,
    /// Workloads with a connection each, for P5
    #[arg(long, default_value_t = 900)]
    workloads: usize,
    /// Tasks that are open already, for P7
    #[arg(long, default_value_t = 0)]
    open: u32,
    /// Services that hear of revocations, for P8
    #[arg(long, default_value_t = 1000)]
    validators: usize,
    /// To be a part of P8: listen at this socket
    #[arg(long, hide = true)]
    listen: Option<std::path::PathBuf>,
    /// Only this figure (P1 to P8)
    #[arg(long)]
    only: Option<String>,
    /// Write the figures to this file too, as JSON
    #[arg(long)]
    json: Option<std::path::PathBuf>,
}

fn main() {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Some(socket) = &args.listen {
        return runtime.block_on(revocations::listen(socket, args.validators));
    }
    let wanted = |figure: &str| args.only.as_deref().is_none_or(|only| only == figure);
    let (signature_us, fdatasync_ms) = (machine::signature_us(), machine::fdatasync_ms());
    let mut report = report::Report { signature_us, fdatasync_ms, figures: Vec::new() };
    report.begin();
    if wanted("P1") {
        report.add(runtime.block_on(figures::p1(args.svids)));
    }
    if wanted("P2") {
        report.add(runtime.block_on(renewals::p2(args.agents, args.rate)));
    }
    if wanted("P3") {
        report.add(runtime.block_on(figures::p3(args.agents, args.times, fdatasync_ms)));
    }
    if wanted("P4") {
        report.add(runtime.block_on(figures::p4(args.times, fdatasync_ms)));
    }
    if wanted("P5") {
        report.add(runtime.block_on(memory::p5(args.workloads)));
    }
    if wanted("P6") {
        report.add(runtime.block_on(figures::p6(args.agents)));
    }
    if wanted("P7") {
        report.add(runtime.block_on(tasks::p7(args.times, args.open, fdatasync_ms)));
    }
    if wanted("P8") {
        report.add(vec![runtime.block_on(revocations::p8(args.validators, args.times, fdatasync_ms))]);
    }
    if let Some(file) = args.json {
        std::fs::write(file, serde_json::to_vec_pretty(&report).unwrap()).unwrap();
    }
}
