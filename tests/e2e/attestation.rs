//! Nodes that attest by a certificate which their machine had before.

/// What should not enrol.
mod attacks;
mod pki;
pub(crate) mod stranger;

use std::fmt::Write as _;
use std::fs;

use mayfly_rig::{Rig, eventually, mayfly};
use rcgen::KeyPair;

use crate::rogue::Rogue;
use pki::{Made, Pki};

/// An issuer that believes this infrastructure, and nothing else running.
fn issuer(pki: &Pki, settings: &[(&str, &str)]) -> Rig {
    let mut rig = Rig::new(settings);
    let file = pki.root_file(rig.dir());
    rig.set("attest.x509pop_ca", &format!("\"{}\"", file.display()));
    rig.start_issuer();
    rig
}

/// Gives an agent the files of a machine, and the bundle for its first contact.
fn equip(rig: &mut Rig, agent: &str, pki: &Pki, machine: &Made) {
    let (certificate, key) = pki.files(machine, rig.dir(), agent);
    let bundle = rig.dir().join("bundle.json");
    fs::write(&bundle, rig.json(&["bundle", "show"])["bundle"].to_string()).unwrap();
    for (key, path) in [("machine_certificate", certificate), ("machine_key", key), ("bootstrap_bundle", bundle)] {
        rig.set_agent(agent, key, &format!("\"{}\"", path.display()));
    }
}

fn nodes(rig: &Rig) -> Vec<serde_json::Value> {
    rig.json(&["node", "list"])["items"].as_array().unwrap().clone()
}

