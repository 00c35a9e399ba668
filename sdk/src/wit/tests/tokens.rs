//! The token: rows W-1 to W-22, W-29, W-33 and W-34.

use proptest::prelude::*;

use super::*;
use crate::bundle::{JwtBundle, JwtBundleSet};
use crate::id::IdError;
use crate::jws::JwsError;
use crate::jwt;

/// Rows: W-4.
#[test]
fn all_nine_algorithms_sign_tokens_and_proofs() {
    for (kind, algorithms) in [
        (KeyAlgorithm::EcP256, vec![JwsAlgorithm::Es256]),
        (KeyAlgorithm::EcP384, vec![JwsAlgorithm::Es384]),
        (KeyAlgorithm::EcP521, vec![JwsAlgorithm::Es512]),
        (KeyAlgorithm::Rsa2048, JwsAlgorithm::ALL[..6].to_vec()),
    ] {
        let world = World::of(kind, kind);
        for algorithm in algorithms {
            let mut claims = world.claims();
            claims["cnf"]["jwk"]["alg"] = json!(algorithm.name());
            let signer = Signer::with_key_id(&world.authority, algorithm, TYP, "k1").unwrap();
            let token = signer.sign(claims.to_string().as_bytes()).unwrap();
            let signer = Signer::without_key_id(&world.workload, algorithm, PROOF_TYP).unwrap();
            let proof = signer.sign(World::proof_claims(&token).to_string().as_bytes()).unwrap();
            assert!(world.both(&token, &proof).is_ok(), "{algorithm}");
        }
    }
}

