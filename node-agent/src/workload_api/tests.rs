mod changes;
mod tokens;
mod wits;

use std::time::Duration;

use futures_util::StreamExt as _;
use mayfly_proto::node;
use mayfly_proto::workload as wire;
use mayfly_proto::workload::spiffe_workload_api_server::SpiffeWorkloadApi as _;
use mayfly_sdk::bundle::{JwtBundle, X509Bundle, X509BundleSet};
use mayfly_sdk::x509::{Usage, X509Svid};
use mayfly_sdk::{Reason, Refusal};
use tonic::Code;

use super::*;
use crate::fake_issuer::FakeIssuer;
use crate::link::{LinkState, LinkStatus};
use crate::test_node::{TestNode, entry};

const OWN: &str = "spiffe://example.org";

async fn x509_stream(node: &TestNode) -> Messages<wire::X509svidResponse> {
    node.api.fetch_x509svid(TestNode::call(wire::X509svidRequest {})).await.unwrap().into_inner()
}

async fn next<M>(stream: &mut Messages<M>) -> Result<M, Status> {
    tokio::time::timeout(Duration::from_secs(20), stream.next())
        .await
        .expect("an answer in time")
        .expect("a stream that goes on")
}

fn jwt_request(audience: &[&str], spiffe_id: &str) -> Request<wire::JwtsvidRequest> {
    let audience = audience.iter().map(ToString::to_string).collect();
    TestNode::call(wire::JwtsvidRequest { audience, spiffe_id: spiffe_id.to_owned() })
}

async fn token(node: &TestNode, audience: &[&str]) -> String {
    let answer = node.api.fetch_jwtsvid(jwt_request(audience, "")).await.unwrap().into_inner();
    answer.svids[0].svid.clone()
}

fn validate_request(audience: &str, svid: &str) -> wire::ValidateJwtsvidRequest {
    wire::ValidateJwtsvidRequest { audience: audience.to_owned(), svid: svid.to_owned() }
}

async fn validate(node: &TestNode, audience: &str, svid: &str) -> Result<wire::ValidateJwtsvidResponse, Status> {
    let request = validate_request(audience, svid);
    node.api.validate_jwtsvid(TestNode::call(request)).await.map(Response::into_inner)
}

/// Rows: WA-1, WA-20, WA-21, WA-22, WA-23, WA-24, WA-26.
#[tokio::test]
async fn the_first_message_has_everything_a_client_needs() {
    let node = TestNode::in_sync().await;
    node.put(node::Entry { hint: "main".to_owned(), ..entry("web") }).await;
    let message = next(&mut x509_stream(&node).await).await.unwrap();
    let [svid] = message.svids.as_slice() else { panic!("{message:?}") };
    assert_eq!((svid.spiffe_id.as_str(), svid.hint.as_str()), ("spiffe://example.org/web", "main"));
    assert!(message.federated_bundles.is_empty() && message.crl.is_empty());
    let bundle = X509Bundle::from_der("example.org".parse().unwrap(), &svid.bundle).unwrap();
    let parsed = X509Svid::from_der(&svid.x509_svid, &svid.x509_svid_key).unwrap();
    assert_eq!(parsed.spiffe_id().as_str(), svid.spiffe_id);
    let trust = X509BundleSet::from_iter([bundle]);
    mayfly_sdk::x509::verify(parsed.chain(), &trust, node.clock.now(), Usage::Any).unwrap();
    assert_eq!(parsed.key().public_key().key_type(), mayfly_sdk::key::KeyType::EcP256);
    let last = mayfly_sdk::x509::Certificate::parse(parsed.chain().last().unwrap()).unwrap();
    assert!(parsed.chain().len() == 2 && last.issuer_der() != last.subject_der(), "the root is not sent");
    node.halt().await;
}

/// Rows: WA-2, WA-14.
#[tokio::test]
async fn a_new_entry_is_one_message_with_every_svid_in_the_order_of_the_entries() {
    let node = TestNode::in_sync().await;
    node.put(node::Entry { order: 5, ..entry("b") }).await;
    let mut stream = x509_stream(&node).await;
    assert_eq!(next(&mut stream).await.unwrap().svids.len(), 1);
    node.put(node::Entry { order: 2, ..entry("z") }).await;
    let message = next(&mut stream).await.unwrap();
    let ids: Vec<_> = message.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect();
    assert_eq!(ids, ["spiffe://example.org/z", "spiffe://example.org/b"]);
    node.halt().await;
}

