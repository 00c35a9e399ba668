//! Join tokens and nodes.

use bytes::Bytes;
use mayfly_issuer::ledger::Kind;
use mayfly_issuer::store::{
    EnrolNode, Enrolment, JoinTokenRow, NodeRow, NodeState, Op, ReattestNode, RenewNode, Renewal, Store, StoreError,
};
use mayfly_sdk::Timestamp;

use crate::on_every_engine;
use crate::place::{Place, START, change, node_id};

on_every_engine! {
    a_token_enrols_one_node_key_however_many_try,
    the_same_key_may_repeat_within_the_tokens_life,
    a_token_enrols_only_the_identity_it_is_for,
    a_node_is_read_back_after_a_restart,
    a_lost_answer_is_given_again_and_a_clone_freezes_the_node,
    a_renewal_by_another_key_or_with_a_generation_never_given_is_refused,
    a_frozen_node_is_thawed_by_a_new_token_only,
    a_banned_node_stays_out,
    an_evicted_node_is_unknown,
    possession_of_the_enrolled_key_attests_again,
}

const TOKEN: [u8; 32] = [1; 32];

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_unix_s(START.unix_s() + seconds)
}

async fn token(store: &Store, token_sha256: [u8; 32]) {
    let token = JoinTokenRow {
        token_sha256,
        spiffe_id: node_id("n1"),
        selectors: vec!["region:eu:1".parse().unwrap()],
        owner: "ops".into(),
        created_at: START,
        expires_at: later(600),
        bound_key_sha256: None,
    };
    store.create_join_token(token, vec![]).await.unwrap();
}

fn enrolment(place: &Place, token_sha256: [u8; 32], key: &str) -> EnrolNode {
    EnrolNode {
        token_sha256,
        spiffe_id: node_id("n1"),
        attestor: "join_token".into(),
        key_spki: key.into(),
        selectors: vec!["region:eu:1".parse().unwrap()],
        svid_not_after: later(3600),
        records: vec![place.record(Kind::NodeAttested)],
    }
}

fn renewal(place: &Place, node: &NodeRow, generation: u64, request: u8) -> RenewNode {
    RenewNode {
        spiffe_id: node.spiffe_id.clone(),
        key_sha256: node.key_sha256,
        generation,
        request_id: [request; 16],
        answer: Bytes::from(vec![request]),
        svid_not_after: later(7200),
        records: vec![place.record(Kind::NodeRenewed)],
        records_if_frozen: vec![place.record(Kind::NodeFrozen)],
    }
}

async fn enrolled(place: &Place, store: &Store) -> NodeRow {
    token(store, TOKEN).await;
    match store.enrol(enrolment(place, TOKEN, "key")).await.unwrap() {
        Enrolment::Enrolled(node) => *node,
        other => panic!("{other:?}"),
    }
}

async fn kinds(store: &Store) -> Vec<Kind> {
    store.tail(1000).await.unwrap().iter().map(|logged| logged.record.kind).collect()
}

async fn a_token_enrols_one_node_key_however_many_try(place: Place) {
    let (store, _) = place.open().await;
    for round in 0..10 {
        token(&store, [round; 32]).await;
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..100 {
            let key = format!("{round} {}", number % 2);
            let (store, enrol) = (store.clone(), enrolment(&place, [round; 32], &key));
            calls.spawn(async move { (key, store.enrol(enrol).await.unwrap()) });
        }
        let outcomes = calls.join_all().await;
        let (won, lost): (Vec<_>, Vec<_>) =
            outcomes.into_iter().partition(|(_, outcome)| matches!(outcome, Enrolment::Enrolled(_)));
        assert_eq!((won.len(), lost.len()), (50, 50));
        assert!(won.iter().all(|(key, _)| *key == won[0].0), "two keys won");
        assert!(lost.iter().all(|(_, outcome)| *outcome == Enrolment::TokenUsed));
    }
    assert_eq!(kinds(&store).await.len(), 500, "as many records as enrolments");
    let (_store, loaded) = place.reopen(store).await;
    assert_eq!(loaded.nodes.len(), 1);
    assert!(loaded.join_tokens.iter().all(|token| token.bound_key_sha256.is_some()));
}

