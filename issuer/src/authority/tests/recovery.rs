//! The process dies before and after every change that it makes, and starts anew from what is stored.

use std::sync::Arc;

use super::fake::Death;
use super::opened::{HOUR, Issuer, World, bundle_of, verify_jwt, verify_x509};
use crate::authority::{AuthorityError, AuthorityId};
use crate::store::{SlotKind, SlotRow, SlotState};
use mayfly_sdk::Ttl;

/// A life with everything in it. It goes on where the store says that it stands, so that it can be run again.
async fn live(world: &World) -> Result<Issuer, AuthorityError> {
    let actor: Arc<str> = "uid:0".into();
    let mut issuer = world.start().await?;
    let mut keeper = issuer.rotation;
    for kind in [SlotKind::Jwt, SlotKind::Wit, SlotKind::X509Root] {
        let find = |state| {
            let views = issuer.authorities.list();
            views.into_iter().find(|view| view.kind == kind && view.state == state).map(|view| view.id)
        };
        if find(SlotState::Revoked).is_some() {
            continue;
        }
        if find(SlotState::Tainted).is_none() {
            if find(SlotState::Prepared).is_none() && find(SlotState::Retiring).is_none() {
                keeper.obey_prepare(kind, &actor).await?;
            }
            if let Some(id) = find(SlotState::Prepared) {
                keeper.obey_activate(&id, &actor).await?;
            }
            keeper.obey_taint(&find(SlotState::Active).unwrap(), &actor).await?;
        }
        keeper.obey_revoke(&find(SlotState::Tainted).unwrap(), &actor).await?;
    }
    world.pass(13 * HOUR);
    for _ in 0..3 {
        let (_, done) = keeper.catch_up().await;
        if !done {
            return Err(AuthorityError::Stopped);
        }
        world.pass(2 * HOUR);
    }
    issuer.rotation = keeper;
    Ok(issuer)
}

impl crate::authority::Rotation {
    async fn obey_prepare(&mut self, kind: SlotKind, actor: &Arc<str>) -> Result<(), AuthorityError> {
        self.obey(&crate::authority::authorities::Command::Prepare(kind), actor).await.map(|_| ())
    }

    async fn obey_activate(&mut self, id: &AuthorityId, actor: &Arc<str>) -> Result<(), AuthorityError> {
        self.obey(&crate::authority::authorities::Command::Activate { id: id.clone(), force: true }, actor)
            .await
            .map(|_| ())
    }

    async fn obey_taint(&mut self, id: &AuthorityId, actor: &Arc<str>) -> Result<(), AuthorityError> {
        self.obey(&crate::authority::authorities::Command::Taint(id.clone()), actor).await.map(|_| ())
    }

    async fn obey_revoke(&mut self, id: &AuthorityId, actor: &Arc<str>) -> Result<(), AuthorityError> {
        self.obey(&crate::authority::authorities::Command::Revoke(id.clone()), actor).await.map(|_| ())
    }
}

#[tokio::test]
async fn whatever_was_being_changed_when_the_process_died_the_next_one_signs_and_goes_on() {
    let world = || {
        let mut world = World::new();
        world.settings.wit = true;
        world
    };
    let whole = world();
    Box::pin(live(&whole)).await.unwrap();
    let changes = whole.store.commits();
    assert!(changes > 12, "{changes} changes");
    for at in 0..changes {
        for death in [Death::Before(at), Death::After(at)] {
            let world = world();
            world.store.die(Some(death));
            let died = Box::pin(live(&world)).await;
            assert!(died.is_err(), "{death:?} of {changes}");

            world.store.die(None);
            let stored = world.store.stored();
            let issuer = world.start().await.unwrap_or_else(|error| panic!("{death:?}: {error}"));
            world.sign_and_verify(&issuer).await;
            let published = stored.bundle.map_or(0, |bundle| bundle.sequence);
            assert!(issuer.authorities.snapshot().bundle().sequence() >= published);
            drop(issuer);
            let issuer = Box::pin(live(&world)).await.unwrap_or_else(|error| panic!("{death:?}: {error}"));
            world.sign_and_verify(&issuer).await;
        }
    }
}

/// Rows: BD-4.
#[tokio::test]
async fn a_process_that_starts_again_keeps_the_shared_keys_and_makes_an_intermediate_of_its_own() {
    let world = World::new();
    let before = world.start().await.unwrap();
    let x509 = before.authorities.sign_x509(&world.leaf(Ttl::from_s(900))).await.unwrap();
    let jwt = before.authorities.sign_jwt(&world.token(Ttl::from_s(300))).await.unwrap();
    let bundle = bundle_of(&before);
    drop(before);
    world.pass(10);
    let after = world.start().await.unwrap();
    assert_eq!(bundle_of(&after), bundle, "trust does not grow with restarts, nor does the sequence");
    verify_x509(&x509, &bundle_of(&after), world.clock.now()).unwrap();
    verify_jwt(&jwt, &bundle_of(&after), world.clock.now()).unwrap();
    let later = after.authorities.sign_x509(&world.leaf(Ttl::from_s(900))).await.unwrap();
    assert_ne!(later.authority, x509.authority);
    let views = after.authorities.list();
    let old = views.iter().find(|view| view.id == x509.authority).unwrap();
    assert_eq!((old.kind, old.state), (SlotKind::X509Intermediate, SlotState::Retiring), "it can still be tainted");
}

