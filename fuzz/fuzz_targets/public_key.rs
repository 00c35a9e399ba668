//! Public keys: one key, one spelling. And private keys, which only have to be refused in peace.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_sdk::{PrivateKey, PublicKey, jwk};

fuzz_target!(|der: &[u8]| {
    if let Ok(key) = PublicKey::from_spki(der) {
        assert_eq!(key.spki(), der);
        // Ed25519 is not read from a JWK: no bundle has a use for it.
        if let Ok(again) = jwk::public_key(&jwk::members(&key)) {
            assert_eq!(again, key);
        }
    }
    if let Ok(key) = PrivateKey::from_pkcs8(der) {
        assert_eq!(key.expose_pkcs8(), der);
    }
});
