use jsonwebtoken as oracle;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::key::{KeyAlgorithm, PrivateKey};

const CLAIMS: &str = r#"{"sub":"spiffe://td/a"}"#;

fn key_for(algorithm: JwsAlgorithm) -> PrivateKey {
    let kind = match algorithm {
        JwsAlgorithm::Es256 => KeyAlgorithm::EcP256,
        JwsAlgorithm::Es384 => KeyAlgorithm::EcP384,
        JwsAlgorithm::Es512 => KeyAlgorithm::EcP521,
        _ => KeyAlgorithm::Rsa2048,
    };
    PrivateKey::generate(kind).unwrap()
}

fn token(header: &str, payload: &str, signature: &[u8]) -> String {
    [header.as_bytes(), payload.as_bytes(), signature].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
}

fn parse(text: &str) -> Result<(), JwsError> {
    Unverified::parse(text).map(|_| ())
}

/// Rows: J-2, J-5.
#[test]
fn all_nine_algorithms_sign_and_verify() {
    // rows: J-5
    for algorithm in JwsAlgorithm::ALL {
        let key = key_for(algorithm);
        let signer = Signer::new(&key, algorithm, "JWT").unwrap();
        let token = signer.sign(CLAIMS.as_bytes()).unwrap();
        let verified = Unverified::parse(&token).unwrap().verify(key.public_key()).unwrap();
        assert_eq!((verified.token(), verified.payload()), (&*token, CLAIMS.as_bytes()), "{algorithm}");
        assert_eq!(verified.key_id(), Some(signer.key_id()));
        // rows: J-2
        let names: Vec<_> = verified.header().keys().map(String::as_str).collect();
        assert_eq!(names, ["alg", "kid", "typ"]);
    }
}

#[test]
fn the_oracle_believes_our_tokens_and_we_believe_the_oracles() {
    for algorithm in JwsAlgorithm::ALL {
        // jsonwebtoken has no ES512; its curve and digest are proved by the round trip above.
        let Ok(theirs) = algorithm.name().parse::<oracle::Algorithm>() else {
            assert_eq!(algorithm, JwsAlgorithm::Es512);
            continue;
        };
        let key = key_for(algorithm);
        let ours = Signer::new(&key, algorithm, "JWT").unwrap().sign(CLAIMS.as_bytes()).unwrap();
        let jwk: oracle::jwk::Jwk =
            serde_json::from_value(serde_json::Value::Object(crate::jwk::members(key.public_key()))).unwrap();
        let mut validation = oracle::Validation::new(theirs);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let read = oracle::decode::<Object>(&ours, &oracle::DecodingKey::from_jwk(&jwk).unwrap(), &validation).unwrap();
        assert_eq!(read.claims["sub"], "spiffe://td/a");

        let pem = crate::pem::private_key(&key);
        let encoding = if algorithm.name().starts_with("ES") {
            oracle::EncodingKey::from_ec_pem(pem.as_bytes())
        } else {
            oracle::EncodingKey::from_rsa_pem(pem.as_bytes())
        };
        let claims = json!({ "sub": "spiffe://td/b" });
        let their_token = oracle::encode(&oracle::Header::new(theirs), &claims, &encoding.unwrap()).unwrap();
        let verified = Unverified::parse(&their_token).unwrap().verify(key.public_key()).unwrap();
        assert_eq!(verified.claims().unwrap()["sub"], "spiffe://td/b", "{algorithm}");
    }
}