/// Rows: WA-5.
#[tokio::test]
async fn what_does_not_concern_a_stream_is_acknowledged_and_not_sent() {
    let node = TestNode::in_sync().await;
    node.put(entry("web")).await;
    let mut stream = x509_stream(&node).await;
    next(&mut stream).await.unwrap();
    let reading = async {
        // The barrier: the acknowledgement comes only after the stream has looked at the change.
        tokio::select! {
            message = stream.next() => panic!("sent {message:?}"),
            () = node.issuer.state.acknowledged(3) => {}
        }
    };
    let changing = node.put(node::Entry { selectors: vec!["unix:uid:4000000".to_owned()], ..entry("foreign") });
    tokio::join!(reading, changing);
    node.halt().await;
}

#[tokio::test]
async fn a_stream_that_is_not_read_holds_back_the_acknowledgement() {
    let node = TestNode::in_sync().await;
    node.put(entry("web")).await;
    let mut stream = x509_stream(&node).await;
    next(&mut stream).await.unwrap();
    // Handed out, and not asked for more: not taken yet.
    node.put(entry("db")).await;
    assert!(node.issuer.state.acknowledged.borrow().iter().all(|revision| revision.n < 3));
    let message = next(&mut stream).await.unwrap();
    assert_eq!(message.svids.len(), 2);
    // The barrier: a report comes after whatever acknowledgement there might have been.
    node.issuer.state.put(node::Entry { required_features: vec!["none".to_owned()], ..entry("odd") });
    node.issuer.state.reports.subscribe().wait_for(|reports| !reports.is_empty()).await.unwrap();
    assert!(node.issuer.state.acknowledged.borrow().iter().all(|revision| revision.n < 3));
    tokio::select! {
        message = stream.next() => panic!("sent {message:?}"),
        () = node.issuer.state.acknowledged(3) => {}
    }
    node.halt().await;
}

/// Rows: WA-6.
#[tokio::test]
async fn a_withdrawn_entry_ends_the_stream_with_permission_denied() {
    let node = TestNode::in_sync().await;
    node.put(entry("web")).await;
    let mut stream = x509_stream(&node).await;
    next(&mut stream).await.unwrap();
    node.issuer.state.remove("web");
    let status = next(&mut stream).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(stream.next().await.is_none());
    node.halt().await;
}

/// Rows: WA-6.
#[tokio::test]
async fn a_denied_identity_ends_the_stream() {
    let node = TestNode::in_sync().await;
    node.put(entry("web")).await;
    let mut stream = x509_stream(&node).await;
    next(&mut stream).await.unwrap();
    let spiffe_ids = vec!["spiffe://example.org/web".to_owned()];
    node.issuer.state.change(|delta| delta.denials = Some(node::Denials { spiffe_ids, ..node::Denials::default() }));
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::PermissionDenied);
    node.halt().await;
}

/// Rows: WE-8, WA-20.
#[tokio::test]
async fn no_identity_is_said_after_a_moment_and_in_the_words_that_clients_look_for() {
    let node = TestNode::in_sync().await;
    let started = tokio::time::Instant::now();
    let status = next(&mut x509_stream(&node).await).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("no identity issued"), "{}", status.message());
    assert!(started.elapsed() >= Duration::from_secs(2));
    node.halt().await;
}

/// Rows: WA-27, WA-41, WA-49, WE-8.
#[tokio::test]
async fn a_caller_without_an_identity_is_denied_whatever_it_asks() {
    let node = TestNode::in_sync().await;
    let good = validate_request("a", "x.y.z");
    let (x509, jwks, token, validated) = tokio::join!(
        async {
            let stream = node.api.fetch_x509_bundles(TestNode::call(wire::X509BundlesRequest {})).await;
            next(&mut stream.unwrap().into_inner()).await.map(drop)
        },
        async {
            let stream = node.api.fetch_jwt_bundles(TestNode::call(wire::JwtBundlesRequest {})).await;
            next(&mut stream.unwrap().into_inner()).await.map(drop)
        },
        async { node.api.fetch_jwtsvid(jwt_request(&["a"], "")).await.map(drop) },
        async { node.api.validate_jwtsvid(TestNode::call(good)).await.map(drop) },
    );
    for answer in [x509, jwks, token, validated] {
        let status = answer.unwrap_err();
        assert_eq!((status.code(), status.message().contains("no identity issued")), (Code::PermissionDenied, true));
    }
    node.halt().await;
}

#[tokio::test]
async fn an_entry_that_comes_while_its_workload_waits_is_served() {
    let node = TestNode::in_sync().await;
    let mut stream = x509_stream(&node).await;
    let (message, ()) = tokio::join!(next(&mut stream), node.put(entry("web")));
    assert_eq!(message.unwrap().svids.len(), 1);
    node.halt().await;
}

/// Rows: WE-7.
#[tokio::test]
async fn out_of_sync_nobody_is_told_that_there_is_no_identity() {
    let issuer = FakeIssuer::start(mayfly_sdk::Clock::system()).await;
    issuer.stop.cancel();
    let node = TestNode::start(issuer);
    let status = next(&mut x509_stream(&node).await).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    node.halt().await;
}

