//! Services that others wrote, in front of which a task token is shown.

use std::fs;

use mayfly_rig::{Daemon, eventually};
use serde_json::json;

use super::oauth::Place;
use super::{Command, repository, run, text, tool};

const AUDIENCE: &str = "https://files.example.org/mcp";
const ELSEWHERE: &str = "https://mail.example.org/";

#[test]
fn an_mcp_server_takes_task_tokens_by_its_own_hooks_and_none_that_is_not_good_now() {
    let Some(python) = tool(&["MAYFLY_TEST_PYTHON", "target/test-env/venv/bin/python"]) else { return };
    let place = Place::new(&[("ttl.allow_short_ttl", "true"), ("ttl.task", "\"12s\"")], &[AUDIENCE, ELSEWHERE]);
    let report = place.report(&python, "mcp_server.py", &[AUDIENCE, ELSEWHERE]);
    let planner = format!("spiffe://{}/planner", place.rig.trust_domain);
    assert_eq!((&report["caller"]["sub"], &report["open"]), (&json!(planner), &json!(200)), "{report}");
    let (status, challenge) = (&report["none"][0], report["none"][1].as_str().unwrap());
    assert_eq!((status, challenge.contains("resource_metadata=")), (&json!(401), true), "{report}");
    let refused = ["elsewhere", "completed", "expired"].map(|which| &report[which]);
    assert_eq!(refused, [&json!(401); 3], "{report}");
    assert_eq!(report["narrow"], 403, "{report}");
}

#[test]
fn envoys_jwt_filter_verifies_task_tokens_by_the_published_keys() {
    let Some(python) = tool(&["MAYFLY_TEST_PYTHON", "target/test-env/venv/bin/python"]) else { return };
    let Some(envoy) = tool(&["MAYFLY_TEST_ENVOY", "target/test-env/envoy"]) else { return };
    let place = Place::new(&[], &[AUDIENCE, ELSEWHERE]);
    let (rig, dir) = (&place.rig, place.rig.dir());
    let sample = fs::read_to_string(repository().join("deploy/samples/envoy-task-tokens.yaml")).unwrap();
    let config = sample
        .replace("0.0.0.0", rig.ip())
        .replace("issuer.example.org, port_value: 8444", &format!("{}, port_value: 8444", rig.ip()))
        .replace("/etc/envoy/mayfly-bundle.pem", dir.join("anchors.pem").to_str().unwrap());
    fs::write(dir.join("envoy.yaml"), config).unwrap();
    let mut command = Command::new(envoy);
    command.args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning", "-c"]).arg(dir.join("envoy.yaml"));
    let envoy = Daemon::start(command, dir.join("envoy.log"));
    let address = format!("{}:8080", rig.ip());
    eventually("envoy listens", 60, || std::net::TcpStream::connect(&address).ok());

    let mayfly = mayfly_rig::mayfly();
    let mayfly = [mayfly.to_str().unwrap(), "--output", "json"];
    let planner = format!("spiffe://{}/planner", rig.trust_domain);
    let begin = |audience: &str| {
        let args = ["task", "begin", "--purpose", "a call", "--audience", audience, "--scope", "read"];
        run(rig, &mayfly, &[&args[..], &["--spiffe-id", &planner]].concat())["token"].as_str().unwrap().to_owned()
    };
    let svid = run(rig, &mayfly, &["svid", "jwt", "fetch", "--audience", AUDIENCE, "--spiffe-id", &planner]);
    let svid = svid["items"][0]["token"].as_str().unwrap().to_owned();
    let shows = |token: Option<&str>| -> u16 {
        let script = "import sys, requests\nh = {'authorization': 'Bearer ' + sys.argv[2]} if sys.argv[2] else {}\n\
                      print(requests.get(sys.argv[1], headers=h, timeout=20).status_code)";
        let output = Command::new(&python)
            .args(["-c", script, &format!("http://{address}/"), token.unwrap_or_default()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    };
    let good = begin(AUDIENCE);
    // The keys are fetched in the background.
    eventually("envoy has the keys", 60, || (shows(Some(&good)) == 200).then_some(()));
    let changed = format!("{}AA", &good[..good.len() - 2]);
    let outcomes = [None, Some(&*changed), Some(&*svid), Some(&*begin(ELSEWHERE))].map(shows);
    assert_eq!(outcomes, [401, 401, 401, 403], "{}", envoy.log());
}
