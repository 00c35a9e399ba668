//! The OAuth endpoints, called by an OAuth library with X.509-SVIDs.

use std::{fs, path::Path, process::Child};

use mayfly_rig::{eventually, mayfly};
use serde_json::json;

use super::{Command, Rig, Stdio, Value, repository, text, tool};

const URL: &str = "https://issuer.example.org";
const AUDIENCE: &str = "https://files.example.org/mcp";

/// A process that keeps files of an SVID, ended with the test.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Keeps the SVID of one entry in a directory, and notes its name.
fn keep(rig: &Rig, directory: &Path, name: &str) -> Kept {
    let id = format!("spiffe://{}/{name}", rig.trust_domain);
    fs::write(directory.join(format!("{name}.id")), json!(id).to_string()).unwrap();
    let kept = Command::new(mayfly())
        .args(["svid", "x509", "watch", "--spiffe-id", &id, "--write"])
        .arg(directory.join(name))
        .env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let kept = Kept(kept);
    eventually("the files are there", 20, || directory.join(name).join("svid.pem").exists().then_some(()));
    kept
}

/// A rig with a public URL, two agents by the same rules, a service, and the files of their SVIDs.
pub(super) struct Place {
    pub(super) rig: Rig,
    _kept: [Kept; 3],
}

impl Place {
    pub(super) fn new(settings: &[(&str, &str)], audiences: &[&str]) -> Self {
        let url = format!("\"{URL}\"");
        let rig = Rig::started(&[&[("web.public_url", &*url)], settings].concat());
        let audiences = json!(audiences);
        let task = format!(
            "    task: {{audiences: {audiences}, scopes: [read, list], delegable: {audiences}, deadline: 10m, users: [{{provider: login, clients: [portal]}}]}}\n"
        );
        let files = rig.entry("files", "") + &format!("    serves: {audiences}\n");
        rig.apply(&(rig.entry("planner", "") + &task + &rig.entry("reader", "") + &task + &files));
        let shown = rig.run(&["bundle", "show", "--form", "pem"]);
        assert!(shown.status.success(), "{}", text(&shown));
        fs::write(rig.dir().join("anchors.pem"), shown.stdout).unwrap();
        let svids = rig.dir().join("svids");
        fs::create_dir(&svids).unwrap();
        let kept = ["planner", "reader", "files"].map(|name| keep(&rig, &svids, name));
        Self { rig, _kept: kept }
    }

    /// What a script reports that knows where everything is.
    pub(super) fn report(&self, python: &Path, script: &str, more: &[&str]) -> Value {
        let ip = self.rig.mtls_address().split(':').next().unwrap().to_owned();
        let output = Command::new(python)
            .arg(repository().join("tests/interop/python").join(script))
            .args([ip.as_str(), URL])
            .args([self.rig.dir().join("anchors.pem"), self.rig.dir().join("svids")])
            .args(more)
            .env("SPIFFE_ENDPOINT_SOCKET", self.rig.endpoint("a"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}\n{}", text(&output), self.rig.issuer_log());
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[test]
fn authlib_obtains_hands_on_introspects_and_revokes_task_tokens_with_svids_alone() {
    let Some(python) = tool(&["MAYFLY_TEST_PYTHON", "target/test-env/venv/bin/python"]) else { return };
    let place = Place::new(&[], &[AUDIENCE]);
    let report = place.report(&python, "oauth.py", &[AUDIENCE]);
    let rig = &place.rig;
    let id = |name: &str| json!(format!("spiffe://{}/{name}", rig.trust_domain));
    assert_eq!(
        (&report["root"]["token_type"], &report["root"]["scope"]),
        (&json!("Bearer"), &json!("list read")),
        "{report}"
    );
    assert_eq!((&report["claims"]["sub"], &report["claims"]["client_id"]), (&id("planner"), &id("planner")));
    assert_eq!(report["renewed"], report["root"]["task"]["id"]);
    assert_eq!(report["child"]["parent"], report["root"]["task"]["id"]);
    // On whose behalf, and who does it: never one without the other.
    let (root, child) = (&report["introspected"][0], &report["introspected"][1]);
    for (introspected, holder) in [(root, id("planner")), (child, id("reader"))] {
        assert_eq!((&introspected["active"], &introspected["sub"]), (&json!(true), &id("planner")), "{report}");
        assert_eq!(introspected["act"]["sub"], holder, "{report}");
    }
    assert_eq!(child["act"]["act"]["sub"], id("planner"), "{report}");
    let inactive = json!({"active": false});
    assert_eq!(report["not_for_others"], inactive);
    assert_eq!(report["listed"], 0, "{report}");
    let tasks = [&report["root"]["task"]["id"], &report["child"]["id"]].map(|id| id.as_str().unwrap().to_owned());
    let told = tasks.map(|id| (id, "revoked".into()));
    assert_eq!(report["told"], Value::Object(told.into_iter().collect()), "{report}");
    assert!(report["listed_after_s"].as_f64().unwrap() < 15.0, "{report}");
    assert_eq!(report["after"], json!([inactive, inactive]));
    let refused = json!({
        "wider": "invalid_scope", "elsewhere": "invalid_scope", "actor_token": "invalid_request", "another_client_id": "invalid_request",
        "no_part_of_it": "insufficient_attestation", "another_grant": "unsupported_grant_type", "another_task": "task_closed",
        "revoked_by_another": "unauthorized_client", "twice": "invalid_request", "large": 413, "closed": "task_closed",
        "feed_for_others": "audience_not_served", "closed_transaction": "task_closed",
    });
    assert_eq!(report["refused"], refused);

    // What a service passes on within the trust domain: on whose behalf, by whom, at whose request; it lets nobody in.
    let passed_on = &report["transactions"];
    assert_eq!(
        passed_on["answer"],
        json!({"token_type": "N_A", "issued_token_type": "urn:ietf:params:oauth:token-type:txn_token"})
    );
    let claims = &passed_on["claims"];
    assert_eq!((&claims["sub"], &claims["act"]["sub"]), (&id("planner"), &id("reader")), "{claims}");
    assert_eq!((&claims["act"]["act"]["sub"], &claims["req_wl"]), (&id("planner"), &id("files")), "{claims}");
    assert_eq!((&claims["txn"], &claims["tctx"]["task"]), (&report["root"]["task"]["id"], &report["child"]["id"]));
    assert_eq!((&claims["scope"], &claims["rctx"]["resource"]), (&json!("read"), &json!(AUDIENCE)));
    assert_eq!(claims["tctx"]["requested"], json!({"page": 7}));
    assert_eq!(claims["rctx"]["requested"], json!({"req_ip": "69.151.72.123"}));
    assert_eq!((&passed_on["own_requester"], &passed_on["introspected"]), (&id("reader"), &inactive));
    let refused = json!({
        "wider": "invalid_scope", "elsewhere": "invalid_request", "no_object": "invalid_request", "much": "invalid_request",
        "of_another": "access_denied", "again": "invalid_request", "as_access": "invalid_request",
    });
    assert_eq!(passed_on["refused"], refused);
    let ledger = text(&rig.run(&["ledger", "tail", "-n", "200"]));
    assert_eq!(ledger.matches("transaction_token_issued").count(), 2, "{ledger}");
}
