//! What comes over the agent's socket before HTTP/2 reads it, in pieces of any size.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| mayfly_node_agent::listener::authority::fuzz(octets));