/// Rows: WA-3, WA-42.
#[tokio::test]
async fn an_outage_does_not_show_to_those_who_have_an_identity() {
    let mut node = TestNode::in_sync().await;
    node.put(entry("web")).await;
    let mut stream = x509_stream(&node).await;
    let first = next(&mut stream).await.unwrap();
    let held = token(&node, &["a"]).await;
    node.without_issuer().await;
    assert_eq!(next(&mut x509_stream(&node).await).await.unwrap(), first, "a newcomer gets what is held");
    assert_eq!(token(&node, &["a"]).await, held);
    let status = node.api.fetch_jwtsvid(jwt_request(&["new"], "")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    node.halt().await;
}

/// Rows: WE-7.
#[tokio::test]
async fn shutting_down_ends_streams_with_unavailable() {
    let node = TestNode::in_sync().await;
    node.put(entry("web")).await;
    let mut stream = x509_stream(&node).await;
    next(&mut stream).await.unwrap();
    node.stop.cancel();
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::Unavailable);
    node.halt().await;
}

/// Rows: J-10, WA-1, WA-43.
#[tokio::test]
async fn a_token_names_the_audiences_as_they_were_asked_for_and_is_cached_for_their_set() {
    let node = TestNode::in_sync().await;
    node.put(entry("web")).await;
    let first = token(&node, &["b", "a"]).await;
    let claims = mayfly_sdk::jwt::insecure_claims(&first).unwrap();
    assert_eq!(claims.audience(), ["b", "a"]);
    assert_eq!(token(&node, &["a", "b"]).await, first);
    assert_ne!(token(&node, &["a"]).await, first);
    assert_eq!(node.issuer.state.seen.lock().jwt_batches, [1, 1]);
    node.halt().await;
}

/// Rows: J-11, WA-10, WA-40, WA-41.
#[tokio::test]
async fn tokens_are_fetched_for_all_identities_or_for_one() {
    let node = TestNode::in_sync().await;
    node.put(node::Entry { order: 1, ..entry("a") }).await;
    node.put(node::Entry { order: 2, ..entry("b") }).await;
    let all = node.api.fetch_jwtsvid(jwt_request(&["x"], "")).await.unwrap().into_inner();
    let ids: Vec<_> = all.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect();
    assert_eq!(ids, ["spiffe://example.org/a", "spiffe://example.org/b"]);
    let one = node.api.fetch_jwtsvid(jwt_request(&["x"], "spiffe://example.org/b")).await.unwrap().into_inner();
    assert_eq!(one.svids, all.svids[1..]);
    for (request, code) in [
        (jwt_request(&[], ""), Code::InvalidArgument),
        (jwt_request(&["x", ""], ""), Code::InvalidArgument),
        (jwt_request(&["x"], "http://example.org/b"), Code::InvalidArgument),
        (jwt_request(&["x"], "spiffe://example.org/other"), Code::PermissionDenied),
    ] {
        assert_eq!(node.api.fetch_jwtsvid(request).await.unwrap_err().code(), code);
    }
    node.halt().await;
}

/// Rows: WA-43.
#[tokio::test]
async fn a_token_past_its_renewal_is_served_while_a_new_one_is_fetched() {
    let node = TestNode::in_sync().await;
    node.issuer.state.knobs.lock().svid_renew_after_s = 1;
    node.put(entry("web")).await;
    let first = token(&node, &["a"]).await;
    node.issuer.state.knobs.lock().svid_renew_after_s = 450;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut next = token(&node, &["a"]).await;
    while next == first {
        tokio::time::sleep(Duration::from_millis(20)).await;
        next = token(&node, &["a"]).await;
    }
    node.halt().await;
}

/// Rows: WA-10, WA-47.
#[tokio::test]
async fn a_valid_token_validates_and_every_other_is_an_invalid_argument() {
    let node = TestNode::in_sync().await;
    node.put(entry("web")).await;
    let token = token(&node, &["a"]).await;
    let answer = validate(&node, "a", &token).await.unwrap();
    assert_eq!(answer.spiffe_id, "spiffe://example.org/web");
    let fields = answer.claims.unwrap().fields;
    let kinds: Vec<_> = ["aud", "exp", "sub"].iter().map(|name| fields[*name].kind.clone().unwrap()).collect();
    assert!(
        matches!(
            kinds.as_slice(),
            [
                prost_types::value::Kind::ListValue(_),
                prost_types::value::Kind::NumberValue(_),
                prost_types::value::Kind::StringValue(_),
            ]
        ),
        "{kinds:?}"
    );
    let forged = format!("{}A", token.rsplit_once('.').unwrap().0);
    for (audience, svid) in
        [("b", token.as_str()), ("A", &token), ("", &token), ("a", ""), ("a", "x.y.z"), ("a", &forged)]
    {
        assert_eq!(
            validate(&node, audience, svid).await.unwrap_err().code(),
            Code::InvalidArgument,
            "{audience} {svid}"
        );
    }
    node.halt().await;
}

