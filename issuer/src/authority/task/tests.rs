use std::sync::Arc;

use mayfly_sdk::KeyAlgorithm;
use mayfly_sdk::task::{Actor, Binding, Grant, Subject, TaskKeys, TaskLink};

use super::*;
use crate::authority::slot::{Facts, Prepared, state};
use crate::store::SlotOrigin;

const NOW: Timestamp = Timestamp::from_unix_s(1_800_000_000);
const ISSUER: &str = "https://issuer.example.org/task";

fn active(key: &PrivateKey) -> Active<Task> {
    let facts = Facts {
        id: Task::authority_id(key.public_key()),
        generation: 1,
        issuer: "".into(),
        algorithm: KeyAlgorithm::EcP256,
        public_key: key.public_key().clone(),
        chain: Arc::new([]),
        anchors: Arc::new([]),
        origin: SlotOrigin::Own,
        made_at: NOW,
        not_after: NOW.saturating_add(Ttl::from_s(86_400)),
    };
    let signer = Arc::new(Task::signer(key, &[]).unwrap());
    Prepared::prepare(facts, state::Secret { stored: None, signer }).activate(NOW)
}

fn plan(grant: &str) -> TaskPlan {
    let id = Serial::try_from([0x11; 16]).unwrap();
    let spiffe_id: SpiffeId = "spiffe://td.test/agent".parse().unwrap();
    let grant = Grant::from_json(grant.as_bytes()).unwrap();
    let claims = TaskClaims {
        issuer: ISSUER.to_owned(),
        subject: Subject::Workload(spiffe_id.clone()),
        chain: vec![Actor { spiffe_id, instance: "0".repeat(32).parse().unwrap() }],
        may_act: None,
        grant,
        binding: Binding::Certificate([7; 32]),
        issued_at: NOW,
        expires_at: NOW.saturating_add(Ttl::from_s(300)),
        jti: Serial::try_from([0x12; 16]).unwrap(),
        task: TaskLink { id, root: id, parent: None, purpose: [1; 32], hop: 0, max_hops: 3 },
        parent_digest: None,
        evidence: [2; 32],
        status: None,
    };
    TaskPlan { claims }
}

#[tokio::test]
async fn a_token_says_what_was_planned_and_verifies_under_its_key_alone() {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let plan = plan(r#"{"audience": "https://files.example.org/mcp", "scope": ["read"]}"#);
    let signed = active(&key).sign(&plan).await.unwrap();
    assert_eq!((signed.jti, signed.not_after), (plan.claims.jti, plan.claims.expires_at));
    assert_eq!(signed.authority.as_str(), jwk::thumbprint(key.public_key()));

    let keys = TaskKeys::new(ISSUER, [key.public_key().clone()]);
    assert_eq!(keys.read(&signed.token, NOW).unwrap(), plan.claims);
    let other = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    assert!(TaskKeys::new(ISSUER, [other.public_key().clone()]).read(&signed.token, NOW).is_err());
    assert!(!format!("{signed:?}").contains(&signed.token));
}

#[tokio::test]
async fn a_token_that_services_would_not_read_is_not_signed() {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let scopes: Vec<_> = (0..60).map(|n| format!("{n:0>100}")).collect();
    let grant = serde_json::json!({"audience": "https://files.example.org/mcp", "scope": scopes});
    assert_eq!(
        active(&key).sign(&plan(&grant.to_string())).await.unwrap_err().reason(),
        mayfly_sdk::Reason::GrantTooLarge
    );

    let mut ended = plan(r#"{"audience": "https://files.example.org/mcp"}"#);
    ended.claims.expires_at = NOW;
    assert!(matches!(active(&key).sign(&ended).await, Err(AuthorityError::Plan { .. })));
}
