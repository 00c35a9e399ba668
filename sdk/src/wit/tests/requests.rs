//! How token and proof come: rows W-24, W-27 and W-32; and SVIDs of one's own.

use proptest::prelude::*;

use super::*;
use crate::jws::JwsError;

/// Rows: W-32.
#[test]
fn there_is_exactly_one_token_and_one_proof() {
    let world = World::new();
    let token = world.token();
    let proof = format!("WPT {}", world.proof(&token));
    let check = |headers: &[(&str, &str)]| world.request(headers).map(drop);
    let (t, p) = ((IDENTITY_HEADER, token.as_str()), (AUTHORIZATION, proof.as_str()));
    assert_eq!(check(&[t, p]), Ok(()));
    assert_eq!(check(&[("WORKLOAD-identity-token", &token), ("authorization", &proof), ("x", "y")]), Ok(()));
    assert_eq!(check(&[t, (AUTHORIZATION, &proof.replacen("WPT ", "wpt   ", 1))]), Ok(()), "the scheme has no case");
    let (no_token, no_proof) = (Err(ProofError::NotOneToken.into()), Err(ProofError::NotOneProof.into()));
    assert_eq!(check(&[p]), no_token);
    assert_eq!(check(&[t, t, p]), no_token);
    assert_eq!(check(&[]), no_token);
    assert_eq!(check(&[t]), no_proof);
    assert_eq!(check(&[t, p, p]), no_proof);
    assert_eq!(check(&[t, p, (PROOF_HEADER, &world.proof(&token))]), no_proof);
    assert_eq!(check(&[t, (PROOF_HEADER, &world.proof(&token))]), no_proof);
    // Two in one header are no token.
    let two = format!("{token}, {token}");
    assert_eq!(check(&[(IDENTITY_HEADER, &two), p]), Err(JwsError::NotCompact.into()));
    let two = format!("{proof}, {proof}");
    assert_eq!(check(&[t, (AUTHORIZATION, &two)]), Err(ProofError::Jws(JwsError::NotCompact).into()));
    assert_eq!(check(&[t, (AUTHORIZATION, "WPT")]), Err(ProofError::Jws(JwsError::NotCompact).into()));
    let bytes = [(IDENTITY_HEADER, &b"\xff"[..]), (AUTHORIZATION, proof.as_bytes())];
    let refused = world.validator.verify(bytes, &[URL.parse().unwrap()], &world.bundles, NOW).unwrap_err();
    assert_eq!(refused, ProofError::NotText.into());
}

/// Rows: W-24.
#[test]
fn a_wit_svid_is_never_a_bearer_token() {
    let world = World::new();
    let (token, other) = (world.token(), World::new().token());
    let check = |headers: &[(&str, &str)]| world.request(headers).map(drop);
    let bearer = format!("Bearer {token}");
    assert_eq!(check(&[(AUTHORIZATION, &bearer)]), Err(ProofError::BearerToken.into()));
    assert_eq!(check(&[(IDENTITY_HEADER, &token), (AUTHORIZATION, &bearer)]), Err(ProofError::BearerToken.into()));
    let foreign = format!("bearer {other}");
    assert_eq!(check(&[(IDENTITY_HEADER, &token), (AUTHORIZATION, &foreign)]), Err(ProofError::BearerToken.into()));
    for others in ["Bearer x.y.z", "Basic YTpi", "Bearer", ""] {
        let refused = check(&[(IDENTITY_HEADER, &token), (AUTHORIZATION, others)]);
        assert_eq!(refused, Err(ProofError::OtherCredentials.into()), "{others}");
    }
    // Nor does ours ever send one so.
    for carrier in [Carrier::Authorization, Carrier::ProofHeader] {
        let proof = world.svid().prove(&ProofRequest::new(URL.parse().unwrap()), NOW).unwrap();
        let [(name, value), (_, carried)] = proof.headers(carrier);
        assert_eq!((name, &value), (IDENTITY_HEADER, &world.svid_token(&value)));
        assert!(!carried.contains(&value));
    }
}

#[test]
fn earlier_drafts_have_a_header_for_the_proof() {
    let mut world = World::new();
    world.validator = Validator::default().with_carrier(Carrier::ProofHeader);
    let token = world.token();
    let proof = world.proof(&token);
    let check = |headers: &[(&str, &str)]| world.request(headers).map(drop);
    let (t, p) = ((IDENTITY_HEADER, token.as_str()), (PROOF_HEADER, proof.as_str()));
    assert_eq!(check(&[t, p]), Ok(()));
    assert_eq!(check(&[t, p, p]), Err(ProofError::NotOneProof.into()));
    let new = format!("WPT {proof}");
    assert_eq!(check(&[t, (AUTHORIZATION, &new)]), Err(ProofError::OtherCredentials.into()));
    assert_eq!(check(&[t, p, (AUTHORIZATION, "Bearer x")]), Err(ProofError::OtherCredentials.into()));
}