async fn the_same_key_may_repeat_within_the_tokens_life(place: Place) {
    let (store, _) = place.open().await;
    let first = enrolled(&place, &store).await;
    place.pass(599);
    let Enrolment::Enrolled(again) = store.enrol(enrolment(&place, TOKEN, "key")).await.unwrap() else { panic!() };
    assert!(again.generation > first.generation);
    assert_eq!(store.enrol(enrolment(&place, TOKEN, "other")).await.unwrap(), Enrolment::TokenUsed);
    place.pass(1);
    assert_eq!(store.enrol(enrolment(&place, TOKEN, "key")).await.unwrap(), Enrolment::TokenExpired);
    assert_eq!(store.enrol(enrolment(&place, [9; 32], "key")).await.unwrap(), Enrolment::TokenUnknown);
}

async fn a_token_enrols_only_the_identity_it_is_for(place: Place) {
    let (store, _) = place.open().await;
    token(&store, TOKEN).await;
    let other = EnrolNode { spiffe_id: node_id("n2"), ..enrolment(&place, TOKEN, "key") };
    assert_eq!(store.enrol(other).await.unwrap(), Enrolment::TokenUnknown);
    let (store, loaded) = place.reopen(store).await;
    assert_eq!((loaded.nodes.len(), loaded.join_tokens[0].bound_key_sha256), (0, None));
    let twice = loaded.join_tokens[0].clone();
    assert!(matches!(store.create_join_token(twice, vec![]).await, Err(StoreError::Conflict { .. })));
}

async fn a_node_is_read_back_after_a_restart(place: Place) {
    let (store, _) = place.open().await;
    let node = enrolled(&place, &store).await;
    assert_eq!((node.owner.as_str(), node.generation), ("ops", 1));
    place.pass(5);
    let outcome = store.renew_node(renewal(&place, &node, 1, 7)).await.unwrap();
    assert_eq!(outcome, Renewal::Stored { next_generation: 2 });
    let (_store, loaded) = place.reopen(store).await;
    let renewed = NodeRow {
        generation: 2,
        last_renewal: Some(([7; 16], Bytes::from_static(&[7]))),
        renewed_at: later(5),
        svid_not_after: later(7200),
        ..node
    };
    assert_eq!(loaded.nodes, [renewed]);
}

async fn a_lost_answer_is_given_again_and_a_clone_freezes_the_node(place: Place) {
    let (store, _) = place.open().await;
    let node = enrolled(&place, &store).await;
    store.renew_node(renewal(&place, &node, 1, 7)).await.unwrap();
    let mut again = renewal(&place, &node, 1, 7);
    again.answer = Bytes::from_static(b"signed anew");
    assert_eq!(store.renew_node(again).await.unwrap(), Renewal::Repeated(Bytes::from_static(&[7])));

    assert_eq!(store.renew_node(renewal(&place, &node, 1, 8)).await.unwrap(), Renewal::Frozen);
    let refused = Renewal::Refused(NodeState::Frozen);
    assert_eq!(store.renew_node(renewal(&place, &node, 2, 9)).await.unwrap(), refused);
    assert_eq!(store.renew_node(renewal(&place, &node, 1, 7)).await.unwrap(), refused);
    assert_eq!(kinds(&store).await, [Kind::NodeAttested, Kind::NodeRenewed, Kind::NodeFrozen]);
}

async fn a_renewal_by_another_key_or_with_a_generation_never_given_is_refused(place: Place) {
    let (store, _) = place.open().await;
    let node = enrolled(&place, &store).await;
    let other = RenewNode { key_sha256: [9; 32], ..renewal(&place, &node, 1, 7) };
    assert_eq!(store.renew_node(other).await.unwrap(), Renewal::NodeUnknown);
    assert_eq!(store.renew_node(renewal(&place, &node, 2, 7)).await.unwrap(), Renewal::GenerationUnknown);
    assert_eq!(store.renew_node(renewal(&place, &node, 1, 7)).await.unwrap(), Renewal::Stored { next_generation: 2 });
}

