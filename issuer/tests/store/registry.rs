//! Entries, bundles, revisions and their history.

use std::collections::HashMap;

use mayfly_issuer::ledger::Kind;
use mayfly_issuer::store::{Change, ChangedKind, EntryRow, Op, PutBundle, PutEntry, StoreError};
use mayfly_sdk::{Revision, Timestamp};

use crate::on_every_engine;
use crate::place::{Place, START, change, entry, put};

on_every_engine! {
    what_was_committed_is_loaded_after_a_restart,
    memory_that_follows_a_change_agrees_with_the_store,
    revisions_are_gap_free_when_many_write_and_some_fail,
    a_change_is_whole_or_not_at_all,
    a_change_for_an_older_revision_is_stale,
    a_change_without_operations_records_and_makes_no_revision,
    a_bundle_is_replaced_only_at_the_sequence_expected,
    the_history_names_what_each_change_touched,
    a_new_epoch_forgets_the_history_and_counts_anew,
    a_change_of_many_entries_is_one_revision,
    old_history_is_forgotten_whole_changes_at_a_time,
}

async fn what_was_committed_is_loaded_after_a_restart(place: Place) {
    let (store, loaded) = place.open().await;
    assert!(loaded.fresh);
    assert_eq!(loaded.revision, Revision { epoch: 1, n: 0 });
    put(&store, "a").await;
    let (store, loaded) = place.reopen(store).await;
    assert!(!loaded.fresh);
    assert_eq!(loaded.revision, Revision { epoch: 1, n: 1 });
    let rows = loaded.entries.all().await.unwrap();
    assert_eq!((rows.len(), rows[0].uid.as_str(), rows[0].document.as_str()), (1, "a", r#"{"name":"name-a"}"#));
    store.commit(change(vec![Op::DeleteEntry { uid: "a".into() }])).await.unwrap();
    let (_store, loaded) = place.reopen(store).await;
    assert_eq!(loaded.entries.all().await.unwrap(), []);
}

async fn memory_that_follows_a_change_agrees_with_the_store(place: Place) {
    let (store, _) = place.open().await;
    let mut memory: HashMap<String, EntryRow> = HashMap::new();
    let changes: [&[(&str, bool)]; 4] = [
        &[("a", true), ("b", false), ("c", true)],
        &[("b", false), ("d", false), ("a", true)],
        &[("a", false)],
        &[("e", true)],
    ];
    for (second, puts) in changes.iter().enumerate() {
        let at = Timestamp::from_unix_s(START.unix_s() + i64::try_from(second).unwrap());
        let puts: Vec<_> = puts
            .iter()
            .map(|(uid, reissues)| PutEntry { reissues: *reissues, owner: second.to_string(), ..entry(uid) })
            .collect();
        let ops = puts.iter().cloned().map(Op::PutEntry).collect();
        let committed = store.commit(Change { ops, ..Change::new(at) }).await.unwrap();
        for (index, put) in (0..).zip(puts) {
            let row = EntryRow::next(memory.get(&put.uid), put, committed, index, at);
            memory.insert(row.uid.clone(), row);
        }
    }
    let (_store, loaded) = place.reopen(store).await;
    let stored: HashMap<_, _> =
        loaded.entries.all().await.unwrap().into_iter().map(|row| (row.uid.clone(), row)).collect();
    assert_eq!(stored, memory);
    assert_eq!(stored["a"].issuance, (1 << 40) + 2, "the third change did not reissue it");
    assert!(stored["d"].order > stored["c"].order && stored["e"].order > stored["d"].order);
}

async fn revisions_are_gap_free_when_many_write_and_some_fail(place: Place) {
    let (store, _) = place.open().await;
    put(&store, "taken").await;
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..200 {
        let store = store.clone();
        writers.spawn(async move {
            let mut put = entry(&number.to_string());
            if number % 3 == 0 {
                put.name = "name-taken".into();
            }
            store.commit(change(vec![Op::PutEntry(put)])).await.map(|committed| committed.revision.n)
        });
    }
    let mut given = Vec::new();
    let mut refused = 0;
    while let Some(done) = writers.join_next().await {
        match done.unwrap() {
            Ok(n) => given.push(n),
            Err(StoreError::Conflict { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    given.sort_unstable();
    assert_eq!(given, (2..=u64::try_from(given.len()).unwrap() + 1).collect::<Vec<_>>());
    assert_eq!(refused, 67);
    let (_store, loaded) = place.reopen(store).await;
    assert_eq!(loaded.revision.n, 134);
    let seen: Vec<_> = loaded.history.changes.iter().map(|row| row.revision.n).collect();
    assert_eq!(seen, (1..=134).collect::<Vec<_>>());
}

async fn a_change_is_whole_or_not_at_all(place: Place) {
    let (store, _) = place.open().await;
    put(&store, "a").await;
    let ops = vec![
        Op::PutEntry(entry("b")),
        Op::DeleteEntry { uid: "a".into() },
        Op::DeleteEntry { uid: "no such".into() },
        Op::PutEntry(entry("c")),
    ];
    let failing = Change { records: vec![place.record(Kind::EntryCreated)], ..change(ops) };
    assert!(matches!(store.commit(failing).await, Err(StoreError::Missing { .. })));
    assert_eq!(store.tail(10).await.unwrap(), [], "a change that failed left no record");
    assert_eq!(put(&store, "d").await.revision.n, 2);
    let (_store, loaded) = place.reopen(store).await;
    let mut uids: Vec<_> = loaded.entries.all().await.unwrap().into_iter().map(|row| row.uid).collect();
    uids.sort();
    assert_eq!(uids, ["a", "d"]);
}

async fn a_change_for_an_older_revision_is_stale(place: Place) {
    let (store, loaded) = place.open().await;
    let for_it = |uid| Change { expect: Some(loaded.revision), ..change(vec![Op::PutEntry(entry(uid))]) };
    store.commit(for_it("a")).await.unwrap();
    let Err(StoreError::Stale { current }) = store.commit(for_it("b")).await else { panic!("it was taken") };
    assert_eq!(current.n, 1);
}

async fn a_change_without_operations_records_and_makes_no_revision(place: Place) {
    let (store, loaded) = place.open().await;
    let records = vec![place.record(Kind::Refused)];
    let committed = store.commit(Change { records, ..change(vec![]) }).await.unwrap();
    assert_eq!(committed.revision, loaded.revision);
    assert_eq!(store.tail(10).await.unwrap().len(), 1);
}

async fn a_bundle_is_replaced_only_at_the_sequence_expected(place: Place) {
    let (store, _) = place.open().await;
    let put = |sequence, replaces| {
        let trust_domain = "other.org".parse().unwrap();
        let document = format!("bundle {sequence}");
        let op = Op::PutBundle(PutBundle { trust_domain, owner: String::new(), document, sequence, replaces });
        store.commit(change(vec![op]))
    };
    assert!(matches!(put(1, Some(0)).await, Err(StoreError::Conflict { .. })));
    put(1, None).await.unwrap();
    put(2, Some(1)).await.unwrap();
    assert!(matches!(put(3, Some(1)).await, Err(StoreError::Conflict { .. })));
    let (store, loaded) = place.reopen(store).await;
    assert_eq!((loaded.bundles[0].sequence, loaded.bundles[0].document.as_str()), (2, "bundle 2"));
    let delete = Op::DeleteBundle { trust_domain: "other.org".parse().unwrap() };
    store.commit(change(vec![delete.clone()])).await.unwrap();
    assert!(matches!(store.commit(change(vec![delete])).await, Err(StoreError::Missing { .. })));
}

async fn the_history_names_what_each_change_touched(place: Place) {
    let (store, _) = place.open().await;
    store.commit(change(vec![Op::PutEntry(entry("a")), Op::PutEntry(entry("b"))])).await.unwrap();
    let ops = vec![Op::DeleteEntry { uid: "a".into() }];
    let records = vec![place.record(Kind::EntryDeleted)];
    store.commit(Change { records, ..change(ops) }).await.unwrap();
    assert_eq!(store.tail(1).await.unwrap()[0].record.revision, Some(Revision { epoch: 1, n: 2 }));
    let (_store, loaded) = place.reopen(store).await;
    let history = loaded.history;
    assert_eq!(history.floor, Revision { epoch: 1, n: 0 });
    let seen: Vec<_> = history.changes.iter().map(|row| (row.revision.n, row.kind, &*row.key, row.deleted)).collect();
    assert_eq!(
        seen,
        [(1, ChangedKind::Entry, "a", false), (1, ChangedKind::Entry, "b", false), (2, ChangedKind::Entry, "a", true)]
    );
}

async fn a_new_epoch_forgets_the_history_and_counts_anew(place: Place) {
    let (store, _) = place.open().await;
    put(&store, "a").await;
    let records = vec![place.record(Kind::EpochBegun)];
    assert_eq!(store.begin_epoch(0, records).await.unwrap(), Revision { epoch: 2, n: 0 });
    assert_eq!(put(&store, "b").await.revision, Revision { epoch: 2, n: 1 });
    let (store, loaded) = place.reopen(store).await;
    assert_eq!(loaded.revision, Revision { epoch: 2, n: 1 });
    assert_eq!(loaded.history.floor, Revision { epoch: 2, n: 0 });
    let issuances: std::collections::HashSet<_> =
        loaded.entries.all().await.unwrap().iter().map(|row| row.issuance).collect();
    assert_eq!(issuances.len(), 2, "the two first changes of two epochs");
    assert_eq!(store.begin_epoch(1000, Vec::new()).await.unwrap(), Revision { epoch: 1000, n: 0 });
}

async fn a_change_of_many_entries_is_one_revision(place: Place) {
    let (store, _) = place.open().await;
    let ops: Vec<_> = (0..5_001).map(|number| Op::PutEntry(entry(&number.to_string()))).collect();
    assert_eq!(store.commit(change(ops)).await.unwrap().revision.n, 1);
    let (store, loaded) = place.reopen(store).await;
    assert_eq!(loaded.history.changes.len(), 5_001);
    let rows = loaded.entries.all().await.unwrap();
    assert!(rows.iter().all(|row| row.uid == (row.order - 1).to_string()), "the order is that of the operations");
    assert_eq!(rows.len(), 5_001);

    let delete = |from: u32, to: u32| (from..to).map(|number| Op::DeleteEntry { uid: number.to_string() }).collect();
    assert!(matches!(store.commit(change(delete(0, 5_002))).await, Err(StoreError::Missing { .. })));
    assert_eq!(store.commit(change(delete(0, 5_000))).await.unwrap().revision.n, 2);
    let (_store, loaded) = place.reopen(store).await;
    assert_eq!(loaded.entries.all().await.unwrap()[0].uid, "5000");
}

async fn old_history_is_forgotten_whole_changes_at_a_time(place: Place) {
    let (store, _) = place.open().await;
    for _ in 0..16 {
        let ops = (0..7_000).map(|number| Op::PutEntry(entry(&number.to_string()))).collect();
        store.commit(change(ops)).await.unwrap();
    }
    let (_store, loaded) = place.reopen(store).await;
    let history = loaded.history;
    assert!((80_000..=110_000).contains(&history.changes.len()), "{}", history.changes.len());
    assert_eq!(history.changes.len() % 7_000, 0);
    assert_eq!(history.changes[0].revision.n, history.floor.n + 1);
    assert!(history.floor.n > 0);
}
