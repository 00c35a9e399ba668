//! The Huffman code of HPACK (RFC 7541, Appendix B): enough of it to read a string, and to write one of a given size.
//!
//! The code is canonical: symbols of one length have consecutive codes, in the order of the symbols. So the 257 lengths say everything.

/// The length in bits of the code of each octet, then that of EOS (RFC 7541, Appendix B).
#[rustfmt::skip]
pub(super) const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const LONGEST: usize = 30;

/// One legal character of an authority for each length of code that has one, the longest first: `(length, code)` of `~ + ! X B - a`.
const FILL: [(u32, u32); 7] = [(13, 0x1ffd), (11, 0x7fb), (10, 0x3f8), (8, 0xfc), (7, 0x5d), (6, 0x16), (5, 0x3)];

struct Canonical {
    /// The octets, by length of code, then by value. EOS, which no string may hold, is last and is left out.
    symbols: [u8; 256],
    /// For each length: its first code, how many codes it has, and where its symbols begin.
    lengths: [(u32, u32, u16); LONGEST + 1],
}

static CANONICAL: Canonical = canonical();

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated by the compiler, which refuses an index out of bounds; every value is below 257"
)]
const fn canonical() -> Canonical {
    let mut table = Canonical { symbols: [0; 256], lengths: [(0, 0, 0); LONGEST + 1] };
    let (mut code, mut filled, mut length) = (0_u32, 0_usize, 1_usize);
    while length <= LONGEST {
        code <<= 1;
        let (first, start) = (code, filled);
        let mut symbol = 0_usize;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                table.symbols[filled] = symbol as u8;
                filled += 1;
                code += 1;
            }
            symbol += 1;
        }
        table.lengths[length] = (first, code - first, start as u16);
        length += 1;
    }
    table
}

/// A string that is no Huffman code: an impossible code, or padding that is too long or not all ones (RFC 7541 5.2).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Decodes a string as it arrives, in constant space.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Decoder {
    code: u32,
    bits: u8,
}

impl Decoder {
    /// Takes the next octet and gives `symbol` each octet that it completes (at most two).
    pub(super) fn push(&mut self, octet: u8, mut symbol: impl FnMut(u8)) -> Result<(), Malformed> {
        for bit in (0..8).rev() {
            self.code = (self.code << 1) | u32::from(octet >> bit & 1);
            self.bits += 1;
            let &(first, count, start) = CANONICAL.lengths.get(usize::from(self.bits)).ok_or(Malformed)?;
            let Some(offset) = self.code.checked_sub(first).filter(|offset| *offset < count) else { continue };
            let found =
                usize::try_from(offset).ok().and_then(|offset| CANONICAL.symbols.get(usize::from(start) + offset));
            symbol(*found.ok_or(Malformed)?);
            *self = Self::default();
        }
        Ok(())
    }

    /// The string has ended: what is left must be padding.
    pub(super) fn finish(self) -> Result<(), Malformed> {
        if self.bits < 8 && self.code.count_ones() == u32::from(self.bits) { Ok(()) } else { Err(Malformed) }
    }
}

/// Decodes a whole string.
pub(super) fn decode(encoded: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut decoder = Decoder::default();
    let mut plain = Vec::with_capacity(encoded.len() * 8 / 5);
    for octet in encoded {
        decoder.push(*octet, |symbol| plain.push(symbol))?;
    }
    decoder.finish().map(|()| plain)
}

/// A string of legal authority characters that decodes to `symbols` octets and is encoded in exactly `octets` octets.
///
/// `None` where there is none: less than 5, or more than 13 bits a symbol on average. A string whose octets are mostly outside ASCII is of the
/// latter kind; no encoder in use writes one (raw octets are shorter).
pub(super) fn fill(symbols: usize, octets: usize) -> Option<Vec<u8>> {
    let mut left = u32::try_from(octets).ok()?.checked_mul(8)?;
    let symbols = u32::try_from(symbols).ok()?;
    let mut out = Vec::with_capacity(octets);
    let (mut pending, mut bits) = (0_u64, 0_u32);
    let mut put = |code: u32, length: u32| {
        pending = (pending << length) | u64::from(code);
        bits += length;
        while bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(pending >> bits & 0xff).unwrap_or(0xff));
        }
    };
    for after in (0..symbols).rev() {
        let room = left.checked_sub(after * 5)?;
        let &(length, code) = FILL.iter().find(|(length, _)| *length <= room)?;
        put(code, length);
        left -= length;
    }
    if left > 7 {
        return None;
    }
    put((1 << left) - 1, left);
    Some(out)
}

