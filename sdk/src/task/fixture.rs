//! Task tokens for tests, made at run time.

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::*;
use crate::id::SpiffeId;
use crate::jws::{JwsAlgorithm, Signer};
use crate::key::{KeyAlgorithm, PrivateKey};
use crate::serial::Serial;
use crate::time::{Timestamp, Ttl};

pub(crate) const AUDIENCE: &str = "https://files.example.org/mcp";
pub(crate) const ISSUER: &str = "https://issuer.example.org/task";

/// An authorization server with one key.
pub(crate) struct Authority {
    key: PrivateKey,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self { key: PrivateKey::generate(KeyAlgorithm::EcP256).unwrap() }
    }

    pub(crate) fn keys(&self) -> TaskKeys {
        TaskKeys::new(ISSUER, [self.key.public_key().clone()])
    }

    pub(crate) fn jwks(&self) -> String {
        let mut jwk = crate::jwk::members(self.key.public_key());
        jwk.insert("use".to_owned(), "sig".into());
        jwk.insert("kid".to_owned(), crate::jwk::thumbprint(self.key.public_key()).into());
        json!({ "keys": [jwk] }).to_string()
    }

    pub(crate) fn token(&self, claims: &TaskClaims) -> String {
        let signer = Signer::new(&self.key, JwsAlgorithm::Es256, TYP).unwrap();
        signer.sign(Value::Object(claims.to_json()).to_string().as_bytes()).unwrap()
    }
}

pub(crate) fn serial(n: i64) -> Serial {
    Serial::first_at(n)
}

pub(crate) fn thumbprint(certificate: &[u8]) -> [u8; 32] {
    digest(&SHA256, certificate).as_ref().try_into().unwrap()
}

/// The claims of the root task `n`, which this agent began for itself: bound to this certificate, from now on for 5 minutes.
pub(crate) fn claims(agent: &SpiffeId, certificate: &[u8], n: i64, now: Timestamp) -> TaskClaims {
    let grant = json!({"audience": AUDIENCE, "scope": ["read"], "delegable": [AUDIENCE]});
    let instance = [7; 16].as_slice().try_into().unwrap();
    TaskClaims {
        issuer: ISSUER.to_owned(),
        subject: Subject::Workload(agent.clone()),
        chain: vec![Actor { spiffe_id: agent.clone(), instance }],
        may_act: None,
        grant: Grant::from_json(grant.to_string().as_bytes()).unwrap(),
        binding: Binding::Certificate(thumbprint(certificate)),
        issued_at: now,
        expires_at: now.saturating_add(Ttl::from_s(300)),
        jti: serial(n + 1_000_000),
        task: TaskLink { id: serial(n), root: serial(n), parent: None, purpose: [1; 32], hop: 0, max_hops: 3 },
        parent_digest: None,
        evidence: [3; 32],
        status: None,
    }
}
