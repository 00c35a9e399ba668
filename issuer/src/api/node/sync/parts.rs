//! The parts of a snapshot: none is larger than an agent reads, whatever the entries and bundles are.

use std::iter::Peekable;

use mayfly_proto::node::{Bundle, Denials, Entry, Revision, Snapshot};
use prost::Message as _;

/// Bytes of one message. One entry has at most 1 MiB and one bundle 4 MiB, so that no message has more than 8 MiB; agents read 16.
pub(super) const MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Entries in one message.
const ENTRIES: usize = 500;
/// Bytes that an item of a message takes beside its own: its tag and its length.
const FRAME: usize = 8;

/// A snapshot, part by part.
pub(super) struct Parts<B: Iterator<Item = Bundle>, E: Iterator<Item = Entry>> {
    next: Option<Snapshot>,
    revision: Revision,
    bundles: Peekable<B>,
    entries: Peekable<E>,
}

impl<B: Iterator<Item = Bundle>, E: Iterator<Item = Entry>> Parts<B, E> {
    /// Of these, as of one revision.
    pub(super) fn new(revision: Revision, denials: Denials, bundles: B, entries: E) -> Self {
        let next = Some(Snapshot { revision: Some(revision), denials: Some(denials), ..Snapshot::default() });
        Self { next, revision, bundles: bundles.peekable(), entries: entries.peekable() }
    }
}

impl<B: Iterator<Item = Bundle>, E: Iterator<Item = Entry>> Iterator for Parts<B, E> {
    type Item = Snapshot;

    fn next(&mut self) -> Option<Snapshot> {
        let mut part = self.next.take()?;
        let mut bytes = part.encoded_len();
        let mut is_empty = true;
        // What is too large for the rest of this part is the first of the next one.
        let mut fits = |item: usize| {
            bytes += item + FRAME;
            std::mem::take(&mut is_empty) || bytes <= MESSAGE_BYTES
        };
        while let Some(bundle) = self.bundles.next_if(|bundle| fits(bundle.encoded_len())) {
            part.bundles.push(bundle);
        }
        while self.bundles.peek().is_none()
            && part.entries.len() < ENTRIES
            && let Some(entry) = self.entries.next_if(|entry| fits(entry.encoded_len()))
        {
            part.entries.push(entry);
        }
        part.done = self.bundles.peek().is_none() && self.entries.peek().is_none();
        if !part.done {
            self.next = Some(Snapshot { revision: Some(self.revision), ..Snapshot::default() });
        }
        Some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REVISION: Revision = Revision { epoch: 1, n: 7 };
    /// What an agent reads.
    const READ: usize = 16 * 1024 * 1024;

    fn parts(bundles: &[usize], entries: &[usize]) -> Vec<Snapshot> {
        let bundles = bundles.iter().map(|bytes| Bundle { document: vec![1; *bytes].into(), ..Bundle::default() });
        let entry =
            |(at, bytes): (usize, &usize)| Entry { uid: at.to_string(), hint: "x".repeat(*bytes), ..Entry::default() };
        let denials = Denials { tainted_authorities: vec!["one".to_owned()], ..Denials::default() };
        Parts::new(REVISION, denials, bundles, entries.iter().enumerate().map(entry)).collect()
    }

    fn check(parts: &[Snapshot], bundles: usize, entries: usize) {
        let done: Vec<bool> = parts.iter().map(|part| part.done).collect();
        assert_eq!(done.iter().position(|done| *done), Some(done.len() - 1));
        assert!(parts.iter().all(|part| part.revision == Some(REVISION) && part.entries.len() <= ENTRIES));
        assert_eq!(parts.iter().filter(|part| part.denials.is_some()).count(), 1);
        assert_eq!(parts.iter().map(|part| part.bundles.len()).sum::<usize>(), bundles);
        let uids: Vec<_> = parts.iter().flat_map(|part| &part.entries).map(|entry| entry.uid.clone()).collect();
        assert_eq!(uids, (0..entries).map(|at| at.to_string()).collect::<Vec<_>>());
        let longest = parts.iter().map(prost::Message::encoded_len).max().unwrap();
        assert!(longest <= READ / 2, "{longest} bytes");
    }

    #[test]
    fn no_part_is_longer_than_an_agent_reads_and_nothing_is_left_out() {
        check(&parts(&[], &[]), 0, 0);
        let few = parts(&[1000], &[100; 3]);
        check(&few, 1, 3);
        assert_eq!(few.len(), 1);
        let many = parts(&[], &[10; 1001]);
        check(&many, 0, 1001);
        assert_eq!(many.len(), 3);
        // Fewer than 500, and larger together than what one message may have.
        check(&parts(&[], &[MESSAGE_BYTES / 4; 40]), 0, 40);
        // Bundles as large as they may be, and entries after them.
        check(&parts(&[MESSAGE_BYTES, MESSAGE_BYTES, 5, MESSAGE_BYTES], &[MESSAGE_BYTES / 4; 3]), 4, 3);
    }
}
