//! Tasks as the issuer decides about them, asked by nodes directly: who may begin what, what may be handed on, and what ends with what.

use std::collections::BTreeSet;

use base64::Engine as _;
use mayfly_proto::node::{BeginTaskRequest, Subject, TaskActors, TaskIssue, TaskOutcome};
use mayfly_rig::Rig;
use serde_json::{Value, json};

use crate::rogue::Rogue;

pub(crate) const FILES: &str = "https://files.example.org/mcp";
pub(crate) const MAIL: &str = "https://mail.example.org/mcp";

/// Two agents that may begin tasks, a workload that may not, and the service of `FILES`.
fn entries(rig: &Rig) -> String {
    let task = |more: &str| {
        format!(
            "    task:\n      audiences: [\"{FILES}\", \"{MAIL}\"]\n      scopes: [\"read\", \"write\"]\n      delegable: [\"{FILES}\", \"{MAIL}\"]\n{more}"
        )
    };
    let details = "      authorization_details:\n        - {type: mcp_tool, tool: read_file, constraints: {path: {subpath: /srv}}}\n      deadline: 10m\n      max_hops: 2\n";
    [
        rig.entry("planner", "") + &task(details),
        rig.entry("reader", "") + &task(""),
        rig.entry("brief", "") + &task("      deadline: 1m\n"),
        rig.entry("plain", ""),
        rig.entry("files", "") + &format!("    serves: [\"{FILES}\"]\n"),
    ]
    .concat()
}

/// A node with its entries, and instances of them.
pub(crate) struct Node {
    pub(crate) rogue: Rogue,
    pub(crate) entries: std::collections::BTreeMap<String, Subject>,
}

/// An instance with its X.509-SVID.
pub(crate) struct Holder {
    pub(crate) subject: Subject,
    pub(crate) svid: Vec<bytes::Bytes>,
}

impl Node {
    pub(crate) async fn of(rig: &Rig, agent: &str) -> Self {
        let mut rogue = Rogue::of(rig, agent).await;
        let entries = rogue.entries(rig).await;
        Self { rogue, entries }
    }

    pub(crate) async fn holder(&mut self, entry: &str, instance: u8) -> Holder {
        let subject = Subject { instance: vec![instance; 16].into(), ..self.entries[entry].clone() };
        let svid = self.rogue.svid(&subject).await;
        Holder { subject, svid }
    }

    pub(crate) async fn begin(&mut self, holder: &Holder, grant: Value) -> Result<TaskIssue, String> {
        self.rogue.begin(wish(holder, &grant)).await
    }

    pub(crate) async fn delegate(
        &mut self,
        parent: &TaskIssue,
        holder: &Holder,
        grant: Value,
    ) -> Result<TaskIssue, String> {
        self.rogue.begin(BeginTaskRequest { parent_token: parent.token.clone(), ..wish(holder, &grant) }).await
    }

    /// What the service of `FILES` is told of a token; otherwise the reason why it is refused.
    pub(crate) async fn check(&mut self, token: &TaskIssue) -> Result<Value, String> {
        let service = self.entries["files"].clone();
        self.rogue.check(&service, FILES, &token.token, b"").await
    }
}

pub(crate) fn wish(holder: &Holder, grant: &Value) -> BeginTaskRequest {
    BeginTaskRequest {
        holder: Some(holder.subject.clone()),
        svid: holder.svid.clone(),
        purpose: "summarise the report".to_owned(),
        grant: grant.to_string(),
        ..BeginTaskRequest::default()
    }
}

pub(crate) fn reading() -> Value {
    json!({"audience": FILES, "scope": ["read"], "delegable": [FILES]})
}

pub(crate) fn id(task: &TaskIssue) -> &str {
    &task.task.as_ref().unwrap().id
}

/// An issuer, and a node `a` for which nobody speaks but the test: its agent would take the stream back, and end the tasks that it does
/// not hold. That no agent is in sync counts for nothing unless the settings say after how long.
pub(crate) fn rig(settings: &[(&str, &str)]) -> Rig {
    let mut rig = Rig::new(&[("tasks.silent_after", "\"1h\"")]);
    for (key, value) in settings {
        rig.set(key, value);
    }
    rig.start_issuer();
    rig.start_agent("a");
    rig.kill_agent("a");
    rig.apply(&entries(&rig));
    rig
}

