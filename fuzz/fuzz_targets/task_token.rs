//! Task tokens, as text and as claims that a task key has signed: those that are believed say what they were read as.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mayfly_fuzz::{key, signed};
use mayfly_sdk::Timestamp;
use mayfly_sdk::jwk;
use mayfly_sdk::key::PrivateKey;
use mayfly_sdk::task::{TYP, TaskClaims, TaskKeys, TaskTokenError};

const NOW: Timestamp = Timestamp::from_unix_s(1_790_000_000);

static KEY: LazyLock<PrivateKey> = LazyLock::new(key);
static KEYS: LazyLock<TaskKeys> =
    LazyLock::new(|| TaskKeys::new("https://issuer.example.org/task", [KEY.public_key().clone()]));

fn read(claims: &str) -> Result<TaskClaims, TaskTokenError> {
    let header = format!(r#"{{"alg":"ES256","kid":"{}","typ":"{TYP}"}}"#, jwk::thumbprint(KEY.public_key()));
    KEYS.read(&signed(&KEY, &header, claims), NOW)
}

fuzz_target!(|text: &str| {
    assert!(KEYS.read(text, NOW).is_err(), "nobody has signed it");
    if let Ok(claims) = read(text) {
        let written = serde_json::Value::Object(claims.to_json()).to_string();
        assert_eq!(read(&written).as_ref(), Ok(&claims), "{written}");
    }
});
