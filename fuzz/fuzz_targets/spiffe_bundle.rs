//! Bundles in the SPIFFE form: what is accepted is written and read back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_sdk::{Bundle, TrustDomain};

fuzz_target!(|document: &[u8]| {
    let td: TrustDomain = "td".parse().expect("a trust domain");
    if let Ok(bundle) = Bundle::from_spiffe_json(td.clone(), document) {
        assert_eq!(Bundle::from_spiffe_json(td, bundle.to_spiffe_json().as_bytes()), Ok(bundle));
    }
});
