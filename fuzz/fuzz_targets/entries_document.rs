//! Files of entries, YAML or JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_issuer::registry::fuzz_entries_document;

fuzz_target!(|document: &[u8]| fuzz_entries_document(document));
