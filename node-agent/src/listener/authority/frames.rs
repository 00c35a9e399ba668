//! Follows the client's half of an HTTP/2 connection (RFC 9113) and replaces each `:authority` that h2 would refuse, in place.

use std::ops::Range;

use super::hpack::{Fields, Octet};
use super::replacement;

/// `PRI * HTTP/2.0 ...`, which h2 compares; here it is only counted.
const PREFACE: usize = 24;
/// At most this many octets wait for the rest of an `:authority`: a value of 512 octets cut over 50 frames.
const MOST_HELD: usize = 1024;
/// The longest header block that is looked at, in octets with padding. h2 refuses shorter ones already; whoever sends more is not worth
/// the time.
const MOST_BLOCK: usize = 32 * 1024;

const HEADERS: u8 = 0x1;
const PUSH_PROMISE: u8 = 0x5;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

#[derive(Debug)]
enum State {
    Preface {
        left: usize,
    },
    Header {
        taken: usize,
        octets: [u8; 9],
    },
    PadLength,
    Priority {
        left: usize,
    },
    Fragment,
    /// Padding, or the payload of a frame without fields.
    Skip {
        left: usize,
    },
    /// Not HTTP/2 as h2 takes it: nothing is changed any more.
    Broken,
}

/// The frame in hand, if it carries fields.
#[derive(Debug, Default)]
struct Frame {
    /// Octets of the payload that are still to come, padding left out once it is known.
    left: usize,
    padding: usize,
    priority: bool,
    end_headers: bool,
}

/// Reads octets in the order in which the client sent them, in pieces of any size.
#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
    frame: Frame,
    fields: Fields,
    /// The stream whose header block is not complete.
    block: Option<[u8; 4]>,
    /// Where the octets of an unfinished `:authority` lie in the window.
    value: Vec<Range<usize>>,
    given_up: bool,
    /// How long the block of headers is so far.
    block_octets: usize,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            state: State::Preface { left: PREFACE },
            frame: Frame::default(),
            fields: Fields::default(),
            block: None,
            value: Vec::new(),
            given_up: false,
            block_octets: 0,
        }
    }
}

impl Scanner {
    /// Whether as many octets as an HTTP/2 preface have come.
    pub(super) fn greeted(&self) -> bool {
        !matches!(self.state, State::Preface { .. })
    }

    #[cfg(test)]
    pub(super) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Scans `window`, of which the first `from` octets were scanned before, and returns how many of its octets are final.
    ///
    /// The rest (at most [`MOST_HELD`] octets) must be the beginning of the next window.
    pub(super) fn scan(&mut self, window: &mut [u8], from: usize) -> usize {
        let mut at = from;
        while at < window.len() {
            at += self.skip(window.len() - at);
            let Some(&octet) = window.get(at) else { break };
            self.take(octet, at, window);
            at += 1;
        }
        self.keep(window.len())
    }

    /// Passes over octets that do not matter.
    fn skip(&mut self, most: usize) -> usize {
        let left = match &mut self.state {
            State::Preface { left } | State::Skip { left } => left,
            State::Broken => return most,
            _ => return 0,
        };
        let skipped = most.min(*left);
        *left -= skipped;
        if *left == 0 {
            self.state = State::Header { taken: 0, octets: [0; 9] };
        }
        skipped
    }

    fn take(&mut self, octet: u8, at: usize, window: &mut [u8]) {
        match &mut self.state {
            State::Header { taken, octets } => {
                if let Some(place) = octets.get_mut(*taken) {
                    *place = octet;
                }
                *taken += 1;
                if *taken == octets.len() {
                    let octets = *octets;
                    self.begin(octets);
                }
            }
            State::PadLength => {
                self.frame.left -= 1;
                self.frame.padding = usize::from(octet);
                self.begin_fragment();
            }
            State::Priority { left } => {
                *left -= 1;
                self.frame.left -= 1;
                if *left == 0 {
                    self.frame.priority = false;
                    self.begin_fragment();
                }
            }
            State::Fragment => {
                self.frame.left -= 1;
                self.fragment(octet, at, window);
                if self.frame.left == self.frame.padding {
                    self.end_fragment();
                }
            }
            State::Preface { .. } | State::Skip { .. } | State::Broken => {}
        }
    }

