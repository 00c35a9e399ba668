//! The same on the real store.

use std::path::Path;
use std::sync::Arc;

use mayfly_sdk::{Clock, Ttl};
use tokio_util::sync::CancellationToken;

use super::fake::FakeNodes;
use super::opened::{HOUR, START, World, trust_domain};
use crate::authority::{Authorities, Place, Rotation, Settings, Stored, open};
use crate::store::{Options, SlotKind, SlotState, Store};

async fn start(directory: &Path, clock: &Clock) -> (Store, Authorities, Rotation) {
    let options = Options::new(trust_domain());
    let (store, loaded) = Store::open(directory, options, clock.clone()).await.unwrap();
    let place =
        Place { trust_domain: trust_domain(), issuer: "one".to_owned(), wrapping_key: directory.join("wrapping.key") };
    let stored = Stored::of(&loaded, &trust_domain());
    let (slots, nodes) = (Arc::new(store.clone()), Arc::new(FakeNodes::default()));
    let opened = open(place, Settings::default(), stored, slots, nodes, clock.clone()).await;
    let (authorities, rotation) = opened.unwrap();
    (store, authorities, rotation)
}

#[tokio::test]
async fn authorities_live_rotate_and_start_again_on_the_real_store() {
    let world = World::new();
    let directory = world.directory.path();
    let (store, authorities, mut rotation) = start(directory, &world.clock).await;
    let first = authorities.snapshot();
    for _ in 0..30 {
        world.pass(2 * HOUR);
        let (_, done) = rotation.catch_up().await;
        assert!(done);
        authorities.sign_x509(&world.leaf(authorities.longest_x509_ttl())).await.unwrap();
    }
    let views = authorities.list();
    assert!(views.iter().any(|view| view.kind == SlotKind::Jwt && view.generation == 5), "{views:#?}");
    assert!(views.iter().any(|view| view.state == SlotState::Retired));
    let bundle = authorities.snapshot().bundle().clone();
    assert!(bundle.sequence() > first.bundle().sequence() && bundle.bundle().x509 == first.bundle().bundle().x509);
    store.shut().await;
    drop((store, authorities, rotation));

    let (store, authorities, rotation) = start(directory, &world.clock).await;
    assert_eq!(*authorities.snapshot().bundle(), bundle);
    authorities.sign_jwt(&world.token(Ttl::from_s(300))).await.unwrap();
    let stop = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(rotation.run(stop.clone()));
    let root = authorities.list().into_iter().find(|view| view.kind == SlotKind::X509Root).unwrap();
    authorities.taint(root.id.clone(), "uid:0".into()).await.unwrap();
    authorities.reseal("uid:0".into()).await.unwrap();
    stop.cancel();
    tasks.join_next().await;
    store.shut().await;
    drop((store, authorities));

    let (_store, authorities, _rotation) = start(directory, &world.clock).await;
    assert!(authorities.snapshot().denied().contains(&root.id));
    assert_eq!(authorities.snapshot().bundle().bundle().x509.authorities().len(), 2);
    assert!(authorities.snapshot().bundle().sequence() >= START.unix_s().unsigned_abs());
}