/// Runs it on a runtime of its own: the rig blocks.
pub(crate) fn on_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_token_is_for_one_holder_one_certificate_and_one_audience_and_stands_in_the_ledger() {
    let rig = rig(&[]);
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let planner = node.holder("planner", 1).await;
        let begun = node.begin(&planner, reading()).await.unwrap();
        let task = begun.task.clone().unwrap();
        assert_eq!((task.state.as_str(), task.id == task.root, task.hop, task.max_hops), ("open", true, 0, 2));
        assert!((1..=300).contains(&begun.lifetime_s) && begun.renew_after_s < begun.lifetime_s);

        let claims = node.check(&begun).await.unwrap();
        let planner_id = format!("spiffe://{}/planner", rig.trust_domain);
        assert_eq!(
            (&claims["sub"], &claims["client_id"], &claims["aud"]),
            (&json!(planner_id), &json!(planner_id), &json!(FILES))
        );
        assert_eq!((&claims["scope"], claims.get("act")), (&json!("read"), None));
        assert_eq!((&claims["txn"], &claims["mayfly_task"]["id"]), (&json!(task.id), &json!(task.id)));
        let thumbprint = ring::digest::digest(&ring::digest::SHA256, &planner.svid[0]);
        let thumbprint = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(thumbprint);
        assert_eq!(claims["cnf"], json!({"x5t#S256": thumbprint}));
        let header = begun.token.split('.').next().unwrap();
        let header: Value =
            serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
        assert_eq!(header["typ"], "at+jwt");

        // The certificate that the service saw decides, and the service must be that of the audience.
        let service = node.entries["files"].clone();
        let told = node.rogue.check(&service, FILES, &begun.token, &planner.svid[0]).await;
        assert!(told.is_ok(), "{told:?}");
        let other = node.holder("planner", 2).await;
        assert_eq!(
            node.rogue.check(&service, FILES, &begun.token, &other.svid[0]).await.unwrap_err(),
            "task_token_not_bound"
        );
        assert_eq!(node.rogue.check(&service, MAIL, &begun.token, b"").await.unwrap_err(), "audience_not_served");
        let reader = node.entries["reader"].clone();
        assert_eq!(node.rogue.check(&reader, FILES, &begun.token, b"").await.unwrap_err(), "audience_not_served");

        let ledger = String::from_utf8(rig.run(&["--output", "json", "ledger", "tail"]).stdout).unwrap();
        let records: Vec<Value> = ledger.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let record = |id: &str| records.iter().find(|record| record["event_id"] == id).expect("a record").clone();
        assert_eq!(record(&task.id)["kind"], "task_begun");
        assert_eq!(record(&begun.jti)["kind"], "task_token_issued");
    });
}

#[test]
fn what_goes_beyond_the_entry_is_refused_and_the_reason_says_which_rule() {
    let rig = rig(&[("tasks.per_instance", "2")]);
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let planner = node.holder("planner", 1).await;
        let detail = |path: &str| {
            json!({"audience": FILES, "authorization_details": [
                {"type": "mcp_tool", "tool": "read_file", "constraints": {"path": {"subpath": path}}}]})
        };
        for (grant, reason) in [
            (json!({"audience": "https://other.example.org"}), "task_exceeds_entry"),
            (json!({"audience": FILES, "scope": ["admin"]}), "task_exceeds_entry"),
            (json!({"audience": FILES, "delegable": ["https://other.example.org"]}), "task_exceeds_entry"),
            (detail("/"), "task_exceeds_entry"),
            (detail("/srv/../etc"), "invalid_grant"),
            (json!({"audience": FILES, "more": 1}), "invalid_grant"),
            (json!({}), "invalid_grant"),
        ] {
            assert_eq!(node.begin(&planner, grant.clone()).await.unwrap_err(), reason, "{grant}");
        }
        node.begin(&planner, detail("/srv/reports")).await.unwrap();

        let longer = BeginTaskRequest { deadline_s: 601, ..wish(&planner, &reading()) };
        assert_eq!(node.rogue.begin(longer).await.unwrap_err(), "task_exceeds_entry");
        let deeper = BeginTaskRequest { max_hops: Some(3), ..wish(&planner, &reading()) };
        assert_eq!(node.rogue.begin(deeper).await.unwrap_err(), "task_exceeds_entry");
        for purpose in [String::new(), "x".repeat(1025), "two\nlines".to_owned()] {
            let wish = BeginTaskRequest { purpose, ..wish(&planner, &reading()) };
            assert_eq!(node.rogue.begin(wish).await.unwrap_err(), "invalid_argument");
        }

        // Whose it is: an entry with a `task` part, an instance, and that instance's own certificate.
        let plain = node.holder("plain", 1).await;
        assert_eq!(node.begin(&plain, reading()).await.unwrap_err(), "task_not_allowed");
        let nobody = Holder {
            subject: Subject { instance: bytes::Bytes::new(), ..planner.subject.clone() },
            svid: planner.svid.clone(),
        };
        assert_eq!(node.begin(&nobody, reading()).await.unwrap_err(), "invalid_argument");
        let reader = node.holder("reader", 1).await;
        let crossed = Holder { subject: planner.subject.clone(), svid: reader.svid.clone() };
        assert_eq!(node.begin(&crossed, reading()).await.unwrap_err(), "task_token_not_bound");

        // The second task of the instance is its last, until one has ended.
        let second = node.begin(&planner, reading()).await.unwrap();
        assert_eq!(node.begin(&planner, reading()).await.unwrap_err(), "task_quota");
        node.rogue.end(id(&second), TaskOutcome::Completed).await.unwrap();
        node.begin(&planner, reading()).await.unwrap();
    });
}

