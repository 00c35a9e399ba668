//! What happens to a task while somebody holds it.

use mayfly_sdk::task::TaskState;

use super::*;

/// Waits until the issuer has seen something.
pub(super) async fn seen(node: &TestNode, what: impl Fn(&TestNode) -> bool) {
    let waited = async {
        while !what(node) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.expect("seen in time");
}

/// What the issuer knows of a task.
pub(super) fn state_of(node: &TestNode, id: &str) -> String {
    node.issuer.state.tasks.lock().tasks[id].task.state.clone()
}

#[tokio::test]
async fn a_token_is_renewed_in_time() {
    let (node, api) = node().await;
    node.issuer.state.tasks.lock().token_renew_after_s = 1;
    let (task, token) = begin(&api, TestNode::call(wish())).await;
    node.issuer.state.tasks.lock().token_renew_after_s = 150;
    let mut stream = watch(&api, TestNode::call(of(&task.id))).await;
    let renewed =
        until(&mut stream, |message| message.token.as_ref().unwrap().token != token.token).await.token.unwrap();
    assert_bound(&renewed);
    assert_eq!(renewed.x509_svid, token.x509_svid);
    let renewals = node.issuer.state.tasks.lock().renewals.clone();
    assert_eq!((renewals.len(), &renewals[0].id), (1, &task.id));
    node.halt().await;
}

#[tokio::test]
async fn a_new_certificate_comes_with_a_token_that_is_bound_to_it() {
    let (node, api) = node().await;
    node.issuer.state.knobs.lock().svid_renew_after_s = 1;
    let (task, token) = begin(&api, TestNode::call(wish())).await;
    node.issuer.state.knobs.lock().svid_renew_after_s = 450;
    let mut stream = watch(&api, TestNode::call(of(&task.id))).await;
    let rebound = until(&mut stream, |message| message.token.as_ref().unwrap().x509_svid != token.x509_svid).await;
    let rebound = rebound.token.unwrap();
    assert_ne!((&rebound.token, &rebound.x509_svid_key), (&token.token, &token.x509_svid_key));
    assert_bound(&rebound);
    node.halt().await;
}

#[tokio::test]
async fn a_failed_renewal_keeps_the_token_and_tells_when_its_end_is_near() {
    let (node, api) = node().await;
    {
        let mut tasks = node.issuer.state.tasks.lock();
        (tasks.token_lifetime_s, tasks.token_renew_after_s) = (6, 1);
    }
    let (task, token) = begin(&api, TestNode::call(wish())).await;
    node.issuer.state.tasks.lock().refuse = Some(Refusal::new(Reason::Unavailable, "not now").into());
    let mut stream = watch(&api, TestNode::call(of(&task.id))).await;
    let first = next(&mut stream).await.unwrap().unwrap();
    assert_eq!((first.token.as_ref(), first.no_new_work), (Some(&token), false));
    let warned = next(&mut stream).await.unwrap().unwrap();
    assert_eq!((warned.token.as_ref(), warned.no_new_work), (Some(&token), true));
    assert!(!node.issuer.state.tasks.lock().renewals.is_empty(), "it was tried");
    {
        let mut tasks = node.issuer.state.tasks.lock();
        (tasks.token_lifetime_s, tasks.token_renew_after_s, tasks.refuse) = (300, 150, None);
    }
    let renewed = next(&mut stream).await.unwrap().unwrap();
    assert_ne!(renewed.token.unwrap().token, token.token);
    assert!(!renewed.no_new_work);
    node.halt().await;
}

#[tokio::test]
async fn an_instance_that_dies_abandons_its_tasks_and_the_issuer_hears_it_although_it_was_away() {
    let (node, api) = node().await;
    let mut other = Other::start();
    let (task, _) = begin(&api, other.call(wish())).await;
    let (kept, token) = begin(&api, other.call(detached())).await;
    node.issuer.state.tasks.lock().refuse_ends = Some(Status::unavailable("not now"));
    other.kill();
    seen(&node, |node| node.issuer.state.tasks.lock().ends.len() >= 2).await;
    node.issuer.state.tasks.lock().refuse_ends = None;
    seen(&node, |node| state_of(node, &task.id) == "abandoned").await;
    let ends = node.issuer.state.tasks.lock().ends.clone();
    assert!(ends.iter().all(|end| end.id == task.id && end.outcome() == node::TaskOutcome::Abandoned), "{ends:?}");

    // The detached one lives on: its token is still renewed, for the instance that is no more and the SVID of that one.
    let mut stream = watch(&api, TestNode::call(of(&kept.id))).await;
    assert_eq!(next(&mut stream).await.unwrap().unwrap().token.as_ref(), Some(&token));
    assert_eq!(node.identities.x509.len(), 1, "the key that its token is bound to is kept");
    api.complete(TestNode::call(done(&kept.id))).await.unwrap();
    seen(&node, |node| node.identities.x509.len() == 0).await;
    node.halt().await;
}

#[tokio::test]
async fn a_detached_task_is_renewed_and_bound_anew_after_the_death_of_who_began_it() {
    let (node, api) = node().await;
    let mut other = Other::start();
    node.issuer.state.knobs.lock().svid_renew_after_s = 2;
    let (task, token) = begin(&api, other.call(detached())).await;
    node.issuer.state.knobs.lock().svid_renew_after_s = 450;
    let instance = claims(&token).holder().unwrap().instance;
    other.kill();
    let mut stream = watch(&api, TestNode::call(of(&task.id))).await;
    let rebound = until(&mut stream, |message| message.token.as_ref().unwrap().x509_svid != token.x509_svid).await;
    let rebound = rebound.token.unwrap();
    assert_bound(&rebound);
    assert_eq!(claims(&rebound).holder().unwrap().instance, instance);
    node.halt().await;
}

#[tokio::test]
async fn a_begin_that_nobody_waits_for_any_more_is_taken_back() {
    let (node, api) = node().await;
    let begun = || node.issuer.state.tasks.lock().begun.len();
    for tries in 1.. {
        assert!(tries < 100, "each begin was answered before it could be given up");
        let before = begun();
        let mut unwaited = Box::pin(api.begin(TestNode::call(wish())));
        // One turn at a time, until the issuer has begun it and the answer is on its way.
        let answered = loop {
            tokio::select! {
                biased;
                answer = &mut unwaited => break Some(answer.unwrap().into_inner()),
                () = tokio::task::yield_now() => {}
            }
            if begun() > before {
                break None;
            }
        };
        drop(unwaited);
        let Some(answer) = answered else { break };
        api.complete(TestNode::call(done(&answer.task.unwrap().id))).await.unwrap();
    }
    let nothing_is_left = |node: &TestNode| {
        let tasks = node.issuer.state.tasks.lock();
        tasks.tasks.values().all(|held| held.task.state != "open")
            && tasks.tasks.values().any(|held| held.task.state == "abandoned")
            && tasks.begun.len() == tasks.ends.len()
    };
    seen(&node, nothing_is_left).await;
    assert!(api.list(TestNode::call(wire::ListRequest {})).await.unwrap().into_inner().tasks.is_empty());
    node.halt().await;
}

#[tokio::test]
async fn what_the_issuer_says_of_a_task_reaches_its_watchers() {
    let (node, api) = node().await;
    let (task, token) = begin(&api, TestNode::call(wish())).await;
    let mut stream = watch(&api, TestNode::call(of(&task.id))).await;
    next(&mut stream).await.unwrap().unwrap();
    node.issuer.state.say_states(&[(&task.id, TaskState::Suspended)]);
    let suspended = next(&mut stream).await.unwrap().unwrap();
    assert_eq!((state(&suspended), &suspended.token), ("suspended", &None));
    node.issuer.state.say_states(&[(&task.id, TaskState::Open)]);
    let resumed = next(&mut stream).await.unwrap().unwrap();
    assert_eq!((state(&resumed), resumed.token.as_ref()), ("open", Some(&token)));
    node.issuer.state.say_states(&[(&task.id, TaskState::Revoked)]);
    let revoked = next(&mut stream).await.unwrap().unwrap();
    assert_eq!((state(&revoked), &revoked.token), ("revoked", &None));
    assert!(next(&mut stream).await.is_none());
    // What has ended never opens again.
    node.issuer.state.say_states(&[(&task.id, TaskState::Open)]);
    node.put(entry("barrier")).await;
    assert_eq!(api.list(TestNode::call(wire::ListRequest {})).await.unwrap().into_inner().tasks, []);
    node.halt().await;
}

#[tokio::test]
async fn what_ended_while_the_issuer_was_out_of_reach_is_known_once_it_is_back() {
    let (mut node, api) = node().await;
    let (gone, _) = begin(&api, TestNode::call(wish())).await;
    let (stays, _) = begin(&api, TestNode::call(wish())).await;
    let mut stream = watch(&api, TestNode::call(of(&gone.id))).await;
    next(&mut stream).await.unwrap().unwrap();
    node.without_issuer().await;
    node.issuer.state.tasks.lock().tasks.get_mut(&gone.id).unwrap().task.state = "revoked".to_owned();
    let node = node.with_issuer().await;
    assert_eq!(state(&next(&mut stream).await.unwrap().unwrap()), "revoked");
    assert!(next(&mut stream).await.is_none());
    let open = api.list(TestNode::call(wire::ListRequest {})).await.unwrap().into_inner().tasks;
    assert_eq!(open.iter().map(|task| &task.id).collect::<Vec<_>>(), [&stays.id]);
    node.halt().await;
}

#[tokio::test]
async fn a_task_ends_at_its_deadline_also_without_an_issuer() {
    let (mut node, api) = node().await;
    let (task, _) = begin(&api, TestNode::call(wire::BeginRequest { deadline_s: 2, ..wish() })).await;
    let mut stream = watch(&api, TestNode::call(of(&task.id))).await;
    next(&mut stream).await.unwrap().unwrap();
    node.without_issuer().await;
    assert_eq!(state(&next(&mut stream).await.unwrap().unwrap()), "expired");
    assert!(next(&mut stream).await.is_none());
    node.halt().await;
}

#[tokio::test]
async fn an_outage_is_waited_out_and_a_shutdown_is_unavailable() {
    let (mut node, api) = node().await;
    let (task, token) = begin(&api, TestNode::call(wish())).await;
    node.without_issuer().await;
    let mut stream = watch(&api, TestNode::call(of(&task.id))).await;
    assert_eq!(next(&mut stream).await.unwrap().unwrap().token, Some(token));
    assert_eq!(api.begin(TestNode::call(wish())).await.unwrap_err().code(), Code::Unavailable);
    node.stop.cancel();
    assert_eq!(next(&mut stream).await.unwrap().unwrap_err().code(), Code::Unavailable);
    node.halt().await;
}

#[tokio::test]
async fn what_is_completed_while_the_issuer_is_away_has_ended_here_and_the_issuer_hears_it_once_it_is_back() {
    let (mut node, api) = node().await;
    let (done_task, _) = begin(&api, TestNode::call(wish())).await;
    let (given_up, _) = begin(&api, TestNode::call(wish())).await;
    let mut stream = watch(&api, TestNode::call(of(&done_task.id))).await;
    next(&mut stream).await.unwrap().unwrap();
    node.without_issuer().await;
    for (id, failed) in [(&done_task.id, false), (&given_up.id, true)] {
        for _ in 0..2 {
            let told = api.complete(TestNode::call(wire::CompleteRequest { failed, ..done(id) })).await.unwrap_err();
            assert_eq!(told.code(), Code::Unavailable, "no success before what is below has ended: {told:?}");
            assert!(told.message().contains("tells the issuer as soon as it answers"), "{told:?}");
        }
    }
    let last = next(&mut stream).await.unwrap().unwrap();
    assert_eq!((state(&last), &last.token), ("completed", &None));
    assert!(next(&mut stream).await.is_none());
    assert_eq!(api.list(TestNode::call(wire::ListRequest {})).await.unwrap().into_inner().tasks, []);
    let node = node.with_issuer().await;
    seen(&node, |node| state_of(node, &done_task.id) == "completed").await;
    seen(&node, |node| state_of(node, &given_up.id) == "failed").await;
    let told = async {
        while api.complete(TestNode::call(done(&done_task.id))).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("a success once the issuer knows");
    node.halt().await;
}

#[tokio::test]
async fn a_begin_that_the_issuer_answers_too_late_is_taken_back() {
    let (node, api) = node().await;
    node.issuer.state.tasks.lock().answer_after = Duration::from_secs(11);
    let late = api.begin(TestNode::call(wish())).await.unwrap_err();
    assert_eq!((late.code(), late.message().contains("did not answer in time")), (Code::Unavailable, true), "{late:?}");
    let id = node.issuer.state.tasks.lock().tasks.keys().next().unwrap().clone();
    seen(&node, |node| state_of(node, &id) == "abandoned").await;
    node.halt().await;
}
