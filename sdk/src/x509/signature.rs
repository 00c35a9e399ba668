use crate::der::element;
use crate::key::SignatureAlgorithm;

/// The algorithms of one fixed spelling, as the content of an algorithm identifier (RFC 4055 5, RFC 5758 3.2, RFC 8410 3).
const FIXED: [(&[u8], SignatureAlgorithm); 7] = [
    (b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02", SignatureAlgorithm::EcSha256Der),
    (b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03", SignatureAlgorithm::EcSha384Der),
    (b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x04", SignatureAlgorithm::EcSha512Der),
    (b"\x06\x03\x2b\x65\x70", SignatureAlgorithm::Ed25519),
    (b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00", SignatureAlgorithm::RsaPkcs1Sha256),
    (b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c\x05\x00", SignatureAlgorithm::RsaPkcs1Sha384),
    (b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d\x05\x00", SignatureAlgorithm::RsaPkcs1Sha512),
];

/// The algorithm of a certificate's signature, by the content of its identifier. SHA-1, other parameters, another spelling and
/// everything unknown are none.
pub(super) fn algorithm(identifier: &[u8]) -> Option<SignatureAlgorithm> {
    if let Some(parameters) = identifier.strip_prefix(RSASSA_PSS) {
        return PSS.into_iter().find(|(hash, _)| pss_parameters(*hash) == parameters).map(|row| row.1);
    }
    FIXED.into_iter().find(|(spelling, _)| *spelling == identifier).map(|row| row.1)
}

/// The object identifier of RSASSA-PSS, which is followed by its parameters (RFC 4055 3).
const RSASSA_PSS: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";

/// The last byte of the hash's object identifier, the length of hash and salt.
type Hash = (u8, u8);
const PSS: [(Hash, SignatureAlgorithm); 3] = [
    ((1, 32), SignatureAlgorithm::RsaPssSha256),
    ((2, 48), SignatureAlgorithm::RsaPssSha384),
    ((3, 64), SignatureAlgorithm::RsaPssSha512),
];

/// `RSASSA-PSS-params` where hash, MGF1 and salt agree (RFC 4055 3.1): no other choice is believed.
fn pss_parameters((id, len): Hash) -> Vec<u8> {
    let hash = [0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, id, 0x05, 0x00];
    let mgf1: &[u8] = &[0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
    element(0x30, &[&[0xa0, 0x0f], &hash[..], mgf1, &hash[..], &[0xa2, 0x03, 0x02, 0x01, len]].concat())
}
