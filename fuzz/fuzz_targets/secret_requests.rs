//! A proxy's requests for secrets, one after the other on one stream.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: &[u8]| mayfly_node_agent::fuzz_secret_requests(stream));
