use std::time::Duration;

use mayfly_proto::node;
use mayfly_sdk::InstanceId;

use super::*;
use crate::holdings::Entry;
use crate::test_node::{TestNode, entry};

const ME: InstanceId = InstanceId::from_bytes([1; 16]);
const OTHER: InstanceId = InstanceId::from_bytes([2; 16]);

fn subject(wire: node::Entry, instance: InstanceId) -> SubjectKey {
    let facts = ["unix:user:alice".parse().unwrap(), "unix:uid:0".parse().unwrap()];
    SubjectKey::new(&Entry::read(wire).unwrap(), &facts, instance)
}

async fn minted(lease: &mut Lease<X509>) -> std::sync::Arc<Held<X509>> {
    until(lease, |_| true).await
}

async fn until(lease: &mut Lease<X509>, what: impl Fn(&Held<X509>) -> bool) -> std::sync::Arc<Held<X509>> {
    let waited = async {
        loop {
            lease.mark_seen();
            if let Some(held) = lease.held().filter(|held| what(held)) {
                return held;
            }
            lease.changed().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.expect("minted in time")
}

#[tokio::test]
async fn workloads_of_one_entry_share_what_is_minted_on_first_use() {
    let node = TestNode::in_sync().await;
    node.put(entry("web")).await;
    let table = &node.identities.x509;
    assert!(node.issuer.state.seen.lock().x509_batches.is_empty(), "nothing is minted ahead of use");
    let (mut a, mut b) = (table.lease(subject(entry("web"), ME), ()), table.lease(subject(entry("web"), OTHER), ()));
    let held = minted(&mut a).await;
    assert_eq!(held.spiffe_id().as_str(), "spiffe://example.org/web");
    assert_eq!(minted(&mut b).await.accepted.serial, held.accepted.serial);
    assert_eq!(node.issuer.state.seen.lock().x509_batches, [1]);
    node.halt().await;
}

#[tokio::test]
async fn instances_that_do_not_share_have_keys_of_their_own() {
    let node = TestNode::in_sync().await;
    let own = node::Entry { sharing: node::Sharing::Instance.into(), ..entry("web") };
    node.put(own.clone()).await;
    let table = &node.identities.x509;
    let (mut a, mut b) = (table.lease(subject(own.clone(), ME), ()), table.lease(subject(own, OTHER), ()));
    let (a, b) = (minted(&mut a).await, minted(&mut b).await);
    assert_ne!(a.credential().key(), b.credential().key());
    let subjects: Vec<_> =
        node.issuer.state.seen.lock().subjects.iter().map(|subject| subject.instance.to_vec()).collect();
    assert!(subjects.contains(&ME.as_bytes().to_vec()) && subjects.contains(&OTHER.as_bytes().to_vec()));
    node.halt().await;
}

#[tokio::test]
async fn a_template_is_rendered_from_the_facts_that_it_names() {
    let node = TestNode::in_sync().await;
    let template = node::Entry { spiffe_id: "spiffe://example.org/user/{unix.user}".to_owned(), ..entry("users") };
    node.put(template.clone()).await;
    let mut lease = node.identities.x509.lease(subject(template, ME), ());
    assert_eq!(minted(&mut lease).await.spiffe_id().as_str(), "spiffe://example.org/user/alice");
    assert_eq!(node.issuer.state.seen.lock().subjects[0].facts, ["unix:user:alice"]);
    node.halt().await;
}

#[tokio::test]
async fn renewal_keeps_the_old_svid_when_the_issuer_is_down() {
    let mut node = TestNode::in_sync().await;
    node.issuer.state.knobs.lock().svid_renew_after_s = 1;
    node.put(entry("web")).await;
    let mut lease = node.identities.x509.lease(subject(entry("web"), ME), ());
    let first = minted(&mut lease).await;
    node.without_issuer().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(lease.held().unwrap().accepted.serial, first.accepted.serial);
    node.issuer.state.knobs.lock().svid_renew_after_s = 450;
    let node = node.with_issuer().await;
    until(&mut lease, |held| held.accepted.serial != first.accepted.serial).await;
    node.halt().await;
}

#[tokio::test]
async fn a_refused_renewal_keeps_the_old_svid() {
    let node = TestNode::in_sync().await;
    node.issuer.state.knobs.lock().svid_renew_after_s = 1;
    node.put(entry("web")).await;
    let mut lease = node.identities.x509.lease(subject(entry("web"), ME), ());
    let first = minted(&mut lease).await;
    let refused = node::Refused { reason: "overloaded".to_owned(), retry_after_ms: 10, ..node::Refused::default() };
    node.issuer.state.knobs.lock().refuse_mint = Some(refused);
    while lease.refused().is_none() {
        lease.changed().await;
    }
    assert_eq!(lease.held().unwrap().accepted.serial, first.accepted.serial);
    node.issuer.state.knobs.lock().refuse_mint = None;
    until(&mut lease, |held| held.accepted.serial != first.accepted.serial).await;
    node.halt().await;
}

#[tokio::test]
async fn a_change_of_what_is_issued_mints_anew_and_any_other_does_not() {
    let node = TestNode::in_sync().await;
    node.put(entry("web")).await;
    let mut lease = node.identities.x509.lease(subject(entry("web"), ME), ());
    let first = minted(&mut lease).await;
    node.put(node::Entry { hint: "other".to_owned(), ..entry("web") }).await;
    node.put(node::Entry { issuance: 2, ..entry("web") }).await;
    let second = until(&mut lease, |held| held.issuance == 2).await;
    assert_ne!(first.accepted.serial, second.accepted.serial);
    assert_eq!(node.issuer.state.seen.lock().x509_batches, [1, 1]);
    node.halt().await;
}

#[tokio::test]
async fn what_a_tainted_authority_signed_is_minted_anew_at_once() {
    let node = TestNode::in_sync().await;
    node.put(entry("web")).await;
    let mut lease = node.identities.x509.lease(subject(entry("web"), ME), ());
    let first = minted(&mut lease).await;
    let tainted_authorities = vec![first.accepted.authorities[0].clone()];
    node.issuer
        .state
        .change(|delta| delta.denials = Some(node::Denials { tainted_authorities, ..node::Denials::default() }));
    until(&mut lease, |held| held.accepted.serial != first.accepted.serial).await;
    node.halt().await;
}

#[tokio::test]
async fn a_denied_serial_is_handed_out_no_more() {
    let node = TestNode::in_sync().await;
    node.put(entry("web")).await;
    let mut lease = node.identities.x509.lease(subject(entry("web"), ME), ());
    let first = minted(&mut lease).await;
    let refused = node::Refused { reason: "entry_expired".to_owned(), ..node::Refused::default() };
    node.issuer.state.knobs.lock().refuse_mint = Some(refused);
    let serials = vec![first.accepted.serial.clone()];
    node.issuer.state.change(|delta| delta.denials = Some(node::Denials { serials, ..node::Denials::default() }));
    let denied = async {
        while lease.held().is_some() || lease.refused().is_none() {
            lease.changed().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), denied).await.unwrap();
    assert_eq!(lease.refused().unwrap().reason, mayfly_sdk::Reason::EntryExpired);
    node.halt().await;
}

#[tokio::test]
async fn first_uses_that_come_together_go_in_few_calls() {
    let node = TestNode::in_sync().await;
    let uids: Vec<String> = (0..20).map(|n| format!("w{n}")).collect();
    for uid in &uids {
        node.put(entry(uid)).await;
    }
    let table = &node.identities.x509;
    let mut leases: Vec<_> = uids.iter().map(|uid| table.lease(subject(entry(uid), ME), ())).collect();
    for lease in &mut leases {
        minted(lease).await;
    }
    let batches = node.issuer.state.seen.lock().x509_batches.clone();
    assert_eq!(batches.iter().sum::<usize>(), 20);
    assert!(batches.len() <= 5, "{batches:?}");
    node.halt().await;
}

#[tokio::test]
async fn an_entry_that_is_gone_takes_its_slot_with_it() {
    let node = TestNode::in_sync().await;
    node.put(entry("web")).await;
    let mut lease = node.identities.x509.lease(subject(entry("web"), ME), ());
    minted(&mut lease).await;
    drop(lease);
    assert_eq!(node.identities.x509.len(), 1);
    node.issuer.state.remove("web");
    node.issuer.state.acknowledged(3).await;
    while node.identities.x509.len() > 0 {
        tokio::task::yield_now().await;
    }
    node.halt().await;
}

#[tokio::test]
async fn kept_credentials_come_back_with_what_is_left_of_them() {
    let node = TestNode::in_sync().await;
    node.put(entry("web")).await;
    let mut lease = node.identities.x509.lease(subject(entry("web"), ME), ());
    let first = minted(&mut lease).await;
    let request = JwtRequest::new(vec!["a".to_owned()]);
    let mut token = node.identities.jwt.lease(subject(entry("web"), ME), request.clone());
    while token.held().is_none() {
        token.changed().await;
    }
    let kept = node.identities.keep(&node.clock);
    assert_eq!(kept.len(), 2);
    let elapsed = Duration::from_secs(100);
    let (soonest_end, _) = watch::channel(None);
    let (again, _minters) = Identities::new(&node.issuer.state.trust_domain, &node.view, 10, soonest_end, &node.clock);
    let holdings = node.view.holdings.borrow().clone();
    let own = holdings.bundle(&node.issuer.state.trust_domain).unwrap();
    assert_eq!(again.restore(kept.clone(), elapsed, &holdings, own, &node.clock), 2);
    let back = again.x509.lease(subject(entry("web"), ME), ()).held().unwrap();
    assert_eq!((back.credential().key(), &back.accepted.serial), (first.credential().key(), &first.accepted.serial));
    assert!(back.life().remaining(node.clock.monotonic()) <= Duration::from_secs(800));
    let held = again.jwt.lease(subject(entry("web"), ME), request).held().unwrap();
    assert_eq!(held.credential().expose_token(), token.held().unwrap().credential().expose_token());
    let (soonest_end, _) = watch::channel(None);
    let (late, _minters) = Identities::new(&node.issuer.state.trust_domain, &node.view, 10, soonest_end, &node.clock);
    assert_eq!(
        late.restore(kept, Duration::from_secs(901), &holdings, own, &node.clock),
        0,
        "what has ended stays away"
    );
    node.halt().await;
}
