//! Bundles of several trust domains in one document.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_sdk::bundle::BundleMap;

fuzz_target!(|document: &[u8]| {
    if let Ok(map) = BundleMap::from_json(document) {
        let again = BundleMap::from_json(map.to_json().as_bytes()).expect("what we wrote");
        assert_eq!(again.to_json(), map.to_json());
    }
});
