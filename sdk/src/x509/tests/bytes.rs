use proptest::prelude::*;

use super::*;

#[test]
fn nothing_is_left_over_before_within_or_after() {
    let domain = Domain::new();
    let made = signed(leaf(ID), &domain.intermediate);
    assert!(Certificate::parse(&made.der).is_ok());
    for cut in 0..made.der.len() {
        assert!(Certificate::parse(&made.der[..cut]).is_err(), "cut at {cut}");
    }
    let after = [&made.der[..], &[0]].concat();
    assert_eq!(Certificate::parse(&after).unwrap_err(), X509Error::Malformed);
    // A fourth element behind the signature, which nobody signed.
    let (_, outer) = <x509_parser::asn1_rs::Any<'_> as x509_parser::asn1_rs::FromDer<'_>>::from_der(&made.der).unwrap();
    let padded = crate::der::element(0x30, &[outer.data, &[0x05, 0x00]].concat());
    assert_eq!(Certificate::parse(&padded).unwrap_err(), X509Error::Malformed);
    assert!(Certificate::parse(&crate::der::element(0x30, outer.data)).is_ok());
}

#[test]
fn only_version_3_has_extensions() {
    let mut der = signed(leaf(ID), &Domain::new().intermediate).der;
    let version = [0xa0, 0x03, 0x02, 0x01];
    let at = (0..der.len()).find(|at| der[*at..].starts_with(&version)).unwrap() + version.len();
    assert_eq!(der[at], 2);
    assert!(Certificate::parse(&der).is_ok());
    for other in [0, 1, 3] {
        der[at] = other;
        assert_eq!(Certificate::parse(&der).unwrap_err(), X509Error::Malformed, "version {other}");
    }
}

#[test]
fn a_signature_is_a_whole_number_of_bytes() {
    let domain = Domain::new();
    let issuer = domain.intermediate.private_key();
    // With an even last byte, one unused bit is legal DER for other bytes than those that were signed.
    let even = |made: &Made| made.der.last().unwrap().is_multiple_of(2);
    let made = (0..100).map(|_| signed(leaf(ID), &domain.intermediate)).find(even).unwrap();
    let check = |der: &[u8]| Certificate::parse(der).and_then(|read| read.verify_signature(issuer.public_key()));
    assert_eq!(check(&made.der), Ok(()));
    let signature = made.der.len() - usize::from(made.der[made.der.windows(3).rposition(is_bit_string).unwrap() + 1]);
    let mut der = made.der;
    der[signature] = 1;
    assert!(check(&der).is_err());
}

/// The header of a BIT STRING that holds a DER SEQUENCE: tag, length, no unused bits.
fn is_bit_string(bytes: &[u8]) -> bool {
    matches!(bytes, [0x03, 0x46..=0x49, 0x00])
}

#[test]
fn pieces_of_a_series_are_split_where_they_end() {
    let domain = Domain::new();
    let both = [&domain.root.der[..], &domain.intermediate.der[..]].concat();
    let pieces: Vec<_> = split_certificates(&both).collect::<Result<_, _>>().unwrap();
    assert_eq!(pieces, [&domain.root.der[..], &domain.intermediate.der[..]]);
    assert_eq!(split_certificates(&[]).count(), 0);
    let cut = split_certificates(&both[..both.len() - 1]).collect::<Vec<_>>();
    assert!(matches!(cut[..], [Ok(_), Err(X509Error::Malformed)]));
    assert!(split_certificates(b"-----BEGIN CERTIFICATE-----").any(|piece| piece.is_err()));
}

/// Every bit of a leaf, and every value of the bytes around what is signed and the signature: those are nobody's to choose.
#[test]
fn a_changed_leaf_is_never_believed() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519] {
        let root = ca("root");
        let key = KeyPair::generate_for(algorithm).unwrap();
        let der = root.self_signed(&key).unwrap().der().to_vec();
        let root = Made { params: root, key, der };
        let bundles = bundle("td", &[&root]).into();
        let made = signed(leaf(ID), &root).der;
        let believed = |der: &[u8]| verify(&[der], &bundles, NOW, Usage::Server).is_ok();
        assert!(believed(&made));
        let frame = crate::der::Signed::read(&made).unwrap();
        let (signed, signature) = (4..4 + frame.content.len(), made.len() - frame.signature.len()..made.len());
        for at in 0..made.len() {
            let covered = signed.contains(&at) || signature.contains(&at);
            let changes: Vec<u8> = if covered { (0..8).map(|bit| 1 << bit).collect() } else { (1..=255).collect() };
            for change in changes {
                let mut der = made.clone();
                der[at] ^= change;
                assert!(!believed(&der), "byte {at} of {}, changed by {change:#04x}", made.len());
            }
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(Certificate::parse(&bytes));
        prop_assert!(split_certificates(&bytes).count() <= bytes.len());
    }
}
