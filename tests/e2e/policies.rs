//! Task policies: applied by the command, asked at each begin, delegation and renewal, and told of afterwards.

use std::process::Output;

use mayfly_proto::node::BeginTaskRequest;
use mayfly_rig::Rig;
use serde_json::{Value, json};

use crate::attacks::text;
use crate::task_rules::{FILES, Node, id, on_runtime, reading, rig, wish};

fn apply(rig: &Rig, set: &str, policies: &str) -> Output {
    rig.run_with(&["--output", "json", "policy", "apply", "--name", set, "-f", "-"], policies.as_bytes())
}

/// The revision of what was applied.
fn applied(rig: &Rig, set: &str, policies: &str) -> String {
    let output = apply(rig, set, policies);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    shown["revision"].as_str().unwrap().to_owned()
}

/// The number of a revision in its epoch.
fn n(revision: &str) -> u64 {
    revision.rsplit_once('.').unwrap().1.parse().unwrap()
}

/// Why a set was refused.
fn broken(rig: &Rig, set: &str, policies: &str) -> String {
    let output = apply(rig, set, policies);
    assert_eq!(output.status.code(), Some(65), "{}", text(&output.stdout));
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"]["reason"], "invalid_policy", "{error}");
    error["error"]["why"].as_str().unwrap().to_owned()
}

/// The id that a refusal shows.
fn request(what: &str) -> &str {
    what.rsplit_once("(request ").unwrap_or_else(|| panic!("no request id: {what}")).1.trim_end_matches(')')
}

fn records(rig: &Rig, kind: &str) -> Vec<Value> {
    let tail = rig.run(&["--output", "json", "ledger", "tail", "-n", "1000"]);
    let all = String::from_utf8(tail.stdout).unwrap();
    let all = all.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|record| record["kind"] == kind).collect()
}

#[test]
fn every_set_that_was_applied_must_permit_too_and_an_empty_one_permits_nothing() {
    let rig = rig(&[]);
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let planner = node.holder("planner", 1).await;
        let reader = node.holder("reader", 2).await;

        // Nothing was ever applied: the entry alone decides, and the record says so.
        let root = node.begin(&planner, reading()).await.unwrap();
        let begun = records(&rig, "task_begun");
        assert_eq!((begun.len(), &begun[0]["policy"]), (1, &json!("none")));
        assert!(rig.json(&["policy", "show"])["revision"].is_null());

        let first = applied(
            &rig,
            "default",
            &format!(
                "@id(\"files\") permit(principal, action, resource == Audience::\"{FILES}\");\n\
                 @id(\"no-writing\") forbid(principal, action, resource) when {{ context.scopes.contains(\"write\") }};"
            ),
        );
        let root_again = node.begin(&planner, reading()).await.unwrap();
        let begun = records(&rig, "task_begun");
        assert_eq!(begun[1]["policy"], format!("{first} default(files)"));
        assert_eq!(begun[1]["event_id"], *id(&root_again));
        let writing = json!({"audience": FILES, "scope": ["write"]});
        let (reason, what) = node.rogue.refused(wish(&planner, &writing)).await;
        assert_eq!(reason, "policy_denied");
        assert!(what.contains("\"default\" forbids it, by no-writing"), "{what}");
        // What no permit speaks of is refused, whatever the entry allows.
        let mail = json!({"audience": "https://mail.example.org/mcp"});
        let (reason, what) = node.rogue.refused(wish(&planner, &mail)).await;
        assert!(reason == "policy_denied" && what.contains("\"default\" has no permit"), "{what}");
        // The entry comes first: no policy gives what it does not.
        let more = json!({"audience": "https://other.example.org"});
        assert_eq!(node.begin(&planner, more).await.unwrap_err(), "task_exceeds_entry");

        // A second set speaks of delegations; the first one's permit is not its own.
        let second = applied(
            &rig,
            "hands",
            "permit(principal, action == Action::\"begin\", resource);\n\
             @id(\"to-readers\") permit(principal in Path::\"spiffe://test.example/reader\", action == Action::\"delegate\", \
             resource) when { context.hop <= 1 && context has parent && context.parent == Workload::\"spiffe://test.example/planner\" };",
        );
        assert!(n(&second) > n(&first));
        let child = node.delegate(&root, &reader, reading()).await.unwrap();
        let delegated = records(&rig, "task_begun").pop().unwrap();
        assert_eq!(delegated["policy"], format!("{second} default(files) hands(to-readers)"));
        let third = node.holder("planner", 3).await;
        let below =
            node.rogue.refused(BeginTaskRequest { parent_token: child.token, ..wish(&third, &reading()) }).await;
        assert!(below.0 == "policy_denied" && below.1.contains("\"hands\" has no permit"), "{}", below.1);

        // Renewals are asked too: what was begun before dies with its token.
        node.rogue.renew(&planner.subject, &planner.svid, id(&root)).await.unwrap();
        let empty = applied(&rig, "default", "// nobody\n");
        assert_eq!(node.begin(&planner, reading()).await.unwrap_err(), "policy_denied");
        let renewed = node.rogue.renew(&planner.subject, &planner.svid, id(&root)).await;
        assert_eq!(renewed.unwrap_err(), "policy_denied");

        // Deleted sets decide nothing; when none is left, the record still says since when.
        rig.json(&["policy", "delete", "default"]);
        node.begin(&planner, reading()).await.unwrap();
        let last = rig.json(&["policy", "delete", "hands"]);
        assert_eq!(last["left"], 0);
        node.begin(&planner, writing).await.unwrap();
        let begun = records(&rig, "task_begun").pop().unwrap();
        assert!(begun["policy"] == last["revision"] && n(last["revision"].as_str().unwrap()) > n(&empty), "{begun}");
        assert_eq!(rig.run(&["policy", "delete", "hands"]).status.code(), Some(65));
    });
}

