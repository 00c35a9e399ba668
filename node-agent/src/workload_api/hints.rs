use std::collections::HashSet;
use std::sync::Arc;

use crate::holdings::Entry;

/// The entries whose identities go into one response: of several with the same hint only the first, since a hint is unique in a response
/// (row WA-12). Entries without a hint all stay.
pub(super) fn unique_hints(entries: &[Arc<Entry>]) -> Vec<Arc<Entry>> {
    let mut seen = HashSet::new();
    let first = |entry: &&Arc<Entry>| entry.wire().hint.is_empty() || seen.insert(entry.wire().hint.clone());
    entries.iter().filter(first).cloned().collect()
}

#[cfg(test)]
mod tests {
    use mayfly_proto::node;

    use super::*;

    /// Rows: WA-12.
    #[test]
    fn the_first_of_several_with_one_hint_stays_and_no_hint_is_never_a_duplicate() {
        let entry = |uid: &str, hint: &str| {
            let wire = node::Entry { uid: uid.to_owned(), hint: hint.to_owned(), ..node::Entry::default() };
            Arc::new(Entry::read(wire).unwrap())
        };
        let entries = [entry("a", "x"), entry("b", ""), entry("c", "x"), entry("d", "")];
        let kept: Vec<_> = unique_hints(&entries).iter().map(|entry| entry.uid().to_string()).collect();
        assert_eq!(kept, ["a", "b", "d"]);
    }
}