/// Rows: WA-16, WA-25, WA-27.
#[tokio::test]
async fn bundles_are_the_own_one_and_those_that_entries_federate_with() {
    let node = TestNode::in_sync().await;
    let foreign = FakeIssuer::start(mayfly_sdk::Clock::system()).await;
    let other = node::Bundle { trust_domain: "other.org".to_owned(), ..foreign.state.authority.wire_bundle(1) };
    let empty =
        node::Bundle { trust_domain: "empty.org".to_owned(), document: br#"{"keys":[]}"#.to_vec().into(), sequence: 1 };
    node.issuer.state.change(|delta| delta.bundles = vec![other, empty]);
    let federates_with = ["other.org", "empty.org", "example.org"].map(str::to_owned).to_vec();
    node.put(node::Entry { federates_with, ..entry("web") }).await;
    let request = || TestNode::call(wire::X509BundlesRequest {});
    let mut x509 = node.api.fetch_x509_bundles(request()).await.unwrap().into_inner();
    let mut names: Vec<_> = next(&mut x509).await.unwrap().bundles.into_keys().collect();
    names.sort();
    assert_eq!(names, [OWN, "spiffe://other.org"]);
    let request = TestNode::call(wire::JwtBundlesRequest {});
    let mut jwt = node.api.fetch_jwt_bundles(request).await.unwrap().into_inner();
    let bundles = next(&mut jwt).await.unwrap().bundles;
    let own = JwtBundle::from_jwks("example.org".parse().unwrap(), &bundles[OWN]).unwrap();
    assert_eq!(own.authorities().len(), 1);
    let svids = next(&mut x509_stream(&node).await).await.unwrap();
    assert_eq!(svids.federated_bundles.into_keys().collect::<Vec<_>>(), ["spiffe://other.org"]);
    // A push: one message on each stream.
    let newer = node::Bundle { trust_domain: "other.org".to_owned(), ..foreign.state.authority.wire_bundle(2) };
    node.issuer.state.change(|delta| delta.removed_bundles = vec!["other.org".to_owned()]);
    assert_eq!(next(&mut x509).await.unwrap().bundles.len(), 1);
    node.issuer.state.change(|delta| delta.bundles = vec![newer]);
    assert_eq!(next(&mut x509).await.unwrap().bundles.len(), 2);
    node.halt().await;
}

#[tokio::test]
async fn a_user_has_a_limit_of_streams() {
    let node = TestNode::in_sync().await;
    node.put(entry("web")).await;
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(x509_stream(&node).await);
    }
    let status = node.api.fetch_x509svid(TestNode::call(wire::X509svidRequest {})).await.map(drop).unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    node.halt().await;
}

/// The same API, as it is after a quarter of an hour without an issuer.
fn long_out_of_sync(api: &WorkloadApi, served: Served) -> WorkloadApi {
    let shared = &api.0;
    let why = Refusal::new(Reason::PeerUnreachable, "nobody answers");
    let status = LinkStatus {
        state: LinkState::Disconnected(why),
        out_of_sync_before: Duration::from_mins(15),
        ..LinkStatus::starting()
    };
    WorkloadApi::new(Shared {
        trust_domain: shared.trust_domain.clone(),
        link: LinkView { status: tokio::sync::watch::channel(status).1, ..shared.link.clone() },
        identities: shared.identities.clone(),
        streams: shared.streams.clone(),
        revocations: shared.revocations.clone(),
        tasks: shared.tasks.clone(),
        attestors: Attestors::new(),
        instances: Arc::clone(&shared.instances),
        served,
        calls: shared.calls.clone(),
        clock: shared.clock.clone(),
        stop: shared.stop.clone(),
    })
}

#[tokio::test]
async fn after_a_long_outage_only_those_who_were_served_before_are_served() {
    let node = TestNode::in_sync().await;
    node.put(entry("web")).await;
    let first = next(&mut x509_stream(&node).await).await.unwrap();
    let request = || TestNode::call(wire::X509svidRequest {});
    let known = long_out_of_sync(&node.api, node.api.0.served.clone());
    let mut stream = known.fetch_x509svid(request()).await.unwrap().into_inner();
    assert_eq!(next(&mut stream).await.unwrap(), first);
    let unknown = long_out_of_sync(&node.api, Served::default());
    let mut stream = unknown.fetch_x509svid(request()).await.unwrap().into_inner();
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::Unavailable);
    node.halt().await;
}
