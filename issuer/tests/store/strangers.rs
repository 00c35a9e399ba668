//! Nodes and callers for whom nobody made a token: machines with certificates, and tokens of identity providers.

use mayfly_issuer::ledger::Kind;
use mayfly_issuer::store::{
    EnrolMachine, Enrolment, NodeRow, NodeState, Op, RedeemToken, Redemption, Store, UsedToken,
};
use mayfly_sdk::Timestamp;

use crate::on_every_engine;
use crate::place::{Place, START, change, node_id};

on_every_engine! {
    another_key_waits_until_the_svid_of_the_one_before_has_ended,
    a_machine_that_is_frozen_or_banned_stays_so,
    a_machine_is_one_under_every_name_that_its_key_has,
    an_evicted_machine_enrols_anew,
    a_token_is_redeemed_once_however_many_try,
    a_used_token_is_remembered_across_restarts_until_it_has_long_ended,
}

const NO_LIFE: u64 = 3600;

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_unix_s(START.unix_s() + seconds)
}

fn machine(place: &Place, key: &str) -> EnrolMachine {
    EnrolMachine {
        spiffe_id: node_id("m"),
        attestor: "x509pop".into(),
        machine_key_sha256: [1; 32],
        key_spki: key.into(),
        selectors: vec!["x509pop:subject-cn:m".parse().unwrap()],
        svid_not_after: place.clock.now().saturating_add(mayfly_sdk::Ttl::from_s(3600)),
        records: vec![place.record(Kind::NodeAttested)],
    }
}

async fn outcome(store: &Store, enrol: EnrolMachine) -> Enrolment {
    store.enrol_machine(enrol).await.unwrap().outcome
}

async fn enrolled(place: &Place, store: &Store, key: &str) -> NodeRow {
    match outcome(store, machine(place, key)).await {
        Enrolment::Enrolled(node) => *node,
        other => panic!("{other:?}"),
    }
}

async fn records(store: &Store) -> usize {
    store.tail(1000).await.unwrap().len()
}

async fn another_key_waits_until_the_svid_of_the_one_before_has_ended(place: Place) {
    let (store, _) = place.open().await;
    let first = enrolled(&place, &store, "one").await;
    assert_eq!((first.attestor.as_str(), first.owner.as_str(), first.generation), ("x509pop", "x509pop", 1));
    let again = enrolled(&place, &store, "one").await;
    assert_eq!(again.generation, 2, "a lost answer is asked for again");
    assert_eq!(outcome(&store, machine(&place, "two")).await, Enrolment::OtherKeyInUse);
    place.pass(NO_LIFE);
    assert_eq!(outcome(&store, machine(&place, "two")).await, Enrolment::OtherKeyInUse, "its last second");
    assert_eq!(records(&store).await, 2, "what is refused is not recorded as done");
    place.pass(1);
    let second = enrolled(&place, &store, "two").await;
    assert_ne!(second.key_sha256, first.key_sha256);
    assert_eq!(second.generation, 3, "never one that was given out before");
    let (_store, loaded) = place.reopen(store).await;
    assert_eq!(loaded.nodes, [second]);
}

async fn a_machine_that_is_frozen_or_banned_stays_so(place: Place) {
    let (store, _) = place.open().await;
    enrolled(&place, &store, "one").await;
    for (state, refused) in [(NodeState::Frozen, Enrolment::NodeFrozen), (NodeState::Banned, Enrolment::NodeBanned)] {
        store.commit(change(vec![Op::SetNodeState { spiffe_id: node_id("m"), state }])).await.unwrap();
        for key in ["one", "two"] {
            assert_eq!(outcome(&store, machine(&place, key)).await, refused);
        }
        place.pass(2 * NO_LIFE);
        assert_eq!(outcome(&store, machine(&place, "two")).await, refused, "nor later");
    }
}

