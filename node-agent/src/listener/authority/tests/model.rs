//! A second, plain implementation of what the adapter works on: an encoder that can write a header block in every way that the standard allows, and a
//! decoder that keeps whole tables. Slow and obvious, so that the two can be compared.

use super::super::huffman;

pub(super) type Field = (Vec<u8>, Vec<u8>);

#[rustfmt::skip]
pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"), (":scheme", "http"), (":scheme", "https"),
    (":status", "200"), (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"),
    ("accept-charset", ""), ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""), ("content-disposition", ""),
    ("content-encoding", ""), ("content-language", ""), ("content-length", ""), ("content-location", ""), ("content-range", ""), ("content-type", ""),
    ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""),
    ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""),
    ("set-cookie", ""), ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

/// Both sides' table: newest first.
#[derive(Default)]
pub(super) struct Table {
    entries: Vec<Field>,
    limit: Option<usize>,
}

impl Table {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(4096)
    }

    fn evict(&mut self) {
        let size = |field: &Field| 32 + field.0.len() + field.1.len();
        while self.entries.iter().map(size).sum::<usize>() > self.limit() {
            self.entries.pop();
        }
    }

    fn insert(&mut self, field: Field) {
        self.entries.insert(0, field);
        self.evict();
    }

    /// The lengths of each entry's name and value, and whether it is an `:authority`.
    pub(super) fn sizes(&self) -> Vec<(usize, usize, bool)> {
        self.entries.iter().map(|(name, value)| (name.len(), value.len(), name == b":authority")).collect()
    }

    fn resize(&mut self, limit: usize) {
        self.limit = Some(limit);
        self.evict();
    }

    fn get(&self, index: usize) -> Option<Field> {
        match STATIC.get(index.checked_sub(1)?) {
            Some((name, value)) => Some((name.as_bytes().to_vec(), value.as_bytes().to_vec())),
            None => self.entries.get(index - 62).cloned(),
        }
    }

    fn indexes(&self) -> Vec<(usize, Field)> {
        (1..=61 + self.entries.len()).map(|index| (index, self.get(index).unwrap())).collect()
    }
}

/// How to write a field, where there is a choice.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is one bit of the encoding")]
pub(super) struct Way {
    /// By index if the field is in a table.
    pub(super) indexed: bool,
    /// With incremental indexing; else without, or never.
    pub(super) remember: bool,
    pub(super) never: bool,
    /// The newest entry of that name, the oldest, or a literal.
    pub(super) name: u8,
    pub(super) huffman_name: bool,
    pub(super) huffman_value: bool,
    /// Integers that do not fit the prefix take all four further octets.
    pub(super) long: bool,
}

pub(super) fn encode(table: &mut Table, (name, value): &Field, way: Way, out: &mut Vec<u8>) {
    if way.indexed
        && let Some((index, _)) = table.indexes().into_iter().find(|(_, field)| (&field.0, &field.1) == (name, value))
    {
        return integer(out, 0x80, 7, index, way.long);
    }
    let mut names = table.indexes().into_iter().filter(|(_, field)| field.0 == *name).map(|(index, _)| index);
    let index = match way.name {
        0 => names.next(),
        1 => names.next_back(),
        _ => None,
    };
    let (first, prefix) = if way.remember { (0x40, 6) } else { (if way.never { 0x10 } else { 0 }, 4) };
    integer(out, first, prefix, index.unwrap_or(0), way.long);
    if index.is_none() {
        string(out, name, way.huffman_name, way.long);
    }
    string(out, value, way.huffman_value, way.long);
    if way.remember {
        table.insert((name.clone(), value.clone()));
    }
}

pub(super) fn resize(table: &mut Table, limit: usize, out: &mut Vec<u8>) {
    integer(out, 0x20, 5, limit, false);
    table.resize(limit);
}

