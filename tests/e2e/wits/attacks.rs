//! What somebody may try with the tokens, keys and proofs of others.

use mayfly_proto::node::Subject;
use mayfly_sdk::{
    KeyAlgorithm, PrivateKey,
    client::{Endpoint, WitContext, WorkloadClient},
    jwk,
};
use tonic::Code;

use super::*;
use crate::rogue::Rogue;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Why the command does not believe these headers.
fn refused(rig: &Rig, url: &str, headers: &str) -> String {
    let output = judge(rig, url, headers);
    assert_eq!(output.status.code(), Some(77), "{headers}: {}{}", text(&output.stdout), text(&output.stderr));
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    error["error"]["reason"].as_str().unwrap().to_owned()
}

/// A line of headers.
fn line<'a>(headers: &'a str, name: &str) -> &'a str {
    headers.lines().find(|line| line.starts_with(name)).unwrap()
}

/// Rows: W-23, W-24, W-30, W-31, W-32, W-33.
#[test]
fn a_stolen_token_or_proof_is_good_for_nothing() {
    let rig = rig();
    rig.apply(&format!("{}{}", rig.entry("web", ""), rig.entry("db", "")));
    let proven = eventually("both identities are there", 20, || {
        let shown: Value = serde_json::from_slice(&wit(&rig, &["fetch"]).stdout).ok()?;
        (shown["items"].as_array()?.len() == 2).then(|| headers(&rig, URL))
    });
    assert!(judge(&rig, URL, &proven).status.success());
    let (token, proof) = (line(&proven, "Workload-Identity-Token"), line(&proven, "Authorization"));
    let bare = token.split_once(": ").unwrap().1;

    // The token alone, and as if it were a bearer token.
    assert_eq!(refused(&rig, URL, token), "proof_invalid");
    assert_eq!(refused(&rig, URL, &format!("{token}\nAuthorization: Bearer {bare}")), "proof_invalid");
    assert_eq!(refused(&rig, URL, &format!("{token}\nAuthorization: WPT {bare}")), "proof_invalid");
    // The proof at another service, at another path, beside another token, twice.
    assert_eq!(refused(&rig, "https://other.example.org/rows", &proven), "proof_invalid");
    assert_eq!(refused(&rig, "https://db.example.org/rows/1", &proven), "proof_invalid");
    assert_eq!(refused(&rig, URL, &format!("{proven}{proof}")), "proof_invalid");
    assert_eq!(refused(&rig, URL, &format!("{proven}{token}")), "proof_invalid");
    let output = wit(&rig, &["prove", "--url", URL, "--spiffe-id", &format!("spiffe://{}/db", rig.trust_domain)]);
    let own: Value = serde_json::from_slice(&output.stdout).unwrap();
    let stolen = format!("{token}\nAuthorization: {}", own["headers"]["Authorization"].as_str().unwrap());
    assert_eq!(refused(&rig, URL, &stolen), "proof_invalid", "the proof of another workload's key");
    // A token of the other kind, either way.
    let mut command = Command::new(mayfly());
    command.args(["svid", "jwt", "fetch", "--audience", "db"]).env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a"));
    let jwt = text(&command.output().unwrap().stdout);
    let jwt = jwt.lines().next().unwrap();
    assert_eq!(refused(&rig, URL, &format!("Workload-Identity-Token: {jwt}\n{proof}")), "wit_svid_invalid");
    let mut command = Command::new(mayfly());
    command.args(["svid", "jwt", "validate", "--audience", "db", bare]);
    let output = command.env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a")).output().unwrap();
    assert_eq!(output.status.code(), Some(77), "{}", text(&output.stdout));
    // A changed token: what was signed no longer is.
    let changed = bare.replacen(&bare[60..61], if &bare[60..61] == "A" { "B" } else { "A" }, 1);
    assert!(refused(&rig, URL, &format!("Workload-Identity-Token: {changed}\n{proof}")).starts_with("wit_svid_"));
}