async fn a_machine_is_one_under_every_name_that_its_key_has(place: Place) {
    let named = |name: &str, key: &str| EnrolMachine { spiffe_id: node_id(name), ..machine(&place, key) };
    let (store, _) = place.open().await;
    enrolled(&place, &store, "one").await;
    for key in ["one", "two"] {
        assert_eq!(outcome(&store, named("renewed", key)).await, Enrolment::OtherKeyInUse);
    }
    place.pass(NO_LIFE + 1);
    let second = store.enrol_machine(named("renewed", "two")).await.unwrap();
    assert_eq!(second.superseded, [node_id("m")]);
    assert!(matches!(second.outcome, Enrolment::Enrolled(node) if node.spiffe_id == node_id("renewed")));
    let evicted: Vec<_> =
        store.tail(10).await.unwrap().into_iter().filter(|row| row.record.kind == Kind::NodeEvicted).collect();
    assert_eq!(evicted.len(), 1);
    assert_eq!(evicted[0].record.node, Some(node_id("m")));
    for (state, refused) in [(NodeState::Frozen, Enrolment::NodeFrozen), (NodeState::Banned, Enrolment::NodeBanned)] {
        store.commit(change(vec![Op::SetNodeState { spiffe_id: node_id("renewed"), state }])).await.unwrap();
        for name in ["m", "renewed", "third"] {
            assert_eq!(outcome(&store, named(name, "two")).await, refused, "{name}");
        }
    }
    let other = EnrolMachine { machine_key_sha256: [2; 32], ..named("third", "three") };
    assert!(matches!(outcome(&store, other).await, Enrolment::Enrolled(_)));
    let (store, loaded) = place.reopen(store).await;
    assert_eq!(
        loaded.nodes.iter().map(|node| node.spiffe_id.clone()).collect::<Vec<_>>(),
        [node_id("renewed"), node_id("third")]
    );
    store.commit(change(vec![Op::EvictNode { spiffe_id: node_id("renewed") }])).await.unwrap();
    assert!(matches!(outcome(&store, named("m", "two")).await, Enrolment::Enrolled(_)));
}

async fn an_evicted_machine_enrols_anew(place: Place) {
    let (store, _) = place.open().await;
    enrolled(&place, &store, "one").await;
    store.commit(change(vec![Op::EvictNode { spiffe_id: node_id("m") }])).await.unwrap();
    assert_eq!(enrolled(&place, &store, "two").await.generation, 1);
}

fn redeem(place: &Place, token: u8, expires_at: Timestamp) -> RedeemToken {
    let token = UsedToken { sha256: [token; 32], expires_at };
    RedeemToken { token, records: vec![place.record(Kind::X509SvidIssued)] }
}

async fn a_token_is_redeemed_once_however_many_try(place: Place) {
    let (store, _) = place.open().await;
    for token in 0..10 {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (store, redeem) = (store.clone(), redeem(&place, token, later(300)));
            calls.spawn(async move { store.redeem_token(redeem).await.unwrap() });
        }
        let outcomes = calls.join_all().await;
        let won = outcomes.iter().filter(|outcome| **outcome == Redemption::Redeemed).count();
        let lost = outcomes.iter().filter(|outcome| **outcome == Redemption::UsedBefore).count();
        assert_eq!((won, lost), (1, 49));
    }
    assert_eq!(records(&store).await, 10, "as many records as tokens");
}

async fn a_used_token_is_remembered_across_restarts_until_it_has_long_ended(place: Place) {
    let (store, _) = place.open().await;
    assert_eq!(store.redeem_token(redeem(&place, 1, later(300))).await.unwrap(), Redemption::Redeemed);
    let (store, _) = place.reopen(store).await;
    assert_eq!(store.redeem_token(redeem(&place, 1, later(300))).await.unwrap(), Redemption::UsedBefore);
    // The clock may be set back by up to an hour without a token being good again.
    place.pass(300 + 3600);
    assert_eq!(store.redeem_token(redeem(&place, 1, later(300))).await.unwrap(), Redemption::UsedBefore);
    place.pass(1);
    assert_eq!(
        store.redeem_token(redeem(&place, 1, later(300))).await.unwrap(),
        Redemption::Redeemed,
        "it was forgotten"
    );
}
