//! The little DER (X.690) that a leaf is written with, on the way that a million of them take.

use mayfly_sdk::{SignatureAlgorithm, Timestamp};
use time::OffsetDateTime;

pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
/// `[3]`, constructed: the extensions of a certificate.
pub(super) const EXTENSIONS: u8 = 0xa3;
/// `[2]`, primitive: a DNS name among general names.
pub(super) const DNS_NAME: u8 = 0x82;
/// `[6]`, primitive: a URI among general names.
pub(super) const URI: u8 = 0x86;
pub(super) const IP_ADDRESS: u8 = 0x87;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// How many bytes a value of `content` bytes takes with its tag and length.
pub(super) const fn size(content: usize) -> usize {
    content
        + match content {
            0..=0x7f => 2,
            0x80..=0xff => 3,
            0x100..=0xffff => 4,
            _ => 5,
        }
}

/// Writes a tag and the length of what follows. Nothing here is longer than 16 MiB.
pub(super) fn header(out: &mut Vec<u8>, tag: u8, content: usize) {
    let [.., high, middle, low] = content.to_be_bytes();
    out.push(tag);
    match content {
        0..=0x7f => out.push(low),
        0x80..=0xff => out.extend_from_slice(&[0x81, low]),
        0x100..=0xffff => out.extend_from_slice(&[0x82, middle, low]),
        _ => out.extend_from_slice(&[0x83, high, middle, low]),
    }
}

/// Writes a whole value.
pub(super) fn value(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    header(out, tag, content.len());
    out.extend_from_slice(content);
}

/// Writes a non-negative INTEGER from big-endian bytes, in its shortest form.
pub(super) fn unsigned(out: &mut Vec<u8>, big_endian: &[u8]) {
    let zeros = big_endian.iter().take_while(|byte| **byte == 0).count();
    let digits = big_endian.get(zeros..).unwrap_or_default();
    let sign = usize::from(digits.first().is_none_or(|first| *first >= 0x80));
    header(out, INTEGER, digits.len() + sign);
    out.extend(std::iter::repeat_n(0, sign));
    out.extend_from_slice(digits);
}

/// Writes a time as RFC 5280 4.1.2.5 wants it: `UTCTime` until 2049, `GeneralizedTime` from then on. `None` outside the
/// years 1950 to 9999.
pub(super) fn time(out: &mut Vec<u8>, at: Timestamp) -> Option<()> {
    let at = OffsetDateTime::from_unix_timestamp(at.unix_s()).ok()?;
    let year = u32::try_from(at.year()).ok().filter(|year| (1950..=9999).contains(year))?;
    if year < 2050 {
        header(out, UTC_TIME, 13);
    } else {
        header(out, GENERALIZED_TIME, 15);
        two_digits(out, year / 100);
    }
    two_digits(out, year % 100);
    for part in [u8::from(at.month()), at.day(), at.hour(), at.minute(), at.second()] {
        two_digits(out, u32::from(part));
    }
    out.push(b'Z');
    Some(())
}

fn two_digits(out: &mut Vec<u8>, number: u32) {
    out.extend([number / 10 % 10, number % 10].map(|digit| b'0' + u8::try_from(digit).unwrap_or(0)));
}

/// The `AlgorithmIdentifier` of a signature on a certificate (RFC 5758 3.2, RFC 4055 5, RFC 8410 3).
pub(super) const fn algorithm_identifier(algorithm: SignatureAlgorithm) -> Option<&'static [u8]> {
    Some(match algorithm {
        SignatureAlgorithm::EcSha256Der => b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02",
        SignatureAlgorithm::EcSha384Der => b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03",
        SignatureAlgorithm::EcSha512Der => b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x04",
        SignatureAlgorithm::RsaPkcs1Sha256 => b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00",
        SignatureAlgorithm::Ed25519 => b"\x30\x05\x06\x03\x2b\x65\x70",
        _ => return None,
    })
}

/// A certificate from what was signed, how, and the signature (RFC 5280 4.1).
pub(super) fn certificate(tbs: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    let bits = signature.len() + 1;
    let content = tbs.len() + algorithm.len() + size(bits);
    let mut out = Vec::with_capacity(size(content));
    header(&mut out, SEQUENCE, content);
    out.extend_from_slice(tbs);
    out.extend_from_slice(algorithm);
    header(&mut out, BIT_STRING, bits);
    out.push(0);
    out.extend_from_slice(signature);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_their_shortest_form() {
        for (length, written) in [
            (0, &b"\x30\x00"[..]),
            (127, b"\x30\x7f"),
            (128, b"\x30\x81\x80"),
            (255, b"\x30\x81\xff"),
            (256, b"\x30\x82\x01\x00"),
            (65_536, b"\x30\x83\x01\x00\x00"),
        ] {
            let mut out = Vec::new();
            header(&mut out, SEQUENCE, length);
            assert_eq!(out, written);
            assert_eq!(size(length), length + written.len());
        }
    }

    #[test]
    fn an_integer_has_no_needless_zero_and_never_a_sign() {
        for (bytes, written) in [
            (&[0x00, 0x00, 0x7f][..], &b"\x02\x01\x7f"[..]),
            (&[0x80], b"\x02\x02\x00\x80"),
            (&[0x00], b"\x02\x01\x00"),
            (&[0x01, 0x00], b"\x02\x02\x01\x00"),
        ] {
            let mut out = Vec::new();
            unsigned(&mut out, bytes);
            assert_eq!(out, written);
        }
    }

    #[test]
    fn times_change_their_form_in_2050() {
        for (at, written) in [
            ("2049-12-31T23:59:59Z", &b"\x17\x0d491231235959Z"[..]),
            ("2050-01-01T00:00:00Z", b"\x18\x0f20500101000000Z"),
            ("1950-01-01T00:00:00Z", b"\x17\x0d500101000000Z"),
        ] {
            let mut out = Vec::new();
            time(&mut out, at.parse().unwrap()).unwrap();
            assert_eq!(out, written);
        }
        assert_eq!(time(&mut Vec::new(), Timestamp::from_unix_s(i64::MAX)), None);
    }
}
