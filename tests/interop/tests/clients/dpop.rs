//! The public token endpoint, called by a workload that has no client certificate.

use serde_json::json;

use super::{oauth::Place, tool};

const AUDIENCE: &str = "https://files.example.org/mcp";

/// py-spiffe fetches the JWT-SVIDs, `PyJWT` signs the proofs, joserfc says which key a token is bound to.
#[test]
fn a_jwt_svid_and_a_proof_of_possession_obtain_tokens_that_are_bound_to_a_key() {
    let Some(python) = tool(&["MAYFLY_TEST_PYTHON", "target/test-env/venv/bin/python"]) else { return };
    let place = Place::new(&[], &[AUDIENCE]);
    let report = place.report(&python, "dpop.py", &[AUDIENCE]);
    let id = |name: &str| json!(format!("spiffe://{}/{name}", place.rig.trust_domain));
    assert_eq!((&report["root"]["token_type"], &report["bound"]), (&json!("DPoP"), &json!(true)), "{report}");
    let (root, child) = (&report["root_claims"], &report["child_claims"]);
    assert_eq!((&root["sub"], &root["client_id"]), (&id("planner"), &id("planner")));
    assert_eq!(
        (&child["sub"], &child["act"]["sub"], &child["act"]["act"]["sub"]),
        (&id("planner"), &id("reader"), &id("planner"))
    );
    assert_eq!(child["mayfly_task"]["parent"], report["root"]["task"]["id"]);
    for introspected in report["introspected"].as_array().unwrap() {
        assert_eq!((&introspected["active"], &introspected["token_type"]), (&json!(true), &json!("DPoP")), "{report}");
    }
    assert_eq!(
        report["metadata"],
        json!({
            "token_endpoint": "https://issuer.example.org/task/token",
            "token_endpoint_auth_methods_supported": ["spiffe_jwt", "tls_client_auth"],
            "dpop_signing_alg_values_supported": ["ES256", "ES384", "ES512"],
        })
    );
    let (proof, client) = (json!([400, "invalid_dpop_proof"]), json!([401, "invalid_client"]));
    let (attestation, request) = (json!([401, "insufficient_attestation"]), json!([400, "invalid_request"]));
    let refused = json!({
        "without_proof": proof, "proof_used": proof, "of_a_token": proof, "old": proof, "elsewhere": proof, "another_method": proof,
        "another_key": client, "svid_for_another": client, "task_token": client, "forged": client,
        "no_assertion_type": request, "another_client_id": request,
        "another_task": [400, "task_closed"], "shared_identity": attestation,
        "by_certificate": [400, "unauthorized_client"], "of_certificate": [400, "unauthorized_client"],
    });
    assert_eq!(report["refused"], refused);
    assert_eq!((&report["at_once"], &report["head"]), (&json!(vec![200; 8]), &json!(200)), "{report}");
    assert_eq!(
        (&report["get"], &report["large"], &report["revoke"]),
        (&json!(405), &json!(413), &json!(404)),
        "{report}"
    );
}
