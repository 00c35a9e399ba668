//! What administrators ask for, what schedules decide, and what is refused and why.

use std::sync::Arc;
use std::time::Duration;

use mayfly_sdk::{Reason, Ttl};
use tokio_util::sync::CancellationToken;

use super::opened::{HOUR, Issuer, World, bundle_of, verify_jwt, verify_x509};
use crate::authority::{Authorities, AuthorityError, AuthorityId, View};
use crate::ledger;
use crate::store::{SlotKind, SlotState};

fn actor() -> Arc<str> {
    "uid:0".into()
}

/// An issuer whose rotation runs.
async fn running(world: &World) -> (Authorities, CancellationToken, tokio::task::JoinSet<()>) {
    let Issuer { authorities, rotation } = world.start().await.unwrap();
    let stop = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(rotation.run(stop.clone()));
    (authorities, stop, tasks)
}

fn active(authorities: &Authorities, kind: SlotKind) -> AuthorityId {
    let views = authorities.list();
    views.into_iter().find(|view| view.kind == kind && view.state == SlotState::Active).unwrap().id
}

#[tokio::test]
async fn a_node_that_does_not_acknowledge_delays_a_key_until_the_deadline_and_is_named() {
    let world = World::new();
    let mut issuer = world.start().await.unwrap();
    let first = active(&issuer.authorities, SlotKind::Jwt);
    world.nodes.acknowledge("there", issuer.authorities.snapshot().revision());
    world.nodes.acknowledge("lagging", issuer.authorities.snapshot().revision());

    world.pass(12 * HOUR);
    issuer.rotation.catch_up().await;
    let prepared = issuer.authorities.list().into_iter().find(|view| view.state == SlotState::Prepared).unwrap();
    assert_eq!(prepared.kind, SlotKind::Jwt);
    assert_eq!(prepared.waiting_for.len(), 2);
    assert_eq!(prepared.activate_by, Some(world.clock.now().saturating_add(Ttl::from_s(4 * HOUR))));
    world.nodes.acknowledge("there", issuer.authorities.snapshot().revision());

    world.pass(4 * HOUR - 1);
    issuer.rotation.catch_up().await;
    assert_eq!(active(&issuer.authorities, SlotKind::Jwt), first, "it waits");
    world.pass(1);
    issuer.rotation.catch_up().await;
    assert_eq!(active(&issuer.authorities, SlotKind::Jwt), prepared.id, "the deadline decides");
    let records = world.store.records();
    let record = records.iter().rfind(|record| record.kind == ledger::Kind::AuthorityActivated).unwrap();
    let detail = record.personal.detail.as_deref().unwrap();
    assert!(detail.contains("spiffe://td.test/mayfly/node/join/lagging"), "{detail}");
    assert!(!detail.contains("join/there"), "{detail}");
}

#[tokio::test]
async fn a_key_that_all_acknowledged_takes_over_when_its_lead_is_over() {
    let world = World::new();
    let mut issuer = world.start().await.unwrap();
    world.pass(12 * HOUR);
    issuer.rotation.catch_up().await;
    let prepared = issuer.authorities.list().into_iter().find(|view| view.state == SlotState::Prepared).unwrap();
    world.nodes.acknowledge("there", issuer.authorities.snapshot().revision());
    world.pass(HOUR - 1);
    let (next, _) = issuer.rotation.catch_up().await;
    assert_ne!(active(&issuer.authorities, SlotKind::Jwt), prepared.id);
    assert_eq!(next, Some(world.clock.now().saturating_add(Ttl::from_s(1))));
    world.pass(1);
    issuer.rotation.catch_up().await;
    assert_eq!(active(&issuer.authorities, SlotKind::Jwt), prepared.id);
}

#[tokio::test]
async fn a_clock_that_jumps_an_hour_ahead_and_back_costs_no_key_and_no_svid() {
    let world = World::new();
    let mut issuer = world.start().await.unwrap();
    world.pass(13 * HOUR);
    issuer.rotation.catch_up().await;
    world.pass(HOUR);
    issuer.rotation.catch_up().await;
    let jwt = |view: &View| view.kind == SlotKind::Jwt && view.state == SlotState::Retiring;
    let retiring = issuer.authorities.list().into_iter().find(jwt).unwrap();
    world.pass(8 * HOUR - 60);
    issuer.rotation.catch_up().await;
    let (before, real) = (bundle_of(&issuer), world.clock.now());
    world.hand.set_wall(real.saturating_add(Ttl::from_s(HOUR)));
    issuer.rotation.catch_up().await;
    assert!(issuer.authorities.list().iter().any(|view| view.id == retiring.id && jwt(view)));
    assert_eq!(bundle_of(&issuer), before, "nothing left the bundle");
    world.sign_and_verify(&issuer).await;
    world.hand.set_wall(real);
    issuer.rotation.catch_up().await;
    world.sign_and_verify(&issuer).await;
    // Made while the clock was wrong, an intermediate would not be valid yet: it was replaced.
    world.hand.set_wall(real.saturating_add(Ttl::from_s(13 * HOUR)));
    issuer.rotation.catch_up().await;
    world.hand.set_wall(real);
    issuer.rotation.catch_up().await;
    world.sign_and_verify(&issuer).await;
}

