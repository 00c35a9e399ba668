use futures_util::StreamExt as _;
use mayfly_proto::workload as wire;
use mayfly_proto::workload::spiffe_workload_api_server::SpiffeWorkloadApi as _;
use tempfile::TempDir;

use super::*;
use crate::test_node::{TestNode, entry};

const NODE: &str = "spiffe://example.org/mayfly/node/join_token/1";

/// A node of which one workload has an SVID of each kind.
async fn node_in_use() -> TestNode {
    let node = TestNode::in_sync().await;
    let bundle = node.issuer.state.authority.wire_bundle_with_wit(2);
    node.issuer.state.change(|delta| delta.bundles = vec![bundle]);
    node.put(entry("web")).await;
    let request = TestNode::call(wire::X509svidRequest {});
    let mut stream = node.api.fetch_x509svid(request).await.unwrap().into_inner();
    stream.next().await.unwrap().unwrap();
    let request = wire::JwtsvidRequest { audience: vec!["a".to_owned()], spiffe_id: String::new() };
    node.api.fetch_jwtsvid(TestNode::call(request)).await.unwrap();
    wits(&node).await;
    node
}

/// The WIT-SVIDs that a workload is given.
async fn wits(node: &TestNode) -> wire::WitsvidResponse {
    let request = TestNode::call(wire::WitsvidRequest::default());
    let mut stream = node.api.fetch_witsvid(request).await.unwrap().into_inner();
    stream.next().await.unwrap().unwrap()
}

fn warm(directory: &TempDir, boot: BootId) -> Warm {
    Warm::open(WarmRestart::File, directory.path(), &directory.path().join("key"), boot).unwrap()
}

fn write(warm: &Warm, subject: &Subject) {
    warm.write(&WarmState::of(subject, &warm.boot).unwrap()).unwrap();
}

#[tokio::test]
async fn what_was_kept_comes_back_on_the_same_boot_and_node_only() {
    let (node, directory) = (node_in_use().await, tempfile::tempdir().unwrap());
    let boot = BootId::current().unwrap();
    let kept = warm(&directory, boot);
    write(&kept, &node.subject);
    let restored = warm(&directory, boot).load(NODE).unwrap();
    assert_eq!(restored.holdings.revision(), node.view.holdings.borrow().revision());
    assert!(restored.holdings.entry("web").is_some());
    assert_eq!((restored.credentials.len(), restored.instances.len(), restored.served.len()), (3, 1, 1));
    assert!(restored.out_of_sync < Duration::from_secs(5));
    assert!(warm(&directory, boot).load("spiffe://example.org/mayfly/node/join_token/2").is_none());
    assert!(warm(&directory, BootId::from_bytes([9; 16])).load(NODE).is_none());
    std::fs::remove_file(directory.path().join("key")).unwrap();
    assert!(warm(&directory, boot).load(NODE).is_none(), "under another key");
    node.halt().await;
}

#[tokio::test]
async fn changes_are_written_sealed() {
    let (node, directory) = (node_in_use().await, tempfile::tempdir().unwrap());
    let boot = BootId::current().unwrap();
    let stop = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(warm(&directory, boot).run(node.subject.clone(), stop.clone()));
    node.put(entry("db")).await;
    let held = || warm(&directory, boot).load(NODE).is_some_and(|restored| restored.holdings.entry("db").is_some());
    while !held() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let bytes = std::fs::read(directory.path().join(FILE)).unwrap();
    assert!(!bytes.windows(11).any(|window| window == b"example.org"));
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap();
    node.halt().await;
}

#[tokio::test]
async fn a_restart_takes_up_what_was_kept() {
    let (node, directory) = (node_in_use().await, tempfile::tempdir().unwrap());
    let boot = BootId::current().unwrap();
    write(&warm(&directory, boot), &node.subject);
    let serial = |node: &TestNode| {
        let slots = node.identities.x509.slots();
        slots.first().and_then(|slot| slot.held()).map(|held| held.accepted.serial.clone())
    };
    let wit = |node: &TestNode| {
        let slots = node.identities.wit.slots();
        let held = slots.first().and_then(|slot| slot.held())?;
        Some((held.credential().token().to_owned(), held.credential().key().clone()))
    };
    let (before, wit_before) = (serial(&node).unwrap(), wit(&node).unwrap());
    node.halt().await;
    let again = TestNode::in_sync().await;
    assert!(serial(&again).is_none() && wit(&again).is_none());
    warm(&directory, boot).load(NODE).unwrap().take_up(&again.subject);
    assert_eq!(serial(&again), Some(before), "verified against the bundle that was kept with it");
    assert_eq!(wit(&again), Some(wit_before), "the token with its key");
    again.halt().await;
}

#[tokio::test]
async fn what_another_build_has_written_is_read_or_refused() {
    let node = node_in_use().await;
    let boot = BootId::current().unwrap();
    let state = WarmState::of(&node.subject, &boot).unwrap();
    // A build of before tasks were kept: exactly these fields.
    let restored = state.clone().of_before_tasks().restore(&boot, NODE).unwrap();
    assert_eq!((restored.credentials.len(), restored.instances.len(), restored.tasks.len()), (3, 1, 0));
    // One that says that it means something else.
    assert!(state.clone().of_version(2).restore(&boot, NODE).is_err());
    // And nothing that is no state at all is more than refused.
    let bytes = state.encode_to_vec();
    for cut in (0..bytes.len()).step_by(97) {
        if let Ok(part) = WarmState::decode(&bytes[..cut]) {
            part.restore(&boot, NODE).map(|restored| restored.take_up(&node.subject)).ok();
        }
    }
    node.halt().await;
}

#[test]
fn without_a_key_the_start_is_cold() {
    let directory = tempfile::tempdir().unwrap();
    let boot = BootId::current().unwrap();
    assert!(Warm::open(WarmRestart::Off, directory.path(), &directory.path().join("key"), boot).is_none());
    assert!(Warm::open(WarmRestart::File, directory.path(), &directory.path().join("no/key"), boot).is_none());
}
