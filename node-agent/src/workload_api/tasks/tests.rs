mod life;
mod others;
mod times;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt as _;
use mayfly_proto::node;
use mayfly_sdk::jws;
use mayfly_sdk::task::{Binding, TaskClaims};
use mayfly_sdk::x509::X509Svid;
use ring::digest::{SHA256, digest};
use tonic::Code;

use super::*;
use crate::test_node::{TestNode, entry};

const FILES: &str = "https://files.example.org/mcp";
const GRANT: &str = r#"{"audience": "https://files.example.org/mcp", "scope": ["read"], "delegable": ["https://files.example.org/mcp"]}"#;

/// Another process of the same user: another instance of the same SPIFFE ID.
struct Other(Child);

impl Other {
    fn start() -> Self {
        Self(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap())
    }

    fn call<T>(&self, message: T) -> Request<T> {
        TestNode::call_of(self.0.id(), message)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A node whose workloads may begin tasks.
async fn node() -> (TestNode, TaskApi) {
    let node = TestNode::in_sync().await;
    node.put(node::Entry { tasks: true, ..entry("web") }).await;
    let api = TaskApi::new(node.api.shared());
    (node, api)
}

fn wish() -> wire::BeginRequest {
    wire::BeginRequest {
        purpose: "to read the reports".to_owned(),
        grant: GRANT.to_owned(),
        ..wire::BeginRequest::default()
    }
}

fn detached() -> wire::BeginRequest {
    wire::BeginRequest { detached: true, ..wish() }
}

async fn begin(api: &TaskApi, request: Request<wire::BeginRequest>) -> (wire::Task, wire::TaskToken) {
    let begun = api.begin(request).await.unwrap().into_inner();
    (begun.task.unwrap(), begun.token.unwrap())
}

async fn watch(api: &TaskApi, request: Request<wire::WatchRequest>) -> Messages<wire::WatchResponse> {
    api.watch(request).await.unwrap().into_inner()
}

fn of(id: &str) -> wire::WatchRequest {
    wire::WatchRequest { id: id.to_owned() }
}

fn done(id: &str) -> wire::CompleteRequest {
    wire::CompleteRequest { id: id.to_owned(), failed: false }
}

/// The next message; none: the stream has ended with OK.
async fn next(stream: &mut Messages<wire::WatchResponse>) -> Option<Result<wire::WatchResponse, Status>> {
    tokio::time::timeout(Duration::from_secs(20), stream.next()).await.expect("an answer in time")
}

/// Messages until one is as it should be.
async fn until(
    stream: &mut Messages<wire::WatchResponse>,
    what: impl Fn(&wire::WatchResponse) -> bool,
) -> wire::WatchResponse {
    loop {
        let message = next(stream).await.expect("a stream that goes on").unwrap();
        if what(&message) {
            return message;
        }
    }
}

fn state(message: &wire::WatchResponse) -> &str {
    &message.task.as_ref().unwrap().state
}

fn claims(token: &wire::TaskToken) -> TaskClaims {
    let (_, claims) = jws::insecure_parts(&token.token).unwrap();
    TaskClaims::parse(&claims).unwrap()
}

/// A token is bound to the SVID beside it, whose key is the one beside it.
fn assert_bound(token: &wire::TaskToken) {
    let svid = X509Svid::from_der(&token.x509_svid, &token.x509_svid_key).unwrap();
    let thumbprint = digest(&SHA256, &svid.chain()[0]);
    assert_eq!(claims(token).binding, Binding::Certificate(thumbprint.as_ref().try_into().unwrap()));
    assert!(!token.bundle.is_empty());
}

#[tokio::test]
async fn a_task_is_begun_watched_and_completed() {
    let (node, api) = node().await;
    let (task, token) = begin(&api, TestNode::call(wish())).await;
    assert_eq!((task.state.as_str(), task.spiffe_id.as_str()), ("open", "spiffe://example.org/web"));
    assert_eq!((&task.root, task.parent.as_str(), task.purpose.as_str()), (&task.id, "", "to read the reports"));
    assert_bound(&token);
    assert_eq!(claims(&token).expires_at.unix_s(), token.expires_at);
    let mut stream = watch(&api, TestNode::call(of(&task.id))).await;
    let first = next(&mut stream).await.unwrap().unwrap();
    assert_eq!((first.task.as_ref(), first.token.as_ref(), first.no_new_work), (Some(&task), Some(&token), false));
    let listed = api.list(TestNode::call(wire::ListRequest {})).await.unwrap().into_inner();
    assert_eq!(listed.tasks, std::slice::from_ref(&task));

    let ended = api.complete(TestNode::call(done(&task.id))).await.unwrap().into_inner().ended;
    assert_eq!(ended, std::slice::from_ref(&task.id));
    let last = next(&mut stream).await.unwrap().unwrap();
    assert_eq!((state(&last), &last.token), ("completed", &None));
    assert!(next(&mut stream).await.is_none(), "the stream ends with OK");
    let again = api.complete(TestNode::call(done(&task.id))).await.unwrap().into_inner();
    assert!(again.ended.is_empty(), "ending it again changes nothing");
    assert!(api.list(TestNode::call(wire::ListRequest {})).await.unwrap().into_inner().tasks.is_empty());
    let seen = node.issuer.state.tasks.lock().ends.len();
    assert_eq!(seen, 1);
    node.halt().await;
}

#[tokio::test]
async fn a_task_that_is_given_up_has_failed() {
    let (node, api) = node().await;
    let (task, _) = begin(&api, TestNode::call(wish())).await;
    let failed = wire::CompleteRequest { failed: true, ..done(&task.id) };
    api.complete(TestNode::call(failed)).await.unwrap();
    let mut stream = watch(&api, TestNode::call(of(&task.id))).await;
    assert_eq!(state(&next(&mut stream).await.unwrap().unwrap()), "failed", "for a moment it is known how it ended");
    assert_eq!(node.issuer.state.tasks.lock().ends[0].outcome(), node::TaskOutcome::Failed);
    node.halt().await;
}

#[tokio::test]
async fn another_instance_of_the_same_identity_has_no_part_in_a_task() {
    let (node, api) = node().await;
    let other = Other::start();
    let (task, _) = begin(&api, TestNode::call(wish())).await;
    let mut stream = watch(&api, other.call(of(&task.id))).await;
    assert_eq!(next(&mut stream).await.unwrap().unwrap_err().code(), Code::NotFound);
    let refused = api.complete(other.call(done(&task.id))).await.unwrap_err();
    let unknown = api.complete(other.call(done("00"))).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::NotFound, unknown.message()), "as if there were none");
    assert!(api.list(other.call(wire::ListRequest {})).await.unwrap().into_inner().tasks.is_empty());
    assert!(node.issuer.state.tasks.lock().ends.is_empty());
    // Each has an SVID of its own, and with it tokens that the other cannot use.
    let (_, theirs) = begin(&api, other.call(wish())).await;
    let (_, ours) = begin(&api, TestNode::call(wish())).await;
    assert_ne!((&theirs.x509_svid_key, claims(&theirs).binding), (&ours.x509_svid_key, claims(&ours).binding));
    node.halt().await;
}

