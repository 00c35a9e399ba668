//! A year of rotation: never a gap, published before signing, removed after the last SVID expired.

use std::collections::VecDeque;

use mayfly_sdk::bundle::Bundle;
use mayfly_sdk::{Revision, Timestamp, Ttl};

use super::opened::{HOUR, Issuer, World, bundle_of, read_bundle, verify_jwt, verify_x509};
use crate::authority::{SignedJwt, SignedWit, SignedX509};
use crate::store::{SlotKind, SlotState};

/// Nodes take this long to acknowledge what is published.
const DELAYS: [(&str, u32); 2] = [("prompt", 1), ("slow", 55 * 60)];

/// A node: the bundle that it goes by, and those that are on their way to it.
struct Node {
    name: &'static str,
    delay: Ttl,
    bundle: Bundle,
    coming: VecDeque<(Timestamp, Revision, Bundle)>,
}

/// Rows: BD-4, BD-17, BD-22, J-25, W-2.
#[tokio::test]
async fn two_months_pass_without_a_gap_and_with_every_key_published_before_it_signs() {
    let mut world = World::new();
    world.settings.root_life = Ttl::from_s(60 * 24 * HOUR);
    world.settings.wit = true;
    Box::pin(pass(&world, 62)).await;
}

#[tokio::test]
#[ignore = "half a minute of CPU: tests/full runs it"]
async fn a_year_passes_without_a_gap_and_with_every_key_published_before_it_signs() {
    let mut world = World::new();
    world.settings.wit = true;
    Box::pin(pass(&world, 370)).await;
}

/// Days pass, of which the root lives all but a few.
async fn pass(world: &World, days: u32) {
    let mut issuer = world.start().await.unwrap();
    let first = bundle_of(&issuer);
    let mut nodes: Vec<_> = DELAYS
        .into_iter()
        .map(|(name, delay)| Node { name, delay: Ttl::from_s(delay), bundle: first.clone(), coming: VecDeque::new() })
        .collect();
    let mut outstanding: VecDeque<(SignedX509, SignedJwt, SignedWit)> = VecDeque::new();
    let (mut seen, mut kids, mut intermediates) = (Revision::default(), 0, 0);
    let (mut last_sequence, mut last_bundle) = (0, None);
    let end = world.clock.now().saturating_add(Ttl::from_s(days * 24 * HOUR));
    let mut tick = 0_u32;

    while world.clock.now() < end {
        let now = world.clock.now();
        for node in &mut nodes {
            while node.coming.front().is_some_and(|(at, ..)| *at <= now) {
                let (_, revision, bundle) = node.coming.pop_front().unwrap();
                node.bundle = bundle;
                world.nodes.acknowledge(node.name, revision);
            }
        }
        // A restart now and then, at the worst of times.
        if tick % 97 == 96 {
            issuer = world.start().await.unwrap();
        }
        let (next, done) = issuer.rotation.catch_up().await;
        assert!(done);
        let snapshot = issuer.authorities.snapshot();
        if snapshot.revision() > seen {
            seen = snapshot.revision();
            let bundle = read_bundle(snapshot.bundle().document());
            let content = (bundle.x509.clone(), bundle.jwt.clone(), bundle.wit.clone());
            assert_eq!(last_bundle.as_ref() == Some(&content), last_sequence == snapshot.bundle().sequence());
            assert!(snapshot.bundle().sequence() >= last_sequence);
            (last_sequence, last_bundle) = (snapshot.bundle().sequence(), Some(content));
            for node in &mut nodes {
                node.coming.push_back((now.saturating_add(node.delay), seen, bundle.clone()));
            }
        }
        one_of_each(&issuer);

        // What is signed now holds at the slowest node, with the bundle that it has now.
        let x509 = issuer.authorities.sign_x509(&world.leaf(issuer.authorities.longest_x509_ttl())).await.unwrap();
        let jwt = issuer.authorities.sign_jwt(&world.token(issuer.authorities.longest_jwt_ttl())).await.unwrap();
        let wit = issuer.authorities.sign_wit(&world.wit(issuer.authorities.longest_jwt_ttl())).await.unwrap();
        let slowest = &nodes.last().unwrap().bundle;
        verify_x509(&x509, slowest, now).unwrap();
        verify_jwt(&jwt, slowest, now).unwrap();
        world.verify_wit(&wit, slowest).unwrap();
        kids += u32::from(outstanding.back().is_none_or(|(_, last, _)| last.authority != jwt.authority));
        intermediates +=
            u32::from(outstanding.back().is_none_or(|(last, ..)| last.intermediates != x509.intermediates));
        outstanding.push_back((x509, jwt, wit));
        // What was signed before holds until its end, with the newest bundle.
        outstanding.retain(|(x509, ..)| now <= x509.validity.not_after());
        let newest = bundle_of(&issuer);
        if let Some((x509, jwt, wit)) = outstanding.front() {
            verify_x509(x509, &newest, now).unwrap();
            if now < jwt.not_after {
                verify_jwt(jwt, &newest, now).unwrap();
            }
            if now < wit.not_after {
                world.verify_wit(wit, &newest).unwrap();
            }
        }

        tick += 1;
        let left = next.map_or(u32::MAX, |next| next.remaining(now).as_s());
        world.pass(left.clamp(1, 5 * HOUR + tick % 7));
    }
    // A JWT key every 12 hours, an intermediate too, and one more at each start.
    assert!((2 * days - 40..=2 * days + 5).contains(&kids), "{kids} JWT keys");
    assert!((2 * days..2 * days + 2 + days / 3).contains(&intermediates), "{intermediates} intermediates");
    let rows = world.store.stored().slots;
    let roots: Vec<_> = rows.iter().filter(|row| row.kind == SlotKind::X509Root).map(|row| row.generation).collect();
    assert_eq!(roots.iter().max(), Some(&3), "a root every half of its life, and the next one prepared");
    assert!(rows.len() < 30, "{} slots are kept", rows.len());
}

/// The store's fake has checked that there are not two.
fn one_of_each(issuer: &Issuer) {
    let views = issuer.authorities.list();
    for kind in SlotKind::ALL {
        let active = views.iter().filter(|view| view.kind == *kind && view.state == SlotState::Active);
        assert_eq!(active.count(), 1, "{kind}");
    }
}
