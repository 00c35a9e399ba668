//! When something is done about a task: not too early, not too late, and by whose clock.

use mayfly_sdk::task::TaskState;

use super::life::{seen, state_of};
use super::*;
use crate::fake_issuer::FakeIssuer;

fn renewals(node: &TestNode, id: &str) -> usize {
    node.issuer.state.tasks.lock().renewals.iter().filter(|renewal| renewal.id == id).count()
}

/// A task whose renewal was refused for as long as nothing changes.
async fn refused_for_long(node: &TestNode, api: &TaskApi) -> (wire::Task, wire::TaskToken) {
    node.issuer.state.tasks.lock().token_renew_after_s = 1;
    let (task, token) = begin(api, TestNode::call(wish())).await;
    node.issuer.state.tasks.lock().refuse = Some(Refusal::new(Reason::PolicyDenied, "not now").into());
    seen(node, |node| renewals(node, &task.id) == 1).await;
    node.issuer.state.tasks.lock().refuse = None;
    (task, token)
}

#[tokio::test]
async fn a_new_certificate_is_bound_at_once_although_the_last_renewal_has_failed() {
    let (node, api) = node().await;
    node.issuer.state.knobs.lock().svid_renew_after_s = 3;
    let (task, token) = refused_for_long(&node, &api).await;
    let mut stream = watch(&api, TestNode::call(of(&task.id))).await;
    // The pause after such a refusal is 30 s, and this waits for 20.
    until(&mut stream, |message| message.token.as_ref().unwrap().x509_svid != token.x509_svid).await;
    node.halt().await;
}

#[tokio::test]
async fn a_task_that_is_open_again_is_renewed_at_once_although_the_last_renewal_has_failed() {
    let (node, api) = node().await;
    let (task, token) = refused_for_long(&node, &api).await;
    let mut stream = watch(&api, TestNode::call(of(&task.id))).await;
    node.issuer.state.say_states(&[(&task.id, TaskState::Suspended)]);
    until(&mut stream, |message| state(message) == "suspended").await;
    node.issuer.state.say_states(&[(&task.id, TaskState::Open)]);
    until(&mut stream, |message| message.token.as_ref().is_some_and(|now| now.token != token.token)).await;
    node.halt().await;
}

#[tokio::test]
async fn the_issuer_is_told_that_suspended_tasks_live_until_it_has_heard_it() {
    let (node, api) = node().await;
    let (task, _) = begin(&api, TestNode::call(wish())).await;
    let (resumed, _) = begin(&api, TestNode::call(wish())).await;
    node.issuer.state.tasks.lock().refuse_confirms = Some(Status::unavailable("not now"));
    node.issuer.state.say_states(&[(&task.id, TaskState::Suspended), (&resumed.id, TaskState::Suspended)]);
    let confirms = |node: &TestNode| node.issuer.state.tasks.lock().confirms.clone();
    seen(&node, |node| !confirms(node).is_empty()).await;
    node.issuer.state.say_states(&[(&resumed.id, TaskState::Open)]);
    seen(&node, |node| confirms(node).len() == 6).await;
    let both = [task.id.clone(), resumed.id.clone()];
    assert_eq!((&confirms(&node)[0][..], &confirms(&node)[5][..]), (&both[..], &both[..1]));
    node.issuer.state.tasks.lock().refuse_confirms = None;
    seen(&node, |node| confirms(node).len() > 6).await;
    node.halt().await;
}

#[tokio::test]
async fn a_token_that_ends_with_its_task_is_not_renewed() {
    let (node, api) = node().await;
    node.issuer.state.tasks.lock().token_renew_after_s = 1;
    let (last, _) = begin(&api, TestNode::call(wire::BeginRequest { deadline_s: 300, ..wish() })).await;
    let (other, _) = begin(&api, TestNode::call(wish())).await;
    seen(&node, |node| renewals(node, &other.id) >= 3).await;
    assert_eq!(renewals(&node, &last.id), 0);
    node.halt().await;
}

#[tokio::test]
async fn a_deadline_is_what_the_issuer_has_signed_whatever_the_clock_was_when_the_session_began() {
    let issuer = FakeIssuer::start(mayfly_sdk::Clock::system()).await;
    issuer.state.knobs.lock().hello_skew_ms = 2 * 3_600_000;
    let node = TestNode::start(issuer);
    node.wait_for_sync().await;
    node.put(node::Entry { tasks: true, ..entry("web") }).await;
    let api = TaskApi::new(node.api.shared());
    let (task, _) = begin(&api, TestNode::call(wish())).await;
    let mut stream = watch(&api, TestNode::call(of(&task.id))).await;
    assert_eq!(state(&next(&mut stream).await.unwrap().unwrap()), "open");
    // Its renewal loop has looked at it by the time of another's.
    node.issuer.state.tasks.lock().token_renew_after_s = 1;
    let (other, _) = begin(&api, TestNode::call(wish())).await;
    seen(&node, |node| renewals(node, &other.id) >= 1).await;
    let open = api.list(TestNode::call(wire::ListRequest {})).await.unwrap().into_inner().tasks;
    assert_eq!(open.len(), 2);
    node.halt().await;
}

#[tokio::test]
async fn what_has_expired_by_this_nodes_clock_is_completed_at_the_issuer_all_the_same() {
    let (node, api) = node().await;
    let (task, _) = begin(&api, TestNode::call(wire::BeginRequest { deadline_s: 1, ..wish() })).await;
    let mut stream = watch(&api, TestNode::call(of(&task.id))).await;
    until(&mut stream, |message| state(message) == "expired").await;
    assert_eq!(
        api.complete(TestNode::call(done(&task.id))).await.unwrap().into_inner().ended,
        std::slice::from_ref(&task.id)
    );
    assert_eq!(state_of(&node, &task.id), "completed");
    node.halt().await;
}
