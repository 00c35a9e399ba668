//! Records.

use std::time::Duration;

use mayfly_issuer::ledger::{Kind, Personal, Record};
use mayfly_issuer::store::{Follower, Store, StoreError};
use mayfly_sdk::Serial;

use crate::on_every_engine;
use crate::place::{Place, put};

on_every_engine! {
    a_record_is_read_back_after_a_restart,
    every_record_is_found_by_its_serial,
    the_tail_is_the_newest_in_order,
    many_callers_share_few_commits,
    a_follower_misses_nothing_and_waits_at_the_end,
    a_shut_store_refuses_and_ends_its_followers,
    a_record_that_cannot_be_written_fails_alone,
}

async fn a_record_is_read_back_after_a_restart(place: Place) {
    let (store, _) = place.open().await;
    let record = Record {
        authority: Some("kid".into()),
        released_sha256: Some([7; 32]),
        personal: Personal { spiffe_id: Some("spiffe://example.org/a".parse().unwrap()), ..Personal::default() },
        ..place.record(Kind::JwtSvidIssued)
    };
    store.record(vec![record.clone()]).await.unwrap();
    let (store, _) = place.reopen(store).await;
    assert_eq!(store.tail(5).await.unwrap()[0].record, record);
    assert_eq!(store.find(record.event).await.unwrap().unwrap().record, record);
}

async fn every_record_is_found_by_its_serial(place: Place) {
    let (store, _) = place.open().await;
    let mut all = Vec::new();
    for batch in 0..40_u64 {
        // Some batches overlap in time, some reach back, some span more than one row may.
        let back = [0, 3_000, 60_000, 90_000_000][usize::try_from(batch).unwrap() % 4];
        let times = [place.clock.now_ms(), place.clock.now_ms() - back];
        let records: Vec<_> =
            times.iter().map(|ms| Record::new(Kind::X509SvidIssued, Serial::generate(*ms).unwrap())).collect();
        all.extend(records.iter().map(|record| record.event));
        store.record(records).await.unwrap();
        place.pass(batch % 3);
    }
    for event in all {
        assert_eq!(store.find(event).await.unwrap().unwrap().record.event, event);
    }
    assert_eq!(store.find(Serial::generate(place.clock.now_ms()).unwrap()).await.unwrap(), None);
}

async fn the_tail_is_the_newest_in_order(place: Place) {
    let (store, _) = place.open().await;
    assert_eq!(store.tail(3).await.unwrap(), []);
    let mut events = Vec::new();
    for size in [1, 5, 2, 7, 1] {
        let records: Vec<_> = (0..size).map(|_| place.record(Kind::X509SvidIssued)).collect();
        events.extend(records.iter().map(|record| record.event));
        store.record(records).await.unwrap();
    }
    for last in [0, 1, 2, 8, 9, 15, 16, 100] {
        let tail: Vec<_> = store.tail(last).await.unwrap().iter().map(|logged| logged.record.event).collect();
        let newest = &events[events.len().saturating_sub(last)..];
        assert_eq!(tail, newest, "the last {last}");
        assert_eq!(
            read(&mut store.follow(last).await.unwrap(), newest.len()).await,
            newest,
            "following the last {last}"
        );
    }
}

async fn many_callers_share_few_commits(place: Place) {
    let (store, _) = place.open().await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..2_000 {
        let (store, record) = (store.clone(), place.record(Kind::X509SvidIssued));
        callers.spawn(async move { store.record(vec![record]).await.unwrap() });
    }
    callers.join_all().await;
    let all = store.tail(5_000).await.unwrap();
    assert_eq!(all.len(), 2_000);
    let commits = all.last().unwrap().batch;
    assert!(commits < 400, "{commits} commits");
}

async fn a_follower_misses_nothing_and_waits_at_the_end(place: Place) {
    let (store, _) = place.open().await;
    let mut events = Vec::new();
    let send = async |store: &Store, events: &mut Vec<Serial>, count: usize| {
        for _ in 0..count {
            let record = place.record(Kind::Refused);
            events.push(record.event);
            store.record(vec![record]).await.unwrap();
        }
    };
    send(&store, &mut events, 30).await;
    let mut from_the_tail = store.follow(10).await.unwrap();
    let mut from_now = store.subscribe().await.unwrap();
    send(&store, &mut events, 100).await;
    assert_eq!(read(&mut from_the_tail, 110).await, events[20..]);
    assert_eq!(read(&mut from_now, 100).await, events[30..]);

    let ((), next) = tokio::join!(send(&store, &mut events, 1), from_now.next());
    assert_eq!(next.unwrap()[0].record.event, events[130]);
}

async fn read(follower: &mut Follower, count: usize) -> Vec<Serial> {
    let mut all = Vec::new();
    while all.len() < count {
        let records = tokio::time::timeout(Duration::from_secs(10), follower.next()).await.unwrap().unwrap();
        all.extend(records.iter().map(|logged| logged.record.event));
    }
    all
}

async fn a_shut_store_refuses_and_ends_its_followers(place: Place) {
    let (store, _) = place.open().await;
    let mut follower = store.subscribe().await.unwrap();
    let (ended, ()) = tokio::join!(follower.next(), store.shut());
    assert!(matches!(ended, Err(StoreError::Shut)));
    assert!(matches!(store.record(vec![place.record(Kind::Refused)]).await, Err(StoreError::Shut)));
    store.shut().await;
}

async fn a_record_that_cannot_be_written_fails_alone(place: Place) {
    let (store, _) = place.open().await;
    let bad = Record { authority: Some("a".repeat(70_000).into()), ..place.record(Kind::Refused) };
    assert!(matches!(store.record(vec![bad]).await, Err(StoreError::Ledger(_))));
    put(&store, "a").await;
    store.record(vec![]).await.unwrap();
    store.record(vec![place.record(Kind::Refused)]).await.unwrap();
    assert_eq!(store.tail(5).await.unwrap().len(), 1);
}
