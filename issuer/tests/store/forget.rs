//! What is forgotten in the end, and that nothing is asked until then.

use mayfly_issuer::ledger::Kind;
use mayfly_issuer::store::{RefuseTask, Store, StoreError};
use mayfly_sdk::Serial;

use crate::on_every_engine;
use crate::place::Place;

on_every_engine! {
    a_refusal_is_forgotten_after_a_week,
    while_there_is_nothing_to_forget_the_database_is_not_asked,
}

const WEEK: u64 = 7 * 86_400;

async fn refused(place: &Place, store: &Store) -> Serial {
    let id = Serial::generate(place.clock.now_ms()).unwrap();
    let document = r#"{"purpose":"a test"}"#.to_owned();
    store.refuse_task(RefuseTask { id, document, records: vec![place.record(Kind::Refused)] }).await.unwrap();
    id
}

async fn a_refusal_is_forgotten_after_a_week(place: Place) {
    let (store, _) = place.open().await;
    store.forget(place.clock.now()).await.unwrap();
    let id = refused(&place, &store).await;
    for (passed, known) in [(60, true), (WEEK - 120, true), (120, false)] {
        place.pass(passed);
        store.forget(place.clock.now()).await.unwrap();
        assert_eq!(store.task_refusal(id).await.unwrap().is_some(), known, "after {passed} s more");
    }
    // And so is the next one, after a restart too.
    let id = refused(&place, &store).await;
    let (store, _) = place.reopen(store).await;
    place.pass(WEEK + 2);
    store.forget(place.clock.now()).await.unwrap();
    assert!(store.task_refusal(id).await.unwrap().is_none());
}

async fn while_there_is_nothing_to_forget_the_database_is_not_asked(place: Place) {
    let (store, _) = place.open().await;
    let asked = async |store: &Store| matches!(store.forget(place.clock.now()).await, Err(StoreError::Shut));
    store.forget(place.clock.now()).await.unwrap();
    place.pass(WEEK);
    store.shut().await;
    assert!(!asked(&store).await, "nothing was left behind");

    let (store, _) = place.open().await;
    refused(&place, &store).await;
    store.forget(place.clock.now()).await.unwrap();
    store.shut().await;
    place.pass(WEEK - 60);
    assert!(!asked(&store).await, "not before its time");
    place.pass(120);
    assert!(asked(&store).await);
    assert!(asked(&store).await, "what failed is tried again");
}
