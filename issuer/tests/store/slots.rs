//! Authorities.

use mayfly_issuer::store::{Op, PutSlot, SlotKey, SlotKind, SlotOrigin, SlotRow, SlotState, StoreError};
use mayfly_sdk::{Revision, Timestamp};

use crate::on_every_engine;
use crate::place::{Place, START, change};

on_every_engine! {
    a_slot_is_read_back_as_it_was_written,
    a_slot_moves_only_from_the_state_expected,
    one_authority_of_a_kind_is_active,
    every_issuer_has_an_active_intermediate_of_its_own,
    a_generation_is_used_once,
}

fn slot(id: &str, kind: SlotKind, generation: u64, state: SlotState) -> SlotRow {
    let at = |seconds: i64| Timestamp::from_unix_s(START.unix_s() + seconds);
    SlotRow {
        id: id.into(),
        kind,
        issuer: String::new(),
        generation,
        state,
        algorithm: "ecdsa_p256".into(),
        public_key: vec![1, 2, 3],
        key: Some(SlotKey { provider: "sealed".into(), bytes: vec![4, 5], wrapping_key_id: "w1".into() }),
        chain: vec![vec![6; 300], vec![7]],
        anchors: vec![vec![8]],
        origin: SlotOrigin::Own,
        prepared_at: at(0),
        activate_by: Some(at(1)),
        activated_at: Some(at(2)),
        retiring_at: None,
        ended_at: None,
        not_after: at(86_400),
        revision: Revision::NONE,
    }
}

fn new(row: SlotRow) -> Op {
    Op::PutSlot(Box::new(PutSlot { row, expect: None }))
}

fn moved(row: SlotRow, from: SlotState) -> Op {
    let expect = Some((from, row.generation));
    Op::PutSlot(Box::new(PutSlot { row, expect }))
}

async fn a_slot_is_read_back_as_it_was_written(place: Place) {
    let (store, _) = place.open().await;
    let full = slot("k1", SlotKind::Jwt, 1, SlotState::Active);
    let keyless = SlotRow {
        key: None,
        chain: vec![],
        anchors: vec![],
        activate_by: None,
        ..slot("k2", SlotKind::X509Intermediate, 1, SlotState::Retired)
    };
    store.commit(change(vec![new(full.clone()), new(keyless.clone())])).await.unwrap();
    let (_store, loaded) = place.reopen(store).await;
    let revision = Revision { epoch: 1, n: 1 };
    assert_eq!(loaded.slots, [SlotRow { revision, ..full }, SlotRow { revision, ..keyless }]);
    assert!(!format!("{:?}", loaded.slots).contains("[4, 5]"), "sealed bytes are not for logs");
}

async fn a_slot_moves_only_from_the_state_expected(place: Place) {
    let (store, _) = place.open().await;
    let prepared = slot("k1", SlotKind::Jwt, 1, SlotState::Prepared);
    store.commit(change(vec![new(prepared.clone())])).await.unwrap();
    let again = store.commit(change(vec![new(prepared.clone())])).await;
    assert!(matches!(again, Err(StoreError::Conflict { .. })));

    let active = SlotRow { state: SlotState::Active, ..prepared };
    store.commit(change(vec![moved(active.clone(), SlotState::Prepared)])).await.unwrap();
    let twice = store.commit(change(vec![moved(active.clone(), SlotState::Prepared)])).await;
    assert!(matches!(twice, Err(StoreError::Conflict { .. })));
    let other_generation = PutSlot { row: active, expect: Some((SlotState::Active, 2)) };
    let other = store.commit(change(vec![Op::PutSlot(Box::new(other_generation))])).await;
    assert!(matches!(other, Err(StoreError::Conflict { .. })));
}

async fn one_authority_of_a_kind_is_active(place: Place) {
    let (store, _) = place.open().await;
    let first = slot("k1", SlotKind::Jwt, 1, SlotState::Active);
    let second = slot("k2", SlotKind::Jwt, 2, SlotState::Active);
    store
        .commit(change(vec![new(first.clone()), new(slot("r1", SlotKind::X509Root, 1, SlotState::Active))]))
        .await
        .unwrap();
    let both = store.commit(change(vec![new(second.clone())])).await;
    assert!(matches!(both, Err(StoreError::Conflict { .. })));
    let retiring = moved(SlotRow { state: SlotState::Retiring, ..first }, SlotState::Active);
    store.commit(change(vec![retiring, new(second)])).await.unwrap();
}

async fn every_issuer_has_an_active_intermediate_of_its_own(place: Place) {
    let (store, _) = place.open().await;
    let of = |issuer: &str, id: &str| {
        let row = slot(id, SlotKind::X509Intermediate, 1, SlotState::Active);
        new(SlotRow { issuer: issuer.into(), key: None, ..row })
    };
    store.commit(change(vec![of("a", "i1"), of("b", "i2")])).await.unwrap();
    assert!(matches!(store.commit(change(vec![of("a", "i3")])).await, Err(StoreError::Conflict { .. })));
    store.commit(change(vec![Op::DeleteSlot { id: "i1".into() }, of("a", "i3")])).await.unwrap();
}

async fn a_generation_is_used_once(place: Place) {
    let (store, _) = place.open().await;
    store.commit(change(vec![new(slot("k1", SlotKind::Jwt, 1, SlotState::Retired))])).await.unwrap();
    let same = store.commit(change(vec![new(slot("k2", SlotKind::Jwt, 1, SlotState::Prepared))])).await;
    assert!(matches!(same, Err(StoreError::Conflict { .. })));
}
