//! Keys of WIT-SVIDs: off, on, and off again.

use std::sync::Arc;

use mayfly_sdk::{Reason, Ttl};

use super::opened::{HOUR, World, bundle_of, trust_domain};
use crate::authority::bundle::OwnBundle;
use crate::authority::keyring::Keyring;
use crate::authority::kind::Kind;
use crate::authority::row::StoredSlot;
use crate::authority::wrapping::{Sealer, SlotName, WrappingKey};
use crate::authority::{AuthorityError, Facts, Jwt, Wit};
use crate::store::{SlotKind, SlotRow, SlotState};

fn actor() -> Arc<str> {
    "uid:0".into()
}

fn states(world: &World) -> Vec<SlotState> {
    let rows = world.store.stored().slots;
    rows.iter().filter(|row| row.kind == SlotKind::Wit).map(|row| row.state).collect()
}

#[tokio::test]
async fn off_there_is_no_key_and_nothing_is_signed() {
    let world = World::new();
    let mut issuer = world.start().await.unwrap();
    assert!(states(&world).is_empty() && bundle_of(&issuer).wit.is_empty());
    let refused = issuer.authorities.sign_wit(&world.wit(Ttl::from_s(900))).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::Unimplemented);
    let command = crate::authority::authorities::Command::Prepare(SlotKind::Wit);
    let refused = issuer.rotation.obey(&command, &actor()).await.unwrap_err();
    assert!(matches!(refused, AuthorityError::WitOff), "{refused}");
    for _ in 0..5 {
        world.pass(12 * HOUR);
        issuer.rotation.catch_up().await;
    }
    assert!(states(&world).is_empty());
}

/// Rows: W-28, BD-15.
#[tokio::test]
async fn on_the_first_key_signs_at_once_and_is_published_for_its_own_use() {
    let mut world = World::new();
    let first = bundle_of(&world.start().await.unwrap());
    world.settings.wit = true;
    let issuer = world.start().await.unwrap();
    let bundle = bundle_of(&issuer);
    assert!(bundle.sequence > first.sequence);
    assert_eq!((bundle.wit.authorities().len(), &bundle.jwt), (1, &first.jwt));
    let wit = issuer.authorities.sign_wit(&world.wit(Ttl::from_s(900))).await.unwrap();
    world.verify_wit(&wit, &bundle).unwrap();
    assert_eq!(wit.authority.as_str(), bundle.wit.authorities()[0].key_id());
    assert!(world.verify_wit(&wit, &first).is_err());
    assert!(bundle.jwt.find(wit.authority.as_str()).is_none());
    let document: serde_json::Value = serde_json::from_str(issuer.authorities.snapshot().bundle().document()).unwrap();
    let uses: Vec<_> = document["keys"].as_array().unwrap().iter().map(|key| key["use"].clone()).collect();
    assert_eq!(uses, ["x509-svid", "jwt-svid", "wit-svid"]);
    // What is sealed is bound to its kind: another kind cannot open it.
    let [row] = rows(&world).try_into().unwrap();
    assert!(row.key.is_some());
    world.store.tamper(|row| {
        if row.kind == SlotKind::Wit {
            row.kind = SlotKind::Jwt;
            row.generation = 2;
            row.state = SlotState::Prepared;
        }
    });
    let broken = world.start().await.err().unwrap();
    assert!(matches!(broken, AuthorityError::SealBroken { .. }), "{broken}");
}

#[tokio::test]
async fn what_cannot_be_a_wit_svid_here_is_refused() {
    let mut world = World::new();
    world.settings.wit = true;
    let issuer = world.start().await.unwrap();
    let authorities = &issuer.authorities;
    let sign = |plan| async move { authorities.sign_wit(&plan).await.unwrap_err().reason() };
    let plan = || world.wit(Ttl::from_s(900));
    issuer.authorities.sign_wit(&plan()).await.unwrap();
    let mut foreign = plan();
    foreign.spiffe_id = "spiffe://other.test/a".parse().unwrap();
    assert_eq!(sign(foreign).await, Reason::InvalidArgument);
    assert_eq!(sign(world.wit(Ttl::from_s(8 * HOUR))).await, Reason::InvalidTtl);
    let snapshot = issuer.authorities.snapshot();
    for own in [snapshot.wit().unwrap().facts(), snapshot.jwt().facts(), snapshot.intermediate().facts()] {
        let mut plan = plan();
        plan.public_key = own.public_key.clone();
        assert_eq!(sign(plan).await, Reason::KeyReserved);
    }
    let mut leaf = world.leaf(Ttl::from_s(900));
    leaf.public_key = snapshot.wit().unwrap().facts().public_key.clone();
    assert_eq!(issuer.authorities.sign_x509(&leaf).await.unwrap_err().reason(), Reason::KeyReserved);
}