#[tokio::test]
async fn a_detached_task_belongs_to_every_process_of_its_identity_and_to_no_other() {
    let (node, api) = node().await;
    let other = Other::start();
    let (task, token) = begin(&api, TestNode::call(detached())).await;
    let mut stream = watch(&api, other.call(of(&task.id))).await;
    assert_eq!(next(&mut stream).await.unwrap().unwrap().token, Some(token));
    assert_eq!(api.list(other.call(wire::ListRequest {})).await.unwrap().into_inner().tasks.len(), 1);
    // Another identity of the very same processes: the one of the task is theirs no more.
    node.put(entry("db")).await;
    node.issuer.state.remove("web");
    assert_eq!(next(&mut stream).await.unwrap().unwrap_err().code(), Code::NotFound);
    let refused = api.complete(TestNode::call(done(&task.id))).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    node.halt().await;
}

#[tokio::test]
async fn a_withdrawn_entry_ends_the_watch() {
    let (node, api) = node().await;
    let (task, _) = begin(&api, TestNode::call(wish())).await;
    let mut stream = watch(&api, TestNode::call(of(&task.id))).await;
    next(&mut stream).await.unwrap().unwrap();
    node.issuer.state.remove("web");
    assert_eq!(next(&mut stream).await.unwrap().unwrap_err().code(), Code::PermissionDenied);
    node.halt().await;
}