#[test]
fn a_broken_set_is_refused_with_line_and_reason_and_the_old_one_stays() {
    let mut rig = rig(&[]);
    let good = "permit(principal, action, resource);\n";
    let revision = applied(&rig, "default", good);
    for (policies, place) in [
        ("permit(principal, action, resource);\npermit(principal, action resource);\n", "stdin:2: "),
        ("permit(principal, action, resource)\nwhen { context.porpoise == \"x\" };", "stdin:2: "),
        ("permit(principal, action == Action::\"destroy\", resource);", "stdin:1: "),
        ("\n\npermit(principal, action, resource) when { context.hop == \"1\" };", "stdin:3: "),
        ("permit(principal == ?principal, action, resource);", "template"),
        (
            "@id(\"a\") permit(principal, action, resource);\n@id(\"a\") forbid(principal, action, resource);",
            "same @id",
        ),
        ("@id(\"a b\") permit(principal, action, resource);", "@id"),
    ] {
        let why = broken(&rig, "default", policies);
        assert!(why.contains(place), "{policies}: {why}");
    }
    assert!(broken(&rig, "No Name", good).contains("a set is called"));
    assert!(broken(&rig, "large", &format!("//{}\n", "x".repeat(1 << 20))).contains("1 MiB"));
    assert!(broken(&rig, "many", &good.repeat(4097)).contains("4096"));
    // All sets together have the same bounds.
    assert!(broken(&rig, "more", &good.repeat(4096)).contains("would be 2"));
    let shown = rig.json(&["policy", "show"]);
    assert_eq!((&shown["revision"], &shown["items"][0]["policies"]), (&json!(revision), &json!(1)));
    assert_eq!(rig.json(&["policy", "show", "default"])["files"][0]["text"], good);

    // A dry run changes nothing, and neither does a restart.
    let checked = rig.run_with(&["policy", "apply", "--dry-run", "-f", "-"], b"");
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    rig.stop_issuer();
    rig.start_issuer();
    assert_eq!(rig.json(&["policy", "show"]), shown);
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let planner = node.holder("planner", 1).await;
        node.begin(&planner, reading()).await.unwrap();
        assert_eq!(records(&rig, "task_begun").pop().unwrap()["policy"], format!("{revision} default(stdin#1)"));
    });
    assert_eq!(records(&rig, "policy_applied").len(), 1);
}

