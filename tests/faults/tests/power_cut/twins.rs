//! Machines that try to enrol with one and the same join token while the power fails.

use std::fs;

use mayfly_rig::Rig;
use mayfly_sdk::x509::Certificate;
use ring::digest::{SHA256, digest};

/// Every pair so far; two pairs run at a time at most.
#[derive(Debug, Default)]
pub(crate) struct Twins {
    names: Vec<[String; 2]>,
}

/// What a machine that was enrolled holds.
#[derive(Debug)]
pub(crate) struct Enrolled {
    /// The node's SPIFFE ID.
    pub(crate) spiffe_id: String,
    /// SHA-256 of the node key's `SubjectPublicKeyInfo`, hexadecimal.
    pub(crate) key_sha256: String,
    /// Serial number of the node's SVID, hexadecimal.
    pub(crate) serial: String,
}

impl Twins {
    /// Starts the next pair, and ends the one before the last.
    pub(crate) fn launch(&mut self, rig: &mut Rig, number: u32) {
        if self.names.len() >= 2 {
            for name in &self.names[self.names.len() - 2] {
                rig.kill_agent(name);
            }
        }
        let token = rig.run(&["join-token", "create"]);
        assert!(token.status.success(), "join-token create: {}", String::from_utf8_lossy(&token.stderr));
        let names = ["left", "right"].map(|side| format!("{side}-{number}"));
        for name in &names {
            fs::create_dir_all(rig.agent_dir(name)).unwrap();
            fs::write(rig.agent_dir(name).join("token"), &token.stdout).unwrap();
            rig.launch_agent(name);
        }
        self.names.push(names);
    }

    /// Every machine that has got an SVID.
    pub(crate) fn enrolled(&self, rig: &Rig) -> Vec<Enrolled> {
        self.names.iter().flatten().filter_map(|name| enrolled(rig, name)).collect()
    }
}

fn enrolled(rig: &Rig, name: &str) -> Option<Enrolled> {
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(rig.agent_dir(name).join("node.json")).ok()?).unwrap();
    let leaf = base64(record["chain"][0].as_str()?);
    let leaf = Certificate::parse(&leaf).unwrap();
    Some(Enrolled {
        spiffe_id: record["spiffe_id"].as_str().unwrap().to_owned(),
        key_sha256: hex::encode(digest(&SHA256, leaf.spki())),
        serial: hex::encode(leaf.serial()),
    })
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}
