//! What mutation testing found untold: exact bounds, and the reason code of each refusal.

use super::*;
use crate::jws::JwsError;
use crate::key::KeyError;
use crate::reason::Reason;
use crate::wit::single_use::SingleUse;

#[test]
fn each_refusal_has_its_reason_code() {
    for (error, reason) in [
        (WitError::Jws(JwsError::BadSignature), Reason::WitSvidUntrusted),
        (WitError::NoAuthority, Reason::WitSvidUntrusted),
        (WitError::Expired, Reason::Expired),
        (WitError::NotYetValid, Reason::NotYetValid),
        (WitError::NoBundle, Reason::UnknownTrustDomain),
        (WitError::Key(KeyError::Unsupported), KeyError::Unsupported.reason()),
        (WitError::Proof(ProofError::Used), Reason::ProofUsed),
        (WitError::HasAudience, Reason::WitSvidInvalid),
    ] {
        assert_eq!(error.reason(), reason, "{error}");
    }
    for (error, reason) in [
        (ProofError::Used, Reason::ProofUsed),
        (ProofError::TooManyInUse, Reason::Overloaded),
        (ProofError::OutOfRange, Reason::InvalidArgument),
        (ProofError::NoRandomness, Reason::RandomnessUnavailable),
        (ProofError::NotOneProof, Reason::ProofInvalid),
    ] {
        assert_eq!(error.reason(), reason, "{error}");
    }
}

#[test]
fn a_proof_is_remembered_until_it_has_expired_and_room_is_needed() {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let at = Timestamp::from_unix_s;
    let note = |used: &SingleUse, id: &str, until, now| used.note(key.public_key(), id, at(until), at(now));

    let one = SingleUse::new(1);
    note(&one, "a", 10, 5).unwrap();
    assert_eq!(note(&one, "b", 20, 9), Err(ProofError::TooManyInUse));
    // At its end it is good no more, and makes room.
    note(&one, "b", 20, 10).unwrap();
    assert_eq!(note(&one, "b", 20, 11), Err(ProofError::Used));

    let three = SingleUse::new(3);
    note(&three, "a", 10, 5).unwrap();
    note(&three, "b", 100, 5).unwrap();
    note(&three, "c", 100, 11).unwrap();
    assert_eq!(note(&three, "a", 30, 12), Err(ProofError::Used), "as long as there is room");
    note(&three, "d", 100, 13).unwrap();
    assert_eq!(note(&three, "e", 100, 14), Err(ProofError::TooManyInUse));
}

#[test]
fn a_key_that_uses_proofs_without_end_shuts_nobody_else_out() {
    let key = || PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let at = Timestamp::from_unix_s;
    let used = SingleUse::new(2000);
    let note = |key: &PrivateKey, id: usize, now| used.note(key.public_key(), &id.to_string(), at(now + 90), at(now));
    let takes_all = |key: &PrivateKey, now| (0..2000).take_while(|id| note(key, *id, now).is_ok()).count();

    let greedy = key();
    assert_eq!(takes_all(&greedy, 5), 400, "a quarter of what is left");
    assert_eq!(note(&greedy, 2001, 6), Err(ProofError::TooManyInUse));
    let other = key();
    note(&other, 1, 6).unwrap();
    assert_eq!(note(&other, 1, 7), Err(ProofError::Used));
    assert_eq!(note(&greedy, 2001, 7), Err(ProofError::TooManyInUse), "it alone is refused");
    // Many of them leave less and less, and something all the same; who uses few proofs notices nothing.
    let more: Vec<_> = (0..7).map(|_| key()).collect();
    let taken: Vec<_> = more.iter().map(|key| takes_all(key, 8)).collect();
    assert!(taken.is_sorted_by(|one, next| one > next), "{taken:?}");
    for id in 2..17 {
        note(&other, id, 9).unwrap();
    }
    note(&key(), 1, 9).unwrap();
    // What has expired is no more in use, of nobody.
    for key in more.iter().take(1).chain([&greedy]) {
        note(key, 2002, 100).unwrap();
    }
    assert_eq!(takes_all(&key(), 100), 400 - 1, "of 2000 without those two");
}

#[test]
fn the_holder_learns_when_its_token_begins_and_ends() {
    let world = World::new();
    let of = |name: &str, value: i64| {
        let claims = with(world.claims(), name, Some(json!(value))).to_string();
        let token = signed(&world.authority, TOKEN_HEADER, &claims);
        WitSvid::new(&token, world.workload.clone()).unwrap().check_issued(&world.bundles, NOW)
    };
    assert_eq!(of("nbf", later(0)), Ok(()));
    assert_eq!(of("nbf", later(1)), Err(WitError::NotYetValid));
    assert_eq!(of("exp", later(1)), Ok(()));
    assert_eq!(of("exp", later(0)), Err(WitError::Expired));
}

#[test]
fn a_target_has_at_most_so_many_bytes_and_a_port_of_digits() {
    let of = |bytes: usize| format!("https://db/{}", "x".repeat(bytes - 11)).parse::<TargetUri>();
    let longest = (11..=16 * 1024).rev().find(|bytes| of(*bytes).is_ok()).unwrap();
    assert!(of(longest).is_ok() && of(longest + 1).is_err());
    assert_eq!(longest.count_ones(), 1, "{longest} is the round number that is documented");
    for port in ["+443", "-1", "0", "65536", "44 3", "", "443x"] {
        assert_eq!(format!("https://db:{port}/").parse::<TargetUri>(), Err(ProofError::BadTarget), "{port}");
    }
}

#[test]
fn iat_is_a_time_where_it_is_there() {
    let world = World::new();
    assert!(world.with_claim("iat", None).is_ok());
    for iat in [json!("now"), json!(true), json!([])] {
        assert_eq!(world.with_claim("iat", Some(iat)).unwrap_err(), WitError::BadTime);
    }
}

#[test]
fn proofs_may_be_allowed_to_live_for_ten_minutes_and_no_longer() {
    assert!(Validator::default().with_longest_proof(Ttl::from_s(600)).is_ok());
    assert!(Validator::default().with_longest_proof(Ttl::from_s(601)).is_err());
    assert!(Validator::default().with_longest_proof(Ttl::ZERO).is_err());
    let request = || ProofRequest::new(URL.parse().unwrap());
    assert!(request().with_life(Ttl::from_s(600)).is_ok() && request().with_life(Ttl::from_s(1)).is_ok());
    assert!(request().with_life(Ttl::from_s(601)).is_err() && request().with_life(Ttl::ZERO).is_err());
}
