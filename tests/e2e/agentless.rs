//! Callers without a node agent: a token of an identity provider in, an identity out.

/// Tokens, requests and providers that should get nothing.
mod attacks;
mod keys;
pub(crate) mod provider;

use std::{fs, process::Command};

use mayfly_proto::node::{MintAgentlessRequest, MintAgentlessResponse};
use mayfly_rig::{Rig, mayfly};
use mayfly_sdk::{Reason, Refusal, x509::CertificateRequest};

use crate::attestation::stranger::{Stranger, key};
use provider::IdentityProvider;

/// An issuer that knows this provider as `ci`, by a file of its keys, and has one entry for it.
fn issuer(provider: &IdentityProvider) -> Rig {
    let mut rig = Rig::new(&[]);
    configure(&mut rig, "ci", provider);
    rig.start_issuer();
    rig.apply(&entry("deploy", "oidc:repository:shop"));
    rig
}

fn configure(rig: &mut Rig, name: &str, provider: &IdentityProvider) {
    let file = provider.jwks_file(rig.dir(), name);
    rig.set(&format!("agentless.{name}.issuer"), &format!("\"{}\"", provider.issuer));
    rig.set(&format!("agentless.{name}.jwks_file"), &format!("\"{}\"", file.display()));
}

fn entry(name: &str, selector: &str) -> String {
    format!(
        "  - name: {name}\n    spiffe_id: spiffe://test.example/{name}\n    node: [\"agentless:ci\"]\n    selectors: [\"{selector}\"]\n"
    )
}

/// A request with a key and a signature of its own.
fn request(token: &str) -> MintAgentlessRequest {
    MintAgentlessRequest {
        request_id: vec![7; 16].into(),
        trust_domain: "test.example".into(),
        token: token.into(),
        csr: CertificateRequest::sign(&key()).unwrap().into(),
        spiffe_id: String::new(),
    }
}

/// What becomes of a request on a connection of its own.
async fn ask(rig: &Rig, request: MintAgentlessRequest) -> Result<MintAgentlessResponse, Refusal> {
    let answer = Stranger::dial(rig).await.client.mint_agentless(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| Refusal::from_status(&status))
}

/// The identity that a token gets.
async fn verdict(rig: &Rig, token: &str) -> Result<String, Reason> {
    ask(rig, request(token)).await.map(|answer| answer.svid.unwrap().spiffe_id).map_err(|refusal| refusal.reason)
}

/// `mayfly svid x509 fetch --issuer` with this token.
fn fetch(rig: &Rig, token: &str, more: &[&str]) -> std::process::Output {
    let (token_file, bundle) = (rig.dir().join("token.jwt"), rig.dir().join("bundle.json"));
    fs::write(&token_file, format!("{token}\n")).unwrap();
    fs::write(&bundle, rig.json(&["bundle", "show"])["bundle"].to_string()).unwrap();
    Command::new(mayfly())
        .args(["--output", "json", "svid", "x509", "fetch", "--issuer", &rig.issuer_address()])
        .args(["--trust-domain", "test.example", "--token-file", token_file.to_str().unwrap()])
        .args(["--bundle", bundle.to_str().unwrap()])
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn a_job_with_a_token_gets_an_identity_that_is_recorded() {
    let provider = IdentityProvider::new("ci");
    let rig = issuer(&provider);
    let dir = rig.dir().join("certs");
    let output = fetch(&rig, &provider.token(), &["--write", dir.to_str().unwrap()]);
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let item = &shown["items"][0];
    assert_eq!(item["spiffe_id"], "spiffe://test.example/deploy", "{shown}");

    // Another program believes it.
    let verified = Command::new("openssl")
        .args(["verify", "-CAfile", "bundle.pem", "-untrusted", "svid.pem", "svid.pem"])
        .current_dir(&dir)
        .output();
    let verified = verified.unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));

    let ledger = rig.run(&["--output", "json", "ledger", "tail", "-n", "100"]);
    let ledger = String::from_utf8_lossy(&ledger.stdout).into_owned();
    let serial = item["serial"].as_str().unwrap();
    let record = ledger.lines().find(|line| line.contains(serial)).unwrap_or_else(|| panic!("{serial}: {ledger}"));
    for expected in [
        "x509_svid_issued",
        "spiffe://test.example/mayfly/agentless/ci",
        "oidc:ci:repo:example/shop:ref:main",
        "deploy",
    ] {
        assert!(record.contains(expected), "{record}");
    }
    let metrics = mayfly_rig::http_get(&format!("{}:9464", rig.ip()), "/metrics").unwrap();
    assert!(metrics.contains("issued_total{profile=\"x509_agentless\"} 1"), "{metrics}");

    // The same token once more.
    let output = fetch(&rig, &fs::read_to_string(rig.dir().join("token.jwt")).unwrap(), &[]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(65) && told.contains("token_used"), "{told}");
}