#[tokio::test]
async fn a_part_is_delegated_to_another_instance() {
    let (node, api) = node().await;
    let other = Other::start();
    let (task, token) = begin(&api, TestNode::call(wish())).await;
    let request = wire::DelegateRequest {
        parent_token: token.token.clone(),
        purpose: "one report".to_owned(),
        grant: GRANT.to_owned(),
        ..wire::DelegateRequest::default()
    };
    let begun = api.delegate(other.call(request.clone())).await.unwrap().into_inner();
    let (child, below) = (begun.task.unwrap(), begun.token.unwrap());
    assert_eq!((&child.parent, &child.root, child.hop), (&task.id, &task.id, 1));
    assert_bound(&below);
    let chain = claims(&below).chain;
    assert!(
        chain.len() == 2 && chain[0] == *claims(&token).holder().unwrap() && chain[0].instance != chain[1].instance
    );
    // The end of the one above reaches the one below.
    let mut stream = watch(&api, other.call(of(&child.id))).await;
    next(&mut stream).await.unwrap().unwrap();
    let ended = api.complete(TestNode::call(done(&task.id))).await.unwrap().into_inner().ended;
    assert_eq!(ended, [task.id, child.id]);
    assert_eq!(state(&until(&mut stream, |message| state(message) != "open").await), "completed");
    for parent_token in [String::new(), "x".repeat(8193)] {
        let status =
            api.delegate(other.call(wire::DelegateRequest { parent_token, ..request.clone() })).await.unwrap_err();
        assert_eq!(Refusal::from_status(&status).reason, Reason::TaskTokenInvalid);
    }
    node.halt().await;
}

#[tokio::test]
async fn only_an_identity_that_may_begin_tasks_does() {
    let (node, api) = node().await;
    node.put(node::Entry { order: 1, ..entry("db") }).await;
    node.put(node::Entry { order: 2, tasks: true, ..entry("agent") }).await;
    let named = |id: &str| TestNode::call(wire::BeginRequest { spiffe_id: id.to_owned(), ..wish() });
    assert_eq!(begin(&api, named("")).await.0.spiffe_id, "spiffe://example.org/web", "the first that may");
    assert_eq!(begin(&api, named("spiffe://example.org/agent")).await.0.spiffe_id, "spiffe://example.org/agent");
    for (id, reason) in [
        ("spiffe://example.org/db", Reason::TaskNotAllowed),
        ("spiffe://example.org/other", Reason::TaskNotAllowed),
        ("https://example.org/", Reason::InvalidSpiffeId),
    ] {
        let status = api.begin(named(id)).await.unwrap_err();
        assert_eq!(Refusal::from_status(&status).reason, reason, "{id}");
    }
    node.issuer.state.remove("web");
    node.issuer.state.remove("agent");
    let mut holdings = node.view.holdings.clone();
    holdings.wait_for(|held| held.entry("agent").is_none() && held.entry("web").is_none()).await.unwrap();
    let status = api.begin(named("")).await.unwrap_err();
    assert_eq!(Refusal::from_status(&status).reason, Reason::TaskNotAllowed);
    node.halt().await;
}

#[tokio::test]
async fn what_cannot_be_read_never_reaches_the_issuer() {
    let (node, api) = node().await;
    let many = wire::MayAct { spiffe_ids: vec!["spiffe://example.org/a".to_owned(); 65] };
    let odd = wire::MayAct { spiffe_ids: vec!["a".to_owned()] };
    for (request, reason) in [
        (wire::BeginRequest { purpose: " ".to_owned(), ..wish() }, Reason::InvalidArgument),
        (wire::BeginRequest { purpose: "x".repeat(1025), ..wish() }, Reason::InvalidArgument),
        (wire::BeginRequest { subject_token: "x".repeat(16 * 1024 + 1), ..wish() }, Reason::TokenInvalid),
        (wire::BeginRequest { grant: "{}".to_owned(), ..wish() }, Reason::InvalidGrant),
        (wire::BeginRequest { grant: " ".repeat(64 * 1024 + 1), ..wish() }, Reason::InvalidGrant),
        (wire::BeginRequest { may_act: Some(many), ..wish() }, Reason::InvalidArgument),
        (wire::BeginRequest { may_act: Some(odd), ..wish() }, Reason::InvalidSpiffeId),
    ] {
        let status = api.begin(TestNode::call(request)).await.unwrap_err();
        assert_eq!(Refusal::from_status(&status).reason, reason);
    }
    assert!(node.issuer.state.tasks.lock().begun.is_empty());
    node.halt().await;
}

