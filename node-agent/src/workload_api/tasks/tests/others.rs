//! Tasks of this node's instances that are not held here: begun over OAuth, or before a restart that kept nothing.

use mayfly_sdk::InstanceId;
use mayfly_sdk::task::TaskState;

use super::life::{seen, state_of};
use super::*;

#[tokio::test]
async fn a_task_that_is_not_held_here_ends_with_its_instance() {
    let (node, api) = node().await;
    let mut other = Other::start();
    let (own, token) = begin(&api, other.call(wish())).await;
    let instance = claims(&token).holder().unwrap().instance;
    let state = &node.issuer.state;
    let (ends, stays) =
        (state.begun_elsewhere(&own.id, instance, false), state.begun_elsewhere(&own.id, instance, true));
    let done_before = state.begun_elsewhere(&own.id, instance, false);
    state.say_states(&[(&done_before, TaskState::Completed)]);
    node.put(entry("barrier")).await;
    assert!(state.tasks.lock().ends.is_empty(), "the instance lives");
    other.kill();
    seen(&node, |node| [&own.id, &ends].iter().all(|id| state_of(node, id) == "abandoned")).await;
    assert_eq!((state_of(&node, &stays), state_of(&node, &done_before)), ("open".into(), "completed".into()));
    assert_eq!(node.issuer.state.tasks.lock().ends.len(), 2);
    node.halt().await;
}

#[tokio::test]
async fn what_the_issuer_lists_of_instances_that_are_no_more_is_ended_once_it_hears_it() {
    let (node, api) = node().await;
    let (own, _) = begin(&api, TestNode::call(wish())).await;
    let state = &node.issuer.state;
    state.tasks.lock().refuse_ends = Some(Status::unavailable("not now"));
    let nobody = InstanceId::generate().unwrap();
    let (ends, stays) = (state.begun_elsewhere(&own.id, nobody, false), state.begun_elsewhere(&own.id, nobody, true));
    let tries = |node: &TestNode| node.issuer.state.tasks.lock().ends.clone();
    seen(&node, |node| tries(node).len() >= 2).await;
    // Told of it again, it is still one that is being ended.
    node.issuer.state.say_states(&[(&ends, TaskState::Open)]);
    node.issuer.state.tasks.lock().refuse_ends = None;
    seen(&node, |node| state_of(node, &ends) == "abandoned").await;
    assert!(tries(&node).iter().all(|end| end.id == ends && end.outcome() == node::TaskOutcome::Abandoned));
    assert_eq!((state_of(&node, &stays), state_of(&node, &own.id)), ("open".into(), "open".into()));
    node.halt().await;
}
