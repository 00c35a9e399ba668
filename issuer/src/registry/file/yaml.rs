//! YAML, read by libyaml, which was not written for enemies; so what it is given is bounded first.
//!
//! - It looks at every open bracket again for each token (`{a: {a: {a: ..` takes hours). No scan that is simpler than
//!   libyaml's own can tell how deep brackets nest, because they may stand in text. But brackets times tokens bounds the
//!   work, and the bound is generous when it is applied to each entry instead of to the whole file: so a file is cut
//!   where its entries begin, and each is read by itself.
//! - It makes an event of about 150 bytes for each token, all of them before the first is looked at: tokens are counted.
//! - Every copy that an alias makes is charged against the size of the entry: a billion laughs end after a few thousand.
//!
//! A cut in the wrong place (a line within quotes that looks like the next entry, which YAML forbids and libyaml allows)
//! leaves a quote open and is an error; it never gives another meaning.

use std::ops::Range;

use super::tree::{Tree, build, unreadable};
use crate::registry::problem::{Problem, Problems};

/// The most tokens of one piece, by the places where one can begin: a file of 32 MiB with short lines has fewer.
const MAX_TOKENS: usize = 3 * 1024 * 1024;
/// The most brackets times tokens, summed over all pieces: about a second's work.
const MAX_WORK: usize = 200_000_000;

/// Reads a YAML document.
///
/// # Errors
/// One problem for each entry that cannot be read.
pub(super) fn read(text: &str) -> Result<Tree, Problems> {
    let mut work = MAX_WORK;
    let Some(pieces) = Pieces::cut(text) else {
        return piece(text, &mut work)
            .map_err(|what| Problem::new("", "", unreadable(format!("the document is not YAML: {what}"))).into());
    };
    let mut problems = Problems::default();
    let frame = piece(&pieces.frame, &mut work).unwrap_or_else(|what| {
        let what = format!("what stands around the entries is not YAML: {what}");
        problems.push(Problem::new("", "", unreadable(what)));
        Tree::Null
    });
    let mut entries = Vec::with_capacity(pieces.entries.len());
    for (at, (line, range)) in pieces.entries.into_iter().enumerate() {
        let entry = match piece(text.get(range).unwrap_or_default(), &mut work) {
            Ok(Tree::List(mut one)) if one.len() == 1 => Ok(one.swap_remove(0)),
            Ok(_) => Err("it is not one item of a list".to_owned()),
            Err(what) => Err(what),
        };
        match entry {
            Ok(entry) => entries.push(entry),
            Err(what) => {
                let what = format!("the entry that begins on line {line} is not YAML: {what}");
                problems.push(Problem::new(&format!("entries[{at}]"), "", unreadable(what)));
            }
        }
    }
    problems.unless_any(with_entries(frame, entries))
}

/// One piece of the document, or why it is none.
fn piece(text: &str, work: &mut usize) -> Result<Tree, String> {
    let (tokens, brackets) = count(text.as_bytes());
    let left = brackets.checked_mul(tokens).and_then(|cost| work.checked_sub(cost));
    let Some(left) = left.filter(|_| tokens <= MAX_TOKENS) else {
        return Err("it holds too many nodes or brackets; write its lists in lines, or all of it as JSON".to_owned());
    };
    *work = left;
    build(serde_yaml_ng::Deserializer::from_str(text), text.len()).map_err(|error| error.to_string())
}

/// How many places there are at which a token can begin, and how many brackets open.
fn count(text: &[u8]) -> (usize, usize) {
    let (mut tokens, mut brackets) = (1, 0);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'[' | b'{' => {
                brackets += 1;
                tokens += 1;
            }
            b'\n' | b'\r' | b',' | b']' | b'}' => tokens += 1,
            b'-' | b'?' | b':' if text.get(at + 1).is_none_or(u8::is_ascii_whitespace) => tokens += 1,
            _ => {}
        }
    }
    (tokens, brackets)
}

/// A document, cut where the items of its list `entries` begin.
struct Pieces {
    /// Every line that is not in an item; `entries` has no value here.
    frame: String,
    /// For each item, the number of its first line, and where it lies in the document.
    entries: Vec<(usize, Range<usize>)>,
}

impl Pieces {
    /// `None` if there is no line `entries:` with a list in lines below it; the document is then read in one piece.
    fn cut(text: &str) -> Option<Self> {
        let mut pieces = Self { frame: String::new(), entries: Vec::new() };
        // The indentation of the list: known from its first item on.
        let mut indent = None;
        let (mut below, mut inside) = (false, false);
        let mut start = 0;
        for (number, line) in (1..).zip(text.split_inclusive('\n')) {
            let range = start..start + line.len();
            start = range.end;
            let content = line.trim_start_matches(' ');
            let column = line.len() - content.len();
            let is_blank = content.trim_end().is_empty() || content.starts_with('#');
            let is_item =
                content.strip_prefix('-').is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\n', '\r']));
            if below && is_item && *indent.get_or_insert(column) == column {
                pieces.entries.push((number, range));
                inside = true;
            } else if inside && (is_blank || indent.is_some_and(|indent| column > indent)) {
                if let Some((_, entry)) = pieces.entries.last_mut() {
                    entry.end = range.end;
                }
            } else {
                let is_start = line.strip_prefix("entries:").is_some_and(is_nothing);
                below = (below && is_blank) || is_start;
                inside = false;
                pieces.frame.push_str(line);
            }
        }
        indent.map(|_| pieces)
    }
}

/// Whether the rest of a line holds at most a comment.
fn is_nothing(rest: &str) -> bool {
    let trimmed = rest.trim();
    trimmed.is_empty() || (trimmed.starts_with('#') && rest.starts_with([' ', '\t']))
}

/// The frame with the entries in their place.
fn with_entries(frame: Tree, entries: Vec<Tree>) -> Tree {
    let Tree::Map(mut fields) = frame else { return frame };
    match fields.iter_mut().find(|(key, value)| key == "entries" && *value == Tree::Null) {
        Some((_, value)) => *value = Tree::List(entries),
        // `entries:` stood within text: what looked like entries was none.
        None => fields.push(("entries".to_owned(), Tree::Null)),
    }
    Tree::Map(fields)
}
