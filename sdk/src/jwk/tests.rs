use std::collections::BTreeSet;

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

/// Rows: WA-63.
#[test]
fn private_keys_are_read_back_from_their_text() {
    for (kind, curve) in
        [(KeyAlgorithm::EcP256, "P-256"), (KeyAlgorithm::EcP384, "P-384"), (KeyAlgorithm::EcP521, "P-521")]
    {
        let key = PrivateKey::generate(kind).unwrap();
        let jwk = read(&private_text(&key).unwrap());
        let names: BTreeSet<_> = jwk.keys().map(String::as_str).collect();
        assert_eq!((names, jwk["crv"].as_str()), (["alg", "crv", "d", "kty", "x", "y"].into(), Some(curve)));
        assert!(is_secret(&jwk));
        let again = private_key(&jwk).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(again.expose_ec_number(), key.expose_ec_number());
    }
    for kind in [KeyAlgorithm::Rsa2048, KeyAlgorithm::Ed25519] {
        assert_eq!(private_text(&PrivateKey::generate(kind).unwrap()).unwrap_err(), KeyError::Unsupported);
    }
}

#[test]
fn private_numbers_that_are_not_those_of_the_key_are_refused() {
    let (key, other) =
        (PrivateKey::generate(KeyAlgorithm::EcP256).unwrap(), PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
    let good = read(&private_text(&key).unwrap());
    assert!(private_key(&good).is_ok());
    let change = |name: &str, value: Value| {
        let mut jwk = good.clone();
        jwk.insert(name.into(), value);
        private_key(&jwk).unwrap_err()
    };
    let theirs = read(&private_text(&other).unwrap());
    assert_eq!(change("d", theirs["d"].clone()), KeyError::Malformed);
    for d in [json!(""), json!("AA"), json!(1), json!(encode(&[0; 32])), json!(encode(&[0xff; 32])), json!("!")] {
        assert_eq!(change("d", d.clone()), KeyError::Malformed, "{d}");
    }
    assert_eq!(change("kty", json!("OKP")), KeyError::Unsupported);
    let mut public = good;
    public.remove("d");
    assert_eq!(private_key(&public).unwrap_err(), KeyError::Malformed, "a public key is none");
}

/// Rows: WA-63.
#[test]
fn private_rsa_keys_of_other_agents_are_read() {
    let key = PrivateKey::generate(KeyAlgorithm::Rsa2048).unwrap();
    let jwk = rsa_jwk(&key);
    assert_eq!(private_key(&jwk).unwrap().public_key(), key.public_key());
    for name in ["d", "p", "qi"] {
        let mut without = jwk.clone();
        without.remove(name);
        assert_eq!(private_key(&without).unwrap_err(), KeyError::Malformed, "{name}");
    }
    let mut foreign = rsa_jwk(&PrivateKey::generate(KeyAlgorithm::Rsa2048).unwrap());
    foreign.insert("n".into(), jwk["n"].clone());
    assert_eq!(private_key(&foreign).unwrap_err(), KeyError::Malformed);
    let mut three_primes = jwk;
    three_primes.insert("oth".into(), json!([]));
    assert_eq!(private_key(&three_primes).unwrap_err(), KeyError::Unsupported);
}

/// The numbers of a key, taken out of its PKCS#8 by hand.
fn rsa_jwk(key: &PrivateKey) -> Object {
    fn content(der: &[u8]) -> (&[u8], &[u8]) {
        let (len, head) = match der[1] {
            0x82 => (usize::from(der[2]) << 8 | usize::from(der[3]), 4),
            0x81 => (usize::from(der[2]), 3),
            len => (usize::from(len), 2),
        };
        der[head..].split_at(len)
    }
    let (info, _) = content(key.expose_pkcs8());
    let (_, after_version) = content(info);
    let (_, octets) = content(after_version);
    let (mut rest, _) = content(content(octets).0);
    let mut jwk = members(key.public_key());
    for name in ["version", "n", "e", "d", "p", "q", "dp", "dq", "qi"] {
        let (number, after) = content(rest);
        jwk.insert(name.into(), json!(encode(significant(number))));
        rest = after;
    }
    jwk
}

#[test]
fn numbers_are_read_up_to_a_length() {
    let rsa = |characters: usize| {
        let jwk = json!({ "kty": "RSA", "e": "AQAB", "n": "_".repeat(characters) });
        public_key(jwk.as_object().unwrap()).unwrap_err()
    };
    // 8400 bits are read and are too many; what is longer is not decoded.
    assert_eq!(rsa(1400), KeyError::Weak);
    assert_eq!(rsa(1404), KeyError::Malformed);
}