/// Rows: W-27.
#[test]
fn proofs_are_made_for_secure_channels_only() {
    let target = |text: &str| text.parse::<TargetUri>().map(|target| target.to_string());
    for (text, is) in [
        ("https://db", "https://db/"),
        ("HTTPS://DB.Example.org:443/A/b?q=1#f", "https://db.example.org/A/b"),
        ("https://db:8443/?x", "https://db:8443/"),
        ("https://[2001:DB8::1]:443/x", "https://[2001:db8::1]/x"),
        ("https://db/a//b/../c%2f", "https://db/a//b/../c%2f"),
        ("https://db?x/y", "https://db/"),
    ] {
        assert_eq!(target(text).as_deref(), Ok(is), "{text}");
    }
    for text in [
        "http://db/x",
        "wss://db/x",
        "unix:///run/x",
        "//db/x",
        "db/x",
        "",
        "https://",
        "https:///x",
        "https://user@db/x",
        "https://user:pass@db/x",
        "https://db:/x",
        "https://db:0/x",
        "https://db:65536/x",
        "https://db:8a/x",
        "https://[]/x",
        "https://[::1/x",
        "https://[::1]x/",
        "https://[::g]/",
        "https://db /x",
        "https://db/x\n",
        "https://d\u{e4}/x",
    ] {
        assert_eq!(target(text), Err(ProofError::BadTarget), "{text}");
    }
    assert_eq!(target(&format!("https://db/{}", "x".repeat(8192))), Err(ProofError::BadTarget));
}

#[test]
fn a_validators_targets_come_from_its_own_origin() {
    let origin: Origin = "https://DB.example.org".parse().unwrap();
    assert_eq!(origin.to_string(), "https://db.example.org");
    assert_eq!(origin.at("/rows?x=1").unwrap().as_str(), URL);
    assert_eq!("https://db:8443/".parse::<Origin>().unwrap().at("/").unwrap().as_str(), "https://db:8443/");
    for text in ["https://db/x", "https://db?x", "https://db/#f", "http://db", "db", ""] {
        assert_eq!(text.parse::<Origin>(), Err(ProofError::BadTarget), "{text}");
    }
    // A path cannot change whose it is.
    for path in ["", "rows", "@thief.example/", ".thief.example/", ":1/", "/a b"] {
        assert_eq!(origin.at(path), Err(ProofError::BadTarget), "{path}");
    }
    assert_eq!(origin.at("//thief.example/").unwrap().as_str(), "https://db.example.org//thief.example/");
}

/// Rows: WA-63.
#[test]
fn an_svid_of_ones_own_has_the_key_that_its_token_names() {
    let world = World::new();
    let text = crate::jwk::private_text(&world.workload).unwrap();
    let svid = WitSvid::from_jwk(&world.token(), &text).unwrap();
    assert_eq!((svid.spiffe_id().as_str(), svid.expires_at().unix_s()), ("spiffe://td/a", later(900)));
    let stranger = World::new();
    let other = crate::jwk::private_text(&stranger.workload).unwrap();
    assert_eq!(WitSvid::from_jwk(&world.token(), &other).unwrap_err(), WitError::KeyMismatch);
    let public = Value::Object(jwk::members(world.workload.public_key())).to_string();
    for bad in [public.as_str(), "{}", "", "x"] {
        assert!(matches!(WitSvid::from_jwk(&world.token(), bad), Err(WitError::Key(_))), "{bad}");
    }
    assert_eq!(WitSvid::from_jwk("x", &text).unwrap_err(), JwsError::NotCompact.into());
    assert_eq!(svid.check_issued(&world.bundles, NOW), Ok(()));
    assert_eq!(svid.check_issued(&stranger.bundles, NOW), Err(JwsError::BadSignature.into()));
    assert_eq!(svid.check_issued(&world.bundles, svid.expires_at()), Err(WitError::Expired));
    let shown = format!("{svid:?}");
    assert!(!shown.contains(svid.token()) && !shown.contains(text.as_str()), "{shown}");
}

impl World {
    /// The token that a header must hold.
    fn svid_token(&self, value: &str) -> String {
        assert!(UnverifiedWit::read(value).unwrap().bound_key() == self.workload.public_key());
        value.to_owned()
    }
}

proptest! {
    #[test]
    fn no_headers_make_the_validator_panic(
        headers in prop::collection::vec(("(?i:authorization|workload-identity-token|txn-token|x)", "(WPT |Bearer )?[ -~]{0,30}"), 0..5),
    ) {
        let world = World::new();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        prop_assert!(world.request(&headers).is_err());
    }

    #[test]
    fn a_target_is_read_back_from_its_text(text in "https://[a-z0-9.-]{1,12}(:[0-9]{1,5})?(/[ -~]{0,20})?|\\PC{0,30}") {
        if let Ok(target) = text.parse::<TargetUri>() {
            prop_assert_eq!(target.as_str().parse(), Ok(target.clone()));
            prop_assert!(!target.as_str().contains(['?', '#', ' ']));
        }
    }
}
