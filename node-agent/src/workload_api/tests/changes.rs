//! What is pushed, and how often.

use super::*;

/// Rows: WA-2, WA-4, WA-5.
#[tokio::test]
async fn every_change_is_one_message_and_nothing_else_is() {
    let node = TestNode::in_sync().await;
    let foreign = FakeIssuer::start(mayfly_sdk::Clock::system()).await;
    let other = node::Bundle { trust_domain: "other.org".to_owned(), ..foreign.state.authority.wire_bundle(1) };
    let web = |hint: &str, federates_with: &[&str], issuance| node::Entry {
        hint: hint.to_owned(),
        federates_with: federates_with.iter().map(ToString::to_string).collect(),
        issuance,
        ..entry("web")
    };
    let issuer = &node.issuer.state;
    issuer.put(web("", &[], 1));
    let mut stream = x509_stream(&node).await;
    let first = next(&mut stream).await.unwrap();
    assert_eq!((first.svids.len(), first.federated_bundles.len()), (1, 0));

    issuer.put(web("main", &[], 1));
    let hinted = next(&mut stream).await.unwrap();
    assert_eq!((hinted.svids[0].hint.as_str(), &hinted.svids[0].x509_svid), ("main", &first.svids[0].x509_svid));

    issuer.put(web("main", &[], 2));
    let anew = next(&mut stream).await.unwrap();
    assert_ne!(anew.svids[0].x509_svid, first.svids[0].x509_svid);

    issuer.put(node::Entry { order: 1, ..entry("db") });
    let two = next(&mut stream).await.unwrap();
    assert_eq!((two.svids.len(), &two.svids[0]), (2, &anew.svids[0]), "the full state, the other SVID as it was");

    // A bundle that concerns nobody is not pushed.
    issuer.change(|delta| delta.bundles = vec![other]);
    issuer.put(web("main", &["other.org"], 2));
    let federated = next(&mut stream).await.unwrap();
    assert_eq!((federated.svids.len(), federated.federated_bundles.len()), (2, 1));
    issuer.change(|delta| delta.removed_bundles = vec!["other.org".to_owned()]);
    assert!(next(&mut stream).await.unwrap().federated_bundles.is_empty());

    issuer.remove("db");
    assert_eq!(next(&mut stream).await.unwrap().svids, anew.svids);
    // The barrier: the next change is the next message, so that none came in between.
    issuer.put(web("last", &[], 2));
    assert_eq!(next(&mut stream).await.unwrap().svids[0].hint, "last");
    node.halt().await;
}
