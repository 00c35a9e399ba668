//! Tasks on behalf of users: begun with a user's token by whoever may act for the user, told of everywhere, suspended when the user is.

/// Tokens that make nobody act for anybody.
mod attacks;
/// What ends what users' tokens began.
mod logout;

use std::process::{Command, Output};

use mayfly_proto::node::{BeginTaskRequest, TaskIssue};
use mayfly_rig::{Rig, eventually, mayfly};
use mayfly_sdk::Clock;
use serde_json::{Map, Value, json};

use crate::agentless::provider::IdentityProvider;
use crate::attacks::text;
use crate::task_rules::{FILES, Holder, Node, id, on_runtime, reading, wish};

/// What users' tokens name as their audience: the `iss` of task tokens of an issuer without a public URL.
const AUDIENCE: &str = "spiffe://test.example/mayfly/task";

type Claims = Map<String, Value>;

/// An issuer that knows this provider's users, with an agent.
fn rig(providers: &[(&str, &IdentityProvider)], settings: &[(&str, &str)]) -> Rig {
    let mut rig = Rig::new(settings);
    for (key, value) in [("tasks.begins_per_instance", "1000"), ("tasks.begins_per_node", "1000")] {
        rig.set(key, value);
    }
    for (name, provider) in providers {
        let file = provider.jwks_file(rig.dir(), name);
        rig.set(&format!("users.{name}.issuer"), &format!("\"{}\"", provider.issuer));
        rig.set(&format!("users.{name}.jwks_file"), &format!("\"{}\"", file.display()));
    }
    rig.start_issuer();
    rig.start_agent("a");
    rig.apply(&entries(&rig));
    rig
}

/// The same, with nobody but the test to stand in for the node: its agent would take the stream back, and end what it does not hold.
fn alone(providers: &[(&str, &IdentityProvider)]) -> Rig {
    let mut rig = rig(providers, &[]);
    rig.kill_agent("a");
    rig
}

/// `planner` and `reader` may act for users of `corp`, by tokens of the portal; `partnered` for those of `partner`, by any; `lone` for
/// nobody's; `plain` begins no tasks.
fn entries(rig: &Rig) -> String {
    let task = |users: &str| {
        format!(
            "    task: {{audiences: [\"{FILES}\"], scopes: [read], delegable: [\"{FILES}\"], deadline: 2h{users}}}\n"
        )
    };
    let corp = task(", users: [{provider: corp, clients: [portal]}]");
    [
        rig.entry("planner", "") + &corp,
        rig.entry("reader", "") + &corp,
        rig.entry("partnered", "") + &task(", users: [{provider: partner, clients: ['*']}, {provider: corp}]"),
        rig.entry("lone", "") + &task(""),
        rig.entry("plain", ""),
        rig.entry("files", "") + &format!("    serves: [\"{FILES}\"]\n"),
    ]
    .concat()
}

/// A token that the provider's portal got for a user to act by, in which some claims are others; null takes one away.
fn token(provider: &IdentityProvider, subject: &str, changes: &Value) -> String {
    provider.token_with(|claims| become_users(claims, subject, changes))
}

fn become_users(claims: &mut Claims, subject: &str, changes: &Value) {
    claims.remove("repository");
    for (name, value) in [("sub", subject), ("aud", AUDIENCE), ("azp", "portal"), ("sid", "session-1")] {
        claims.insert(name.to_owned(), value.into());
    }
    for (name, value) in changes.as_object().unwrap() {
        claims.insert(name.clone(), value.clone());
    }
    claims.retain(|_, value| !value.is_null());
}

fn spiffe_id(rig: &Rig, name: &str) -> String {
    format!("spiffe://{}/{name}", rig.trust_domain)
}

/// Begins a task by this token; otherwise the reason why not.
async fn begin(node: &mut Node, holder: &Holder, token: &str) -> Result<TaskIssue, String> {
    let wish = BeginTaskRequest { subject_token: token.to_owned(), ..wish(holder, &reading()) };
    node.rogue.begin(wish).await
}

fn subject(task: &TaskIssue) -> &str {
    &task.task.as_ref().unwrap().subject
}

/// The `mayfly` command as a workload.
fn workload(rig: &Rig, args: &[&str]) -> Output {
    let mut command = Command::new(mayfly());
    command.args(["--output", "json"]).args(args).env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a")).output().unwrap()
}

