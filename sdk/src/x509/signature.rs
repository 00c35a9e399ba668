use x509_parser::asn1_rs::{Oid, Tag};
use x509_parser::oid_registry::{
    OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA,
    OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512, OID_SIG_ED25519,
};
use x509_parser::x509::AlgorithmIdentifier;

use crate::key::SignatureAlgorithm;

/// Which parameters an algorithm identifier has.
#[derive(PartialEq)]
enum Parameters {
    Absent,
    Null,
}

/// The algorithms of one fixed spelling (RFC 4055 5, RFC 5758 3.2, RFC 8410 3).
const FIXED: [(Oid<'static>, Parameters, SignatureAlgorithm); 7] = [
    (OID_SIG_ECDSA_WITH_SHA256, Parameters::Absent, SignatureAlgorithm::EcSha256Der),
    (OID_SIG_ECDSA_WITH_SHA384, Parameters::Absent, SignatureAlgorithm::EcSha384Der),
    (OID_SIG_ECDSA_WITH_SHA512, Parameters::Absent, SignatureAlgorithm::EcSha512Der),
    (OID_SIG_ED25519, Parameters::Absent, SignatureAlgorithm::Ed25519),
    (OID_PKCS1_SHA256WITHRSA, Parameters::Null, SignatureAlgorithm::RsaPkcs1Sha256),
    (OID_PKCS1_SHA384WITHRSA, Parameters::Null, SignatureAlgorithm::RsaPkcs1Sha384),
    (OID_PKCS1_SHA512WITHRSA, Parameters::Null, SignatureAlgorithm::RsaPkcs1Sha512),
];

/// The algorithm of a certificate's signature. SHA-1 and everything unknown are none.
pub(super) fn algorithm(identifier: &AlgorithmIdentifier<'_>) -> Option<SignatureAlgorithm> {
    let parameters = identifier.parameters.as_ref();
    if identifier.algorithm == OID_PKCS1_RSASSAPSS {
        let parameters = parameters.filter(|any| any.tag() == Tag::Sequence)?;
        return PSS
            .into_iter()
            .find(|(hash, ..)| pss_parameters(*hash) == parameters.data)
            .map(|(.., algorithm)| algorithm);
    }
    let found = match parameters {
        None => Parameters::Absent,
        Some(any) if any.tag() == Tag::Null && any.data.is_empty() => Parameters::Null,
        Some(_) => return None,
    };
    FIXED.into_iter().find(|(oid, expected, _)| *oid == identifier.algorithm && *expected == found).map(|row| row.2)
}

/// The last byte of the hash's object identifier, the length of hash and salt.
type Hash = (u8, u8);
const PSS: [(Hash, SignatureAlgorithm); 3] = [
    ((1, 32), SignatureAlgorithm::RsaPssSha256),
    ((2, 48), SignatureAlgorithm::RsaPssSha384),
    ((3, 64), SignatureAlgorithm::RsaPssSha512),
];

/// The content of `RSASSA-PSS-params` where hash, MGF1 and salt agree (RFC 4055 3.1): no other choice is believed.
fn pss_parameters((id, len): Hash) -> Vec<u8> {
    let hash = [0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, id, 0x05, 0x00];
    let mgf1: &[u8] = &[0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
    [&[0xa0, 0x0f], &hash[..], mgf1, &hash[..], &[0xa2, 0x03, 0x02, 0x01, len]].concat()
}