#[tokio::test]
async fn off_again_nothing_is_published_or_signed_and_on_again_it_goes_on() {
    let mut world = World::new();
    world.settings.wit = true;
    let issuer = world.start().await.unwrap();
    let wit = issuer.authorities.sign_wit(&world.wit(Ttl::from_s(900))).await.unwrap();
    let on = bundle_of(&issuer);
    drop(issuer);
    world.settings.wit = false;
    let mut issuer = world.start().await.unwrap();
    let off = bundle_of(&issuer);
    assert!(off.wit.is_empty() && off.sequence > on.sequence);
    assert!(world.verify_wit(&wit, &off).is_err());
    assert!(issuer.authorities.sign_wit(&world.wit(Ttl::from_s(900))).await.is_err());
    world.pass(13 * HOUR);
    issuer.rotation.catch_up().await;
    assert_eq!(states(&world), [SlotState::Active], "it waits");
    drop(issuer);
    world.settings.wit = true;
    let issuer = world.start().await.unwrap();
    let again = issuer.authorities.sign_wit(&world.wit(Ttl::from_s(900))).await.unwrap();
    assert_eq!(again.authority, wit.authority);
    world.verify_wit(&again, &bundle_of(&issuer)).unwrap();
}

/// Rows: BD-4.
#[tokio::test]
async fn whether_the_endpoint_shows_the_keys_raises_the_sequence_and_a_restart_does_not() {
    let mut world = World::new();
    let mut last = bundle_of(&world.start().await.unwrap()).sequence;
    // WIT keys, and whether the endpoint shows them: without any there is nothing to show.
    for (wit, shown, is_raised) in [
        (false, true, false),
        (true, true, true),
        (true, false, true),
        (true, true, true),
        (false, true, true),
        (false, false, false),
        (true, false, true),
    ] {
        (world.settings.wit, world.settings.wit_shown) = (wit, shown);
        let now = bundle_of(&world.start().await.unwrap()).sequence;
        assert!(if is_raised { now > last } else { now == last }, "{wit}, {shown}: {now:?} after {last:?}");
        last = now;
        assert_eq!(bundle_of(&world.start().await.unwrap()).sequence, last);
    }
}

#[tokio::test]
async fn a_key_is_tainted_and_revoked_as_any_other() {
    let mut world = World::new();
    world.settings.wit = true;
    let mut issuer = world.start().await.unwrap();
    let plan = || world.wit(Ttl::from_s(900));
    let wit = issuer.authorities.sign_wit(&plan()).await.unwrap();
    let command = crate::authority::authorities::Command::Taint(wit.authority.clone());
    issuer.rotation.obey(&command, &actor()).await.unwrap();
    assert!(issuer.authorities.snapshot().denied().contains(&wit.authority));
    world.verify_wit(&wit, &bundle_of(&issuer)).unwrap();
    let anew = issuer.authorities.sign_wit(&plan()).await.unwrap();
    assert_ne!(anew.authority, wit.authority);
    let command = crate::authority::authorities::Command::Revoke(wit.authority.clone());
    issuer.rotation.obey(&command, &actor()).await.unwrap();
    assert!(world.verify_wit(&wit, &bundle_of(&issuer)).is_err(), "now it does not");
    world.verify_wit(&anew, &bundle_of(&issuer)).unwrap();
}

/// Rows: W-28, BD-17.
#[tokio::test]
async fn a_name_that_a_key_of_another_use_has_is_not_published() {
    let mut world = World::new();
    world.settings.wit = true;
    drop(world.start().await.unwrap());
    let path = world.directory.path().join("wrapping.key");
    let stored = world.store.stored();
    let id = stored.slots.iter().find_map(|row| row.key.as_ref()).map(|key| key.wrapping_key_id.clone());
    let sealer = Sealer::new(trust_domain(), WrappingKey::for_store(&path, id.as_deref()).unwrap());
    let mut keyring = Keyring::open(stored.slots.clone(), &sealer, world.clock.now()).unwrap();
    let publish =
        |keyring: &Keyring| OwnBundle::of(keyring, &trust_domain(), &world.settings, None, world.clock.now()).map(drop);
    publish(&keyring).unwrap();
    // The JWT key, sealed once more as a WIT key: what a store that was put together by hand could hold.
    let jwt = stored.slots.iter().find(|row| row.kind == SlotKind::Jwt).unwrap();
    let facts = |generation| {
        let facts = keyring.jwt.active.as_ref().unwrap().facts();
        Facts { generation, ..facts.clone() }
    };
    let key = sealer.open(jwt.key.as_ref().unwrap(), &SlotName::of::<Jwt>(&facts(1))).unwrap();
    let as_wit = sealer.seal(&key, &SlotName::of::<Wit>(&facts(2))).unwrap();
    let row =
        SlotRow { kind: SlotKind::Wit, generation: 2, state: SlotState::Prepared, key: Some(as_wit), ..jwt.clone() };
    let StoredSlot::Prepared(slot) = StoredSlot::<Wit>::open(&row, &sealer, world.clock.now()).unwrap() else {
        panic!("it is prepared")
    };
    Wit::roster_mut(&mut keyring).prepared = Some(slot);
    let refused = publish(&keyring).unwrap_err();
    assert_eq!(refused.reason(), Reason::BundleInvalid, "{refused}");
}

fn rows(world: &World) -> Vec<SlotRow> {
    world.store.stored().slots.into_iter().filter(|row| row.kind == SlotKind::Wit).collect()
}