#[test]
fn a_tree_is_handed_on_narrower_each_time_and_ends_as_one() {
    let mut rig = rig(&[]);
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let planner = node.holder("planner", 1).await;
        let reader = node.holder("reader", 2).await;
        let again = node.holder("reader", 3).await;
        let reader_id = format!("spiffe://{}/reader", rig.trust_domain);

        let only_reader = TaskActors { spiffe_ids: vec![reader_id.clone()] };
        let root = BeginTaskRequest { may_act: Some(only_reader), ..wish(&planner, &reading()) };
        let root = node.rogue.begin(root).await.unwrap();
        let other = node.holder("planner", 9).await;
        assert_eq!(node.delegate(&root, &other, reading()).await.unwrap_err(), "actor_not_allowed");
        let wider = json!({"audience": FILES, "scope": ["read", "write"]});
        assert_eq!(node.delegate(&root, &reader, wider).await.unwrap_err(), "scope_exceeds_parent");
        let elsewhere = json!({"audience": MAIL, "scope": ["read"]});
        assert_eq!(node.delegate(&root, &reader, elsewhere).await.unwrap_err(), "audience_not_delegable");

        let child = node.delegate(&root, &reader, reading()).await.unwrap();
        assert_eq!(node.delegate(&child, &reader, reading()).await.unwrap_err(), "actor_repeated");
        let grandchild = node.delegate(&child, &again, reading()).await.unwrap();
        let fourth = node.holder("reader", 4).await;
        assert_eq!(node.delegate(&grandchild, &fourth, reading()).await.unwrap_err(), "too_deep");

        let claims = node.check(&grandchild).await.unwrap();
        let planner_id = format!("spiffe://{}/planner", rig.trust_domain);
        assert_eq!(claims["sub"], json!(planner_id), "on whose behalf does not change");
        let chain = [&claims["act"], &claims["act"]["act"], &claims["act"]["act"]["act"]];
        assert_eq!(chain.map(|actor| actor["sub"].as_str().unwrap()), [&*reader_id, &*reader_id, &*planner_id]);
        assert_eq!((&claims["txn"], &claims["mayfly_task"]["parent"]), (&json!(id(&root)), &json!(id(&child))));

        // After a power cut everything is as it was.
        rig.kill_issuer();
        rig.start_issuer();
        let mut node = Node::of(&rig, "a").await;
        let reader = node.holder("reader", 2).await;
        let renewed = node.rogue.renew(&reader.subject, &reader.svid, id(&child)).await.unwrap();
        for token in [&root, &child, &grandchild, &renewed] {
            node.check(token).await.unwrap();
        }

        // The node hears of what ends; a twin of the reader can neither renew nor is told.
        let mut states = Rogue::of(&rig, "a").await.task_states(&rig).await;
        let whole = states.next().await;
        assert_eq!((whole.whole, whole.states.len()), (true, 3));
        let twin = node.holder("reader", 7).await;
        assert_eq!(node.rogue.renew(&twin.subject, &twin.svid, id(&child)).await.unwrap_err(), "task_unknown");

        let ended: BTreeSet<_> = node.rogue.end(id(&root), TaskOutcome::Completed).await.unwrap().into_iter().collect();
        assert_eq!(ended, [&root, &child, &grandchild].map(|task| id(task).to_owned()).into());
        let heard = states.next().await;
        assert_eq!((heard.whole, heard.states.len()), (false, 3));
        assert!(heard.states.iter().all(|change| change.state == "completed"), "{heard:?}");
        for token in [&root, &child, &grandchild, &renewed] {
            assert_eq!(node.check(token).await.unwrap_err(), "task_ended");
        }
        assert_eq!(node.delegate(&child, &fourth, reading()).await.unwrap_err(), "parent_not_open");
        assert_eq!(node.rogue.renew(&reader.subject, &reader.svid, id(&child)).await.unwrap_err(), "task_unknown");
        assert_eq!(node.rogue.end(id(&root), TaskOutcome::Failed).await.unwrap_err(), "task_unknown");

        let ledger = String::from_utf8(rig.run(&["--output", "json", "ledger", "tail"]).stdout).unwrap();
        let completed = ledger.lines().filter(|line| line.contains("\"task_completed\"")).count();
        assert_eq!(completed, 3, "{ledger}");
    });
}

