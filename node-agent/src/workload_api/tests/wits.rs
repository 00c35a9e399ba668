//! WIT-SVIDs, where there are any.

use mayfly_sdk::WitSvid;
use mayfly_sdk::bundle::{WitBundle, WitBundleSet};
use serde_json::Value;

use super::*;

/// A node of a trust domain that issues WIT-SVIDs, with one entry.
async fn wit_node() -> TestNode {
    let node = TestNode::in_sync().await;
    switch(&node, true, 2).await;
    node.put(node::Entry { hint: "main".to_owned(), ..entry("web") }).await;
    node
}

/// Turns WIT-SVIDs on or off at the issuer, and waits until the node has heard.
async fn switch(node: &TestNode, on: bool, sequence: u64) {
    let authority = &node.issuer.state.authority;
    let bundle = if on { authority.wire_bundle_with_wit(sequence) } else { authority.wire_bundle(sequence) };
    node.issuer.state.change(|delta| delta.bundles = vec![bundle]);
    let mut holdings = node.view.holdings.clone();
    let own = "example.org".parse().unwrap();
    holdings.wait_for(|held| held.bundle(&own).is_some_and(|own| own.sequence() == sequence)).await.unwrap();
}

async fn ask(node: &TestNode, spiffe_id: &str) -> Result<Messages<wire::WitsvidResponse>, Status> {
    let request = wire::WitsvidRequest { spiffe_id: spiffe_id.to_owned() };
    node.api.fetch_witsvid(TestNode::call(request)).await.map(Response::into_inner)
}

async fn svids(node: &TestNode) -> Messages<wire::WitsvidResponse> {
    ask(node, "").await.unwrap()
}

async fn bundles(node: &TestNode) -> Result<Messages<wire::WitBundlesResponse>, Status> {
    node.api.fetch_wit_bundles(TestNode::call(wire::WitBundlesRequest {})).await.map(Response::into_inner)
}

/// Rows: WA-60.
#[tokio::test]
async fn off_both_calls_are_unimplemented_and_nothing_is_minted() {
    let node = TestNode::in_sync().await;
    node.put(entry("web")).await;
    assert_eq!(ask(&node, "").await.map(drop).unwrap_err().code(), Code::Unimplemented);
    assert_eq!(bundles(&node).await.map(drop).unwrap_err().code(), Code::Unimplemented);
    assert!(node.issuer.state.seen.lock().wit_batches.is_empty());
    // Whoever is told so asks no more: it is not said before it is known.
    let starting = TestNode::start(FakeIssuer::start(mayfly_sdk::Clock::system()).await);
    starting.issuer.stop.cancel();
    assert_eq!(ask(&starting, "").await.map(drop).unwrap_err().code(), Code::Unavailable);
    starting.halt().await;
    node.halt().await;
}

/// Rows: WA-60.
#[tokio::test]
async fn streams_end_when_wit_svids_are_turned_off() {
    let node = wit_node().await;
    let (mut stream, mut trust) = (svids(&node).await, bundles(&node).await.unwrap());
    next(&mut stream).await.unwrap();
    next(&mut trust).await.unwrap();
    switch(&node, false, 3).await;
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(next(&mut trust).await.unwrap_err().code(), Code::Unimplemented);
    node.halt().await;
}

/// Rows: WA-61, WA-62, WA-63, WA-65.
#[tokio::test]
async fn the_message_has_a_token_and_the_private_key_that_it_is_bound_to() {
    let node = wit_node().await;
    let message = next(&mut svids(&node).await).await.unwrap();
    let [svid] = message.svids.as_slice() else { panic!("{} SVIDs", message.svids.len()) };
    assert_eq!((svid.spiffe_id.as_str(), svid.hint.as_str()), ("spiffe://example.org/web", "main"));
    let key: Value = serde_json::from_str(&svid.wit_svid_key).unwrap();
    assert!(key["d"].is_string() && key["kty"] == "EC" && key["alg"] == "ES256");
    let own = WitSvid::from_jwk(&svid.wit_svid, &svid.wit_svid_key).unwrap();
    assert_eq!(own.spiffe_id().as_str(), svid.spiffe_id);

    let trust = next(&mut bundles(&node).await.unwrap()).await.unwrap().bundles;
    assert_eq!(trust.keys().collect::<Vec<_>>(), [OWN]);
    let set: Value = serde_json::from_str(&trust[OWN]).unwrap();
    for key in set["keys"].as_array().unwrap() {
        assert!(key["use"] == "wit-svid" && key["kid"].as_str().is_some_and(|kid| !kid.is_empty()), "{key}");
    }
    let bundle = WitBundle::from_jwks("example.org".parse().unwrap(), trust[OWN].as_bytes()).unwrap();
    own.check_issued(&WitBundleSet::from(bundle), node.clock.now()).unwrap();
    // Two on one node share a token and its key.
    assert_eq!(next(&mut svids(&node).await).await.unwrap(), message);
    assert_eq!(node.issuer.state.seen.lock().wit_batches, [1]);
    node.halt().await;
}

