//! WIT-SVIDs over a real socket.

use std::time::Duration;

use mayfly_proto::workload::{Witsvid, WitsvidResponse};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::agent::FakeAgent;
use crate::bundle::{WitAuthority, WitBundleSet};
use crate::client::{Phase, Source, WitContext, WorkloadClient};
use crate::jwk;
use crate::jws::{JwsAlgorithm, Signer};
use crate::key::{KeyAlgorithm, PrivateKey};
use crate::reason::Reason;

/// An SVID with a key of its own.
fn part(authority: &PrivateKey, id: &str, hint: &str) -> Witsvid {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let mut jwk = jwk::members(key.public_key());
    jwk.insert("alg".into(), json!("ES256"));
    let claims = json!({ "sub": id, "exp": 1_900_000_000, "cnf": { "jwk": jwk } });
    let signer = Signer::new(authority, JwsAlgorithm::Es256, crate::wit::TYP).unwrap();
    Witsvid {
        spiffe_id: id.to_owned(),
        wit_svid: signer.sign(claims.to_string().as_bytes()).unwrap(),
        wit_svid_key: jwk::private_text(&key).unwrap().to_string(),
        hint: hint.to_owned(),
    }
}

fn authority() -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::EcP256).unwrap()
}

/// Rows: WA-60.
#[tokio::test(start_paused = true)]
async fn where_the_agent_has_no_wit_svids_it_is_asked_once() {
    let agent = FakeAgent::new();
    let source = Source::<WitContext>::start(agent.endpoint());
    let begin = Instant::now();
    assert_eq!(source.ready(Duration::from_mins(1)).await.unwrap_err().reason, Reason::Unimplemented);
    assert_eq!(begin.elapsed(), Duration::ZERO, "who waits is told at once");
    let bundles = Source::<WitBundleSet>::start(agent.endpoint());
    assert_eq!(bundles.ready(Duration::from_mins(1)).await.unwrap_err().reason, Reason::Unimplemented);
    sleep(Duration::from_mins(5)).await;
    assert_eq!(agent.calls(), 2, "one call for each source");
    assert_eq!((source.status().phase, bundles.status().phase), (Phase::Failed, Phase::Failed));
}

/// Rows: WA-13, WA-15, WA-62, WA-63.
#[tokio::test]
async fn a_context_holds_every_svid_with_its_key_the_default_one_first() {
    let (agent, authority) = (FakeAgent::new(), authority());
    let svids = [("a", ""), ("b", "x"), ("c", "x"), ("d", "")];
    let svids = svids.map(|(name, hint)| part(&authority, &format!("spiffe://td/{name}"), hint)).to_vec();
    agent.hold_wits(vec![WitsvidResponse { svids }]);
    let context = WorkloadClient::new(&agent.endpoint()).fetch::<WitContext>().await.unwrap();
    let ids: Vec<_> = context.svids().iter().map(|hinted| hinted.svid.spiffe_id().to_string()).collect();
    assert_eq!(ids, ["spiffe://td/a", "spiffe://td/b", "spiffe://td/d"]);
    assert_eq!(context.default_svid().spiffe_id().as_str(), "spiffe://td/a");
    assert_eq!(context.by_hint("x").unwrap().spiffe_id().as_str(), "spiffe://td/b");
    assert!(context.by_hint("y").is_none());
    let svid = context.default_svid();
    assert_eq!(svid.key().public_key(), svid.claims().bound_key());
}

/// Rows: WA-11, WA-62, WA-63.
#[tokio::test]
async fn a_message_with_one_spoiled_svid_is_discarded_as_a_whole() {
    let (agent, authority) = (FakeAgent::new(), authority());
    let (good, other) = (part(&authority, "spiffe://td/a", ""), part(&authority, "spiffe://td/b", ""));
    let client = WorkloadClient::new(&agent.endpoint());
    let public = {
        let text = crate::json::object(good.wit_svid_key.as_bytes()).unwrap();
        serde_json::Value::Object(text.into_iter().filter(|(name, _)| name != "d").collect()).to_string()
    };
    for bad in [
        Witsvid { spiffe_id: String::new(), ..good.clone() },
        Witsvid { wit_svid: String::new(), ..good.clone() },
        Witsvid { wit_svid_key: String::new(), ..good.clone() },
        Witsvid { spiffe_id: "spiffe://td/b".to_owned(), ..good.clone() },
        Witsvid { wit_svid_key: other.wit_svid_key.clone(), ..good.clone() },
        Witsvid { wit_svid_key: public, ..good.clone() },
        Witsvid { wit_svid: good.wit_svid_key.clone(), ..good.clone() },
    ] {
        agent.hold_wits(vec![WitsvidResponse { svids: vec![other.clone(), bad.clone()] }]);
        let refused = client.fetch::<WitContext>().await.unwrap_err();
        assert_eq!(refused.reason, Reason::MessageInvalid, "{bad:?}");
        assert!(!refused.what.contains(&good.wit_svid_key), "{}", refused.what);
    }
    agent.hold_wits(vec![WitsvidResponse { svids: Vec::new() }]);
    assert_eq!(client.fetch::<WitContext>().await.unwrap_err().reason, Reason::MessageInvalid);
    agent.hold_wits(vec![WitsvidResponse { svids: vec![good; 101] }]);
    assert_eq!(client.fetch::<WitContext>().await.unwrap_err().reason, Reason::MessageInvalid);
}

/// Rows: WA-65, WA-66.
#[tokio::test]
async fn bundles_of_wit_svids_hold_keys_of_that_use_only() {
    let agent = FakeAgent::new();
    let entry = |kid: &str, of: &str| {
        let mut members = jwk::members(authority().public_key());
        members.extend([("kid".into(), json!(kid)), ("use".into(), json!(of))]);
        members
    };
    agent.hold_jwks(json!({ "keys": [entry("w", "wit-svid"), entry("j", "jwt-svid")] }).to_string());
    let bundles = WorkloadClient::new(&agent.endpoint()).fetch::<WitBundleSet>().await.unwrap();
    let own = bundles.get(&"td".parse().unwrap()).unwrap();
    assert_eq!(own.authorities().iter().map(WitAuthority::key_id).collect::<Vec<_>>(), ["w"]);
}