/// Rows: W-4.
#[test]
fn other_algorithms_are_refused_before_any_key_is_looked_for() {
    let world = World::new();
    for alg in [r#""none""#, r#""HS256""#, r#""EdDSA""#, r#""ES256K""#, r#""es256""#, "null", "1"] {
        let refused = world.with_header(&format!(r#"{{"alg":{alg},"kid":"k1","typ":"wit+jwt"}}"#)).unwrap_err();
        assert_eq!(refused, JwsError::UnsupportedAlgorithm.into(), "{alg}");
    }
    let without = world.with_header(r#"{"kid":"k1","typ":"wit+jwt"}"#).unwrap_err();
    assert_eq!(without, JwsError::UnsupportedAlgorithm.into());
    // An algorithm of the nine that is not one of the key.
    let other = world.with_header(r#"{"alg":"ES384","kid":"k1","typ":"wit+jwt"}"#).unwrap_err();
    assert_eq!(other, JwsError::BadSignature.into());
}

/// Rows: W-1.
#[test]
fn other_forms_than_the_compact_one_are_refused() {
    let world = World::new();
    let token = world.token();
    assert!(world.shown(&token).is_ok());
    let parts: Vec<_> = token.split('.').collect();
    let flattened = json!({ "protected": parts[0], "payload": parts[1], "signature": parts[2] }).to_string();
    let general = json!({
        "payload": parts[1],
        "signatures": [{ "protected": parts[0], "signature": parts[2] }],
    });
    for text in [flattened, general.to_string(), format!("{token}."), parts[..2].join("."), format!("{token}=")] {
        assert!(matches!(world.shown(&text).unwrap_err(), WitError::Jws(JwsError::NotCompact)), "{text}");
    }
}

/// Rows: W-2, W-29.
#[test]
fn the_key_is_named_and_no_other_is_tried() {
    let world = World::new();
    assert!(world.with_header(TOKEN_HEADER).is_ok());
    for (kid, error) in [
        ("", WitError::NoKeyId),
        (r#""kid":"","#, WitError::NoKeyId),
        (r#""kid":1,"#, JwsError::BadKeyId.into()),
        (r#""kid":null,"#, JwsError::BadKeyId.into()),
        (r#""kid":"K1","#, WitError::NoAuthority),
        (r#""kid":"k2","#, WitError::NoAuthority),
    ] {
        let refused = world.with_header(&format!(r#"{{"alg":"ES256",{kid}"typ":"wit+jwt"}}"#)).unwrap_err();
        assert_eq!(refused, error, "{kid}");
    }
    let nothing = World { bundles: WitBundle::empty("td".parse().unwrap()).into(), ..World::new() };
    assert_eq!(nothing.shown(&nothing.token()).unwrap_err(), WitError::NoAuthority, "no support for WIT-SVIDs");
    let nobody = World { bundles: WitBundleSet::new(), ..World::new() };
    assert_eq!(nobody.shown(&nobody.token()).unwrap_err(), WitError::NoBundle);
}

/// Rows: W-3.
#[test]
fn typ_is_wit_jwt_and_nothing_else() {
    let world = World::new();
    for typ in
        [r#""JWT""#, r#""WIT+JWT""#, r#""application/wit+jwt""#, r#""wpt+jwt""#, r#""""#, "null", r#"["wit+jwt"]"#]
    {
        let refused = world.with_header(&format!(r#"{{"alg":"ES256","kid":"k1","typ":{typ}}}"#)).unwrap_err();
        assert_eq!(refused, WitError::WrongType, "{typ}");
    }
    assert_eq!(world.with_header(r#"{"alg":"ES256","kid":"k1"}"#).unwrap_err(), WitError::WrongType);
}

/// Rows: W-6.
#[test]
fn unknown_headers_are_ignored_unless_they_are_critical() {
    let world = World::new();
    for extra in [r#""foo":1"#, r#""jku":"https://thief.example/keys""#, r#""b64":true"#] {
        let header = format!(r#"{{"alg":"ES256","kid":"k1","typ":"wit+jwt",{extra}}}"#);
        assert!(world.with_header(&header).is_ok(), "{extra}");
    }
    // A key that comes with the token is not looked at.
    let jwk = Value::Object(jwk::members(world.workload.public_key()));
    let header = format!(r#"{{"alg":"ES256","kid":"k1","typ":"wit+jwt","jwk":{jwk}}}"#);
    let forged = signed(&world.workload, &header, &world.claims().to_string());
    assert_eq!(world.shown(&forged).unwrap_err(), JwsError::BadSignature.into());
    for crit in [r#""crit":["foo"],"foo":1"#, r#""crit":["exp"]"#, r#""crit":[]"#, r#""crit":null"#] {
        let header = format!(r#"{{"alg":"ES256","kid":"k1","typ":"wit+jwt",{crit}}}"#);
        assert_eq!(world.with_header(&header).unwrap_err(), WitError::Critical, "{crit}");
    }
}

/// Rows: W-7.
#[test]
fn the_subject_is_the_spiffe_id_of_a_workload() {
    let world = World::new();
    assert!(world.with_claim("sub", Some(json!("spiffe://td/b"))).is_ok());
    for (sub, error) in [
        (None, WitError::NoSubject),
        (Some(json!("")), WitError::NoSubject),
        (Some(json!(1)), WitError::NoSubject),
        (Some(json!("wimse://td/a")), WitError::BadSubject(IdError::WrongScheme)),
        (Some(json!("spiffe://TD/a")), WitError::BadSubject(IdError::BadTrustDomainChar)),
        (Some(json!("spiffe://td")), WitError::RootSubject),
        (Some(json!("spiffe://other/a")), WitError::NoBundle),
    ] {
        assert_eq!(world.with_claim("sub", sub.clone()).unwrap_err(), error, "{sub:?}");
    }
}

/// Rows: W-8, W-9, W-10, W-11.
#[test]
fn cnf_is_one_public_key_with_an_algorithm_that_fits_it() {
    let world = World::new();
    let jwk = world.confirmation()["jwk"].clone();
    let cnf = |value: Value| world.with_claim("cnf", Some(value));
    assert!(cnf(json!({ "jwk": jwk })).is_ok());
    assert!(cnf(json!({ "jwk": with(jwk.clone(), "kid", Some(json!("mine"))), "x": 1 })).is_ok());
    assert_eq!(world.with_claim("cnf", None).unwrap_err(), WitError::NoConfirmation);
    for none in [
        json!("x"),
        json!(null),
        json!([]),
        json!({}),
        json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" }),
        json!({ "kid": "k" }),
        json!({ "jwk": "x" }),
        json!({ "jwk": [jwk] }),
    ] {
        assert_eq!(cnf(none.clone()).unwrap_err(), WitError::NoConfirmation, "{none}");
    }
    let change = |name: &str, value: Option<Value>| cnf(json!({ "jwk": with(jwk.clone(), name, value) }));
    let other = PrivateKey::generate(KeyAlgorithm::EcP384).unwrap();
    let p384 = Value::Object(jwk::members(other.public_key()));
    for (name, value) in [
        ("alg", None),
        ("alg", Some(json!("EdDSA"))),
        ("alg", Some(json!("ECDH-ES"))),
        ("alg", Some(json!("HS256"))),
        ("alg", Some(json!(1))),
        ("alg", Some(json!("ES384"))),
        ("alg", Some(json!("RS256"))),
        ("crv", Some(json!("P-384"))),
        ("kty", Some(json!("oct"))),
        ("kty", None),
        ("x", Some(json!("AA"))),
        ("d", Some(json!("AA"))),
        ("k", Some(json!("AA"))),
        ("p", Some(json!("AA"))),
        ("oth", Some(json!([]))),
    ] {
        assert_eq!(change(name, value.clone()).unwrap_err(), WitError::BadConfirmation, "{name} {value:?}");
    }
    let mismatch = json!({ "jwk": with(p384, "alg", Some(json!("ES256"))) });
    assert_eq!(cnf(mismatch).unwrap_err(), WitError::BadConfirmation);
    let two = json!({ "jwk": jwk, "jku": "https://thief.example" });
    assert_eq!(cnf(two).unwrap_err(), WitError::BadConfirmation);
}

/// Rows: W-14, W-15, W-17.
#[test]
fn times_are_checked_with_a_small_leeway_and_iat_limits_nothing() {
    let mut world = World::new();
    for bad in [json!("1"), json!(null), json!(-1), json!(1e300), json!(true)] {
        assert_eq!(world.with_claim("exp", Some(bad.clone())).unwrap_err(), WitError::BadTime, "{bad}");
    }
    assert_eq!(world.with_claim("exp", None).unwrap_err(), WitError::NoExpiry);
    assert!(world.with_claim("exp", Some(json!(later(-29)))).is_ok());
    assert_eq!(world.with_claim("exp", Some(json!(later(-30)))).unwrap_err(), WitError::Expired);
    assert!(world.with_claim("nbf", Some(json!(later(30)))).is_ok());
    assert_eq!(world.with_claim("nbf", Some(json!(later(31)))).unwrap_err(), WitError::NotYetValid);
    assert_eq!(world.with_claim("nbf", Some(json!("x"))).unwrap_err(), WitError::BadTime);
    assert!(world.with_claim("iat", Some(json!(later(600)))).is_ok());
    assert!(world.with_claim("iat", None).is_ok());
    world.validator = Validator::default().with_leeway(Ttl::ZERO).unwrap();
    assert!(world.with_claim("exp", Some(json!(later(1)))).is_ok());
    assert_eq!(world.with_claim("exp", Some(json!(later(0)))).unwrap_err(), WitError::Expired);
    assert_eq!(world.with_claim("nbf", Some(json!(later(1)))).unwrap_err(), WitError::NotYetValid);
    assert!(Validator::default().with_leeway(MAX_LEEWAY).is_ok());
    assert_eq!(Validator::default().with_leeway(Ttl::from_s(121)).unwrap_err(), ProofError::OutOfRange);
}

/// Rows: W-16.
#[test]
fn a_validator_may_limit_how_long_tokens_live() {
    let mut world = World::new();
    world.validator = Validator::default().with_longest_life(Ttl::from_s(900));
    let life = |nbf: Option<i64>, exp: i64| {
        let claims = with(world.claims(), "nbf", nbf.map(|nbf| json!(nbf)));
        let claims = with(claims, "exp", Some(json!(exp)));
        world.shown(&signed(&world.authority, TOKEN_HEADER, &claims.to_string())).map(drop)
    };
    assert_eq!(life(Some(later(-300)), later(600)), Ok(()));
    assert_eq!(life(Some(later(-301)), later(600)), Err(WitError::LivesTooLong));
    assert_eq!(life(None, later(900)), Ok(()));
    assert_eq!(life(None, later(901)), Err(WitError::LivesTooLong));
}

/// Rows: W-19, W-20.
#[test]
fn an_audience_is_refused_and_other_claims_are_not_looked_at() {
    let world = World::new();
    for aud in [json!("db"), json!(["db"]), json!(""), json!([]), json!(null)] {
        assert_eq!(world.with_claim("aud", Some(aud.clone())).unwrap_err(), WitError::HasAudience, "{aud}");
    }
    assert!(world.with_claim("unheard_of", Some(json!({ "a": [1] }))).is_ok());
    let twice = world.claims().to_string().replacen('{', r#"{"sub":"spiffe://td/b","#, 1);
    let twice = signed(&world.authority, TOKEN_HEADER, &twice);
    assert_eq!(world.shown(&twice).unwrap_err(), JwsError::BadPayload.into());
}

/// Rows: W-29.
#[test]
fn only_the_keys_of_the_subjects_trust_domain_and_of_this_use_count() {
    let (world, other) = (World::new(), World::new());
    let forged = signed(&other.authority, TOKEN_HEADER, &world.claims().to_string());
    assert_eq!(world.shown(&forged).unwrap_err(), JwsError::BadSignature.into());
    // The same key under the same name, for JWT-SVIDs: not in this bundle, and in no type that could get there.
    let mut entry = jwk::members(world.authority.public_key());
    entry.extend([("kid".into(), json!("k1")), ("use".into(), json!("jwt-svid"))]);
    let document = json!({ "keys": [entry] }).to_string();
    let wit = WitBundle::from_jwks("td".parse().unwrap(), document.as_bytes()).unwrap();
    let world = World { bundles: wit.into(), ..world };
    assert_eq!(world.shown(&world.token()).unwrap_err(), WitError::NoAuthority);
    // The `alg` of a key binds.
    let mut entry = jwk::members(world.authority.public_key());
    entry.extend([("kid".into(), json!("k1")), ("use".into(), json!("wit-svid")), ("alg".into(), json!("ES384"))]);
    let document = json!({ "keys": [entry] }).to_string();
    let wit = WitBundle::from_jwks("td".parse().unwrap(), document.as_bytes()).unwrap();
    let world = World { bundles: wit.into(), ..world };
    assert_eq!(world.shown(&world.token()).unwrap_err(), JwsError::BadSignature.into());
}

/// Rows: W-33.
#[test]
fn neither_validator_takes_the_tokens_of_the_other() {
    let world = World::new();
    let jwks = json!({ "keys": [{
        "kid": "k1", "kty": "EC", "crv": "P-256",
        "x": world.confirmation_of_authority("x"), "y": world.confirmation_of_authority("y"),
    }] });
    let jwt_bundles: JwtBundleSet =
        JwtBundle::from_jwks("td".parse().unwrap(), jwks.to_string().as_bytes()).unwrap().into();
    let check_jwt = |token: &str| {
        let audience = "db".parse().unwrap();
        jwt::verify(token, &jwt_bundles, &audience, NOW, &jwt::Options::default().allow_extra_headers()).map(drop)
    };
    let claims = json!({ "sub": "spiffe://td/a", "aud": ["db"], "exp": later(300) }).to_string();
    let jwt_svid = signed(&world.authority, r#"{"alg":"ES256","kid":"k1","typ":"JWT"}"#, &claims);
    assert_eq!(check_jwt(&jwt_svid), Ok(()));
    assert_eq!(world.shown(&jwt_svid).unwrap_err(), WitError::WrongType);
    assert!(world.shown(&world.token()).is_ok());
    assert_eq!(check_jwt(&world.token()), Err(jwt::JwtError::WrongType));
}

/// Rows: W-13, W-22.
#[test]
fn one_token_serves_several_instances_and_its_jti_is_no_protection_against_replay() {
    let mut world = World::new();
    world.validator = Validator::default().with_single_use(10);
    let claims = with(world.claims(), "jti", Some(json!("the-same-for-both")));
    let token = signed(&world.authority, TOKEN_HEADER, &claims.to_string());
    for id in ["first-instance-0001", "second-instance-001"] {
        let claims = with(World::proof_claims(&token), "jti", Some(json!(id)));
        let proof = signed(&world.workload, WPT_HEADER, &claims.to_string());
        assert!(world.both(&token, &proof).is_ok(), "{id}");
    }
}

/// Rows: W-34.
#[test]
fn the_example_of_the_standard_is_read() {
    // WIT-SVID, Appendix A. Its signing key is not published.
    const EXAMPLE: &str = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImxRU2kzaFpGbmRhMkQtWEprajF6bDdmb0pvdWl3STRuckF5aHk0alppSmciLCJ0eXAiOiJ3aXQrand0In0.eyJjbmYiOnsiandrIjp7ImFsZyI6IkVTMjU2IiwiY3J2IjoiUC0yNTYiLCJrdHkiOiJFQyIsIngiOiJyelA3bUxDS0FIV21zTTZYMEV3VklTQ19oSTN1amN1OTVmZlVreWVER0dvIiwieSI6InVPcmZEbGp0WDltM2pZLWhzeWhMSllheHRHa3pEdjVlNWttQ2U1OFo5N2cifX0sImV4cCI6MTc2NTQ1NjUwMywiaWF0IjoxNzY1NDUyOTAzLCJqdGkiOiIxeWoxOVY0TWNPQXpNY0ZpN3F2c2dfQWdDeGxyWTVFX3g1MDl3bEtLUXRjIiwic3ViIjoic3BpZmZlOi8vZXhhbXBsZS5jb20vbXktd29ya2xvYWQifQ.sfhEvZNdY_kWrICF08lX0u__rn39YnTavnW-VPBS20zgowDh6-X43v5eOUKZbjZf06yLBQM-Mry5w1g1QFsCkg";
    let read = UnverifiedWit::read(EXAMPLE).unwrap();
    assert_eq!(read.spiffe_id().as_str(), "spiffe://example.com/my-workload");
    assert_eq!(read.key_id(), "lQSi3hZFnda2D-XJkj1zl7foJouiwI4nrAyhy4jZiJg");
    assert_eq!((read.expires_at().unix_s(), read.proof_algorithm()), (1_765_456_503, JwsAlgorithm::Es256));
    assert_eq!(read.bound_key().key_type(), crate::key::KeyType::EcP256);
    let signature = EXAMPLE.rsplit_once('.').unwrap().1;
    assert_eq!(URL_SAFE_NO_PAD.decode(signature).unwrap().len(), 64);
}

impl World {
    fn confirmation_of_authority(&self, name: &str) -> Value {
        jwk::members(self.authority.public_key())[name].clone()
    }
}

proptest! {
    #[test]
    fn a_changed_token_is_never_believed(at in 0_usize..2000, to in "[A-Za-z0-9_.-]") {
        let world = World::new();
        let good = world.token();
        let at = at % good.len();
        let mut bad = good.clone();
        bad.replace_range(at..=at, &to);
        prop_assume!(bad != good);
        prop_assert!(world.shown(&bad).is_err(), "{}", bad);
        // Nor with a proof that was made for the true one.
        prop_assert!(world.both(&bad, &world.proof(&good)).is_err(), "{}", bad);
    }

    #[test]
    fn no_claims_make_the_reader_panic(
        sub in "spiffe://td/[a-z]{1,5}|\\PC{0,20}", exp in any::<f64>(), alg in "ES256|ES384|\\PC{0,6}", x in "[A-Za-z0-9_-]{0,50}",
    ) {
        let world = World::new();
        let mut claims = with(with(world.claims(), "sub", Some(json!(sub))), "exp", Some(json!(exp)));
        claims["cnf"]["jwk"]["alg"] = json!(alg);
        let token = signed(&world.authority, TOKEN_HEADER, &claims.to_string());
        if let Ok(caller) = world.shown(&token) {
            prop_assert_eq!(caller.spiffe_id().as_str(), sub);
            prop_assert!(alg == "ES256" && exp > 1.0e9);
        }
        claims["cnf"]["jwk"]["x"] = json!(x);
        prop_assert!(world.shown(&signed(&world.authority, TOKEN_HEADER, &claims.to_string())).is_err());
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC*|[A-Za-z0-9_.-]{0,60}") {
        drop(UnverifiedWit::read(&text));
    }
}
