//! Task tokens, verified by programs that know OAuth and nothing of Mayfly.

use std::io::Write as _;

use serde_json::json;

use super::*;

const URL: &str = "https://issuer.example.org";
const AUDIENCE: &str = "https://files.example.org/mcp";

#[test]
fn pyjwt_and_joserfc_verify_a_task_token_by_the_published_keys_and_take_no_svid_for_one() {
    let Some(python) = tool(&["MAYFLY_TEST_PYTHON", "target/test-env/venv/bin/python"]) else { return };
    let rig = Rig::started(&[("web.public_url", &format!("\"{URL}\""))]);
    let task = format!("    task: {{audiences: [\"{AUDIENCE}\"], scopes: [read]}}\n");
    rig.apply(&(rig.entry("interop", "") + &task));
    let anchors = rig.dir().join("anchors.pem");
    let shown = rig.run(&["bundle", "show", "--form", "pem"]);
    assert!(shown.status.success(), "{}", text(&shown));
    std::fs::write(&anchors, shown.stdout).unwrap();

    let mayfly = mayfly_rig::mayfly();
    let mayfly = [mayfly.to_str().unwrap(), "--output", "json"];
    let begun =
        run(&rig, &mayfly, &["task", "begin", "--purpose", "a test", "--audience", AUDIENCE, "--scope", "read"]);
    let svid = run(&rig, &mayfly, &["svid", "jwt", "fetch", "--audience", AUDIENCE]);
    let tokens = json!({"task": begun["token"], "svid": svid["items"][0]["token"]});

    let script = repository().join("tests/interop/python/tasks.py");
    let mut command = Command::new(python);
    command.arg(script).args([&rig.web_address(), URL]).arg(anchors).arg(AUDIENCE);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(tokens.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let id = format!("spiffe://{}/interop", rig.trust_domain);
    assert_eq!((&report["task"]["sub"], &report["task"]["scope"]), (&id.clone().into(), &"read".into()), "{report}");
    assert_eq!(report["task"]["mayfly_task"]["id"], begun["task"]["id"]);
    assert_eq!((&report["svid"]["sub"], &report["svid"]["iss"]), (&id.into(), &format!("{URL}/svid").into()));
    assert_eq!(report["refused"].as_array().unwrap().len(), 3, "{report}");
}