#[cfg(test)]
pub(super) fn encode(decoded: &[u8]) -> Vec<u8> {
    let (mut out, mut pending, mut bits) = (Vec::new(), 0_u64, 0_u32);
    for octet in decoded {
        let length = u32::from(LENGTHS[usize::from(*octet)]);
        let (first, _, start) = CANONICAL.lengths[length as usize];
        let place = CANONICAL.symbols[usize::from(start)..].iter().position(|symbol| symbol == octet).unwrap();
        pending = (pending << length) | u64::from(first + u32::try_from(place).unwrap());
        bits += length;
        while bits >= 8 {
            bits -= 8;
            out.push((pending >> bits & 0xff) as u8);
        }
    }
    if bits > 0 {
        out.push(((pending << (8 - bits) | (0xff >> bits)) & 0xff) as u8);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standard_are_read() {
        // RFC 7541, C.4.1 and C.6.1.
        assert_eq!(decode(&hex::decode("f1e3c2e5f23a6ba0ab90f4ff").unwrap()).unwrap(), b"www.example.com");
        assert_eq!(
            decode(&hex::decode("d07abe941054d444a8200595040b8166e082a62d1bff").unwrap()).unwrap(),
            b"Mon, 21 Oct 2013 20:13:21 GMT"
        );
        assert_eq!(encode(b"www.example.com"), hex::decode("f1e3c2e5f23a6ba0ab90f4ff").unwrap());
    }

    #[test]
    fn every_octet_survives_a_round_trip() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)).unwrap(), all);
    }

    #[test]
    fn codes_and_lengths_are_those_of_the_standard() {
        // Spot values of RFC 7541, Appendix B: first, last and some between.
        for (octet, code, length) in [
            (0_u8, 0x1ff8_u32, 13_u32),
            (10, 0x3fff_fffc, 30),
            (b'%', 0x15, 6),
            (b'/', 0x18, 6),
            (b'\\', 0x7_fff0, 19),
            (255, 0x3ff_ffee, 26),
        ] {
            let (first, _, start) = CANONICAL.lengths[length as usize];
            let place = CANONICAL.symbols[usize::from(start)..].iter().position(|symbol| *symbol == octet).unwrap();
            assert_eq!((first + u32::try_from(place).unwrap(), u32::from(LENGTHS[usize::from(octet)])), (code, length));
        }
    }

    #[test]
    fn padding_must_be_short_and_all_ones() {
        assert_eq!(decode(&[0x1f]), Ok(b"a".to_vec()));
        assert_eq!(decode(&[0x1e]), Err(Malformed));
        assert_eq!(decode(&[0x1f, 0xff]), Err(Malformed));
        assert_eq!(decode(&[0xff; 4]), Err(Malformed));
    }

    #[test]
    fn a_fill_has_the_size_asked_for_wherever_one_exists() {
        for symbols in 1..60_usize {
            for octets in 0..120_usize {
                let possible = (symbols * 5).div_ceil(8) <= octets && octets * 8 <= symbols * 13 + 7;
                let filled = fill(symbols, octets);
                assert_eq!(filled.is_some(), possible, "{symbols} symbols in {octets} octets");
                if let Some(filled) = filled {
                    assert_eq!(filled.len(), octets);
                    let decoded = decode(&filled).unwrap();
                    assert_eq!(decoded.len(), symbols);
                    assert!(http::uri::Authority::try_from(&decoded[..]).is_ok());
                }
            }
        }
    }
}