#[tokio::test]
async fn a_refusal_of_the_issuer_passes_through_in_its_words() {
    let (node, api) = node().await;
    let mut newer = Status::from(Refusal::new(Reason::ScopeExceedsParent, "`write` is not in the task above"));
    newer.metadata_mut().insert("mayfly-reason", "from_the_future".parse().unwrap());
    newer.metadata_mut().insert("mayfly-remedy", "do what is new".parse().unwrap());
    for refusal in [Refusal::new(Reason::AudienceNotDelegable, "not there").into(), newer] {
        node.issuer.state.tasks.lock().refuse = Some(refusal.clone());
        let told = api.begin(TestNode::call(wish())).await.unwrap_err();
        assert_eq!((told.code(), told.message()), (refusal.code(), refusal.message()));
        for key in ["mayfly-reason", "mayfly-remedy"] {
            assert_eq!(told.metadata().get(key), refusal.metadata().get(key));
        }
    }
    node.issuer.state.tasks.lock().refuse = Some(Status::unimplemented(""));
    let old = api.begin(TestNode::call(wish())).await.unwrap_err();
    assert_eq!(Refusal::from_status(&old).reason, Reason::Unimplemented);
    assert!(old.message().contains("has no tasks"), "{old:?}");
    node.halt().await;
}

#[tokio::test]
async fn a_token_that_is_bound_to_something_else_is_handed_to_nobody() {
    let (node, api) = node().await;
    node.issuer.state.tasks.lock().bind_to = Some([9; 32]);
    let status = api.begin(TestNode::call(wish())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("another certificate"), "{status:?}");
    let id = node.issuer.state.tasks.lock().tasks.keys().next().unwrap().clone();
    life::seen(&node, |node| life::state_of(node, &id) == "abandoned").await;
    assert!(api.list(TestNode::call(wire::ListRequest {})).await.unwrap().into_inner().tasks.is_empty());
    node.halt().await;
}

#[tokio::test]
async fn a_service_validates_what_it_serves_and_the_issuer_is_asked_each_time() {
    let (node, api) = node().await;
    let (task, token) = begin(&api, TestNode::call(wish())).await;
    let ask = |audience: &str, certificate: &[u8]| {
        TestNode::call(wire::ValidateRequest {
            token: token.token.clone(),
            audience: audience.to_owned(),
            peer_certificate: certificate.to_vec().into(),
        })
    };
    let denied = api.validate(ask(FILES, b"")).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    node.put(node::Entry { serves: vec![FILES.to_owned()], ..entry("files") }).await;
    assert_eq!(api.validate(ask("https://mail.example.org/", b"")).await.unwrap_err().code(), Code::PermissionDenied);
    assert!(node.issuer.state.tasks.lock().checks.is_empty(), "the issuer was not asked");
    let good = api.validate(ask(FILES, b"")).await.unwrap().into_inner();
    assert!(!good.binding_checked && good.claims.contains(&task.id), "{good:?}");
    let leaf = X509Svid::from_der(&token.x509_svid, &token.x509_svid_key).unwrap().chain()[0].clone();
    assert!(api.validate(ask(FILES, &leaf)).await.unwrap().into_inner().binding_checked);
    let status = api.validate(ask(FILES, b"another")).await.unwrap_err();
    assert_eq!(Refusal::from_status(&status).reason, Reason::TaskTokenNotBound);
    api.complete(TestNode::call(done(&task.id))).await.unwrap();
    let status = api.validate(ask(FILES, b"")).await.unwrap_err();
    assert_eq!(Refusal::from_status(&status).reason, Reason::TaskEnded);
    let checks = node.issuer.state.tasks.lock().checks.clone();
    assert_eq!(checks.len(), 4);
    assert!(checks.iter().all(|check| check.service.as_ref().unwrap().entry_uid == "files"));
    node.halt().await;
}

#[tokio::test]
async fn one_instance_keeps_so_many_tasks_and_no_more() {
    let (node, api) = node().await;
    for _ in 0..256 {
        begin(&api, TestNode::call(wish())).await;
    }
    let status = api.begin(TestNode::call(wish())).await.unwrap_err();
    assert_eq!(Refusal::from_status(&status).reason, Reason::TaskQuota);
    let open = api.list(TestNode::call(wire::ListRequest {})).await.unwrap().into_inner().tasks;
    api.complete(TestNode::call(done(&open[0].id))).await.unwrap();
    begin(&api, TestNode::call(wish())).await;
    node.halt().await;
}