/// What is begun below a task ends with it, and no later than its own entry lets it last, whether or not that is asked for.
#[test]
fn a_part_of_a_task_lasts_no_longer_than_its_own_entry_allows() {
    let rig = rig(&[]);
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let (planner, brief) = (node.holder("planner", 1).await, node.holder("brief", 2).await);
        let root = node.begin(&planner, reading()).await.unwrap();
        let part = node.delegate(&root, &brief, reading()).await.unwrap();
        let [above, below] = [&root, &part].map(|task| task.task.as_ref().unwrap().deadline);
        assert!(above - below >= 500, "{above} {below}");
    });
}

#[test]
fn a_node_has_no_say_over_the_tasks_of_another() {
    let mut rig = rig(&[]);
    rig.start_agent("b");
    rig.kill_agent("b");
    on_runtime(async {
        let (mut a, mut b) = (Node::of(&rig, "a").await, Node::of(&rig, "b").await);
        let planner = a.holder("planner", 1).await;
        let task = a.begin(&planner, reading()).await.unwrap();
        assert_eq!(b.rogue.end(id(&task), TaskOutcome::Abandoned).await.unwrap_err(), "task_unknown");
        let twin = b.holder("planner", 1).await;
        assert_eq!(b.rogue.renew(&twin.subject, &twin.svid, id(&task)).await.unwrap_err(), "task_unknown");
        let states = Rogue::of(&rig, "b").await.task_states(&rig).await.next().await;
        assert_eq!((states.whole, states.states.len()), (true, 0));
        a.check(&task).await.unwrap();
        // A service elsewhere is told the same.
        b.check(&task).await.unwrap();
    });
}

#[test]
fn tokens_that_are_not_the_issuers_word_are_refused() {
    let mut rig = rig(&[]);
    rig.start_agent("a");
    let jwt_svid = {
        let output = std::process::Command::new(mayfly_rig::mayfly())
            .args(["--output", "json", "svid", "jwt", "fetch", "--audience", FILES])
            .env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a"))
            .output()
            .unwrap();
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        shown["items"][0]["token"].as_str().unwrap().to_owned()
    };
    rig.kill_agent("a");
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let planner = node.holder("planner", 1).await;
        let task = node.begin(&planner, reading()).await.unwrap();
        let service = node.entries["files"].clone();
        let mut parts: Vec<String> = task.token.split('.').map(str::to_owned).collect();
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let claims = String::from_utf8(engine.decode(&parts[1]).unwrap()).unwrap();
        parts[1] = engine.encode(claims.replace("\"read\"", "\"write\""));
        for (token, reason) in [
            (parts.join("."), "task_token_untrusted"),
            (jwt_svid, "task_token_invalid"),
            (String::new(), "task_token_invalid"),
            ("a.b.c".to_owned(), "task_token_invalid"),
            (format!("{0}{0}", task.token), "task_token_invalid"),
            ("x".repeat(10_000), "task_token_invalid"),
        ] {
            assert_eq!(node.rogue.check(&service, FILES, &token, b"").await.unwrap_err(), reason, "{token:.40}");
            let reader = node.holder("reader", 2).await;
            let forged = BeginTaskRequest { parent_token: token.clone(), ..wish(&reader, &reading()) };
            if !token.is_empty() {
                assert_eq!(node.rogue.begin(forged).await.unwrap_err(), reason, "{token:.40}");
            }
        }
    });
}

