//! What a million entries cost (figure P9): memory for each entry, one match, one decision to mint, one change.
//!
//! `cargo run --release -p mayfly-issuer --example registry_bench [entries ..]`. CPU time of this thread, so that
//! neighbours do not count.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement for people, which may stop at anything unexpected"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mayfly_issuer::registry::{
    AssertedFacts, ConnectedNodes, EntriesFile, Entry, MintRequest, NodeFacts, Registry, Rules, Wanted,
};
use mayfly_issuer::store::{Committed, EntryRow};
use mayfly_sdk::{Revision, Timestamp};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// Workloads on one node.
const PER_NODE: usize = 100;
const NOW: Timestamp = Timestamp::from_unix_s(1_760_000_000);

/// Counts what is allocated and not yet freed, in bytes that malloc hands out (16 more for each block are its own).
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator cannot be written otherwise; it only counts")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(block(layout), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(block(layout), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

/// What glibc takes for a block: 8 bytes of its own, in steps of 16, at least 32.
fn block(layout: Layout) -> usize {
    (layout.size() + 8).next_multiple_of(16).max(32)
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn cpu_us() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    (usage.user_time() + usage.system_time()).num_microseconds() as f64
}

/// A fleet: each node has `PER_NODE` entries of its own by id, by a selector of its own, and by a selector that every
/// node has together with one of its own.
fn row(n: usize) -> EntryRow {
    let node = n / PER_NODE;
    let nodes = match n % 3 {
        0 => format!("\"spiffe://example.org/mayfly/node/aws_iid/i-{node:016x}\""),
        1 => format!("\"aws:instance:i-{node:016x}\""),
        _ => format!("[\"aws:account:123456789012\",\"aws:instance:i-{node:016x}\"]"),
    };
    let document = format!(
        "{{\"name\":\"team-{0}/service-{n}\",\"node\":[{nodes}],\"selectors\":[\"unix:uid:{1}\",\"unix:path:/usr/bin/service-{1}\"],\
         \"spiffe_id\":\"spiffe://example.org/team-{0}/service-{n}\",\"x509_ttl\":900}}",
        n % 50,
        n % PER_NODE
    );
    EntryRow {
        uid: format!("{:032x}", (n as u128) << 64 | 0x9e37_79b9_7f4a_7c15_u128.wrapping_mul(n as u128 + 1) >> 64),
        name: format!("team-{}/service-{n}", n % 50),
        owner: format!("team-{}", n % 50),
        document,
        revision: Revision { epoch: 1, n: n as u64 },
        issuance: n as u64,
        order: n as u64,
        created_at: NOW,
        updated_at: NOW,
    }
}

fn node(n: usize) -> NodeFacts {
    let own = format!("aws:instance:i-{n:016x}");
    let facts = ["aws:account:123456789012", "aws:region:eu-west-1", "aws:tag:env:prod", &own];
    NodeFacts {
        spiffe_id: format!("spiffe://example.org/mayfly/node/aws_iid/i-{n:016x}").parse().unwrap(),
        selectors: facts.iter().map(|fact| fact.parse().unwrap()).collect(),
    }
}

fn measure(count: usize) {
    let before = HELD.load(Ordering::Relaxed);
    let start = cpu_us();
    let mut registry = Registry::new(Rules::new("example.org".parse().unwrap()));
    for n in 0..count {
        registry.load(&row(n)).unwrap();
    }
    let load_us = cpu_us() - start;
    let bytes = HELD.load(Ordering::Relaxed) - before;

    let nodes: Vec<NodeFacts> = (0..1000).map(|n| node(n * 7919 % (count / PER_NODE).max(1))).collect();
    let start = cpu_us();
    let matched: usize = nodes.iter().map(|node| registry.entries_for_node(node).len()).sum();
    let match_us = (cpu_us() - start) / nodes.len() as f64;

    let wanted: Vec<(&NodeFacts, Arc<Entry>)> =
        nodes.iter().map(|node| (node, Arc::clone(registry.entries_for_node(node).first().unwrap()))).collect();
    let facts = AssertedFacts::default();
    let start = cpu_us();
    for (node, entry) in &wanted {
        let request =
            MintRequest { node, entry: entry.uid, issuance: entry.issuance, facts: &facts, wanted: Wanted::X509 };
        black_box(registry.authorize(&request, NOW).unwrap());
    }
    let authorize_us = (cpu_us() - start) / wanted.len() as f64;

    let mut connected = ConnectedNodes::default();
    for n in 0..1000 {
        connected.insert(node(n));
    }
    let one = apply(&mut registry, &connected, "aws:instance:i-0000000000000001", 1);
    let all = apply(&mut registry, &connected, "aws:account:123456789012", 1000);
    println!(
        "{count:>9} entries: {:>5} bytes/entry, load {:.1} us/entry, match {match_us:.2} us ({} entries), authorize \
         {authorize_us:.2} us, change for 1 / 1,000 of 1,000 nodes {one:.0} / {all:.0} us",
        bytes / count,
        load_us / count as f64,
        matched / nodes.len()
    );
}

/// CPU time from a file with one new entry to what each connected node must hear.
fn apply(registry: &mut Registry, connected: &ConnectedNodes, node: &str, affected: usize) -> f64 {
    let start = cpu_us();
    let text = format!(
        "owner: bench\nentries:\n- name: bench/{affected}\n  spiffe_id: spiffe://example.org/bench\n  node: [\"{node}\"]\n  \
         selectors: [unix:uid:1]\n"
    );
    let file = EntriesFile::parse(text.as_bytes(), registry.rules()).unwrap();
    let plan = registry.plan(file, false, 0).unwrap();
    let committed = Committed { revision: Revision { epoch: 1, n: u64::MAX >> 30 }, first_order: 1 };
    let changes = registry.apply(plan, committed, NOW);
    let deltas = connected.deltas(&changes, registry.rules());
    assert_eq!(deltas.len(), affected);
    cpu_us() - start
}

fn main() {
    let counts: Vec<usize> = std::env::args().skip(1).map(|count| count.parse().unwrap()).collect();
    let counts = if counts.is_empty() { vec![1_000, 100_000, 1_000_000] } else { counts };
    for count in counts {
        measure(count);
    }
}