fn name_of(rig: &Rig, machine: &Made) -> String {
    let fingerprint = ring::digest::digest(&ring::digest::SHA256, &machine.der);
    format!("spiffe://{}/mayfly/node/x509pop/{}", rig.trust_domain, hex(fingerprint.as_ref()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The X.509-SVID that a workload of this user is given, by its SPIFFE ID.
fn identity(rig: &Rig, agent: &str) -> Option<String> {
    let mut command = std::process::Command::new(mayfly());
    command.args(["--output", "json", "svid", "x509", "fetch"]).env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint(agent));
    let shown: serde_json::Value = serde_json::from_slice(&command.output().unwrap().stdout).ok()?;
    Some(shown["items"][0]["spiffe_id"].as_str()?.to_owned())
}

fn says(rig: &mut Rig, agent: &str, state: &str) {
    eventually(&format!("the agent {agent} is {state}"), 60, || rig.agent_ready(agent).contains(state).then_some(()));
    assert!(rig.agent_runs(agent), "{}", rig.agent_log(agent));
}

#[test]
fn machines_enrol_by_certificates_of_every_kind_of_key_and_their_names_are_selectors() {
    let pki = Pki::new();
    let mut rig = issuer(&pki, &[]);
    let uid = nix::unistd::getuid();
    rig.apply(&format!(
        "  - name: by-name\n    spiffe_id: spiffe://{0}/machine/{{node.x509pop.subject-cn}}\n    node: [[\"x509pop:subject-o:Example\", \
         \"x509pop:issuer-cn:intermediate\", \"x509pop:san-ip:192.0.2.7\", \"node:attestor:x509pop\"]]\n    selectors: [\"unix:uid:{uid}\"]\n",
        rig.trust_domain
    ));
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let keys = [
        ("p256", KeyPair::generate().unwrap()),
        ("p384", KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap()),
        ("ed25519", KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap()),
        ("rsa", rsa),
    ];
    for (name, key) in keys {
        let machine = pki.intermediate.signs(pki::machine(name), key);
        equip(&mut rig, name, &pki, &machine);
        rig.start_agent(name);
        assert_eq!(identity(&rig, name).unwrap(), format!("spiffe://{}/machine/{name}", rig.trust_domain));
        let shown = rig.json(&["node", "show", &name_of(&rig, &machine)]);
        assert_eq!((&shown["attestor"], &shown["state"]), (&"x509pop".into(), &"active".into()), "{shown}");
        let selectors = shown["selectors"].to_string();
        assert!(selectors.contains(&format!("x509pop:san-dns:{name}.example.org")), "{selectors}");
    }
    let ledger = rig.run(&["ledger", "tail", "-n", "1000"]);
    assert!(String::from_utf8_lossy(&ledger.stdout).contains("node_attested"));
}

/// A key file as OpenSSL's older programs write it: PKCS#1 for RSA, SEC 1 for curves.
fn traditional(file: &std::path::Path, says: &str) {
    let written =
        std::process::Command::new("openssl").args(["pkey", "-traditional", "-in"]).arg(file).output().unwrap();
    let text = String::from_utf8(written.stdout).unwrap();
    assert!(text.starts_with(&format!("-----BEGIN {says} PRIVATE KEY-----")), "{text}");
    fs::write(file, text).unwrap();
}

#[test]
fn keys_in_the_forms_that_older_programs_write_and_the_largest_rsa_keys_prove_machines() {
    let pki = Pki::new();
    let mut rig = issuer(&pki, &[]);
    let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap();
    let curve = |algorithm| KeyPair::generate_for(algorithm).unwrap();
    for (name, key, form) in [
        ("pkcs1", rsa(rcgen::RsaKeySize::_2048), "RSA"),
        ("pkcs1-4096", rsa(rcgen::RsaKeySize::_4096), "RSA"),
        ("pkcs8-4096", rsa(rcgen::RsaKeySize::_4096), ""),
        ("sec1-p256", curve(&rcgen::PKCS_ECDSA_P256_SHA256), "EC"),
        ("sec1-p384", curve(&rcgen::PKCS_ECDSA_P384_SHA384), "EC"),
        ("sec1-p521", curve(&rcgen::PKCS_ECDSA_P521_SHA512), "EC"),
    ] {
        let machine = pki.intermediate.signs(pki::machine(name), key);
        equip(&mut rig, name, &pki, &machine);
        let file = rig.dir().join(format!("{name}.key"));
        if !form.is_empty() {
            traditional(&file, form);
        }
        if name == "sec1-p256" {
            // As `openssl ecparam -genkey` begins its files.
            let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
            fs::write(&file, parameters.to_owned() + &fs::read_to_string(&file).unwrap()).unwrap();
        }
        rig.start_agent(name);
        let shown = rig.json(&["node", "show", &name_of(&rig, &machine)]);
        assert_eq!((&shown["attestor"], &shown["state"]), (&"x509pop".into(), &"active".into()), "{shown}");
        rig.stop_agent(name);
    }
}

#[test]
fn the_enrolled_key_alone_brings_a_machine_back_after_its_svid_has_ended() {
    let pki = Pki::new();
    let settings = [("ttl.allow_short_ttl", "true"), ("ttl.x509", "\"20s\""), ("ttl.node", "\"5s\"")];
    let mut rig = issuer(&pki, &settings);
    let machine = pki.machine("m");
    equip(&mut rig, "a", &pki, &machine);
    rig.start_agent("a");
    rig.stop_agent("a");
    let ended = |rig: &Rig| {
        let shown = rig.json(&["node", "show", &name_of(rig, &machine)]);
        let not_after: mayfly_sdk::Timestamp = shown["svid_not_after"].as_str().unwrap().parse().unwrap();
        not_after < mayfly_sdk::Clock::system().now()
    };
    eventually("the node's SVID has ended", 30, || ended(&rig).then_some(()));
    // Whoever has the node key needs no certificate any more.
    fs::remove_file(rig.dir().join("a.key")).unwrap();
    rig.launch_agent("a");
    rig.wait_for_agent("a");
    assert_eq!(nodes(&rig).len(), 1);
    assert!(rig.agent_log("a").contains("attesting by its enrolled key"), "{}", rig.agent_log("a"));
}

#[test]
fn an_evicted_machine_comes_back_by_itself_with_another_node_key_and_a_banned_one_does_not() {
    let pki = Pki::new();
    let mut rig = issuer(&pki, &[]);
    let machine = pki.machine("m");
    equip(&mut rig, "a", &pki, &machine);
    rig.start_agent("a");
    let id = name_of(&rig, &machine);
    let key = fs::read(rig.agent_dir("a").join("node.key")).unwrap();
    assert!(rig.run(&["node", "evict", &id]).status.success());
    eventually("it is enrolled anew", 60, || {
        let is_new = fs::read(rig.agent_dir("a").join("node.key")).unwrap() != key;
        (is_new && nodes(&rig).len() == 1 && rig.agent_ready("a").contains("200 OK")).then_some(())
    });
    assert!(rig.run(&["node", "ban", &id]).status.success());
    says(&mut rig, "a", "node_banned");
    // Not even with everything forgotten on its side.
    rig.stop_agent("a");
    fs::remove_dir_all(rig.agent_dir("a")).unwrap();
    rig.launch_agent("a");
    says(&mut rig, "a", "node_banned");
    assert_eq!(rig.json(&["node", "show", &id])["state"], "banned");
}

/// A stream that was admitted before the ban and begins after it: the ban found no session to end.
#[test]
fn a_node_that_is_banned_between_its_call_and_its_first_message_is_told_nothing() {
    let mut rig = Rig::started(&[]);
    let id = nodes(&rig)[0]["spiffe_id"].as_str().unwrap().to_owned();
    rig.stop_agent("a");
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut rogue = Rogue::of(&rig, "a").await;
        assert_eq!(rogue.late_sync(&rig, || {}).await, Ok(()));
        let banned = rogue.late_sync(&rig, || assert!(rig.run(&["node", "ban", &id]).status.success())).await;
        // Refused, or cut off with the connection: whichever the node sees first.
        assert!(banned.as_ref().is_err_and(|why| ["node_banned", "unavailable"].contains(&&**why)), "{banned:?}");
    });
    rig.stop_issuer();
}

