//! Calls that go on after they were admitted.

use std::sync::{Arc, Mutex};

use ::axum::Router;
use ::axum::routing::get;
use tonic::Status;

use super::serving::{AGENT, World, bearer};
use super::*;
use crate::guard::Denial;
use crate::reason::Reason;

/// A caller whom a layer has admitted for task 1, as its handler has it.
async fn admitted(world: &mut World) -> Caller {
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let handler = get(|caller: Caller| async move { drop(keep.lock().unwrap().replace(caller)) });
    let address = world.serve(Router::new().route("/", handler).layer(world.guard.layer())).await;
    let agent = world.instance(AGENT);
    let token = world.token(&agent, 1);
    assert_eq!(world.get(&address, "/", Some(&agent), &bearer(&token)).await.0, 200);
    kept.lock().unwrap().take().unwrap()
}

/// The message, taken in.
async fn told(world: &World, message: wire::Revocations) {
    let updates = world.guard.status().updates + 1;
    world.feed.send(Ok(message)).unwrap();
    until(&world.guard, |status| status.updates == updates).await;
}

fn why(caller: &Caller) -> Option<Reason> {
    caller.still_good().err().map(|denied| denied.reason())
}

/// What the first of these calls is to be answered.
async fn next(waiting: &mut JoinSet<Denied>) -> Denied {
    let ended = tokio::time::timeout(Duration::from_secs(20), waiting.join_next()).await;
    ended.expect("it ends within 20 s").unwrap().unwrap()
}

#[tokio::test]
async fn a_call_that_goes_on_learns_that_its_task_was_suspended_resumed_and_ended() {
    let mut world = World::new().await;
    let caller = admitted(&mut world).await;
    let mut waiting = JoinSet::new();
    waiting.spawn(caller.no_longer_good());
    told(&world, ended(2, 1)).await;
    tokio::task::yield_now().await;
    assert!(waiting.try_join_next().is_none() && why(&caller).is_none(), "another task has ended");
    told(&world, became(1, "suspended", 2)).await;
    let denied = next(&mut waiting).await;
    assert_eq!(denied.denial(), Denial::Token(TaskTokenError::Suspended));
    assert_eq!(Status::from(denied).code(), tonic::Code::Unauthenticated);
    assert_eq!(why(&caller), Some(Reason::TaskSuspended));
    told(&world, became(1, "open", 3)).await;
    assert_eq!(why(&caller), None);
    waiting.spawn(caller.no_longer_good());
    told(&world, ended(1, 4)).await;
    assert_eq!(next(&mut waiting).await.reason(), Reason::TaskEnded);
    // Whoever asks later is told at once.
    assert_eq!(caller.no_longer_good().await.reason(), Reason::TaskEnded);
}

#[tokio::test]
async fn a_call_that_goes_on_ends_with_its_token_and_with_what_is_known_of_it() {
    let ends = async |change: fn(&mut World)| {
        let mut world = World::new().await;
        let caller = admitted(&mut world).await;
        let ended = caller.no_longer_good();
        change(&mut world);
        let denied = tokio::time::timeout(Duration::from_secs(20), ended).await.expect("it ends");
        assert_eq!(why(&caller), Some(denied.reason()));
        denied.denial()
    };
    let by = |error| Denial::Token(error);
    assert_eq!(ends(|world| world.hand.advance(Duration::from_secs(310))).await, by(TaskTokenError::Expired));
    assert_eq!(ends(|world| world.hand.advance(Duration::from_secs(31))).await, by(TaskTokenError::StandingUnknown));
    let withdrawn = |world: &mut World| {
        let refusal = crate::Refusal::new(Reason::AudienceNotServed, "no entry of it serves that");
        world.feed.send(Err(Status::from(refusal))).unwrap();
    };
    assert_eq!(ends(withdrawn).await, by(TaskTokenError::StandingUnknown));
    // The key that signed its token is gone.
    let other_keys = |world: &mut World| world.feed.send(Ok(whole(&Authority::new(), 0))).unwrap();
    assert_eq!(ends(other_keys).await, by(TaskTokenError::UnknownKey));
}
