//! Lifetimes, times, revisions and serials as people and files write them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_sdk::{InstanceId, Revision, Serial, Timestamp, Ttl};

fuzz_target!(|text: &str| {
    if let Ok(ttl) = text.parse::<Ttl>() {
        assert!(!ttl.is_zero());
        assert_eq!(ttl.to_string().parse(), Ok(ttl));
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        assert_eq!(at.to_string().parse(), Ok(at));
    }
    if let Ok(revision) = text.parse::<Revision>() {
        assert_eq!(revision.to_string(), text);
    }
    if let Ok(serial) = text.parse::<Serial>() {
        assert_eq!(serial.to_string(), text);
    }
    if let Ok(id) = text.parse::<InstanceId>() {
        assert_eq!(id.to_string(), text);
    }
});