#[test]
fn what_details_leave_open_is_not_hidden_from_a_policy() {
    let rig = rig(&[]);
    applied(
        &rig,
        "default",
        "permit(principal, action, resource);\n@id(\"tools\") forbid(principal, action, resource) when { context.any_action || \
         context.actions.contains(\"delete\") };\n@id(\"overflow\") forbid(principal, action, resource) when \
         { context.purpose like \"overflow*\" && 9223372036854775807 + context.life_s > 0 };",
    );
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let planner = node.holder("planner", 1).await;
        let detail = |more: Value| {
            let mut detail =
                json!({"type": "mcp_tool", "tool": "read_file", "constraints": {"path": {"subpath": "/srv"}}});
            detail.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"audience": FILES, "authorization_details": [detail]})
        };
        node.begin(&planner, detail(json!({"actions": ["get"]}))).await.unwrap();
        for grant in [detail(json!({"actions": ["get", "delete"]})), detail(json!({}))] {
            let (reason, what) = node.rogue.refused(wish(&planner, &grant)).await;
            assert!(reason == "policy_denied" && what.contains("by tools"), "{grant}: {what}");
        }
        // A forbid that fails is no permit.
        let overflow = BeginTaskRequest { purpose: "overflow it".to_owned(), ..wish(&planner, &reading()) };
        let (reason, what) = node.rogue.refused(overflow).await;
        assert!(reason == "policy_denied" && what.contains("by overflow"), "{what}");
    });
}

#[test]
fn a_decision_is_explained_by_the_task_and_by_the_request_that_was_refused() {
    let rig = rig(&[]);
    let revision = applied(
        &rig,
        "default",
        "@id(\"all\") permit(principal, action, resource);\n@id(\"no-writing\") forbid(principal, action, resource) when \
         { context.scopes.contains(\"write\") };",
    );
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let planner = node.holder("planner", 1).await;
        let entry = rig.json(&["entry", "show", "planner"]);
        let begun = node.begin(&planner, reading()).await.unwrap();
        let told = rig.json(&["task", "explain", id(&begun)]);
        let decision = &told["decision"];
        assert_eq!((&decision["outcome"], &decision["action"]), (&json!("granted"), &json!("begin")));
        assert_eq!((&decision["task"], &told["task"]["state"]), (&json!(id(&begun)), &json!("open")));
        assert_eq!(decision["asked"]["purpose"], "summarise the report");
        assert_eq!((&decision["asked"]["grant"], &told["task"]["granted"]), (&reading(), &reading()));
        assert_eq!(decision["entry"], json!({"name": "planner", "uid": entry["uid"], "revision": entry["revision"]}));
        let set = json!({"name": "default", "revision": revision, "permits": true, "policies": ["all"]});
        assert_eq!(decision["policy"], json!({"revision": revision, "sets": [set]}));
        assert_eq!(decision["context"]["scopes"], json!(["read"]));
        assert_eq!(decision["context"]["node"]["selectors"], json!(["node:attestor:join_token", "node:id:a"]));
        assert_eq!(decision["instance"], "01".repeat(16));
        let shown = text(&rig.run(&["task", "explain", id(&begun)]).stdout);
        assert!(shown.contains("begin granted") && shown.contains("permits: all"), "{shown}");

        // Refused by a policy, and by the entry: both are found by the id that the refusal shows, and stand in the ledger.
        let writing = json!({"audience": FILES, "scope": ["read", "write"]});
        let (_, what) = node.rogue.refused(wish(&planner, &writing)).await;
        let told = rig.json(&["task", "explain", request(&what)]);
        let decision = &told["decision"];
        assert_eq!((&decision["outcome"], &decision["reason"]), (&json!("refused"), &json!("policy_denied")));
        assert_eq!(decision["policy"]["sets"][0]["policies"], json!(["no-writing"]));
        assert_eq!((&decision["asked"]["grant"], &told["task"]), (&writing, &Value::Null));
        let record = records(&rig, "refused").pop().unwrap();
        assert_eq!((&record["event_id"], &record["reason"]), (&json!(request(&what)), &json!("policy_denied")));
        assert_eq!(record["policy"], format!("{revision} default(no-writing)"));
        let (_, what) = node.rogue.refused(wish(&planner, &json!({"audience": FILES, "scope": ["admin"]}))).await;
        let told = rig.json(&["task", "explain", request(&what)]);
        assert_eq!(
            (&told["decision"]["reason"], &told["decision"]["policy"]),
            (&json!("task_exceeds_entry"), &Value::Null)
        );
        assert_eq!(told["decision"]["entry"]["name"], "planner");
        // What is not JSON is kept as text, and not more than some of it.
        let (_, what) =
            node.rogue.refused(BeginTaskRequest { grant: "{".repeat(100_000), ..wish(&planner, &reading()) }).await;
        let told = rig.json(&["task", "explain", request(&what)]);
        assert_eq!(told["decision"]["asked"]["grant"], "{".repeat(4096));

        assert_eq!(rig.run(&["task", "explain", &"0".repeat(32)]).status.code(), Some(65));
    });
}