    fn begin(&mut self, header: [u8; 9]) {
        let [l0, l1, l2, kind, flags, stream @ ..] = header;
        let left = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
        let legal = match (kind, self.block) {
            (HEADERS, None) => true,
            (CONTINUATION, Some(block)) => block == stream,
            (PUSH_PROMISE | CONTINUATION, None) | (_, Some(_)) => false,
            (_, None) => {
                self.state = State::Skip { left };
                self.skip(0);
                return;
            }
        };
        if !legal {
            self.state = State::Broken;
            return;
        }
        self.block_octets = if kind == HEADERS { left } else { self.block_octets.saturating_add(left) };
        if self.block_octets > MOST_BLOCK {
            self.state = State::Broken;
            return;
        }
        self.block = Some(stream);
        let flags = if kind == HEADERS { flags } else { flags & END_HEADERS };
        self.frame = Frame { left, padding: 0, priority: flags & PRIORITY != 0, end_headers: flags & END_HEADERS != 0 };
        if flags & PADDED == 0 {
            self.begin_fragment();
        } else {
            self.state = if left == 0 { State::Broken } else { State::PadLength };
        }
    }

    fn begin_fragment(&mut self) {
        let priority = if self.frame.priority { 5 } else { 0 };
        if self.frame.left < priority + self.frame.padding {
            self.state = State::Broken;
        } else if self.frame.priority {
            self.state = State::Priority { left: priority };
        } else if self.frame.left == self.frame.padding {
            self.end_fragment();
        } else {
            self.state = State::Fragment;
        }
    }

    fn end_fragment(&mut self) {
        if matches!(self.state, State::Broken) {
            return;
        }
        if self.frame.end_headers {
            self.block = None;
            if self.fields.end_block().is_err() {
                self.state = State::Broken;
                return;
            }
        }
        self.state = State::Skip { left: self.frame.padding };
        self.skip(0);
    }

    fn fragment(&mut self, octet: u8, at: usize, window: &mut [u8]) {
        match self.fields.take(octet) {
            Ok(Octet::Other) => {}
            Ok(Octet::Authority { huffman, first, last }) => {
                self.given_up &= !first;
                if !self.given_up {
                    match self.value.last_mut() {
                        Some(run) if run.end == at => run.end += 1,
                        _ => self.value.push(at..at + 1),
                    }
                }
                if last {
                    self.replace(huffman, window);
                }
            }
            Err(_) => self.state = State::Broken,
        }
    }

    /// The value is complete: writes another over it if h2 would refuse it.
    fn replace(&mut self, huffman: bool, window: &mut [u8]) {
        let runs = std::mem::take(&mut self.value);
        let value: Vec<u8> = runs.iter().filter_map(|run| window.get(run.clone())).flatten().copied().collect();
        let Some(other) = replacement(&value, huffman) else { return };
        let mut rest = other.as_slice();
        for run in runs {
            if let (Some(place), Some((now, later))) = (window.get_mut(run.clone()), rest.split_at_checked(run.len())) {
                place.copy_from_slice(now);
                rest = later;
            }
        }
    }

    /// How many octets of a window of `length` are final. What is left becomes the beginning of the next window.
    fn keep(&mut self, length: usize) -> usize {
        let Some(start) = self.value.first().map(|run| run.start) else { return length };
        if matches!(self.state, State::Broken) || length - start > MOST_HELD {
            self.value = Vec::new();
            self.given_up = true;
            return length;
        }
        for run in &mut self.value {
            *run = run.start - start..run.end - start;
        }
        start
    }
}
