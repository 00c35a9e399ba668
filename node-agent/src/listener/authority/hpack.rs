//! Follows an HPACK stream (RFC 7541) just far enough to know which octets are the value of an `:authority`.
//!
//! Nothing is decoded that need not be: of the dynamic table only each entry's size, and whether its name is `:authority`, is kept.

use std::collections::VecDeque;

use super::huffman;

/// Values longer than this are not looked at: a Unix socket's path has at most 107 octets, which percent-encoding makes 321.
const LONGEST_VALUE: u32 = 512;
/// What an HTTP/2 peer may assume until a SETTINGS frame says otherwise; ours never says otherwise (RFC 9113 6.5.2).
const TABLE_LIMIT: u32 = 4096;
/// The length of the name of each entry of the static table (RFC 7541, Appendix A). Index 1 is `:authority`.
#[rustfmt::skip]
pub(super) const STATIC_NAMES: [u8; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12, 6, 4, 4,
    6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3, 16,
];
const AUTHORITY: &[u8] = b":authority";

/// The stream is no HPACK that h2 would take: from here on nothing may be changed, and h2 ends the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// What the octet just taken was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Octet {
    /// Not part of the value of an `:authority`.
    Other,
    /// Part of the value of an `:authority`.
    Authority {
        /// The value is Huffman-coded.
        huffman: bool,
        /// The first octet of the value.
        first: bool,
        /// The last octet of the value.
        last: bool,
    },
}

/// An integer with an N-bit prefix, as it arrives (RFC 7541 5.1).
#[derive(Debug, Clone, Copy)]
struct Integer {
    value: u32,
    shift: u32,
}

/// A string literal, as it arrives (RFC 7541 5.2).
#[derive(Debug, Clone, Copy)]
struct Text {
    left: u32,
    first: bool,
    /// The decoder, where the string is Huffman-coded.
    huffman: Option<huffman::Decoder>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Between two fields.
    Field,
    Indexed(Integer),
    TableSize(Integer),
    NameIndex(Integer),
    NameLength(Option<(bool, Integer)>),
    Name(Text),
    ValueLength(Option<(bool, Integer)>),
    Value(Text),
}

/// The literal field in hand.
#[derive(Debug, Default, Clone, Copy)]
struct Literal {
    indexed: bool,
    authority: bool,
    /// How much of a literal name has matched `:authority`; `None` once it cannot any more.
    matched: Option<usize>,
    name: u32,
    value: u32,
    /// The value is short enough to be replaced.
    captured: bool,
}

/// The fields of one direction of one connection.
#[derive(Debug)]
pub(super) struct Fields {
    state: State,
    literal: Literal,
    table: Table,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            state: State::Field,
            literal: Literal::default(),
            table: Table { entries: VecDeque::new(), size: 0, limit: TABLE_LIMIT },
        }
    }
}

impl Fields {
    /// Takes the next octet of a header block fragment.
    pub(super) fn take(&mut self, octet: u8) -> Result<Octet, Broken> {
        match self.state {
            State::Field => return self.begin(octet).map(|()| Octet::Other),
            State::Indexed(integer) => match integer.take(octet)? {
                Ok(index) => self.indexed(index)?,
                Err(integer) => self.state = State::Indexed(integer),
            },
            State::TableSize(integer) => match integer.take(octet)? {
                Ok(limit) => self.resize(limit)?,
                Err(integer) => self.state = State::TableSize(integer),
            },
            State::NameIndex(integer) => match integer.take(octet)? {
                Ok(index) => self.name_index(index)?,
                Err(integer) => self.state = State::NameIndex(integer),
            },
            State::NameLength(known) => match length(known, octet)? {
                Ok((_, 0)) => return Err(Broken),
                Ok((huffman, left)) => self.state = State::Name(Text::new(huffman, left)),
                Err(known) => self.state = State::NameLength(Some(known)),
            },
            State::Name(text) => self.name(text, octet)?,
            State::ValueLength(known) => match length(known, octet)? {
                Ok((_, 0)) => self.end_literal(),
                Ok((huffman, left)) => {
                    self.literal.captured = self.literal.authority && left <= LONGEST_VALUE;
                    self.state = State::Value(Text::new(huffman, left));
                }
                Err(known) => self.state = State::ValueLength(Some(known)),
            },
            State::Value(text) => return self.value(text, octet),
        }
        Ok(Octet::Other)
    }

    /// A header block has ended; a field may not be cut by it.
    pub(super) fn end_block(&self) -> Result<(), Broken> {
        if matches!(self.state, State::Field) { Ok(()) } else { Err(Broken) }
    }

    #[cfg(test)]
    pub(super) fn table_sizes(&self) -> Vec<(usize, usize, bool)> {
        self.table.entries.iter().map(|entry| (entry.name as usize, entry.value as usize, entry.authority)).collect()
    }

    fn begin(&mut self, octet: u8) -> Result<(), Broken> {
        self.literal = Literal::default();
        if octet & 0x80 != 0 {
            match Integer::begin(octet, 7) {
                Ok(index) => return self.indexed(index),
                Err(integer) => self.state = State::Indexed(integer),
            }
        } else if octet & 0xe0 == 0x20 {
            match Integer::begin(octet, 5) {
                Ok(limit) => return self.resize(limit),
                Err(integer) => self.state = State::TableSize(integer),
            }
        } else {
            self.literal.indexed = octet & 0x40 != 0;
            match Integer::begin(octet, if self.literal.indexed { 6 } else { 4 }) {
                Ok(index) => return self.name_index(index),
                Err(integer) => self.state = State::NameIndex(integer),
            }
        }
        Ok(())
    }

