use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

/// RSA keys are slow to make in a debug build: one of each size that the tests need.
fn cases() -> Vec<(KeyAlgorithm, Vec<SignatureAlgorithm>)> {
    use SignatureAlgorithm as S;
    vec![
        (KeyAlgorithm::EcP256, vec![S::EcP256Sha256Fixed, S::EcSha256Der]),
        (KeyAlgorithm::EcP384, vec![S::EcP384Sha384Fixed, S::EcSha384Der]),
        (KeyAlgorithm::EcP521, vec![S::EcP521Sha512Fixed, S::EcSha512Der]),
        (KeyAlgorithm::Ed25519, vec![S::Ed25519]),
        (
            KeyAlgorithm::Rsa2048,
            vec![
                S::RsaPkcs1Sha256,
                S::RsaPkcs1Sha384,
                S::RsaPkcs1Sha512,
                S::RsaPssSha256,
                S::RsaPssSha384,
                S::RsaPssSha512,
            ],
        ),
    ]
}

#[test]
fn every_algorithm_signs_and_verifies_and_refuses_what_was_changed() {
    for (kind, algorithms) in cases() {
        let key = PrivateKey::generate(kind).unwrap();
        for algorithm in algorithms {
            let signature = key.sign(algorithm, b"message").unwrap();
            assert_eq!(key.public_key().verify(algorithm, b"message", &signature), Ok(()), "{algorithm:?}");
            assert_eq!(key.public_key().verify(algorithm, b"massage", &signature), Err(KeyError::BadSignature));
            let mut longer = signature.clone();
            longer.push(0);
            assert_eq!(key.public_key().verify(algorithm, b"message", &longer), Err(KeyError::BadSignature));
            let other = PrivateKey::generate(if kind == KeyAlgorithm::Rsa2048 { KeyAlgorithm::EcP256 } else { kind });
            assert!(other.unwrap().public_key().verify(algorithm, b"message", &signature).is_err());
        }
    }
}

#[test]
fn a_private_key_is_read_back_from_its_pkcs8() {
    for (kind, _) in cases() {
        let key = PrivateKey::generate(kind).unwrap();
        let again = PrivateKey::from_pkcs8(key.expose_pkcs8()).unwrap();
        assert_eq!(again.public_key(), key.public_key(), "{kind}");
        assert_eq!(again.public_key().key_type(), kind.key_type());
    }
    assert_eq!(PrivateKey::from_pkcs8(b"no key").unwrap_err(), KeyError::Malformed);
    assert_eq!(PrivateKey::from_pkcs8(&[0x30; 9000]).unwrap_err(), KeyError::Malformed);
}

#[test]
fn an_algorithm_of_another_key_is_a_mismatch() {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    for algorithm in
        [SignatureAlgorithm::EcP384Sha384Fixed, SignatureAlgorithm::RsaPssSha256, SignatureAlgorithm::Ed25519]
    {
        assert_eq!(key.sign(algorithm, b"").unwrap_err(), KeyError::Mismatch);
        assert_eq!(key.public_key().verify(algorithm, b"", &[0; 64]), Err(KeyError::Mismatch));
    }
}

#[test]
fn a_public_key_has_one_spelling() {
    for (kind, _) in cases() {
        let key = PrivateKey::generate(kind).unwrap();
        let spki = key.public_key_spki();
        assert_eq!(PublicKey::from_spki(&spki).unwrap(), *key.public_key(), "{kind}");
        let mut trailing = spki.clone();
        trailing.push(0);
        assert!(PublicKey::from_spki(&trailing).is_err(), "{kind}");
        for cut in 0..spki.len() {
            assert!(PublicKey::from_spki(&spki[..cut]).is_err(), "{kind} cut at {cut}");
        }
    }
}

