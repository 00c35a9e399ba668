use super::*;

#[expect(clippy::unnecessary_wraps, reason = "messages want it so")]
fn at(n: u64) -> Option<node::Revision> {
    Some(node::Revision { epoch: 1, n })
}

fn entry(uid: &str, selectors: &[&str]) -> node::Entry {
    let selectors = selectors.iter().map(ToString::to_string).collect();
    node::Entry {
        uid: uid.to_owned(),
        spiffe_id: format!("spiffe://example.org/{uid}"),
        selectors,
        ..node::Entry::default()
    }
}

fn bundle(trust_domain: &str, sequence: u64) -> node::Bundle {
    let document = format!(r#"{{"keys":[],"spiffe_sequence":{sequence}}}"#).into_bytes().into();
    node::Bundle { trust_domain: trust_domain.to_owned(), document, sequence }
}

fn whole(part: node::Snapshot) -> Holdings {
    Gathering::default().take(node::Snapshot { done: true, ..part }, &Holdings::empty()).unwrap().unwrap()
}

fn held(entries: Vec<node::Entry>) -> Holdings {
    whole(node::Snapshot {
        revision: at(5),
        entries,
        bundles: vec![bundle("other.org", 7)],
        ..node::Snapshot::default()
    })
}

fn facts(texts: &[&str]) -> Vec<Selector> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn uids(entries: &[Arc<Entry>]) -> Vec<&str> {
    entries.iter().map(|entry| &**entry.uid()).collect()
}

const NOW: Timestamp = Timestamp::from_unix_s(1_760_000_000);

#[test]
fn a_workload_is_entitled_to_the_entries_whose_selectors_all_hold_in_their_order() {
    let ordered = |order, entry| node::Entry { order, ..entry };
    let holdings = held(vec![
        ordered(2, entry("b", &["unix:uid:1"])),
        ordered(1, entry("z", &["unix:uid:1", "unix:path:/bin/x"])),
        ordered(2, entry("a", &["unix:uid:1"])),
        ordered(0, entry("other", &["unix:uid:2"])),
        ordered(0, entry("nobody", &[])),
        node::Entry { expires_at: NOW.unix_s(), ..entry("expired", &["unix:uid:1"]) },
    ]);
    let facts = facts(&["unix:uid:1", "unix:path:/bin/x"]);
    assert_eq!(uids(&holdings.entitled(&facts, NOW)), ["z", "a", "b"]);
    assert!(holdings.needs().want("unix", "path") && !holdings.needs().want("unix", "sha256"));
}

#[test]
fn a_delta_changes_what_it_names_and_nothing_else() {
    let mut holdings = held(vec![entry("a", &["unix:uid:1"]), entry("b", &["unix:uid:1"])]);
    let delta = node::Delta {
        from: at(5),
        revision: at(6),
        put: vec![entry("b", &["unix:uid:2"]), entry("c", &["unix:sha256:00"])],
        removed: vec!["a".to_owned(), "unknown".to_owned()],
        removed_bundles: vec!["other.org".to_owned()],
        ..node::Delta::default()
    };
    holdings.apply(delta).unwrap();
    assert!(holdings.entitled(&facts(&["unix:uid:1"]), NOW).is_empty());
    assert_eq!(uids(&holdings.entitled(&facts(&["unix:uid:2"]), NOW)), ["b"]);
    assert!(holdings.needs().want("unix", "sha256"));
    assert_eq!((holdings.revision().n, holdings.bundles().count()), (6, 0));
}

#[test]
fn a_delta_that_starts_elsewhere_or_goes_back_changes_nothing() {
    let mut holdings = held(vec![entry("a", &["unix:uid:1"])]);
    let delta =
        |from, revision| node::Delta { from, revision, removed: vec!["a".to_owned()], ..node::Delta::default() };
    assert!(matches!(holdings.apply(delta(at(4), at(6))), Err(UpdateError::Gap { .. })));
    assert!(matches!(holdings.apply(delta(at(5), at(4))), Err(UpdateError::Older { .. })));
    assert!(matches!(holdings.apply(delta(at(5), None)), Err(UpdateError::Incomplete(_))));
    assert!(holdings.entry("a").is_some());
}

#[test]
fn the_bundle_of_the_newest_revision_counts_whatever_its_sequence() {
    let mut holdings = held(Vec::new());
    let delta = |from, n, sequence| node::Delta {
        from: at(from),
        revision: at(n),
        bundles: vec![bundle("other.org", sequence)],
        ..node::Delta::default()
    };
    let other = "other.org".parse().unwrap();
    // Deleted and set anew by an operator; this agent hears of both at once.
    for (n, sequence) in [(6, 9999), (7, 8)] {
        holdings.apply(delta(n - 1, n, sequence)).unwrap();
        assert_eq!(holdings.bundle(&other).unwrap().sequence(), sequence);
    }
    let bundles = vec![bundle("other.org", 3)];
    let snapshot = node::Snapshot { revision: at(9), bundles, done: true, ..node::Snapshot::default() };
    let holdings = Gathering::default().take(snapshot, &holdings).unwrap().unwrap();
    assert_eq!(holdings.bundle(&other).unwrap().sequence(), 3);
    // One that cannot be read does not take the place of one that could.
    let bad = node::Bundle { document: "{".into(), ..bundle("other.org", 10) };
    let snapshot = node::Snapshot { revision: at(10), bundles: vec![bad], done: true, ..node::Snapshot::default() };
    let holdings = Gathering::default().take(snapshot, &holdings).unwrap().unwrap();
    assert_eq!(holdings.bundle(&other).unwrap().sequence(), 3);
}

#[test]
fn a_snapshot_counts_when_its_last_part_has_come() {
    let mut gathering = Gathering::default();
    let part = |uid: &str, n, done| node::Snapshot {
        revision: at(n),
        entries: vec![entry(uid, &["unix:uid:1"])],
        done,
        ..node::Snapshot::default()
    };
    let before = held(Vec::new());
    assert!(gathering.take(part("stale", 6, false), &before).unwrap().is_none());
    assert!(gathering.take(part("a", 7, false), &before).unwrap().is_none(), "begun anew");
    let after = gathering.take(part("b", 7, true), &before).unwrap().unwrap();
    assert_eq!(uids(&after.entitled(&facts(&["unix:uid:1"]), NOW)), ["a", "b"]);
    assert_eq!(after.bundles().count(), 0, "what a snapshot does not name is gone");
    let older = node::Snapshot { revision: at(4), done: true, ..node::Snapshot::default() };
    assert!(matches!(Gathering::default().take(older, &before), Err(UpdateError::Older { .. })));
}

#[test]
fn what_is_kept_as_a_snapshot_reads_back_as_it_was() {
    let holdings =
        held(vec![entry("a", &["unix:uid:1"]), node::Entry { required_features: vec!["x".into()], ..entry("b", &[]) }]);
    assert_eq!(holdings.problems().len(), 1);
    let again = whole(holdings.to_snapshot());
    assert_eq!((again.revision(), again.bundles().count()), (holdings.revision(), 1));
    assert!(again.entry("a").is_some());
    assert_eq!(again.problems().len(), 1, "a newer build may serve it");
}
