//! What operators and environments hand over as text: addresses of Workload APIs, pins, PEM files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_sdk::client::Endpoint;
use mayfly_sdk::pem;
use mayfly_sdk::tls::SpkiPin;

fuzz_target!(|text: &str| {
    drop(text.parse::<Endpoint>());
    if let Ok(pin) = text.parse::<SpkiPin>() {
        assert_eq!(pin.to_string().parse(), Ok(pin));
    }
    if let Ok(certificates) = pem::read_certificates(text.as_bytes()) {
        let again: String = certificates.iter().map(|der| pem::certificate(der)).collect();
        assert_eq!(pem::read_certificates(again.as_bytes()).as_ref(), Ok(&certificates));
    }
});