#[test]
fn refusals_do_not_fill_the_store() {
    let rig = rig(&[("tasks.begins_per_instance", "1000"), ("tasks.begins_per_node", "1000")]);
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let (planner, other) = (node.holder("planner", 1).await, node.holder("planner", 2).await);
        let asked = json!({"audience": "https://other.example.org"});
        let mut named = 0;
        for _ in 0..200 {
            let (reason, what) = node.rogue.refused(wish(&planner, &asked)).await;
            assert_eq!(reason, "task_exceeds_entry");
            named += usize::from(what.contains("(request "));
        }
        assert!((10..40).contains(&named), "{named}");
        // Of another instance there is room for a few, and of ever new ones not for long.
        let (_, what) = node.rogue.refused(wish(&other, &asked)).await;
        assert!(what.contains("(request "), "{what}");
        for instance in 0..200_u8 {
            let mut forged = wish(&planner, &asked);
            forged.holder.as_mut().unwrap().instance = vec![instance; 16].into();
            named += usize::from(node.rogue.refused(forged).await.1.contains("(request "));
        }
        assert!(named < 100, "{named}");
        let refused = records(&rig, "refused").len();
        assert!(refused <= named + 1, "{refused} records of {named} refusals");
        // A begin that is allowed is not held up by any of it.
        node.begin(&planner, reading()).await.unwrap();
    });
}

#[test]
fn whoever_begins_tasks_too_fast_is_told_when_to_come_back_and_holds_up_nobody_else() {
    let rig = rig(&[("tasks.begins_per_instance", "2"), ("tasks.begins_per_node", "3")]);
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let (fast, other) = (node.holder("planner", 1).await, node.holder("planner", 2).await);
        let mut begun = 0;
        let (reason, what) = loop {
            match node.rogue.begin(wish(&fast, &reading())).await {
                Ok(_) => begun += 1,
                Err(reason) => break (reason, node.rogue.refused(wish(&fast, &reading())).await.1),
            }
            assert!(begun < 100, "no end");
        };
        assert!(reason == "task_rate" && begun >= 10, "{reason} after {begun}");
        assert!(what.contains("the instance may begin 2 tasks a second; there is room again in "), "{what}");
        // Its refusals used up nothing of the node's, and another instance has what is its own.
        node.begin(&other, reading()).await.unwrap();
        // Ever new instances come out of the one quota of the node.
        let mut forged = wish(&fast, &reading());
        let mut refusals = Vec::new();
        for instance in 3..60_u8 {
            forged.holder.as_mut().unwrap().instance = vec![instance; 16].into();
            refusals.extend(node.rogue.begin(forged.clone()).await.err());
        }
        assert!(refusals.iter().any(|reason| reason == "task_rate"), "{refusals:?}");
        // It passes by itself.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while let Err(reason) = node.begin(&other, reading()).await {
            assert!(reason == "task_rate" && std::time::Instant::now() < until, "{reason}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    });
}
