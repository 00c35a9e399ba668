//! Token keys in the form of the Workload API.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_sdk::{JwtBundle, TrustDomain};

fuzz_target!(|document: &[u8]| {
    let td: TrustDomain = "td".parse().expect("a trust domain");
    if let Ok(bundle) = JwtBundle::from_jwks(td.clone(), document) {
        // The `alg` of a key restricts it, and is not written out again.
        let again = JwtBundle::from_jwks(td, bundle.to_jwks().as_bytes()).expect("what we wrote");
        assert_eq!(again.authorities().len(), bundle.authorities().len());
    }
});
