//! Tokens that somebody else was shown, and the keys that tell whose they are.

use super::*;
use crate::task::fixture::{AUDIENCE, Authority, ISSUER, claims};
use crate::task::token::MAX_TOKEN_BYTES;
use crate::time::Ttl;

const CERTIFICATE: &[u8] = b"the certificate of the holder";

#[test]
fn a_token_is_inspected_with_the_certificate_that_was_seen_or_with_none() {
    let authority = Authority::new();
    let (keys, token) = {
        let claims = claims(&"spiffe://td/agent".parse().unwrap(), CERTIFICATE, 1, NOW);
        (authority.keys(), authority.token(&claims))
    };
    let inspect = |token: &str, audience: &str, certificate: Option<&[u8]>, standing, now: Timestamp| {
        let validator = Validator { audience, keys: &keys, sensitive: true };
        validator.inspect(token, certificate, |_| standing, now).map(|claims| claims.task.id)
    };
    let good = |certificate| inspect(&token, AUDIENCE, certificate, Standing::Open, NOW);
    assert!(good(None).is_ok() && good(Some(CERTIFICATE)).is_ok());
    assert_eq!(good(Some(b"of another one")), Err(TaskTokenError::NotBound));
    let elsewhere = inspect(&token, "https://other.example.org/", None, Standing::Open, NOW);
    assert_eq!(elsewhere, Err(TaskTokenError::WrongAudience));
    let end = NOW.saturating_add(Ttl::from_s(300));
    assert_eq!(inspect(&token, AUDIENCE, None, Standing::Open, end), Err(TaskTokenError::Expired));
    for (standing, error) in [
        (Standing::Suspended, TaskTokenError::Suspended),
        (Standing::Ended, TaskTokenError::Ended),
        (Standing::Unknown, TaskTokenError::StandingUnknown),
    ] {
        assert_eq!(inspect(&token, AUDIENCE, None, standing, NOW), Err(error));
    }
    let long = format!("{token}{}", "A".repeat(MAX_TOKEN_BYTES + 1 - token.len()));
    assert_eq!(inspect(&long, AUDIENCE, None, Standing::Open, NOW), Err(TaskTokenError::NotATaskToken));
    // By the issuer itself, which asks for no audience: it has ended all the same.
    assert!(keys.read(&token, NOW).is_ok());
    assert_eq!(keys.read(&token, NOW.saturating_add(Ttl::from_s(400))).unwrap_err(), TaskTokenError::Expired);
}

#[test]
fn keys_are_the_same_if_issuer_and_every_key_are() {
    let (one, other) = (Authority::new(), Authority::new());
    assert_eq!(one.keys().issuer(), ISSUER);
    let same = TaskKeys::from_jwks(ISSUER, one.jwks().as_bytes()).unwrap();
    assert_eq!(one.keys(), same);
    assert_ne!(one.keys(), other.keys());
    assert_ne!(one.keys(), TaskKeys::from_jwks("https://other.example.org/task", one.jwks().as_bytes()).unwrap());
    let key = |authority: &Authority| serde_json::from_str::<Value>(&authority.jwks()).unwrap()["keys"][0].clone();
    let both = TaskKeys::from_jwks(ISSUER, json!({"keys": [key(&one), key(&other)]}).to_string().as_bytes()).unwrap();
    assert!(one.keys() != both && both != one.keys());
    // The same id for another key.
    let mut forged = key(&other);
    forged["kid"] = key(&one)["kid"].clone();
    assert_ne!(one.keys(), TaskKeys::from_jwks(ISSUER, json!({"keys": [forged]}).to_string().as_bytes()).unwrap());

    let many = |count: usize| {
        let keys: Vec<_> = (0..count).map(|_| key(&one)).collect();
        TaskKeys::from_jwks(ISSUER, json!({"keys": keys}).to_string().as_bytes())
    };
    assert!(many(32).is_ok() && many(33).is_err());
    let mut padded = one.jwks().into_bytes();
    padded.resize(64 * 1024, b' ');
    assert!(TaskKeys::from_jwks(ISSUER, &padded).is_ok());
    padded.push(b' ');
    assert!(TaskKeys::from_jwks(ISSUER, &padded).is_err());
}