fn shown(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_task_on_behalf_of_a_user_says_for_whom_and_who_acts_from_begin_to_ledger() {
    let corp = IdentityProvider::new("corp");
    let mut rig = rig(&[("corp", &corp)], &[]);
    let (planner, reader) = (spiffe_id(&rig, "planner"), spiffe_id(&rig, "reader"));
    let users = token(&corp, "alice@example", &json!({"jti": "token-1"}));
    let file = rig.dir().join("user.jwt");
    std::fs::write(&file, format!("{users}\n")).unwrap();
    let args =
        ["task", "begin", "--purpose", "her report", "--audience", FILES, "--scope", "read", "--delegable", FILES];
    let by_planner = [&args[..], &["--spiffe-id", &planner, "--subject-token-file", file.to_str().unwrap()]].concat();
    let begun = eventually("a task is begun", 20, || {
        let output = workload(&rig, &by_planner);
        output.status.success().then(|| shown(&output))
    });
    let root = begun["task"]["id"].as_str().unwrap().to_owned();
    let parent = rig.dir().join("parent");
    std::fs::write(&parent, begun["token"].as_str().unwrap()).unwrap();
    let part = ["task", "delegate", "--purpose", "a page", "--audience", FILES, "--scope", "read"];
    let part = [&part[..], &["--spiffe-id", &reader, "--parent-token-file", parent.to_str().unwrap()]].concat();
    let child = shown(&workload(&rig, &part));

    let told = |rig: &Rig| {
        let tokens = [&begun["token"], &child["token"]].map(|token| token.as_str().unwrap().to_owned());
        tokens.map(|token| shown(&workload(rig, &["token", "verify", "--audience", FILES, &token]))["claims"].clone())
    };
    let [of_root, of_child] = told(&rig);
    // `sub` is never the agent, and so `act` is always there: newest outermost.
    for claims in [&of_root, &of_child] {
        assert_eq!(claims["sub"], "user:corp:alice%40example", "{claims}");
    }
    assert_eq!((&of_root["client_id"], &of_root["act"]["sub"]), (&json!(planner), &json!(planner)));
    assert!(of_root["act"]["instance"].is_string() && of_root["act"].get("act").is_none(), "{of_root}");
    assert_eq!(
        (&of_child["act"]["sub"], &of_child["act"]["act"]["sub"]),
        (&json!(reader), &json!(planner)),
        "{of_child}"
    );
    // The hour that tasks for this provider's users last at most, of the two that the entry allows.
    let (now, deadline) = (Clock::system().now(), begun["task"]["deadline"].as_str().unwrap());
    assert!(deadline.parse::<mayfly_sdk::Timestamp>().unwrap().remaining(now).as_s() <= 3600, "{deadline}");
    let longer = [&by_planner[..], &["--deadline", "61m"]].concat();
    assert!(text(&workload(&rig, &longer).stderr).contains("task_exceeds_entry"));

    // Whoever looks is told, before and after a restart; nobody is told the token.
    for restarted in [false, true] {
        let tasks = rig.json(&["task", "list", "--all"]);
        let subjects: Vec<_> = tasks["items"].as_array().unwrap().iter().map(|task| task["subject"].clone()).collect();
        assert_eq!(subjects, ["user:corp:alice%40example", "user:corp:alice%40example"], "restarted: {restarted}");
        let explained = rig.json(&["task", "explain", &root]);
        let user = &explained["decision"]["user"];
        assert_eq!((&user["subject"], &user["provider"]), (&json!("user:corp:alice%40example"), &json!("corp")));
        assert_eq!(
            (&user["client"], &user["session"], &user["token_id"]),
            (&json!("portal"), &json!("session-1"), &json!("token-1"))
        );
        let context = &explained["decision"]["context"]["user"];
        assert_eq!(*context, json!({"provider": "corp", "subject": "alice@example", "client": "portal"}));
        let ledger = text(&rig.run(&["--output", "json", "ledger", "tail", "-n", "1000"]).stdout);
        let begins = ledger.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let begins = begins.filter(|record| record["kind"] == "task_begun").collect::<Vec<_>>();
        assert_eq!(begins.len(), 2);
        assert!(begins.iter().all(|record| record.to_string().contains("user:corp:alice%40example")), "{begins:?}");
        let signature = users.rsplit('.').next().unwrap();
        for said in [ledger, explained.to_string(), tasks.to_string(), rig.issuer_log(), rig.agent_log("a")] {
            assert!(!said.contains(signature), "a user's token was told to somebody");
        }
        assert_eq!(rig.json(&["task", "show", &root])["subject"], "user:corp:alice%40example");
        if !restarted {
            rig.stop_issuer();
            rig.start_issuer();
            eventually("the agent is back", 30, || {
                workload(&rig, &["token", "verify", "--audience", FILES, begun["token"].as_str().unwrap()])
                    .status
                    .success()
                    .then_some(())
            });
        }
    }
    let [again, _] = told(&rig);
    assert_eq!(again, of_root);
}

#[test]
fn policies_see_the_user_and_the_client_at_begin_and_at_every_hop() {
    let corp = IdentityProvider::new("corp");
    let rig = alone(&[("corp", &corp)]);
    let set = "@id(\"not-bob\") forbid(principal, action, resource) when { context has user && context.user.subject == \"bob\" };\n\
        @id(\"portal\") permit(principal, action, resource) when { context has user && context.user.provider == \"corp\" && \
        context.user has client && context.user.client == \"portal\" };";
    let applied = rig.run_with(&["policy", "apply", "--name", "users", "-f", "-"], set.as_bytes());
    assert!(applied.status.success(), "{}", text(&applied.stderr));
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let (planner, reader) = (node.holder("planner", 1).await, node.holder("reader", 2).await);
        let alices = begin(&mut node, &planner, &token(&corp, "alice", &json!({}))).await.unwrap();
        node.delegate(&alices, &reader, reading()).await.unwrap();
        assert_eq!(node.rogue.renew(&planner.subject, &planner.svid, id(&alices)).await.map(drop), Ok(()));
        let bobs = token(&corp, "bob", &json!({}));
        assert_eq!(begin(&mut node, &planner, &bobs).await.unwrap_err(), "policy_denied");
        let named = token(&corp, "alice", &json!({"azp": spiffe_id(&rig, "planner")}));
        assert_eq!(begin(&mut node, &planner, &named).await.unwrap_err(), "policy_denied");
        assert_eq!(node.begin(&planner, reading()).await.unwrap_err(), "policy_denied");
    });
}
