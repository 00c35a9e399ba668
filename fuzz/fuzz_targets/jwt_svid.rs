//! JWT-SVIDs against a real bundle: only the one token that its key signed is believed.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mayfly_sdk::jwt::{Audience, Options, insecure_claims, verify};
use mayfly_sdk::{JwtBundle, JwtBundleSet, Timestamp};

const GOOD: &str = include_str!("../seeds/jwt_svid/good");
const NOW: Timestamp = Timestamp::from_unix_s(1_760_000_000);

static BUNDLES: LazyLock<JwtBundleSet> = LazyLock::new(|| {
    let td = "td".parse().expect("a trust domain");
    JwtBundle::from_jwks(td, include_bytes!("../seeds/jwks/good")).expect("a bundle").into()
});

fuzz_target!(|text: &str| {
    let us = Audience::new("us").expect("a name");
    let svid = verify(text, &BUNDLES, &us, NOW, &Options::default());
    // ECDSA signatures can be negated, so the signature may differ; what was signed may not.
    let signed = |token: &str| token.rsplit_once('.').map(|(input, _)| input.to_owned());
    assert_eq!(svid.is_ok(), svid.is_ok() && signed(text) == signed(GOOD));
    drop(insecure_claims(text));
});