#[test]
fn a_compressed_point_and_a_point_off_the_curve_are_refused() {
    let spki = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap().public_key_spki();
    let parity = 2 + (spki[90] & 1);
    let mut compressed = spki[..59].to_vec();
    compressed[1] = 57;
    compressed[24] = 34;
    compressed[26] = parity;
    assert!(PublicKey::from_spki(&compressed).is_err());
    let mut off = spki;
    off[90] ^= 1;
    assert_eq!(PublicKey::from_spki(&off).unwrap_err(), KeyError::Malformed);
}

#[test]
fn a_coordinate_is_below_the_prime() {
    // The point of P-256 with x = 5; and x + p, which would be the same point.
    let y = "459243b9aa581806fe913bce99817ade11ca503c64d9a3c533415c083248fbcc";
    let prefix = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap().public_key_spki()[..27].to_vec();
    let point = |x: &str| [&prefix[..], &hex::decode(x).unwrap(), &hex::decode(y).unwrap()].concat();
    PublicKey::from_spki(&point(&format!("{:064x}", 5))).unwrap();
    let again = point("ffffffff00000001000000000000000000000001000000000000000000000004");
    assert_eq!(PublicKey::from_spki(&again).unwrap_err(), KeyError::Malformed);
    // P-521: p = 2^521 - 1, so that x + p is x - 1 with the bit 521 set.
    let mut spki = PrivateKey::generate(KeyAlgorithm::EcP521).unwrap().public_key_spki();
    let x = &mut spki[26..92];
    x[0] |= 2;
    for octet in x.iter_mut().rev() {
        let (less, borrow) = octet.overflowing_sub(1);
        *octet = less;
        if !borrow {
            break;
        }
    }
    assert_eq!(PublicKey::from_spki(&spki).unwrap_err(), KeyError::Malformed);
}

#[test]
fn other_spellings_of_an_rsa_key_are_refused() {
    use crate::der::element;
    let key = PrivateKey::generate(KeyAlgorithm::Rsa2048).unwrap();
    let jwk = crate::jwk::members(key.public_key());
    let number = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let n = [&[0], &number("n")[..]].concat();
    let oid = element(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01]);
    let spki = |algorithm: &[u8], n: &[u8], e: &[u8], unused: u8| {
        let numbers = element(0x30, &[element(0x02, n), element(0x02, e)].concat());
        let bits = element(0x03, &[&[unused], &*numbers].concat());
        PublicKey::from_spki(&element(0x30, &[element(0x30, algorithm), bits].concat()))
    };
    let good = [&oid[..], &[0x05, 0x00]].concat();
    assert_eq!(spki(&good, &n, &[1, 0, 1], 0).as_ref(), Ok(key.public_key()));
    assert!(spki(&oid, &n, &[1, 0, 1], 0).is_err(), "without NULL");
    assert!(spki(&good, &[&[0], &n[..]].concat(), &[1, 0, 1], 0).is_err(), "a longer modulus");
    assert!(spki(&good, &n, &[0, 1, 0, 1], 0).is_err(), "a longer exponent");
    assert!(spki(&good, &n[1..], &[1, 0, 1], 0).is_err(), "a negative modulus");
    assert!(spki(&good, &n, &[1], 0).is_err() && spki(&good, &n, &[2], 0).is_err(), "exponents that are none");
    assert!(spki(&good, &n, &[1, 0, 1], 1).is_err(), "unused bits");
}

#[test]
fn weak_rsa_is_refused() {
    // A modulus of 1024 bits in an SPKI; the library itself refuses to make such a key.
    let mut spki = hex::decode("30819f300d06092a864886f70d010101050003818d0030818902818100").unwrap();
    spki.extend([0xc1; 128]);
    spki.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
    assert_eq!(PublicKey::from_spki(&spki).unwrap_err(), KeyError::Weak);
}

#[test]
fn keys_show_nothing_of_themselves() {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let shown = format!("{key:?} {:?}", key.signing_key(SignatureAlgorithm::EcSha256Der).unwrap());
    assert!(shown.contains(&hex::encode(key.public_key().spki_sha256())), "{shown}");
    assert!(shown.len() < 400, "{shown}");
}

