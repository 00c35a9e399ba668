//! What is served follows what is stored, in the order of the commits.

use mayfly_issuer::directory::Directory;
use mayfly_issuer::ledger::Kind;
use mayfly_issuer::registry::Rules;
use mayfly_issuer::store::{EnrolMachine, Enrolment, NodeState, Op, ReattestNode};
use mayfly_sdk::{Timestamp, Ttl};

use crate::on_every_engine;
use crate::place::{Place, START, change, node_id};

on_every_engine! {
    a_node_that_attests_while_it_is_banned_is_banned,
    a_machine_that_enrols_by_another_certificate_is_no_more_what_it_was,
}

async fn directory(place: &Place) -> std::sync::Arc<Directory> {
    let (store, loaded) = place.open().await;
    let rules = Rules::new(place.options.trust_domain.clone());
    Directory::load(store, loaded, rules, place.clock.clone()).await.unwrap()
}

fn machine(place: &Place, name: &str, key: &str, lives_s: u32) -> EnrolMachine {
    EnrolMachine {
        spiffe_id: node_id(name),
        attestor: "x509pop".into(),
        machine_key_sha256: [1; 32],
        key_spki: key.into(),
        selectors: vec!["x509pop:subject-cn:m".parse().unwrap()],
        svid_not_after: place.clock.now().saturating_add(Ttl::from_s(lives_s)),
        records: vec![place.record(Kind::NodeAttested)],
    }
}

fn state_is(state: NodeState) -> mayfly_issuer::store::Change {
    change(vec![Op::SetNodeState { spiffe_id: node_id("m"), state }])
}

async fn a_node_that_attests_while_it_is_banned_is_banned(place: Place) {
    let directory = directory(&place).await;
    let Enrolment::Enrolled(node) = directory.enrol_machine(machine(&place, "m", "key", 3600)).await.unwrap() else {
        panic!("not enrolled")
    };
    let reattest = || ReattestNode {
        spiffe_id: node.spiffe_id.clone(),
        key_sha256: node.key_sha256,
        svid_not_after: Timestamp::from_unix_s(START.unix_s() + 7200),
        records: vec![place.record(Kind::NodeAttested)],
    };
    let mut before_the_ban = 0;
    for round in 0..300 {
        let attests = (0..4).map(|_| directory.reattest(reattest()));
        let (outcomes, banned) =
            tokio::join!(futures_util::future::join_all(attests), directory.commit(state_is(NodeState::Banned)));
        banned.unwrap();
        before_the_ban += outcomes.iter().filter(|it| matches!(it, Ok(Enrolment::Enrolled(_)))).count();
        assert_eq!(directory.node(&node.spiffe_id).unwrap().state, NodeState::Banned, "round {round}");
        assert!(directory.live_node(&node.spiffe_id, &node.key_sha256).is_err());
        directory.commit(state_is(NodeState::Active)).await.unwrap();
    }
    assert!(before_the_ban > 0, "no attestation was stored before a ban, so that nothing was tried");
    directory.shut().await;
}

async fn a_machine_that_enrols_by_another_certificate_is_no_more_what_it_was(place: Place) {
    let directory = directory(&place).await;
    directory.enrol_machine(machine(&place, "m", "one", 60)).await.unwrap();
    place.pass(61);
    let renewed = directory.enrol_machine(machine(&place, "renewed", "two", 3600)).await.unwrap();
    assert!(matches!(renewed, Enrolment::Enrolled(_)));
    let served: Vec<_> = directory.nodes().iter().map(|node| node.spiffe_id.clone()).collect();
    assert_eq!(served, [node_id("renewed")]);
    directory.shut().await;
}