    fn indexed(&mut self, index: u32) -> Result<(), Broken> {
        self.state = State::Field;
        self.table.name(index).map(drop)
    }

    fn resize(&mut self, limit: u32) -> Result<(), Broken> {
        if limit > TABLE_LIMIT {
            return Err(Broken);
        }
        self.state = State::Field;
        self.table.limit = limit;
        self.table.shrink_to(limit);
        Ok(())
    }

    fn name_index(&mut self, index: u32) -> Result<(), Broken> {
        if index == 0 {
            self.literal.matched = Some(0);
            self.state = State::NameLength(None);
            return Ok(());
        }
        (self.literal.name, self.literal.authority) = self.table.name(index)?;
        self.state = State::ValueLength(None);
        Ok(())
    }

    fn name(&mut self, mut text: Text, octet: u8) -> Result<(), Broken> {
        let literal = &mut self.literal;
        text.take(octet, |symbol| {
            literal.name += 1;
            literal.matched = literal.matched.filter(|at| AUTHORITY.get(*at) == Some(&symbol)).map(|at| at + 1);
        })?;
        if text.left > 0 {
            self.state = State::Name(text);
            return Ok(());
        }
        self.literal.authority = self.literal.matched == Some(AUTHORITY.len());
        self.state = State::ValueLength(None);
        Ok(())
    }

    fn value(&mut self, mut text: Text, octet: u8) -> Result<Octet, Broken> {
        let (first, huffman) = (text.first, text.huffman.is_some());
        text.take(octet, |_| self.literal.value += 1)?;
        let captured = self.literal.captured;
        let last = text.left == 0;
        if last {
            self.end_literal();
        } else {
            self.state = State::Value(text);
        }
        Ok(if captured { Octet::Authority { huffman, first, last } } else { Octet::Other })
    }

    fn end_literal(&mut self) {
        self.state = State::Field;
        if self.literal.indexed {
            self.table.insert(Entry {
                name: self.literal.name,
                value: self.literal.value,
                authority: self.literal.authority,
            });
        }
    }
}

impl Integer {
    /// The first octet: `Ok` when it holds the whole value.
    fn begin(octet: u8, prefix: u32) -> Result<u32, Self> {
        let mask = (1 << prefix) - 1;
        let value = u32::from(octet) & mask;
        if value < mask { Ok(value) } else { Err(Self { value, shift: 0 }) }
    }

    /// A further octet. h2 takes four of them at most, and so do we.
    fn take(self, octet: u8) -> Result<Result<u32, Self>, Broken> {
        if self.shift > 21 {
            return Err(Broken);
        }
        let value = self.value + (u32::from(octet & 0x7f) << self.shift);
        Ok(if octet & 0x80 == 0 { Ok(value) } else { Err(Self { value, shift: self.shift + 7 }) })
    }
}

/// The length of a string and whether it is Huffman-coded, octet by octet.
#[expect(clippy::type_complexity, reason = "done, not yet, or broken: the three outcomes of every octet here")]
fn length(known: Option<(bool, Integer)>, octet: u8) -> Result<Result<(bool, u32), (bool, Integer)>, Broken> {
    match known {
        None => {
            let huffman = octet & 0x80 != 0;
            Ok(Integer::begin(octet, 7).map(|length| (huffman, length)).map_err(|integer| (huffman, integer)))
        }
        Some((huffman, integer)) => {
            Ok(integer.take(octet)?.map(|length| (huffman, length)).map_err(|integer| (huffman, integer)))
        }
    }
}

impl Text {
    fn new(huffman: bool, left: u32) -> Self {
        Self { left, first: true, huffman: huffman.then(huffman::Decoder::default) }
    }

    fn take(&mut self, octet: u8, mut symbol: impl FnMut(u8)) -> Result<(), Broken> {
        self.left -= 1;
        self.first = false;
        match &mut self.huffman {
            None => symbol(octet),
            Some(decoder) => {
                decoder.push(octet, symbol).map_err(|huffman::Malformed| Broken)?;
                if self.left == 0 {
                    decoder.finish().map_err(|huffman::Malformed| Broken)?;
                }
            }
        }
        Ok(())
    }
}

/// The dynamic table: newest entry first.
#[derive(Debug)]
struct Table {
    entries: VecDeque<Entry>,
    size: u32,
    limit: u32,
}

/// Lengths in octets, decoded.
#[derive(Debug, Clone, Copy)]
struct Entry {
    name: u32,
    value: u32,
    authority: bool,
}

impl Entry {
    /// RFC 7541 4.1.
    fn size(self) -> u32 {
        32 + self.name + self.value
    }
}

impl Table {
    /// The length of the name of an entry, and whether it is `:authority`.
    fn name(&self, index: u32) -> Result<(u32, bool), Broken> {
        let place = usize::try_from(index).ok().and_then(|index| index.checked_sub(1)).ok_or(Broken)?;
        if let Some(length) = STATIC_NAMES.get(place) {
            return Ok((u32::from(*length), index == 1));
        }
        self.entries.get(place - STATIC_NAMES.len()).map(|entry| (entry.name, entry.authority)).ok_or(Broken)
    }

    fn insert(&mut self, entry: Entry) {
        let size = entry.size();
        self.shrink_to(self.limit.saturating_sub(size));
        if size <= self.limit {
            self.size += size;
            self.entries.push_front(entry);
        }
    }

    fn shrink_to(&mut self, size: u32) {
        while self.size > size {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.size();
        }
    }
}
