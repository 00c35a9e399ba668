//! What the kernel says of a process, whose name and cgroup that process may have chosen.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| mayfly_node_agent::workload::fuzz_process_files(text));