#[tokio::test]
async fn tainting_and_revoking_replace_an_active_key_at_once() {
    let world = World::new();
    let (authorities, stop, mut tasks) = running(&world).await;
    for kind in [SlotKind::Jwt, SlotKind::X509Root] {
        let x509 = authorities.sign_x509(&world.leaf(Ttl::from_s(900))).await.unwrap();
        let jwt = authorities.sign_jwt(&world.token(Ttl::from_s(300))).await.unwrap();
        let holds = |bundle: &_| match kind {
            SlotKind::Jwt => verify_jwt(&jwt, bundle, world.clock.now()).is_ok(),
            _ => verify_x509(&x509, bundle, world.clock.now()).is_ok(),
        };
        let bundle = |authorities: &Authorities| authorities.snapshot().bundle().bundle().clone();
        let id = active(&authorities, kind);

        let changed = authorities.taint(id.clone(), actor()).await.unwrap();
        assert_eq!((&changed.view.id, changed.view.state), (&id, SlotState::Tainted));
        assert_ne!(active(&authorities, kind), id);
        assert!(holds(&bundle(&authorities)), "until it is minted anew it still verifies");
        assert!(authorities.snapshot().denied().contains(&id));
        if kind == SlotKind::X509Root {
            assert!(authorities.snapshot().denied().contains(&x509.authority), "and the intermediate below it");
        }
        let anew = authorities.sign_x509(&world.leaf(Ttl::from_s(900))).await.unwrap();
        assert!(!authorities.snapshot().denied().contains(&anew.authority));

        authorities.revoke(id.clone(), actor()).await.unwrap();
        assert!(!holds(&bundle(&authorities)), "now it does not");
        verify_x509(&anew, &bundle(&authorities), world.clock.now()).unwrap();
        let again = authorities.revoke(id, actor()).await.unwrap_err();
        assert_eq!(again.reason(), Reason::AuthorityState);
    }
    let made = world.store.records().into_iter().rfind(|record| record.kind == ledger::Kind::IntermediateMade).unwrap();
    let own = authorities.snapshot().intermediate().facts().chain[0].clone();
    assert_eq!(made.event, crate::authority::certificate::serial_of(&own).unwrap());
    let id = active(&authorities, SlotKind::Jwt);
    authorities.revoke(id.clone(), actor()).await.unwrap();
    assert_ne!(active(&authorities, SlotKind::Jwt), id);
    let records = world.store.records();
    assert!(records.iter().any(
        |record| record.kind == ledger::Kind::AuthorityTainted && record.personal.actor.as_deref() == Some("uid:0")
    ));
    stop.cancel();
    tasks.join_next().await;
    assert!(matches!(authorities.taint(id, actor()).await, Err(AuthorityError::Stopped)));
}

#[tokio::test]
async fn a_tainted_intermediate_is_replaced_and_still_named_after_a_restart() {
    let world = World::new();
    let (authorities, _stop, tasks) = running(&world).await;
    let old = active(&authorities, SlotKind::X509Intermediate);
    authorities.taint(old.clone(), actor()).await.unwrap();
    let svid = authorities.sign_x509(&world.leaf(Ttl::from_s(900))).await.unwrap();
    assert_ne!(svid.authority, old);
    drop(tasks);
    let again = world.start().await.unwrap();
    assert!(again.authorities.snapshot().denied().contains(&old));
}

#[tokio::test]
async fn by_hand_a_key_is_prepared_and_activated_and_refusals_say_why() {
    let world = World::new();
    let (authorities, _stop, _tasks) = running(&world).await;
    world.nodes.acknowledge("lagging", authorities.snapshot().revision());
    let reason = |error: AuthorityError| error.reason();

    let intermediate = authorities.prepare(SlotKind::X509Intermediate, actor()).await.unwrap_err();
    assert_eq!(reason(intermediate), Reason::AuthorityState);
    let prepared = authorities.prepare(SlotKind::Jwt, actor()).await.unwrap().view;
    assert_eq!(prepared.state, SlotState::Prepared);
    let twice = authorities.prepare(SlotKind::Jwt, actor()).await.unwrap_err();
    assert!(matches!(twice, AuthorityError::AlreadyPrepared { .. }), "{twice}");
    let tainted = authorities.taint(prepared.id.clone(), actor()).await.unwrap_err();
    assert!(tainted.to_string().contains("revoke it"), "{tainted}");
    let early = authorities.activate(prepared.id.clone(), false, actor()).await.unwrap_err();
    assert!(matches!(early, AuthorityError::LeadNotOver { .. }), "{early}");
    world.pass(HOUR);
    let unknown = authorities.activate(prepared.id.clone(), false, actor()).await.unwrap_err();
    assert!(unknown.to_string().contains("join/lagging"), "{unknown}");
    assert_eq!(reason(unknown), Reason::AuthorityNotAcknowledged);
    let active = authorities.activate(prepared.id.clone(), true, actor()).await.unwrap();
    assert_eq!((active.view.id, active.view.state), (prepared.id.clone(), SlotState::Active));
    let again = authorities.activate(prepared.id, true, actor()).await.unwrap_err();
    assert_eq!(reason(again), Reason::AuthorityState);
    let nobody = authorities.revoke(AuthorityId::new("nobody"), actor()).await.unwrap_err();
    assert_eq!(reason(nobody), Reason::AuthorityUnknown);
}

