//! The little DER that is written by hand: a public key from its numbers.

/// A DER element with this tag. Lengths up to 65,535 bytes, which is more than any key here has.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, low] = content.len().to_be_bytes();
    let mut out = match content.len() {
        0..0x80 => vec![tag, low],
        0x80..0x100 => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    out.extend_from_slice(content);
    out
}

/// A DER INTEGER that is not negative, from big-endian bytes of any length.
pub(crate) fn unsigned(big_endian: &[u8]) -> Vec<u8> {
    let zeros = big_endian.iter().take_while(|byte| **byte == 0).count();
    let digits = big_endian.get(zeros..).unwrap_or_default();
    let mut content = Vec::with_capacity(digits.len() + 1);
    if digits.first().is_none_or(|first| *first >= 0x80) {
        content.push(0);
    }
    content.extend_from_slice(digits);
    element(0x02, &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_the_shortest_form() {
        let head =
            |bytes: usize| element(0x30, &vec![0; bytes])[..element(0x30, &vec![0; bytes]).len() - bytes].to_vec();
        assert_eq!(head(0x7f), [0x30, 0x7f]);
        assert_eq!(head(0x80), [0x30, 0x81, 0x80]);
        assert_eq!(head(0xff), [0x30, 0x81, 0xff]);
        assert_eq!(head(0x100), [0x30, 0x82, 0x01, 0x00]);
    }

    #[test]
    fn numbers_are_not_negative_and_have_no_zeros_before_them() {
        assert_eq!(unsigned(&[0, 0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[]), [2, 1, 0]);
    }
}
