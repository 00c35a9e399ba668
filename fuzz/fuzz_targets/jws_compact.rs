//! Tokens, taken apart.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_sdk::jws::Unverified;

fuzz_target!(|text: &str| {
    if let Ok(token) = Unverified::parse(text) {
        assert_eq!(text.matches('.').count(), 2);
        assert_eq!(token.header()["alg"], token.algorithm().name());
        drop(token.insecure_claims());
    }
});