#[tokio::test]
async fn after_two_days_down_the_first_jwt_key_goes_on_until_its_successor_is_known() {
    let world = World::new();
    let issuer = world.start().await.unwrap();
    let kid = issuer.authorities.snapshot().jwt().id().clone();
    drop(issuer);
    world.pass(48 * HOUR);
    let mut issuer = world.start().await.unwrap();
    assert_eq!(*issuer.authorities.snapshot().jwt().id(), kid);
    world.sign_and_verify(&issuer).await;
    world.pass(HOUR);
    issuer.rotation.catch_up().await;
    assert_ne!(*issuer.authorities.snapshot().jwt().id(), kid);
    world.sign_and_verify(&issuer).await;
}

#[tokio::test]
async fn a_restored_store_publishes_its_bundle_under_a_sequence_that_is_new() {
    let world = World::new();
    let issuer = world.start().await.unwrap();
    let before = issuer.authorities.snapshot().bundle().sequence();
    drop(issuer);
    world.store.restore_as_new_epoch();
    world.pass(100);
    let issuer = world.start().await.unwrap();
    let after = issuer.authorities.snapshot().bundle().sequence();
    assert!(after >= before + 99, "{before} {after}");
    world.sign_and_verify(&issuer).await;
}

#[tokio::test]
async fn a_changed_refresh_hint_is_published() {
    let mut world = World::new();
    let before = world.start().await.unwrap().authorities.snapshot().bundle().sequence();
    world.settings.bundle_refresh_hint = Ttl::from_s(120);
    let issuer = world.start().await.unwrap();
    assert!(issuer.authorities.snapshot().bundle().sequence() > before);
    assert_eq!(bundle_of(&issuer).refresh_hint, Some(Ttl::from_s(120)));
}

#[tokio::test]
async fn a_store_without_its_wrapping_key_is_refused_and_no_key_is_made() {
    let world = World::new();
    drop(world.start().await.unwrap());
    let path = world.directory.path().join("wrapping.key");
    let key = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let error = world.start().await.err().unwrap();
    assert!(matches!(error, AuthorityError::WrappingKeyMissing { .. }), "{error}");
    assert!(!path.exists());

    std::fs::write(&path, [7; 32]).unwrap();
    let mut read_only = std::fs::metadata(&path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut read_only, 0o400);
    std::fs::set_permissions(&path, read_only.clone()).unwrap();
    let error = world.start().await.err().unwrap();
    assert!(matches!(error, AuthorityError::WrappingKeyWrong { .. }), "{error}");

    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, key).unwrap();
    std::fs::set_permissions(&path, read_only).unwrap();
    world.sign_and_verify(&world.start().await.unwrap()).await;
}

#[tokio::test]
async fn a_damaged_store_is_refused_and_gets_no_new_root() {
    let world = World::new();
    drop(world.start().await.unwrap());
    let slots = world.store.stored().slots.len();
    let refused = |world: &World| {
        let started = futures_util::FutureExt::now_or_never(Box::pin(world.start()));
        let error = started.unwrap().err().unwrap();
        assert!(matches!(error, AuthorityError::Damaged { .. } | AuthorityError::SealBroken { .. }), "{error}");
    };
    let good = world.store.stored().slots;
    for damage in [
        |row: &mut SlotRow| row.key = None,
        |row: &mut SlotRow| row.id.push('0'),
        |row: &mut SlotRow| row.public_key.clear(),
        |row: &mut SlotRow| row.chain.clear(),
        |row: &mut SlotRow| row.activated_at = None,
        |row: &mut SlotRow| row.state = SlotState::Retiring,
    ] {
        let root = |row: &mut SlotRow| row.kind == SlotKind::X509Root;
        world.store.tamper(|row| {
            if root(row) {
                damage(row);
            }
        });
        refused(&world);
        world.store.tamper(|row| {
            if root(row) {
                row.clone_from(good.iter().find(|row| row.kind == SlotKind::X509Root).unwrap());
            }
        });
    }
    assert_eq!(world.store.stored().slots.len(), slots);
    world.sign_and_verify(&world.start().await.unwrap()).await;
}

#[tokio::test]
async fn a_sealed_key_opens_in_its_own_slot_only() {
    let world = World::new();
    drop(world.start().await.unwrap());
    world.store.tamper(|row| row.generation += 1);
    let error = world.start().await.err().unwrap();
    assert!(matches!(error, AuthorityError::SealBroken { .. }), "{error}");
    world.store.tamper(|row| row.generation -= 1);
    drop(world.start().await.unwrap());
    world.store.tamper(|row| {
        if let Some(last) = row.key.as_mut().and_then(|key| key.bytes.last_mut()) {
            *last ^= 1;
        }
    });
    let error = world.start().await.err().unwrap();
    assert!(matches!(error, AuthorityError::SealBroken { .. }), "{error}");
}