async fn a_frozen_node_is_thawed_by_a_new_token_only(place: Place) {
    let (store, _) = place.open().await;
    let node = enrolled(&place, &store).await;
    let state = NodeState::Frozen;
    store.commit(change(vec![Op::SetNodeState { spiffe_id: node_id("n1"), state }])).await.unwrap();
    assert_eq!(store.enrol(enrolment(&place, TOKEN, "key")).await.unwrap(), Enrolment::NodeFrozen);
    assert_eq!(store.reattest_node(reattest(&place, &node)).await.unwrap(), Enrolment::NodeFrozen);
    token(&store, [2; 32]).await;
    let Enrolment::Enrolled(thawed) = store.enrol(enrolment(&place, [2; 32], "key")).await.unwrap() else { panic!() };
    assert_eq!((thawed.state, thawed.generation), (NodeState::Active, 2));
}

async fn a_banned_node_stays_out(place: Place) {
    let (store, _) = place.open().await;
    let node = enrolled(&place, &store).await;
    let ban = Op::SetNodeState { spiffe_id: node_id("n1"), state: NodeState::Banned };
    assert_eq!(store.commit(change(vec![ban])).await.unwrap().revision.n, 1);
    assert_eq!(store.renew_node(renewal(&place, &node, 1, 7)).await.unwrap(), Renewal::Refused(NodeState::Banned));
    assert_eq!(store.reattest_node(reattest(&place, &node)).await.unwrap(), Enrolment::NodeBanned);
    token(&store, [2; 32]).await;
    assert_eq!(store.enrol(enrolment(&place, [2; 32], "new key")).await.unwrap(), Enrolment::NodeBanned);
    let (store, loaded) = place.reopen(store).await;
    assert_eq!(loaded.nodes[0].state, NodeState::Banned);
    assert_eq!(loaded.join_tokens[1].bound_key_sha256, None, "a banned node burns no token");
    let nobody = Op::SetNodeState { spiffe_id: node_id("n2"), state: NodeState::Banned };
    assert!(matches!(store.commit(change(vec![nobody])).await, Err(StoreError::Missing { .. })));
}

async fn an_evicted_node_is_unknown(place: Place) {
    let (store, _) = place.open().await;
    let node = enrolled(&place, &store).await;
    store.commit(change(vec![Op::EvictNode { spiffe_id: node_id("n1") }])).await.unwrap();
    assert_eq!(store.renew_node(renewal(&place, &node, 1, 7)).await.unwrap(), Renewal::NodeUnknown);
    assert_eq!(store.reattest_node(reattest(&place, &node)).await.unwrap(), Enrolment::NodeUnknown);
}

fn reattest(place: &Place, node: &NodeRow) -> ReattestNode {
    ReattestNode {
        spiffe_id: node.spiffe_id.clone(),
        key_sha256: node.key_sha256,
        svid_not_after: later(9000),
        records: vec![place.record(Kind::NodeAttested)],
    }
}

async fn possession_of_the_enrolled_key_attests_again(place: Place) {
    let (store, _) = place.open().await;
    let node = enrolled(&place, &store).await;
    place.pass(7000);
    let Enrolment::Enrolled(again) = store.reattest_node(reattest(&place, &node)).await.unwrap() else { panic!() };
    assert_eq!((again.generation, again.attested_at, again.svid_not_after), (2, later(7000), later(9000)));
    let other = ReattestNode { key_sha256: [9; 32], ..reattest(&place, &node) };
    assert_eq!(store.reattest_node(other).await.unwrap(), Enrolment::OtherKey);
    assert_eq!(store.renew_node(renewal(&place, &node, 1, 7)).await.unwrap(), Renewal::Frozen, "the old disk");
}
