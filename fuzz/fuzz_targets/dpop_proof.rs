//! Proofs of possession (DPoP), as text and as a header and claims that their own key has signed: one that holds is for this request, and
//! is good once.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mayfly_fuzz::{key, signed};
use mayfly_sdk::dpop::{DpopRequest, DpopVerifier};
use mayfly_sdk::jwk;
use mayfly_sdk::key::PrivateKey;
use mayfly_sdk::wit::{ProofError, TargetUri};
use mayfly_sdk::{Clock, Timestamp};

static KEY: LazyLock<PrivateKey> = LazyLock::new(key);
static TARGET: LazyLock<TargetUri> =
    LazyLock::new(|| "https://issuer.example.org/task/token".parse().expect("a target"));

fuzz_target!(|text: &str| {
    let (clock, _hand) = Clock::manual(Timestamp::from_unix_s(1_790_000_000));
    let verifier = DpopVerifier::new(&clock, 10);
    let request = DpopRequest { method: "POST", target: &TARGET, token: None };
    // By somebody else's key at the best.
    drop(verifier.verify(text, &request));
    let (header, claims) = text.split_once('\n').unwrap_or(("", text));
    let own = serde_json::Value::Object(jwk::members(KEY.public_key())).to_string();
    let proof = signed(&KEY, &header.replace("JWK", &own), claims);
    if let Ok(held) = verifier.verify(&proof, &request) {
        assert_eq!(held.thumbprint(), jwk::thumbprint_sha256(KEY.public_key()));
        assert_eq!(verifier.use_up(held), Ok(()));
        let again = verifier.verify(&proof, &request).and_then(|held| verifier.use_up(held));
        assert_eq!(again, Err(ProofError::Used));
    }
});
