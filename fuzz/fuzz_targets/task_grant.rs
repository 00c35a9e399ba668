//! Grants of tasks: what is read is written as it was meant, and then read as the same, with the same digest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_sdk::task::Grant;

fuzz_target!(|bytes: &[u8]| {
    let Ok(grant) = Grant::from_json(bytes) else { return };
    let written = serde_json::Value::Object(grant.to_json()).to_string();
    let again = Grant::from_json(written.as_bytes()).expect("what was written is read");
    assert_eq!((again.digest(), again.to_json()), (grant.digest(), grant.to_json()));
    assert_eq!(again, grant);
});