#[test]
fn the_command_shows_its_token_to_nobody_but_an_issuer_that_the_bundle_verifies() {
    let provider = IdentityProvider::new("ci");
    let (rig, other) = (issuer(&provider), issuer(&provider));
    let token = provider.token();
    // The bundle of another trust domain of the same name.
    let bundle = rig.dir().join("theirs.json");
    fs::write(&bundle, other.json(&["bundle", "show"])["bundle"].to_string()).unwrap();
    let output = fetch(&rig, &token, &["--bundle", bundle.to_str().unwrap()]);
    assert!(!output.status.success(), "an argument that is given twice is refused");
    let token_file = rig.dir().join("token.jwt");
    let output = Command::new(mayfly())
        .args(["--output", "json", "svid", "x509", "fetch", "--issuer", &rig.issuer_address()])
        .args(["--trust-domain", "test.example", "--token-file", token_file.to_str().unwrap()])
        .args(["--bundle", bundle.to_str().unwrap()])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("x509_svid_untrusted"), "{told}");
    // It was not used.
    assert!(fetch(&rig, &token, &[]).status.success());
    // Not without a bundle at all.
    let output = Command::new(mayfly())
        .args(["svid", "x509", "fetch", "--issuer", &rig.issuer_address(), "--token-file"])
        .args([token_file.to_str().unwrap(), "--trust-domain", "test.example"])
        .output();
    assert_eq!(output.unwrap().status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_decide_which_identities_a_token_gets() {
    let provider = IdentityProvider::new("ci");
    let rig = issuer(&provider);
    rig.apply(&format!(
        "{}{}  - name: by-id\n    spiffe_id: spiffe://test.example/repo/{{oidc.repository_id}}\n    node: [\"agentless:ci\"]\n    \
         selectors: [\"oidc:protected:true\"]\n",
        entry("groups", "oidc:groups:admins"),
        entry("run", "oidc:run:42"),
    ));
    let got = async |change: fn(&mut serde_json::Map<String, serde_json::Value>)| {
        verdict(&rig, &provider.token_with(change)).await
    };
    let id = |name: &str| Ok(format!("spiffe://test.example/{name}"));
    assert_eq!(got(|_| {}).await, id("deploy"));
    assert_eq!(got(|it| drop(it.remove("repository"))).await, Err(Reason::NoIdentity));
    assert_eq!(got(|it| drop(it.insert("repository".into(), "shop2".into()))).await, Err(Reason::NoIdentity));
    let groups = |it: &mut serde_json::Map<_, _>| {
        it.remove("repository");
        it.insert("groups".to_owned(), serde_json::json!(["users", "admins"]));
    };
    assert_eq!(got(groups).await, id("groups"));
    let number = |it: &mut serde_json::Map<_, _>| {
        it.remove("repository");
        it.insert("run".to_owned(), 42.into());
    };
    assert_eq!(got(number).await, id("run"));
    let template = |it: &mut serde_json::Map<_, _>| {
        it.remove("repository");
        it.insert("protected".to_owned(), true.into());
        it.insert("repository_id".to_owned(), 4711.into());
    };
    assert_eq!(got(template).await, id("repo/4711"));

    // Of several, the one that is asked for; not one that is not given.
    let several = provider.token_with(|it| drop(it.insert("run".into(), 42.into())));
    let wish = |token: &str, id: &str| MintAgentlessRequest { spiffe_id: id.into(), ..request(token) };
    let refused = ask(&rig, wish(&several, "spiffe://test.example/groups")).await.unwrap_err();
    assert_eq!(refused.reason, Reason::NoIdentity, "and the token was not used up by that");
    let answer = ask(&rig, wish(&several, "spiffe://test.example/run")).await.unwrap();
    assert_eq!(answer.svid.unwrap().spiffe_id, "spiffe://test.example/run");
    assert_eq!(answer.bundles[0].trust_domain, "test.example");
}
