//! What strangers present before anything is verified: chains of machine certificates, tokens, and the keys of their providers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    mayfly_issuer::attest::fuzz_machine_chain(bytes);
    mayfly_issuer::agentless::fuzz_token_and_keys(bytes);
});