#[test]
fn names_of_algorithms_are_read_back() {
    for algorithm in KeyAlgorithm::ALL {
        assert_eq!(algorithm.name().parse(), Ok(algorithm));
        let written = serde_json::to_string(&algorithm).unwrap();
        assert_eq!(written, format!("\"{algorithm}\""));
        assert_eq!(serde_json::from_str::<KeyAlgorithm>(&written).unwrap(), algorithm);
    }
    assert_eq!("rsa-1024".parse::<KeyAlgorithm>(), Err(KeyError::Unsupported));
}

#[test]
fn a_public_key_says_its_size_and_its_digest() {
    let sizes = [256, 384, 521, 256, 2048];
    for ((kind, _), bits) in cases().into_iter().zip(sizes) {
        let key = PrivateKey::generate(kind).unwrap();
        assert_eq!(key.public_key().bits(), bits, "{kind}");
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.public_key().spki());
        assert_eq!(key.public_key().spki_sha256(), digest.as_ref(), "{kind}");
    }
}

#[test]
fn the_bits_of_a_modulus_are_counted_from_its_first_one() {
    use crate::der::{element, unsigned};
    let spki = |modulus: &[u8]| {
        let numbers = element(0x30, &[unsigned(modulus), unsigned(&[1, 0, 1])].concat());
        let oid = element(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01]);
        let algorithm = element(0x30, &[&oid[..], &[0x05, 0x00]].concat());
        PublicKey::from_spki(&element(0x30, &[algorithm, element(0x03, &[&[0], &*numbers].concat())].concat()))
    };
    let modulus = |first: u8, bytes: usize| [vec![first], vec![0xff; bytes - 1]].concat();
    assert_eq!(spki(&modulus(0x7f, 256)), Err(KeyError::Weak), "2047 bits");
    assert_eq!(spki(&modulus(0xff, 256)).unwrap().bits(), 2048);
    assert_eq!(spki(&modulus(0x01, 257)).unwrap().bits(), 2049);
    assert_eq!(spki(&modulus(0xff, 1024)).unwrap().bits(), 8192);
    assert_eq!(spki(&modulus(0x01, 1025)), Err(KeyError::Weak), "8193 bits");
}

#[test]
fn a_key_of_another_kind_with_the_length_of_a_known_one_is_not_taken_for_it() {
    // X25519, which has the length of an Ed25519 key and signs nothing.
    let spki = hex::decode("302a300506032b656e0321008520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    assert_eq!(PublicKey::from_spki(&spki.unwrap()), Err(KeyError::Unsupported));
}

#[test]
fn a_key_is_parsed_for_no_algorithm_of_another_kind_of_key() {
    use SignatureAlgorithm as S;
    for (kind, foreign) in [
        (KeyAlgorithm::Rsa2048, [S::EcSha256Der, S::Ed25519]),
        (KeyAlgorithm::Ed25519, [S::RsaPssSha256, S::EcSha256Der]),
        (KeyAlgorithm::EcP256, [S::EcSha384Der, S::EcP384Sha384Fixed]),
    ] {
        let key = PrivateKey::generate(kind).unwrap();
        for algorithm in foreign {
            assert_eq!(key.signing_key(algorithm).unwrap_err(), KeyError::Mismatch, "{kind} {algorithm:?}");
        }
    }
}

#[test]
fn every_digest_is_tried_with_every_curve_and_no_other_kind_of_key() {
    use SignatureAlgorithm as S;
    for (kind, _) in cases() {
        let key = PrivateKey::generate(kind).unwrap();
        let is_curve = matches!(kind.key_type(), KeyType::EcP256 | KeyType::EcP384 | KeyType::EcP521);
        for algorithm in [S::EcSha256Der, S::EcSha384Der, S::EcSha512Der] {
            let expected = if is_curve { KeyError::BadSignature } else { KeyError::Mismatch };
            assert_eq!(key.public_key().verify(algorithm, b"m", b"none"), Err(expected), "{kind} {algorithm:?}");
        }
    }
}
