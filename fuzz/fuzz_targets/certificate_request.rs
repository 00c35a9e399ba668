//! Certificate requests of strangers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_sdk::x509::CertificateRequest;

fuzz_target!(|der: &[u8]| {
    if let Ok(request) = CertificateRequest::parse(der) {
        let claimed = request.claimed_key().clone();
        if let Ok(proven) = request.verify() {
            assert_eq!(proven, claimed);
        }
    }
});
