//! Single calls. The agent of these tests refuses a call without the security header, so each of them shows it (row WE-6).

use mayfly_proto::workload::Jwtsvid;
use serde_json::json;

use super::agent::{FakeAgent, message};
use crate::bundle::{JwtAuthority, JwtBundle, JwtBundleSet, X509BundleSet};
use crate::client::{WorkloadClient, X509Context};
use crate::jws::{JwsAlgorithm, Signer};
use crate::jwt::{self, Audience};
use crate::key::{KeyAlgorithm, PrivateKey};
use crate::reason::Reason;
use crate::x509::fixture::{Domain, NOW};

const ID: &str = "spiffe://td/workload";

fn audience(name: &str) -> Audience {
    Audience::new(name).unwrap()
}

fn token(key: &PrivateKey, sub: &str, audiences: &[&str]) -> String {
    let claims = json!({ "sub": sub, "aud": audiences, "exp": NOW.unix_s() + 300 });
    Signer::new(key, JwsAlgorithm::Es256, jwt::TYP).unwrap().sign(claims.to_string().as_bytes()).unwrap()
}

fn svid(token: &str, id: &str, hint: &str) -> Jwtsvid {
    Jwtsvid { spiffe_id: id.to_owned(), svid: token.to_owned(), hint: hint.to_owned() }
}

/// Rows: WE-6.
#[tokio::test]
async fn an_x509_context_is_fetched_once() {
    let (agent, domain) = (FakeAgent::new(), Domain::new());
    agent.stream().send(Ok(message(&domain, &[(ID, "")]))).unwrap();
    let client = WorkloadClient::new(&agent.endpoint());
    let context: X509Context = client.fetch().await.unwrap();
    assert_eq!(context.default_svid().spiffe_id().as_str(), ID);
    assert_eq!(client.fetch::<X509Context>().await.unwrap_err().reason, Reason::Unavailable);
    drop(agent.stream());
    assert_eq!(client.fetch::<X509Context>().await.unwrap_err().reason, Reason::Unavailable);
}

/// Rows: WE-6, WA-50.
#[tokio::test]
async fn bundles_are_fetched_by_those_who_only_verify() {
    let (agent, domain) = (FakeAgent::new(), Domain::new());
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let own =
        JwtBundle::new("td".parse().unwrap(), vec![JwtAuthority::new(key.public_key().clone()).unwrap()]).unwrap();
    agent.hold_jwks(own.to_jwks());
    agent.hold_bundle(domain.root.der.clone());
    let client = WorkloadClient::new(&agent.endpoint());
    assert_eq!(client.fetch::<X509BundleSet>().await.unwrap(), domain.bundles);
    let bundles: JwtBundleSet = client.fetch().await.unwrap();
    jwt::verify(&token(&key, ID, &["db"]), &bundles, &audience("db"), NOW, &jwt::Options::default()).unwrap();
    agent.hold_jwks("{}".to_owned());
    assert_eq!(client.fetch::<JwtBundleSet>().await.unwrap_err().reason, Reason::MessageInvalid);
}