/// Rows: WA-44.
#[tokio::test]
async fn no_other_stream_has_keys_of_wit_svids() {
    let node = wit_node().await;
    let request = TestNode::call(wire::JwtBundlesRequest {});
    let mut stream = node.api.fetch_jwt_bundles(request).await.unwrap().into_inner();
    let set: Value = serde_json::from_slice(&next(&mut stream).await.unwrap().bundles[OWN]).unwrap();
    let uses: Vec<_> = set["keys"].as_array().unwrap().iter().map(|key| key["use"].clone()).collect();
    assert_eq!(uses, ["jwt-svid"]);
    node.halt().await;
}

/// Rows: WA-61, WA-64.
#[tokio::test]
async fn a_named_identity_is_sent_alone_and_only_to_those_who_have_it() {
    let node = wit_node().await;
    node.put(node::Entry { order: 9, ..entry("db") }).await;
    let all = next(&mut svids(&node).await).await.unwrap();
    let ids = |message: &wire::WitsvidResponse| -> Vec<_> {
        message.svids.iter().map(|svid| svid.spiffe_id.clone()).collect()
    };
    assert_eq!(ids(&all), ["spiffe://example.org/web", "spiffe://example.org/db"]);
    let one = next(&mut ask(&node, "spiffe://example.org/db").await.unwrap()).await.unwrap();
    assert_eq!(ids(&one), ["spiffe://example.org/db"]);
    let foreign = next(&mut ask(&node, "spiffe://example.org/other").await.unwrap()).await.unwrap_err();
    assert_eq!(foreign.code(), Code::PermissionDenied);
    assert_eq!(ask(&node, "db").await.map(drop).unwrap_err().code(), Code::InvalidArgument);
    // A key is bound to one name: each SVID has its own.
    let keys: std::collections::HashSet<_> = all.svids.iter().map(|svid| &svid.wit_svid_key).collect();
    assert_eq!(keys.len(), 2);
    node.halt().await;
}

/// Rows: WA-64.
#[tokio::test]
async fn whoever_has_no_entry_is_denied_and_whoever_loses_it_too() {
    let node = wit_node().await;
    let mut stream = svids(&node).await;
    next(&mut stream).await.unwrap();
    node.issuer.state.remove("web");
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(next(&mut svids(&node).await).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(next(&mut bundles(&node).await.unwrap()).await.unwrap_err().code(), Code::PermissionDenied);
    node.halt().await;
}

/// Rows: WA-67.
#[tokio::test]
async fn a_new_token_with_a_new_key_comes_before_the_old_one_ends() {
    let node = TestNode::in_sync().await;
    switch(&node, true, 2).await;
    {
        let mut knobs = node.issuer.state.knobs.lock();
        (knobs.svid_lifetime_s, knobs.svid_renew_after_s) = (20, 2);
    }
    node.put(entry("web")).await;
    let mut stream = svids(&node).await;
    let mut before = next(&mut stream).await.unwrap();
    for _ in 0..2 {
        let after = next(&mut stream).await.unwrap();
        let old = WitSvid::from_jwk(&before.svids[0].wit_svid, &before.svids[0].wit_svid_key).unwrap();
        assert!(node.clock.now() < old.expires_at());
        assert_ne!(after.svids[0].wit_svid_key, before.svids[0].wit_svid_key);
        before = after;
    }
    node.halt().await;
}

#[tokio::test]
async fn what_an_issuer_signed_for_something_else_is_not_handed_out() {
    let node = wit_node().await;
    // The key that signed it is not in the bundle, as after it was revoked.
    let other = FakeIssuer::start(mayfly_sdk::Clock::system()).await;
    let foreign = other.state.authority.wire_bundle_with_wit(3);
    node.issuer.state.change(|delta| delta.bundles = vec![foreign]);
    let mut holdings = node.view.holdings.clone();
    let own = "example.org".parse().unwrap();
    holdings.wait_for(|held| held.bundle(&own).is_some_and(|own| own.sequence() == 3)).await.unwrap();
    assert_eq!(next(&mut svids(&node).await).await.unwrap_err().code(), Code::Unavailable);
    other.halt().await;
    node.halt().await;
}