/// Rows: J-4.
#[test]
fn only_the_nine_algorithms_are_read() {
    // rows: J-4
    assert_eq!(parse(&token(r#"{"alg":"ES256"}"#, "{}", b"x")), Ok(()));
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"HS256"}"#,
        r#"{"alg":"EdDSA"}"#,
        r#"{"alg":"ES256K"}"#,
        r#"{"alg":"es256"}"#,
        r#"{"alg":""}"#,
        r#"{"alg":1}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["ES256"]}"#,
        r#"{"kid":"x"}"#,
    ] {
        assert_eq!(parse(&token(header, "{}", b"x")), Err(JwsError::UnsupportedAlgorithm), "{header}");
    }
}

/// Rows: J-1, J-21.
#[test]
fn other_forms_are_refused() {
    let good = token(r#"{"alg":"ES256","kid":"k"}"#, "{}", b"xx");
    assert_eq!(parse(&good), Ok(()));
    // rows: J-1
    let flattened = r#"{"protected":"eyJhbGciOiJFUzI1NiJ9","payload":"e30","signature":"eHg"}"#;
    let general = r#"{"payload":"e30.e30.e30","signatures":[]}"#;
    let padded = good.replace('.', "=.");
    let two = good.rsplit_once('.').unwrap().0.to_owned();
    let (four, newline, standard) = (format!("{good}.eHg"), format!("{good}\n"), good.replace("e30", "+/+/"));
    for text in ["", ".", "..", "...", flattened, general, &padded, &two, &four, &newline, &standard] {
        assert!(parse(text).is_err(), "{text:?}");
    }
    // The last character of a segment has bits that must be zero.
    assert_eq!(parse(&good.replace("e30", "e31")), Err(JwsError::NotCompact));
    // rows: J-21
    for header in [r#"{"alg":"ES256","alg":"ES256"}"#, "[]", "1", "", r#"{"alg":"ES256"} "x""#] {
        assert_eq!(parse(&token(header, "{}", b"x")), Err(JwsError::BadHeader), "{header}");
    }
    assert_eq!(parse(&token(r#"{"alg":"ES256","kid":1}"#, "{}", b"x")), Err(JwsError::BadKeyId));
    let payload = token(r#"{"alg":"ES256"}"#, r#"{"a":1,"a":1}"#, b"x");
    assert_eq!(Unverified::parse(&payload).unwrap().insecure_claims().unwrap_err(), JwsError::BadPayload);
}

/// Rows: J-26.
#[test]
fn segments_are_bounded() {
    // rows: J-26
    let longest = "A".repeat(MAX_SEGMENT_BYTES);
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#);
    assert_eq!(parse(&format!("{header}.{longest}.AA")), Ok(()));
    assert_eq!(parse(&format!("{header}.{longest}AAAA.AA")), Err(JwsError::TooLong));
    assert_eq!(parse(&format!("{header}.AA.{longest}AAAA")), Err(JwsError::TooLong));
    assert_eq!(parse(&format!("{longest}AAAA.AA.AA")), Err(JwsError::TooLong));
}

/// Rows: J-6.
#[test]
fn an_algorithm_must_fit_the_key_and_the_signature_its_length() {
    // rows: J-6
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let good = Signer::new(&key, JwsAlgorithm::Es256, "JWT").unwrap().sign(CLAIMS.as_bytes()).unwrap();
    assert!(Unverified::parse(&good).unwrap().verify(key.public_key()).is_ok());
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"ES384"}"#), URL_SAFE_NO_PAD.encode(CLAIMS));
    let signature = key.sign(crate::key::SignatureAlgorithm::EcP256Sha256Fixed, input.as_bytes()).unwrap();
    let text = format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature));
    let es384 = Unverified::parse(&text).unwrap();
    assert_eq!(es384.verify(key.public_key()).unwrap_err(), JwsError::BadSignature);

    let (input, raw) = good.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(raw).unwrap();
    assert_eq!(raw.len(), 64);
    let der = key.sign(crate::key::SignatureAlgorithm::EcSha256Der, input.as_bytes()).unwrap();
    for signature in [&der[..], &raw[..63], &[&raw[..], &[0]].concat(), &[&[0], &raw[..]].concat(), &[], &[0; 64]] {
        let text = format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature));
        let refused = Unverified::parse(&text).unwrap().verify(key.public_key()).unwrap_err();
        assert_eq!(refused, JwsError::BadSignature, "{} bytes", signature.len());
    }
    assert!(Signer::new(&key, JwsAlgorithm::Es384, "JWT").is_err());
    assert!(Signer::new(&key, JwsAlgorithm::Rs256, "JWT").is_err());
    assert_eq!(JwsAlgorithm::for_key(crate::key::KeyType::Ed25519), None);
}

proptest! {
    #[test]
    fn a_changed_token_is_never_believed(at in 0_usize..1000, to in "[A-Za-z0-9_.-]") {
        let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
        let good = Signer::new(&key, JwsAlgorithm::Es256, "JWT").unwrap().sign(CLAIMS.as_bytes()).unwrap();
        let at = at % good.len();
        let mut bad = good.clone();
        bad.replace_range(at..=at, &to);
        prop_assume!(bad != good);
        let believed = Unverified::parse(&bad).and_then(|token| token.verify(key.public_key()));
        prop_assert!(believed.is_err(), "{}", bad);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*|[A-Za-z0-9_.-]{0,60}") {
        if let Ok(token) = Unverified::parse(&text) {
            prop_assert_eq!(text.matches('.').count(), 2);
            drop(token.insecure_claims());
        }
    }
}

#[test]
fn what_is_shown_of_a_token_without_a_check_is_bounded_as_well() {
    let parts = insecure_parts(&token(r#"{"alg":"none"}"#, CLAIMS, b"")).unwrap();
    assert_eq!((parts.0["alg"].as_str(), parts.1["sub"].as_str()), (Some("none"), Some("spiffe://td/a")));
    let with_signature = |bytes: usize| insecure_parts(&format!("e30.e30.{}", "A".repeat(bytes))).map(|_| ());
    assert_eq!(with_signature(MAX_SEGMENT_BYTES), Ok(()));
    assert_eq!(with_signature(MAX_SEGMENT_BYTES + 1), Err(JwsError::TooLong));
}
