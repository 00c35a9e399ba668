use super::*;
use crate::key::{KeyAlgorithm, PrivateKey};

fn read(text: &str) -> Object {
    crate::json::object(text.as_bytes()).unwrap()
}

#[test]
fn the_thumbprint_is_that_of_the_example_of_rfc_7638() {
    let jwk = read(
        r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#,
    );
    let key = public_key(&jwk).unwrap();
    assert_eq!(thumbprint(&key), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

#[test]
fn keys_are_read_back_from_their_members() {
    for kind in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384, KeyAlgorithm::EcP521, KeyAlgorithm::Rsa2048] {
        let key = PrivateKey::generate(kind).unwrap();
        let jwk = members(key.public_key());
        assert_eq!(public_key(&jwk).unwrap(), *key.public_key(), "{kind}");
        assert!(!is_secret(&jwk));
    }
}

#[test]
fn numbers_that_are_no_key_are_refused() {
    let good = members(PrivateKey::generate(KeyAlgorithm::EcP256).unwrap().public_key());
    assert!(public_key(&good).is_ok());
    let change = |name: &str, value: Value| {
        let mut jwk = good.clone();
        jwk.insert(name.into(), value);
        public_key(&jwk).unwrap_err()
    };
    assert_eq!(change("kty", json!("ZZ")), KeyError::Unsupported);
    assert_eq!(change("kty", json!("ec")), KeyError::Unsupported);
    assert_eq!(change("kty", json!("OKP")), KeyError::Unsupported);
    assert_eq!(change("crv", json!("P-192")), KeyError::Unsupported);
    assert_eq!(change("crv", json!("P-384")), KeyError::Malformed);
    assert_eq!(change("x", json!(good["y"])), KeyError::Malformed);
    assert_eq!(change("x", json!("AQAB")), KeyError::Malformed);
    assert_eq!(change("x", json!(1)), KeyError::Malformed);
    assert_eq!(change("x", json!(format!("{}=", good["x"].as_str().unwrap()))), KeyError::Malformed);
    // The same point, cut at another place.
    let point = ["x", "y"].map(|name| URL_SAFE_NO_PAD.decode(good[name].as_str().unwrap()).unwrap()).concat();
    let mut cut = good.clone();
    cut.insert("x".into(), json!(encode(&point[..31])));
    cut.insert("y".into(), json!(encode(&point[31..])));
    assert_eq!(public_key(&cut), Err(KeyError::Malformed));
    assert_eq!(change("x", json!("A".repeat(5000))), KeyError::Malformed);
}

#[test]
fn weak_rsa_is_refused() {
    let n = encode(&[0xc1; 128]);
    assert_eq!(public_key(&read(&format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB"}}"#))), Err(KeyError::Weak));
    assert_eq!(public_key(&read(r#"{"kty":"RSA","n":"","e":""}"#)), Err(KeyError::Weak));
}

/// Rows: BD-19.
#[test]
fn private_and_symmetric_keys_are_told_apart() {
    // rows: BD-19
    assert!(is_secret(&read(r#"{"kty":"oct","k":"AA"}"#)));
    assert!(is_secret(&read(r#"{"kty":"EC","crv":"P-256","x":"","y":"","d":"AA"}"#)));
    assert!(!is_secret(&read(r#"{"kty":"EC","crv":"P-256","x":"","y":""}"#)));
}