#[test]
fn administrators_suspend_resume_and_revoke_a_tree_and_see_what_became_of_it() {
    let rig = rig(&[]);
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let planner = node.holder("planner", 1).await;
        let reader = node.holder("reader", 2).await;
        let root = node.begin(&planner, reading()).await.unwrap();
        let child = node.delegate(&root, &reader, reading()).await.unwrap();
        let both: BTreeSet<_> = [id(&root).to_owned(), id(&child).to_owned()].into();
        let changed = |verb: &str, task: &TaskIssue| -> BTreeSet<String> {
            let done = rig.json(&["task", verb, id(task)]);
            done["changed"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
        };
        let refused = |verb: &str, task: &TaskIssue| {
            let output = rig.run(&["--output", "json", "task", verb, id(task)]);
            let error: Value = serde_json::from_slice(&output.stderr).unwrap();
            error["error"]["reason"].as_str().unwrap().to_owned()
        };

        assert_eq!(changed("suspend", &root), both);
        assert_eq!(changed("suspend", &root), BTreeSet::new(), "once is enough");
        assert_eq!(node.check(&child).await.unwrap_err(), "task_suspended");
        assert_eq!(node.rogue.renew(&reader.subject, &reader.svid, id(&child)).await.unwrap_err(), "task_suspended");
        let other = node.holder("reader", 3).await;
        assert_eq!(node.delegate(&root, &other, reading()).await.unwrap_err(), "parent_not_open");
        assert_eq!(refused("resume", &child), "parent_not_open");
        assert_eq!(changed("resume", &root), both);
        node.check(&child).await.unwrap();

        // What was suspended by itself stays so when the whole is resumed.
        changed("suspend", &child);
        assert_eq!(changed("suspend", &root), [id(&root).to_owned()].into());
        assert_eq!(changed("resume", &root), [id(&root).to_owned()].into());
        assert_eq!(node.check(&child).await.unwrap_err(), "task_suspended");
        node.check(&root).await.unwrap();
        changed("resume", &child);
        node.check(&child).await.unwrap();

        let listed = rig.json(&["task", "list", "--all"]);
        assert_eq!(listed["items"].as_array().unwrap().len(), 2);
        assert_eq!(changed("revoke", &root), both);
        assert_eq!(node.check(&child).await.unwrap_err(), "task_ended");
        assert_eq!(refused("resume", &root), "task_ended");
        let shown = rig.json(&["task", "show", id(&child)]);
        assert_eq!((&shown["state"], &shown["purpose"]), (&json!("revoked"), &json!("summarise the report")));
        assert_eq!(shown["chain"].as_array().unwrap().len(), 2);
        assert_eq!(rig.json(&["task", "list", "--all"])["items"], json!([]));
        assert_eq!(
            refused("show", &TaskIssue { task: Some(task_with_id(&"0".repeat(32))), ..TaskIssue::default() }),
            "task_unknown"
        );
    });
}

/// Short lives, on the issuer's own clock.
#[test]
fn a_task_ends_at_its_deadline_with_everything_below_it() {
    let rig = rig(&[]);
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let planner = node.holder("planner", 1).await;
        let reader = node.holder("reader", 2).await;
        let root = node.rogue.begin(BeginTaskRequest { deadline_s: 30, ..wish(&planner, &reading()) }).await.unwrap();
        assert!(root.lifetime_s <= 30, "no token outlives its task");
        let child = node.delegate(&root, &reader, reading()).await.unwrap();
        let later = BeginTaskRequest { parent_token: root.token.clone(), deadline_s: 60, ..wish(&reader, &reading()) };
        assert_eq!(node.rogue.begin(later).await.unwrap_err(), "deadline_exceeds_parent");
        node.check(&child).await.unwrap();
        mayfly_rig::eventually("the tasks have expired", 60, || {
            let shown = rig.json(&["task", "show", id(&child)]);
            (shown["state"] == "expired").then_some(())
        });
        assert_eq!(rig.json(&["task", "show", id(&root)])["state"], "expired");
        assert_eq!(node.rogue.renew(&reader.subject, &reader.svid, id(&child)).await.unwrap_err(), "task_unknown");
    });
}

fn task_with_id(id: &str) -> mayfly_proto::node::Task {
    mayfly_proto::node::Task { id: id.to_owned(), ..mayfly_proto::node::Task::default() }
}
