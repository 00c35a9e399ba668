//! X.509 chains against a real root: whatever is believed is read back the same.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mayfly_sdk::x509::{Authority, Certificate, Leaf, Usage, split_certificates, verify};
use mayfly_sdk::{Timestamp, X509Bundle, X509BundleSet};

const NOW: Timestamp = Timestamp::from_unix_s(1_760_000_000);

static BUNDLES: LazyLock<X509BundleSet> = LazyLock::new(|| {
    let td = "td".parse().expect("a trust domain");
    X509Bundle::from_der(td, include_bytes!("../seeds/root.der")).expect("a bundle").into()
});

fuzz_target!(|der: &[u8]| {
    let pieces: Vec<_> = split_certificates(der).map_while(Result::ok).collect();
    assert!(der.starts_with(&pieces.concat()));
    if let Ok(peer) = verify(&pieces, &BUNDLES, NOW, Usage::Any) {
        assert_eq!(peer.trust_domain().as_str(), "td");
        assert!(peer.valid_until() >= NOW && !peer.spiffe_id().is_root());
    }
    for piece in &pieces {
        if let Ok(certificate) = Certificate::parse(piece) {
            drop(Leaf::of(&certificate));
            let root = BUNDLES.iter().next().expect("a bundle").authorities()[0].public_key();
            let _held = certificate.verify_signature(root).is_ok();
        }
        drop(Authority::from_der(piece));
    }
    // Any certificate as the anchor of the others.
    if let Some(anchor) = pieces.last().and_then(|der| Authority::from_der(der).ok()) {
        let bundle = X509Bundle::new("td".parse().expect("a trust domain"), vec![anchor]);
        drop(verify(&pieces, &bundle.into(), NOW, Usage::Server));
    }
});
