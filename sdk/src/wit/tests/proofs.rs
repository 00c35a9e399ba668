//! The proof of possession: rows W-23, W-26, W-30 and W-31.

use proptest::prelude::*;

use super::*;
use crate::jws::JwsError;

/// Rows: W-30.
#[test]
fn a_proof_is_signed_by_the_key_in_cnf_with_the_algorithm_that_is_named_there() {
    let world = World::new();
    let token = world.token();
    let proof = |key: &PrivateKey, header: &str| signed(key, header, &World::proof_claims(&token).to_string());
    let check = |proof: &str| world.both(&token, proof).map(drop);
    assert_eq!(check(&proof(&world.workload, WPT_HEADER)), Ok(()));
    // By the trust domain's own key, and by a stranger's.
    let bad = Err(ProofError::Jws(JwsError::BadSignature).into());
    assert_eq!(check(&proof(&world.authority, WPT_HEADER)), bad);
    assert_eq!(check(&proof(&World::new().workload, WPT_HEADER)), bad);
    for alg in ["ES384", "RS256", "PS256"] {
        let header = format!(r#"{{"alg":"{alg}","typ":"wpt+jwt"}}"#);
        assert_eq!(check(&proof(&world.workload, &header)), Err(ProofError::WrongAlgorithm.into()), "{alg}");
    }
    for alg in ["none", "HS256", "EdDSA"] {
        let header = format!(r#"{{"alg":"{alg}","typ":"wpt+jwt"}}"#);
        let refused = Err(ProofError::Jws(JwsError::UnsupportedAlgorithm).into());
        assert_eq!(check(&proof(&world.workload, &header)), refused, "{alg}");
    }
    for typ in [r#""JWT""#, r#""wit+jwt""#, r#""WPT+JWT""#, r#""application/wpt+jwt""#, "null"] {
        let header = format!(r#"{{"alg":"ES256","typ":{typ}}}"#);
        assert_eq!(check(&proof(&world.workload, &header)), Err(ProofError::WrongType.into()), "{typ}");
    }
    assert_eq!(check(&proof(&world.workload, r#"{"alg":"ES256"}"#)), Err(ProofError::WrongType.into()));
    let critical = r#"{"alg":"ES256","typ":"wpt+jwt","crit":["x"],"x":1}"#;
    assert_eq!(check(&proof(&world.workload, critical)), Err(ProofError::Critical.into()));
    // A key that the proof brings along is not looked at.
    let thief = World::new().workload;
    let jwk = Value::Object(jwk::members(thief.public_key()));
    assert_eq!(check(&proof(&thief, &format!(r#"{{"alg":"ES256","typ":"wpt+jwt","jwk":{jwk}}}"#))), bad);
    // An RSA key has several algorithms, and the token names one.
    let rsa = World::of(KeyAlgorithm::EcP256, KeyAlgorithm::Rsa2048);
    let token = rsa.token();
    let by = |algorithm| {
        let signer = Signer::without_key_id(&rsa.workload, algorithm, PROOF_TYP).unwrap();
        let proof = signer.sign(World::proof_claims(&token).to_string().as_bytes()).unwrap();
        rsa.both(&token, &proof).map(drop)
    };
    assert_eq!(by(JwsAlgorithm::Rs256), Ok(()));
    assert_eq!(by(JwsAlgorithm::Ps256), Err(ProofError::WrongAlgorithm.into()));
}

/// Rows: W-31.
#[test]
fn a_proof_is_for_one_request() {
    let world = World::new();
    let aud = |value: Value| world.with_proof_claim("aud", Some(value)).map(drop);
    for good in [json!(URL), json!([URL]), json!(format!("{URL}?page=2#top")), json!("HTTPS://DB.example.org:443/rows")]
    {
        assert_eq!(aud(good.clone()), Ok(()), "{good}");
    }
    for other in [
        "https://db.example.org/",
        "https://db.example.org",
        "https://db.example.org/rows/",
        "https://db.example.org/Rows",
        "https://db.example.org/rows/../rows",
        "https://db.example.org:8443/rows",
        "https://db.example.org.thief.example/rows",
        "https://thief.example/rows",
    ] {
        assert_eq!(aud(json!(other)), Err(ProofError::WrongAudience.into()), "{other}");
    }
    for bad in [
        json!("http://db.example.org/rows"),
        json!("db"),
        json!(""),
        json!(null),
        json!([]),
        json!([URL, URL]),
        json!([1]),
        json!({}),
    ] {
        assert_eq!(aud(bad.clone()), Err(ProofError::BadAudience.into()), "{bad}");
    }
    assert_eq!(world.with_proof_claim("aud", None).unwrap_err(), ProofError::BadAudience.into());
}

/// Rows: W-31.
#[test]
fn a_proof_is_for_one_token() {
    let world = World::new();
    let other =
        signed(&world.authority, TOKEN_HEADER, &with(world.claims(), "exp", Some(json!(later(901)))).to_string());
    assert_eq!(world.both(&other, &world.proof(&world.token())).unwrap_err(), ProofError::WrongToken.into());
    for wth in [None, Some(json!("")), Some(json!(1)), Some(json!(hash("x"))), Some(json!([hash("x")]))] {
        assert_eq!(world.with_proof_claim("wth", wth.clone()).unwrap_err(), ProofError::WrongToken.into(), "{wth:?}");
    }
}

/// Rows: W-26, W-31.
#[test]
fn a_proof_lives_for_minutes_at_most() {
    let mut world = World::new();
    let exp = |world: &World, at: i64| world.with_proof_claim("exp", Some(json!(at))).map(drop);
    assert_eq!(exp(&world, later(-29)), Ok(()));
    assert_eq!(exp(&world, later(-30)), Err(ProofError::Expired.into()));
    assert_eq!(exp(&world, later(150)), Ok(()));
    assert_eq!(exp(&world, later(151)), Err(ProofError::LivesTooLong.into()));
    assert_eq!(world.with_proof_claim("exp", None).unwrap_err(), ProofError::NoExpiry.into());
    assert_eq!(world.with_proof_claim("exp", Some(json!("x"))).unwrap_err(), ProofError::BadTime.into());
    assert!(world.with_proof_claim("nbf", Some(json!(later(30)))).is_ok());
    assert_eq!(world.with_proof_claim("nbf", Some(json!(later(31)))).unwrap_err(), ProofError::NotYetValid.into());
    world.validator = Validator::default().with_leeway(Ttl::ZERO).unwrap().with_longest_proof(Ttl::from_s(5)).unwrap();
    assert_eq!(exp(&world, later(5)), Ok(()));
    assert_eq!(exp(&world, later(6)), Err(ProofError::LivesTooLong.into()));
    assert_eq!(exp(&world, later(0)), Err(ProofError::Expired.into()));
    for wrong in [Ttl::ZERO, Ttl::from_s(601)] {
        assert_eq!(Validator::default().with_longest_proof(wrong).unwrap_err(), ProofError::OutOfRange);
    }
}

/// Rows: W-31.
#[test]
fn the_id_of_a_proof_is_long_enough_to_be_one() {
    let world = World::new();
    let id = |value: Value| world.with_proof_claim("jti", Some(value)).map(drop);
    assert_eq!(id(json!("x".repeat(16))), Ok(()));
    assert_eq!(id(json!("x".repeat(256))), Ok(()));
    for bad in [json!("x".repeat(15)), json!("x".repeat(257)), json!(""), json!(1), json!(null)] {
        assert_eq!(id(bad.clone()), Err(ProofError::BadId.into()), "{bad}");
    }
    assert_eq!(world.with_proof_claim("jti", None).unwrap_err(), ProofError::BadId.into());
}

/// Rows: W-26.
#[test]
fn where_proofs_are_good_once_a_second_use_is_refused_until_it_has_expired() {
    let mut world = World::new();
    let (token, other) = (world.token(), World::new());
    world.validator = Validator::default().with_single_use(2);
    let proof = |id: &str, exp: i64| {
        let claims = with(with(World::proof_claims(&token), "jti", Some(json!(id))), "exp", Some(json!(exp)));
        signed(&world.workload, WPT_HEADER, &claims.to_string())
    };
    let show = |proof: &str, now: Timestamp| {
        let proof = format!("WPT {proof}");
        let headers = [(IDENTITY_HEADER, token.as_bytes()), (AUTHORIZATION, proof.as_bytes())];
        world.validator.verify(headers, &[URL.parse().unwrap()], &world.bundles, now).map(drop)
    };
    let [a, b, c] = ["a", "b", "c"].map(|name| proof(&name.repeat(16), later(60)));
    assert_eq!(show(&a, NOW), Ok(()));
    assert_eq!(show(&a, NOW), Err(ProofError::Used.into()));
    // Refused for another reason, a proof is not used up.
    let wrong = proof(&"b".repeat(16), later(-60));
    assert_eq!(show(&wrong, NOW), Err(ProofError::Expired.into()));
    assert_eq!(show(&b, NOW), Ok(()));
    // Full: what cannot be remembered is not let in, and what is remembered is not forgotten for it.
    assert_eq!(show(&c, NOW), Err(ProofError::TooManyInUse.into()));
    assert_eq!(show(&a, NOW), Err(ProofError::Used.into()));
    let past = Timestamp::from_unix_s(later(91));
    assert_eq!(show(&a, past), Err(ProofError::Expired.into()));
    assert_eq!(show(&proof(&"c".repeat(16), later(120)), past), Ok(()));
    // Clones remember together, and one key does not use up the ids of another.
    let clone = World { validator: world.validator.clone(), ..other };
    let (token, id) = (clone.token(), json!("c".repeat(16)));
    let claims = with(World::proof_claims(&token), "jti", Some(id)).to_string();
    assert!(clone.both(&token, &signed(&clone.workload, WPT_HEADER, &claims)).is_ok());
}

/// Rows: W-31.
#[test]
fn further_tokens_that_count_are_bound_and_others_are_not_understood() {
    let mut world = World::new();
    let token = world.token();
    let show = |world: &World, claims: Value, more: &[(&str, &str)]| {
        let proof = format!("WPT {}", signed(&world.workload, WPT_HEADER, &claims.to_string()));
        let headers = [&[(IDENTITY_HEADER, token.as_str()), (AUTHORIZATION, &proof)], more].concat();
        world.request(&headers).map(drop)
    };
    let plain = || World::proof_claims(&token);
    let bound = |name: &str, value: Value| with(plain(), name, Some(value));
    // A transaction token.
    let txn = [(TRANSACTION_HEADER, "t.t.t")];
    assert_eq!(show(&world, bound("tth", json!(hash("t.t.t"))), &txn), Ok(()));
    let unbound = Err(ProofError::TransactionNotBound.into());
    assert_eq!(show(&world, plain(), &txn), unbound);
    assert_eq!(show(&world, bound("tth", json!(hash("t.t.u"))), &txn), unbound);
    assert_eq!(show(&world, bound("tth", json!(1)), &txn), unbound);
    assert_eq!(show(&world, bound("tth", json!(hash("t.t.t"))), &[]), unbound, "a token that was taken out");
    assert_eq!(show(&world, bound("tth", json!(hash("t.t.t"))), &[txn[0], txn[0]]), unbound);
    // Others: unknown names are refused, known ones are demanded.
    let oth = |name: &str, value: &str| bound("oth", json!({ name: hash(value) }));
    let user = [("X-User", " u.u.u ")];
    let unknown = Err(ProofError::ContextUnknown.into());
    assert_eq!(show(&world, plain(), &user), Ok(()), "it means nothing here");
    assert_eq!(show(&world, oth("x-user", "u.u.u"), &user), unknown);
    world.validator = Validator::default().with_context_header("X-User").unwrap();
    assert_eq!(show(&world, oth("x-user", "u.u.u"), &user), Ok(()));
    let unbound = Err(ProofError::ContextNotBound.into());
    assert_eq!(show(&world, plain(), &user), unbound);
    assert_eq!(show(&world, oth("x-user", "u.u.v"), &user), unbound);
    assert_eq!(show(&world, oth("x-user", "u.u.u"), &[user[0], user[0]]), unbound);
    assert_eq!(show(&world, oth("x-user", "u.u.u"), &[]), unknown, "a token that was taken out");
    assert_eq!(show(&world, oth("X-User", "u.u.u"), &user), unknown);
    assert_eq!(show(&world, bound("oth", json!([])), &user), unknown);
    assert_eq!(show(&world, plain(), &[]), Ok(()));
    for name in ["", "a b", "Authorization", "workload-identity-token", "TXN-TOKEN", &"x".repeat(129)] {
        assert_eq!(Validator::default().with_context_header(name).unwrap_err(), ProofError::BadHeaderName, "{name}");
    }
}

/// Rows: W-26, W-30, W-31.
#[test]
fn what_is_proved_here_is_believed_here() {
    let mut world = World::new();
    world.validator = Validator::default().with_context_header("x-user").unwrap();
    let svid = world.svid();
    let target = || URL.parse::<TargetUri>().unwrap();
    let request = ProofRequest::new(target()).with_transaction("t.t.t").with_context("X-User", "u").unwrap();
    let proof = svid.prove(&request, NOW).unwrap();
    let [token, carried] = proof.headers(Carrier::Authorization);
    let more = [(TRANSACTION_HEADER, "t.t.t"), ("x-user", "u")];
    let headers = [&[(token.0, token.1.as_str()), (carried.0, &carried.1)], &more[..]].concat();
    assert_eq!(world.request(&headers).unwrap().spiffe_id().as_str(), "spiffe://td/a");
    let text = carried.1.strip_prefix("WPT ").unwrap();
    let segment = |at: usize| {
        let bytes = URL_SAFE_NO_PAD.decode(text.split('.').nth(at).unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    assert_eq!(segment(0), r#"{"alg":"ES256","typ":"wpt+jwt"}"#);
    let claims: Value = serde_json::from_str(&segment(1)).unwrap();
    let names: Vec<_> = claims.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["aud", "exp", "jti", "oth", "tth", "wth"]);
    assert_eq!((&claims["aud"], claims["exp"].as_i64()), (&json!(URL), Some(later(60))));
    // 128 random bits, and others each time.
    assert_eq!(URL_SAFE_NO_PAD.decode(claims["jti"].as_str().unwrap()).unwrap().len(), 16);
    let again = svid.prove(&request, NOW).unwrap().headers(Carrier::Authorization)[1].1.clone();
    assert_ne!(again.split('.').nth(1), text.split('.').nth(1));
    assert!(!format!("{proof:?}").contains(text.rsplit_once('.').unwrap().1));
    // It never outlives its token, and there is none after that.
    let near = Timestamp::from_unix_s(later(880));
    let last = svid.prove(&ProofRequest::new(target()), near).unwrap().headers(Carrier::ProofHeader)[1].1.clone();
    let payload = URL_SAFE_NO_PAD.decode(last.split('.').nth(1).unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&payload).unwrap()["exp"].as_i64(), Some(later(900)));
    let end = Timestamp::from_unix_s(later(900));
    assert_eq!(svid.prove(&ProofRequest::new(target()), end).unwrap_err(), WitError::Expired);
    for life in [Ttl::ZERO, Ttl::from_s(601)] {
        assert_eq!(ProofRequest::new(target()).with_life(life).unwrap_err(), ProofError::OutOfRange);
    }
}

proptest! {
    #[test]
    fn a_changed_proof_is_never_believed(at in 0_usize..2000, to in "[A-Za-z0-9_.-]") {
        let world = World::new();
        let token = world.token();
        let good = world.proof(&token);
        let at = at % good.len();
        let mut bad = good.clone();
        bad.replace_range(at..=at, &to);
        prop_assume!(bad != good);
        prop_assert!(world.both(&token, &bad).is_err(), "{}", bad);
    }

    #[test]
    fn a_proof_of_any_key_for_anything_is_believed_here_only_if_it_is_for_this(
        life in 1_u32..=600, path in "/[a-z/]{0,8}", at in -700_i64..700,
    ) {
        let world = World::new();
        let target: TargetUri = format!("https://db.example.org{path}").parse().unwrap();
        let request = ProofRequest::new(target.clone()).with_life(Ttl::from_s(life)).unwrap();
        let proof = world.svid().prove(&request, Timestamp::from_unix_s(later(at))).unwrap();
        let [token, carried] = proof.headers(Carrier::Authorization);
        let believed = world.request(&[(token.0, &token.1), (carried.0, &carried.1)]).is_ok();
        let ends = at + i64::from(life);
        prop_assert_eq!(believed, target.as_str() == URL && (-29..=150).contains(&ends.min(900)));
    }
}
