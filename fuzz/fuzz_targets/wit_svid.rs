//! WIT-SVIDs and proofs of possession as the headers of a request, against a real bundle: only the one pair that was made
//! together is believed. The first line is the token, the second the proof.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mayfly_sdk::wit::{AUTHORIZATION, IDENTITY_HEADER, TargetUri, UnverifiedWit, Validator};
use mayfly_sdk::{Timestamp, WitBundle, WitBundleSet, WitSvid};

const GOOD: &str = include_str!("../seeds/wit_svid/good");
const NOW: Timestamp = Timestamp::from_unix_s(1_760_000_000);

static BUNDLES: LazyLock<WitBundleSet> = LazyLock::new(|| {
    let td = "td".parse().expect("a trust domain");
    WitBundle::from_jwks(td, include_bytes!("../seeds/wit_svid/jwks")).expect("a bundle").into()
});
static TARGET: LazyLock<TargetUri> = LazyLock::new(|| "https://db.example.org/rows".parse().expect("a target"));

fuzz_target!(|text: &str| {
    let (token, proof) = text.split_once('\n').unwrap_or((text, ""));
    let headers = [(IDENTITY_HEADER, token.as_bytes()), (AUTHORIZATION, proof.as_bytes())];
    let caller = Validator::default().verify(headers, std::slice::from_ref(&*TARGET), &BUNDLES, NOW);
    // ECDSA signatures can be negated, and a header has spaces around what it says; what was signed may not differ.
    let signed = |token: &str| token.trim_matches([' ', '\t']).rsplit_once('.').map(|(input, _)| input.to_owned());
    if let (Ok(caller), Some((good_token, good_proof))) = (caller, GOOD.split_once('\n')) {
        assert_eq!((signed(token), signed(last(proof))), (signed(good_token), signed(last(good_proof))));
        assert_eq!(caller.spiffe_id().as_str(), "spiffe://td/a");
    }
    drop((UnverifiedWit::read(token), proof.parse::<TargetUri>(), WitSvid::from_jwk(token, proof)));
});

/// The credentials, without their scheme.
fn last(header: &str) -> &str {
    header.trim_matches([' ', '\t']).rsplit(' ').next().unwrap_or_default()
}