fn integer(out: &mut Vec<u8>, first: u8, prefix: u32, value: usize, long: bool) {
    let most = (1 << prefix) - 1;
    if value < most {
        return out.push(first | u8::try_from(value).unwrap());
    }
    out.push(first | u8::try_from(most).unwrap());
    let mut rest = value - most;
    for _ in 0..3 {
        if rest >= 128 || long {
            out.push(0x80 | u8::try_from(rest % 128).unwrap());
            rest /= 128;
        }
    }
    out.push(u8::try_from(rest).unwrap());
}

fn string(out: &mut Vec<u8>, value: &[u8], huffman: bool, long: bool) {
    let encoded = if huffman { huffman::encode(value) } else { value.to_vec() };
    integer(out, if huffman { 0x80 } else { 0 }, 7, encoded.len(), long);
    out.extend(encoded);
}

pub(super) fn decode(table: &mut Table, mut block: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while let Some(first) = block.first().copied() {
        if first & 0x80 != 0 {
            fields.push(table.get(take_integer(&mut block, 7)?)?);
        } else if first & 0xe0 == 0x20 {
            table.resize(take_integer(&mut block, 5)?);
        } else {
            let remember = first & 0x40 != 0;
            let index = take_integer(&mut block, if remember { 6 } else { 4 })?;
            let name = if index == 0 { take_string(&mut block)? } else { table.get(index)?.0 };
            let field = (name, take_string(&mut block)?);
            if remember {
                table.insert(field.clone());
            }
            fields.push(field);
        }
    }
    Some(fields)
}

fn take_octet(block: &mut &[u8]) -> Option<u8> {
    let (first, rest) = block.split_first()?;
    *block = rest;
    Some(*first)
}

fn take_integer(block: &mut &[u8], prefix: u32) -> Option<usize> {
    let most = (1_usize << prefix) - 1;
    let mut value = usize::from(take_octet(block)?) & most;
    if value < most {
        return Some(value);
    }
    for shift in [0, 7, 14, 21] {
        let octet = take_octet(block)?;
        value += usize::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take_string(block: &mut &[u8]) -> Option<Vec<u8>> {
    let huffman = block.first()? & 0x80 != 0;
    let length = take_integer(block, 7)?;
    let (encoded, rest) = block.split_at_checked(length)?;
    *block = rest;
    if huffman { huffman::decode(encoded).ok() } else { Some(encoded.to_vec()) }
}

/// One frame: type, flags, stream and payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(&u32::try_from(self.payload.len()).unwrap().to_be_bytes()[1..]);
        out.extend([self.kind, self.flags]);
        out.extend(self.stream.to_be_bytes());
        out.extend(&self.payload);
    }

    /// The frames after the preface.
    pub(super) fn read_all(mut octets: &[u8]) -> Vec<Self> {
        let mut frames = Vec::new();
        while let Some((head, rest)) = octets.split_at_checked(9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let Some((payload, rest)) = rest.split_at_checked(length) else { break };
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            frames.push(Self { kind: head[3], flags: head[4], stream, payload: payload.to_vec() });
            octets = rest;
        }
        frames
    }

    /// The fragment of a header block in it.
    pub(super) fn fragment(&self) -> &[u8] {
        let mut fragment = &self.payload[..];
        if self.kind == 1 && self.flags & 0x8 != 0 {
            fragment = &fragment[1..fragment.len() - usize::from(fragment[0])];
        }
        if self.kind == 1 && self.flags & 0x20 != 0 {
            fragment = &fragment[5..];
        }
        fragment
    }
}

/// The fields of each header block of a connection, or `None` if they cannot be read.
pub(super) fn requests(octets: &[u8]) -> Option<Vec<Vec<Field>>> {
    let mut table = Table::default();
    let (mut requests, mut block) = (Vec::new(), Vec::new());
    for frame in Frame::read_all(octets.get(24..)?) {
        if matches!(frame.kind, 1 | 9) {
            block.extend(frame.fragment());
            if frame.flags & 0x4 != 0 {
                requests.push(decode(&mut table, &std::mem::take(&mut block))?);
            }
        }
    }
    Some(requests)
}