#[tokio::test]
async fn the_wrapping_key_is_replaced_while_keys_sign_and_a_crash_in_between_is_finished() {
    let world = World::new();
    let path = world.directory.path().join("wrapping.key");
    let (authorities, _stop, tasks) = running(&world).await;
    authorities.prepare(SlotKind::X509Root, actor()).await.unwrap();
    let before = std::fs::read(&path).unwrap();
    authorities.reseal(actor()).await.unwrap();
    let after = std::fs::read(&path).unwrap();
    assert_ne!(before, after);
    drop((authorities, tasks));
    let issuer = world.start().await.unwrap();
    world.sign_and_verify(&issuer).await;
    // As if the process had died between the store's change and the rename.
    std::fs::rename(&path, path.with_extension("key.next")).unwrap();
    drop(issuer);
    world.sign_and_verify(&world.start().await.unwrap()).await;
    assert_eq!(std::fs::read(&path).unwrap(), after);
}

#[tokio::test]
async fn what_cannot_be_signed_is_refused() {
    let world = World::new();
    let issuer = world.start().await.unwrap();
    let authorities = &issuer.authorities;
    let long = authorities.sign_x509(&world.leaf(Ttl::from_s(8 * HOUR))).await.unwrap_err();
    assert_eq!(
        long.to_string(),
        "a lifetime of 8h is not possible: the longest that x509_intermediate can sign is 7h59m"
    );
    assert!(authorities.sign_jwt(&world.token(Ttl::from_s(8 * HOUR))).await.is_err());

    let mut own = world.leaf(Ttl::from_s(900));
    own.public_key = authorities.snapshot().jwt().facts().public_key.clone();
    assert_eq!(authorities.sign_x509(&own).await.unwrap_err().reason(), Reason::KeyReserved);

    let mut foreign = world.leaf(Ttl::from_s(900));
    foreign.spiffe_id = "spiffe://other.test/a".parse().unwrap();
    assert!(authorities.sign_x509(&foreign).await.unwrap_err().to_string().contains("another trust domain"));

    // The process slept beyond its intermediate's life.
    world.hand.set_wall(world.clock.now().saturating_add(Ttl::from_s(30 * HOUR)));
    let error = authorities.sign_x509(&world.leaf(Ttl::from_s(900))).await.unwrap_err();
    assert_eq!(error.reason(), Reason::AuthorityUnavailable);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_finds_no_valid_intermediate_wakes_the_rotation() {
    let world = World::new();
    let (authorities, _stop, _tasks) = running(&world).await;
    tokio::task::yield_now().await;
    world.hand.set_wall(world.clock.now().saturating_add(Ttl::from_s(30 * HOUR)));
    let mut changed = authorities.watch();
    authorities.sign_x509(&world.leaf(Ttl::from_s(900))).await.unwrap_err();
    let before = tokio::time::Instant::now();
    changed.changed().await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(1), "not the next tick of a minute");
    authorities.sign_x509(&world.leaf(Ttl::from_s(900))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_leaves_the_old_key_signing_and_is_tried_again() {
    let world = World::new();
    let (authorities, _stop, _tasks) = running(&world).await;
    let first = active(&authorities, SlotKind::X509Intermediate);
    world.store.die(Some(super::fake::Death::Before(0)));
    let before = world.store.commits();
    world.pass(12 * HOUR);
    tokio::time::sleep(Duration::from_secs(130)).await;
    assert_eq!(active(&authorities, SlotKind::X509Intermediate), first);
    authorities.sign_x509(&world.leaf(Ttl::from_s(900))).await.unwrap();
    let tries = world.store.commits() - before;
    // Of five kinds that are due, with pauses that grow.
    assert!((5..50).contains(&tries), "{tries} tries");
    world.store.die(None);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_ne!(active(&authorities, SlotKind::X509Intermediate), first);
}
