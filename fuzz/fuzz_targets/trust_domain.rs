//! Trust domains, from a name or an id.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_sdk::TrustDomain;

fuzz_target!(|text: &str| {
    if let Ok(td) = text.parse::<TrustDomain>() {
        assert_eq!(TrustDomain::from_name(td.as_str()), Ok(td.clone()));
        assert_eq!(td.id().as_str().parse(), Ok(td.clone()));
        assert!(text.contains(td.as_str()));
    }
    if let Ok(td) = TrustDomain::parse_normalizing(text) {
        assert_eq!(TrustDomain::from_name(td.as_str()), Ok(td));
    }
});
