//! WIT-SVIDs and proofs of possession, made here and read there, and the reverse.

use super::*;

/// As the other clients, with WIT-SVIDs.
const ON: [(&str, &str); 4] = [("wit.enabled", "true"), SHORT[0], SHORT[1], SHORT[2]];
const URL: &str = "https://db.example.org/rows";

/// Rows: WA-60.
#[test]
fn go_spiffe_asks_once_where_there_are_no_wit_svids() {
    let Some(workload) = tool(&["MAYFLY_TEST_GO_WORKLOAD", "target/test-env/go-workload"]) else { return };
    let rig = Rig::started(&SHORT);
    rig.apply(&rig.entry("interop", ""));
    let report = run(&rig, &[workload.to_str().unwrap()], &["without-wits"]);
    assert_eq!((&report["unimplemented"], &report["tries"]), (&true.into(), &2.into()), "{report}");
}

/// Rows: W-33, WA-46, WA-61, WA-62, WA-63, WA-64, WA-67.
#[test]
fn go_spiffe_follows_its_wit_svid_through_rotations_and_tells_kinds_of_token_apart() {
    let Some(workload) = tool(&["MAYFLY_TEST_GO_WORKLOAD", "target/test-env/go-workload"]) else { return };
    let rig = Rig::started(&ON);
    rig.apply(&rig.entry("interop", ""));
    let report = run(&rig, &[workload.to_str().unwrap()], &["wits"]);
    let id = format!("spiffe://{}/interop", rig.trust_domain);
    assert_eq!((&report["spiffe_id"], &report["named"]), (&id.clone().into(), &id.into()));
    for held in ["foreign", "jwt_as_wit", "wit_as_jwt", "wit_validated"] {
        assert_eq!(report[held], true, "{held}: {report}");
    }
    assert_eq!(report["tokens"].as_array().unwrap().len(), 4, "{report}");
}

/// Rows: W-21, W-25, W-30, W-31, WA-62, WA-63, WA-65.
#[test]
fn pyjwt_verifies_a_wit_svid_and_each_side_believes_the_proofs_of_the_other() {
    let Some(python) = tool(&["MAYFLY_TEST_PYTHON", "target/test-env/venv/bin/python"]) else { return };
    let script = repository().join("tests/interop/python/wits.py");
    let python = [python.to_str().unwrap(), script.to_str().unwrap()];
    let rig = Rig::started(&ON[..2]);
    rig.apply(&rig.entry("interop", ""));
    let held = run(&rig, &python, &["hold", URL]);
    let id = format!("spiffe://{}/interop", rig.trust_domain);
    assert_eq!(held["spiffe_id"], *id);

    // Its proof, our verdict.
    let lines = |headers: &Value| -> String {
        let headers = headers.as_object().unwrap().iter();
        headers.map(|(name, value)| format!("{name}: {}", value.as_str().unwrap())).collect::<Vec<_>>().join("\n")
    };
    let judged = wit(&rig, &["validate", "--url", URL, "-"], &lines(&held["headers"]));
    assert!(judged.status.success(), "{}", text(&judged));
    let verdict: Value = serde_json::from_slice(&judged.stdout).unwrap();
    assert_eq!(verdict["spiffe_id"], *id);
    let judged = wit(&rig, &["validate", "--url", "https://db.example.org/other", "-"], &lines(&held["headers"]));
    assert!(!judged.status.success() && text(&judged).contains("proof_invalid"), "{}", text(&judged));

    // Our proof, its verdict.
    let proven = wit(&rig, &["prove", "--url", URL], "");
    let proven: Value = serde_json::from_slice(&proven.stdout).unwrap();
    let request = serde_json::json!({ "headers": proven["headers"], "jwks": held["jwks"] }).to_string();
    for (url, says) in [(URL, "spiffe_id"), ("https://db.example.org/other", "refused")] {
        let mut judge = Command::new(python[0]);
        judge.args([python[1], "judge", url]);
        let judged = with_input(judge, &request);
        assert!(judged.status.success(), "{}", text(&judged));
        let verdict: Value = serde_json::from_slice(&judged.stdout).unwrap();
        assert!(verdict[says].is_string(), "{url}: {verdict}");
    }
}

/// `mayfly svid wit ...` as a workload of this user.
fn wit(rig: &Rig, args: &[&str], input: &str) -> Output {
    let mut command = Command::new(mayfly_rig::mayfly());
    command.args(["--output", "json", "svid", "wit"]).args(args).env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a"));
    with_input(command, input)
}

fn with_input(mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}
