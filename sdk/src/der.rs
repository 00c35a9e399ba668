//! The little DER that is read and written by hand: a public key from its numbers, and the frame around what is signed.

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

/// What somebody signed, and how: `SEQUENCE { content SEQUENCE, algorithm SEQUENCE, signature BIT STRING }`, which is the frame
/// of certificates and of requests for them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed<'a> {
    /// What is signed, with its header.
    pub(crate) content: &'a [u8],
    /// The content of the algorithm identifier.
    pub(crate) algorithm: &'a [u8],
    /// The bytes of the signature.
    pub(crate) signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Reads a frame and nothing after it. Nobody signs the frame itself, so that only one spelling of it is taken: otherwise
    /// whoever has a certificate makes others from it that are as good.
    pub(crate) fn read(der: &'a [u8]) -> Option<Self> {
        let (outer, []) = take(0x30, der)? else { return None };
        let (_, rest) = take(0x30, outer)?;
        let content = outer.get(..outer.len() - rest.len())?;
        let (algorithm, rest) = take(0x30, rest)?;
        let (bits, []) = take(0x03, rest)? else { return None };
        // A signature is a whole number of bytes.
        let signature = bits.strip_prefix(&[0])?;
        Some(Self { content, algorithm, signature })
    }
}

/// The content of the element at the beginning, which has this tag and the shortest form of its length, and what follows it.
pub(crate) fn take(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(len, rest)| (usize::from(*len), rest)).filter(|(len, _)| *len >= 0x80)?,
        0x82 => {
            let (len, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*len)), rest)
        }
        _ => return None,
    };
    if found != tag || (first == 0x82 && len < 0x100) {
        return None;
    }
    rest.split_at_checked(len)
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
    fn an_element_is_read_in_the_one_spelling_that_it_has() {
        for len in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff] {
            let made = element(0x30, &vec![7; len]);
            let (content, rest) = take(0x30, &made).unwrap();
            assert_eq!((content.len(), rest.len()), (len, 0));
            assert_eq!(take(0x30, &[&made[..], &[9]].concat()).unwrap().1, [9]);
            assert!(take(0x31, &made).is_none());
            assert!((0..made.len()).all(|cut| take(0x30, &made[..cut]).is_none()));
        }
        for longer in
            [&[0x30, 0x81, 1, 7][..], &[0x30, 0x82, 0, 1, 7], &[0x30, 0x83, 0, 0, 1, 7], &[0x30, 0x80, 7, 0, 0]]
        {
            assert!(take(0x30, longer).is_none(), "{longer:02x?}");
        }
    }

    #[test]
    fn numbers_are_not_negative_and_have_no_zeros_before_them() {
        assert_eq!(unsigned(&[0, 0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[]), [2, 1, 0]);
    }
}
