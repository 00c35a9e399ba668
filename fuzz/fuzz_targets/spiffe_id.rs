//! SPIFFE IDs: what is accepted is unchanged, and made of its parts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_sdk::{SpiffeId, id};

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<SpiffeId>() {
        assert_eq!(id.as_str(), text);
        assert!(text.len() <= id::MAX_ID_BYTES && id.trust_domain().as_str().len() <= id::MAX_TRUST_DOMAIN_BYTES);
        assert!(id.segments().all(id::is_legal_segment));
        assert_eq!(SpiffeId::from_path(id.trust_domain(), id.path()), Ok(id.clone()));
        assert_eq!(SpiffeId::parse_normalizing(text), Ok(id));
    } else if let Ok(id) = SpiffeId::parse_normalizing(text) {
        assert_eq!(id.as_str().parse(), Ok(id));
    }
});