/// Rows: WE-6, WA-13.
#[tokio::test]
async fn jwt_svids_come_for_all_identities_or_for_one() {
    let (agent, key) = (FakeAgent::new(), PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
    let other = "spiffe://td/other";
    let (first, second) = (token(&key, ID, &["db", "web"]), token(&key, other, &["web", "db"]));
    agent.hold_tokens(vec![
        svid(&first, ID, ""),
        svid(&second, other, "h"),
        svid(&first, ID, "h"),
        svid(&first, ID, ""),
    ]);
    let client = WorkloadClient::new(&agent.endpoint());
    let asked = [audience("web"), audience("db")];
    let all = client.fetch_jwt_svids(&asked, None).await.unwrap();
    assert_eq!(all.len(), 3, "of two equal hints the first wins");
    assert_eq!((all[0].expose_token(), all[0].hint()), (first.as_str(), None));
    assert_eq!((all[1].spiffe_id().as_str(), all[1].hint()), (other, Some("h")));
    assert!(!format!("{all:?}").contains(&first[..20]));
    let one = client.fetch_jwt_svids(&asked, Some(&other.parse().unwrap())).await.unwrap();
    assert_eq!(one.iter().map(|svid| svid.spiffe_id().as_str()).collect::<Vec<_>>(), [other]);
}

/// Rows: WA-11.
#[tokio::test]
async fn jwt_svids_that_are_not_what_was_asked_for_are_refused() {
    let (agent, key) = (FakeAgent::new(), PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
    let client = WorkloadClient::new(&agent.endpoint());
    let asked = [audience("db")];
    for (what, tokens) in [
        ("nothing", vec![]),
        ("empty", vec![svid("", ID, "")]),
        ("garbage", vec![svid("a.b.c", ID, "")]),
        ("another identity", vec![svid(&token(&key, "spiffe://td/other", &["db"]), ID, "")]),
        ("another audience", vec![svid(&token(&key, ID, &["web"]), ID, "")]),
    ] {
        agent.hold_tokens(tokens);
        let refusal = client.fetch_jwt_svids(&asked, None).await.expect_err(what);
        assert_eq!(refusal.reason, Reason::MessageInvalid, "{what}");
    }
    assert_eq!(client.fetch_jwt_svids(&[], None).await.unwrap_err().reason, Reason::InvalidArgument);
}

/// Rows: WE-6, WA-50.
#[tokio::test]
async fn the_agent_validates_a_token_for_its_caller() {
    let (agent, key) = (FakeAgent::new(), PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
    let good = token(&key, ID, &["db"]);
    agent.hold_tokens(vec![svid(&good, ID, "")]);
    let client = WorkloadClient::new(&agent.endpoint());
    let validated = client.validate_jwt_svid(&audience("db"), &good).await.unwrap();
    assert_eq!(validated.spiffe_id().as_str(), ID);
    assert_eq!(validated.claims().claims()["exp"], NOW.unix_s() + 300);
    let refusal = client.validate_jwt_svid(&audience("web"), &good).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::InvalidArgument);
    agent.hold_tokens(vec![svid(&good, "spiffe://td/other", "")]);
    let refusal = client.validate_jwt_svid(&audience("db"), &good).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::MessageInvalid, "the verdict is about another identity");
}

/// Rows: WA-28.
#[tokio::test]
async fn what_verifies_certificates_verifies_no_token() {
    let (agent, domain) = (FakeAgent::new(), Domain::new());
    let key = domain.root.private_key();
    let sign = |audience| token(&key, ID, &[audience]);
    let client = WorkloadClient::new(&agent.endpoint());
    let believed = |bundles: &JwtBundleSet| {
        jwt::verify(&sign("db"), bundles, &audience("db"), NOW, &jwt::Options::default()).map(|_| ())
    };
    let of_root = JwtAuthority::new(key.public_key().clone()).unwrap();
    agent.hold_jwks(JwtBundle::new("td".parse().unwrap(), vec![of_root]).unwrap().to_jwks());
    assert_eq!(believed(&client.fetch().await.unwrap()), Ok(()), "the token itself is good");
    // The root is an anchor, as FetchX509SVID and FetchX509Bundles say; as a key of tokens nobody has named it.
    agent.hold_bundle(domain.root.der.clone());
    agent.hold_jwks(r#"{"keys":[]}"#.to_owned());
    assert_eq!(client.fetch::<X509BundleSet>().await.unwrap(), domain.bundles);
    assert_eq!(believed(&client.fetch().await.unwrap()), Err(jwt::JwtError::NoAuthority));
    // Nor where its JWK stands among them with the use of an anchor.
    let mut jwk = crate::jwk::members(key.public_key());
    jwk.extend([("use".into(), json!("x509-svid")), ("kid".into(), json!(crate::jwk::thumbprint(key.public_key())))]);
    agent.hold_jwks(json!({ "keys": [jwk] }).to_string());
    assert_eq!(believed(&client.fetch().await.unwrap()), Err(jwt::JwtError::NoAuthority));
}

#[tokio::test]
async fn nobody_at_the_address_is_said_with_the_address() {
    let agent = FakeAgent::absent();
    let refusal = WorkloadClient::new(&agent.endpoint()).fetch::<X509Context>().await.unwrap_err();
    assert_eq!(refusal.reason, Reason::PeerUnreachable);
    assert!(refusal.what.contains("api.sock"), "{refusal}");
}