#[test]
fn a_node_gets_no_tokens_for_what_is_not_its_own() {
    let mut rig = rig();
    rig.start_agent("b");
    let other = rig.entry("other", "").replace("node:attestor:join_token", "node:id:b");
    let other = other.replace("\"node:id:b\"", &format!("\"spiffe://{}/mayfly/node/join_token/b\"", rig.trust_domain));
    rig.apply(&format!("{}{other}", rig.entry("web", "")));
    let key = || PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    runtime().block_on(async {
        let (mut a, mut b) = (Rogue::of(&rig, "a").await, Rogue::of(&rig, "b").await);
        let mut named = a.entries(&rig).await;
        assert!(!named.contains_key("other"), "it is not even told of another node's entry: {named:?}");
        named.extend(b.entries(&rig).await);
        let (web, foreign) = (named["web"].clone(), named["other"].clone());
        let own = key();
        a.wit(&web, own.public_key()).await.unwrap();
        a.wit(&web, own.public_key()).await.unwrap();
        assert_eq!(a.wit(&foreign, key().public_key()).await.unwrap_err().reason, "entry_not_for_node");
        let invented = Subject { entry_uid: "invented".into(), ..web.clone() };
        assert!(a.wit(&invented, key().public_key()).await.is_err());
        // A key that another node's workload has, and one that has an X.509-SVID.
        assert_eq!(b.wit(&web, own.public_key()).await.unwrap_err().reason, "key_in_use");
        assert_eq!(b.wit(&foreign, own.public_key()).await.unwrap_err().reason, "key_in_use");
        assert_eq!(a.x509(&web, own.public_key()).await.unwrap_err(), "key_in_use");
        let certified = key();
        a.x509(&web, certified.public_key()).await.unwrap();
        assert_eq!(a.wit(&web, certified.public_key()).await.unwrap_err().reason, "key_in_use");
        // The keys that verify everybody's tokens.
        let document = rig.run(&["bundle", "show", "--form", "document"]).stdout;
        let document: Value = serde_json::from_slice(&document).unwrap();
        let keys = document["keys"].as_array().unwrap();
        assert!(keys.iter().any(|key| key["use"] == "wit-svid"), "{document}");
        for authority in keys.iter().filter(|key| key["use"] != "x509-svid") {
            let authority = jwk::public_key(authority.as_object().unwrap()).unwrap();
            assert_eq!(a.wit(&web, &authority).await.unwrap_err().reason, "key_reserved");
        }
        let ed25519 = PrivateKey::generate(KeyAlgorithm::Ed25519).unwrap();
        assert!(a.wit(&web, ed25519.public_key()).await.is_err(), "a key that signs no tokens");
        assert_eq!(a.wits(&web, key().public_key(), 10_000).await.unwrap_err().code(), Code::InvalidArgument);
        let nodes = rig.json(&["node", "list"]);
        let nodes = nodes["items"].as_array().unwrap().iter();
        let id = nodes.filter_map(|node| node["spiffe_id"].as_str()).find(|id| id.ends_with("/a")).unwrap();
        assert!(rig.run(&["node", "ban", id]).status.success());
        assert!(a.wits(&web, key().public_key(), 1).await.is_err(), "a banned node");
    });
}

#[test]
fn no_log_no_file_and_no_answer_of_the_command_has_a_private_key() {
    let mut rig = Rig::new(&ON);
    rig.set_environment(&[("MAYFLY_ISSUER__LOG__LEVEL", "trace"), ("MAYFLY_AGENT__LOG__LEVEL", "trace")]);
    rig.start_issuer();
    rig.start_agent("a");
    rig.apply(&rig.entry("web", ""));
    eventually("a token", 20, || token(&rig));
    let endpoint: Endpoint = rig.endpoint("a").parse().unwrap();
    let context = runtime().block_on(async { WorkloadClient::new(&endpoint).fetch::<WitContext>().await.unwrap() });
    let svid = context.default_svid();
    let jwk = jwk::private_text(svid.key()).unwrap();
    let jwk: Value = serde_json::from_str(&jwk).unwrap();
    let secret = jwk["d"].as_str().unwrap();
    let mut shown = vec![format!("{context:?} {svid:?} {:?}", svid.key()), rig.issuer_log(), rig.agent_log("a")];
    for args in [&["fetch"][..], &["prove", "--url", URL]] {
        let output = wit(&rig, args);
        shown.extend([text(&output.stdout), text(&output.stderr)]);
    }
    shown.push(text(&rig.run(&["ledger", "tail", "-n", "100"]).stdout));
    assert!(rig.agent_log("a").contains("TRACE") || rig.agent_log("a").contains("trace"), "the agent logs everything");
    for (at, shown) in shown.iter().enumerate() {
        assert!(!shown.contains(secret), "{at} shows it");
    }
    for dir in [rig.issuer_state(), rig.agent_dir("a")] {
        for file in std::fs::read_dir(dir).unwrap().filter_map(|entry| std::fs::read(entry.unwrap().path()).ok()) {
            assert!(!file.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }
}