#[test]
fn a_copied_certificate_and_key_do_not_displace_the_machine_that_has_them() {
    let pki = Pki::new();
    let mut rig = issuer(&pki, &[]);
    let uid = nix::unistd::getuid();
    rig.apply(&format!(
        "  - name: w\n    spiffe_id: spiffe://{}/w\n    node: [\"node:attestor:x509pop\"]\n    selectors: [\"unix:uid:{uid}\"]\n",
        rig.trust_domain
    ));
    let machine = pki.machine("m");
    for agent in ["a", "thief"] {
        equip(&mut rig, agent, &pki, &machine);
    }
    rig.start_agent("a");
    assert!(identity(&rig, "a").is_some());
    rig.launch_agent("thief");
    says(&mut rig, "thief", "machine_enrolled_elsewhere");
    assert!(rig.agent_ready("thief").contains("second machine"), "{}", rig.agent_ready("thief"));
    assert_eq!(identity(&rig, "thief"), None);
    assert!(identity(&rig, "a").is_some() && rig.agent_ready("a").contains("200 OK"));
    assert_eq!(nodes(&rig).len(), 1);
}

#[test]
fn an_agent_whose_files_are_wrong_says_which() {
    let pki = Pki::new();
    let mut rig = issuer(&pki, &[]);
    let (machine, other) = (pki.machine("m"), pki.machine("other"));
    equip(&mut rig, "a", &pki, &machine);
    fs::write(rig.dir().join("a.key"), other.key_pem()).unwrap();
    rig.launch_agent("a");
    says(&mut rig, "a", "machine_certificate_unusable");
    assert!(rig.agent_ready("a").contains("a.key"), "{}", rig.agent_ready("a"));
}

#[test]
fn a_node_is_shown_with_the_entries_that_it_cannot_serve_and_why() {
    let mut rig = Rig::started(&[]);
    let lacking = rig.entry("lacking", "").replace("/lacking\n", "/{node.rack.name}/lacking\n");
    rig.apply(&format!("{lacking}{}", rig.entry("served", "")));
    let nodes = nodes(&rig);
    let shown = rig.json(&["node", "show", nodes[0]["spiffe_id"].as_str().unwrap()]);
    let problems = shown["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 1, "{shown}");
    assert_eq!(problems[0]["reason"], "template_fact_missing", "{shown}");
    assert!(problems[0]["what"].as_str().unwrap().contains("rack.name"), "{shown}");
    rig.stop_issuer();
}
