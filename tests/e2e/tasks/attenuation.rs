//! The issuer's own word about every pair of a task and what is to be handed on of it, against the oracle in Python that was
//! written from `docs/tasks.md` alone (`tests/tasks`): what one of them allows and the other refuses is a hole, and what refuses
//! what is legitimate is a fault too. Each pair is a task of a running issuer, with the tasks above it, and a begin below it.
//!
//! 5,000 pairs; 200,000 in the long form. What only time can bring about is left to the function itself (`sdk/tests`).

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use mayfly_proto::node::{BeginTaskRequest, Subject, TaskActors, TaskIssue, TaskOutcome};
use mayfly_rig::Rig;
use mayfly_sdk::Clock;
use serde_json::{Value, json};

use crate::full;
use crate::rogue::Rogue;
use crate::task_rules::{Holder, id, on_runtime, wish};

/// Pairs that are asked about at once.
const AT_ONCE: usize = 16;
/// Certificates are used this long, and then made anew.
const KEPT: Duration = Duration::from_mins(5);
/// How much earlier than its parent a task is to end, where it is to end earlier.
const EARLIER_S: i64 = 120;
/// Of a hundred pairs, how many at the most cannot be asked about.
const NOT_ASKED: usize = 4;
/// The last segments of the agents' names in the pairs.
const AGENTS: [&str; 7] = ["planner", "reader", "writer", "mailer", "billing/eu", "billing/us", "r2"];

/// An actor of a pair: the path of its identity, and which of the pair's instances it is.
type Who = (String, u8);

/// A running issuer, and what is used for many pairs.
struct Issuer {
    rig: Rig,
    rogue: Rogue,
    subjects: BTreeMap<String, Subject>,
    holders: RefCell<HashMap<Who, (Instant, Rc<Holder>)>>,
}

/// What the issuer says about a pair.
enum Said {
    Verdict(Value),
    /// It cannot be asked: this is why.
    NotAsked(&'static str),
}

/// Where an agent of the pairs is in this trust domain: their two are two folders of it.
fn path(spiffe_id: &str) -> String {
    spiffe_id.trim_start_matches("spiffe://").to_owned()
}

/// What may be handed on so that this can be: the same, and for its audience too. What is no grant stays none.
fn above(grant: &Value) -> Value {
    let mut above = grant.clone();
    let delegable = above.as_object_mut().map(|grant| grant.entry("delegable").or_insert_with(|| json!([])));
    if let Some(delegable) = delegable.and_then(Value::as_array_mut)
        && !delegable.contains(&grant["audience"])
    {
        delegable.push(grant["audience"].clone());
    }
    above
}

impl Issuer {
    async fn started() -> Self {
        let mut rig = Rig::started(&[
            ("tasks.per_instance", "1000000"),
            ("tasks.per_node", "200000"),
            ("tasks.per_root", "1000000"),
            ("tasks.begins_per_instance", "1000000"),
            ("tasks.begins_per_node", "1000000"),
            ("tasks.silent_after", "\"24h\""),
        ]);
        // Its agent would take the node's stream back.
        rig.kill_agent("a");
        let names = ["example.org", "prod.example.com"].iter().flat_map(|domain| {
            AGENTS.iter().flat_map(move |agent| ["", "/other"].map(|more| format!("{domain}/agent/{agent}{more}")))
        });
        let task = "    task: {audiences: [\"*\"], scopes: [\"*\"], delegable: [\"*\"], authorization_details: [\"*\"], max_hops: 16}\n";
        let entries: Vec<String> = names.map(|name| rig.entry(&name, "") + task).collect();
        rig.apply(&entries.concat());
        let mut rogue = Rogue::of(&rig, "a").await;
        let subjects = rogue.entries(&rig).await;
        Self { rig, rogue, subjects, holders: RefCell::default() }
    }

    async fn holder(&self, who: &Who) -> Rc<Holder> {
        let known = self.holders.borrow().get(who).filter(|(since, _)| since.elapsed() < KEPT).cloned();
        if let Some((_, holder)) = known {
            return holder;
        }
        let subject = Subject { instance: vec![who.1; 16].into(), ..self.subjects[&who.0].clone() };
        let svid = self.rogue.clone().svid(&subject).await;
        let holder = Rc::new(Holder { subject, svid });
        self.holders.borrow_mut().insert(who.clone(), (Instant::now(), Rc::clone(&holder)));
        holder
    }

    async fn begin(&self, who: &Who, grant: &Value, more: BeginTaskRequest) -> Result<TaskIssue, String> {
        let BeginTaskRequest { holder, svid, purpose, grant, .. } = wish(&*self.holder(who).await, grant);
        self.rogue.clone().begin(BeginTaskRequest { holder, svid, purpose, grant, ..more }).await
    }

    /// The task that is to be handed on, below those above it.
    async fn parent(&self, parent: &Value, chain: &[Who]) -> Result<TaskIssue, String> {
        let max_hops = hops(&parent["max_hops"]);
        let named = |ids: &Vec<Value>| TaskActors { spiffe_ids: ids.iter().map(|id| self.here(id)).collect() };
        let (last, before) = chain.split_last().unwrap();
        let mut token = String::new();
        for who in before {
            let wanted = BeginTaskRequest { max_hops, parent_token: token, ..BeginTaskRequest::default() };
            token = self.begin(who, &above(&parent["grant"]), wanted).await?.token;
        }
        let may_act = parent["may_act"].as_array().map(named);
        let wanted = BeginTaskRequest { max_hops, may_act, parent_token: token, ..BeginTaskRequest::default() };
        self.begin(last, &parent["grant"], wanted).await
    }

    fn here(&self, spiffe_id: &Value) -> String {
        format!("spiffe://{}/{}", self.rig.trust_domain, path(spiffe_id.as_str().unwrap()))
    }

    async fn becomes(&self, task: &str, state: &str) {
        let outcome = match state {
            "open" => return,
            "suspended" | "revoked" => {
                let verb = if state == "revoked" { "revoke" } else { "suspend" };
                return drop(self.rig.json(&["task", verb, task]));
            }
            "completed" => TaskOutcome::Completed,
            "failed" => TaskOutcome::Failed,
            _ => TaskOutcome::Abandoned,
        };
        self.rogue.clone().end(task, outcome).await.unwrap();
    }

    async fn judge(&self, pair: &Value) -> Said {
        let (parent, child) = (&pair["parent"], &pair["child"]);
        let passed = number(&parent["deadline"]) <= number(&pair["now"]);
        if passed || parent["state"] == "expired" {
            return Said::NotAsked("its time has passed");
        }
        let chain: Vec<&Value> = parent["chain"].as_array().unwrap().iter().chain([&child["caller"]]).collect();
        let mut actors: Vec<Who> = chain.iter().map(|actor| named(actor, &chain)).collect();
        let caller = actors.pop().unwrap();
        let begun = match self.parent(parent, &actors).await {
            Ok(begun) => begun,
            Err(reason) if reason == "invalid_grant" && pair["expect"]["verdict"] == "invalid" => {
                return Said::Verdict(pair["expect"].clone());
            }
            Err(reason) if reason == "invalid_grant" => {
                return Said::NotAsked("above it there would be one audience too many");
            }
            Err(reason) if reason == "grant_too_large" => return Said::NotAsked("no token has room for it"),
            Err(reason) => panic!("the parent itself is refused: {reason}\n{pair}"),
        };
        self.becomes(id(&begun), parent["state"].as_str().unwrap()).await;
        let left = begun.task.as_ref().unwrap().deadline - Clock::system().now().unix_s();
        let deadline_s = match number(&child["deadline"]) - number(&parent["deadline"]) {
            // The issuer reads its clock after this one was read.
            later @ 1.. => left + later,
            0 => 0,
            _ => left - EARLIER_S,
        };
        let wanted = BeginTaskRequest {
            deadline_s: u32::try_from(deadline_s.min(7 * 3600)).unwrap(),
            max_hops: hops(&child["max_hops"]),
            parent_token: begun.token.clone(),
            ..BeginTaskRequest::default()
        };
        let said = match self.begin(&caller, &child["grant"], wanted).await {
            Ok(_) => json!({"verdict": "allowed"}),
            Err(reason) if reason == "grant_too_large" => return Said::NotAsked("no token has room for it"),
            Err(reason) if reason == "invalid_grant" => json!({"verdict": "invalid"}),
            Err(code) => json!({"verdict": "refused", "code": code}),
        };
        // Unless it has ended already.
        drop(self.rogue.clone().end(&begun.task.as_ref().unwrap().root, TaskOutcome::Completed).await);
        Said::Verdict(said)
    }
}

/// What the oracle says. An issuer keeps nothing of a task that has ended, so that this is the first thing it finds.
fn expected(pair: &Value) -> Value {
    let over = !["open", "suspended"].contains(&pair["parent"]["state"].as_str().unwrap());
    if over && pair["expect"]["verdict"] == "refused" {
        return json!({"verdict": "refused", "code": "parent_not_open"});
    }
    pair["expect"].clone()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

fn hops(value: &Value) -> Option<u32> {
    value.as_u64().map(|hops| hops.try_into().unwrap())
}

/// Instances are told apart within their pair only, so that there are few.
fn named(actor: &Value, all: &[&Value]) -> Who {
    let instance = all.iter().position(|other| other["instance"] == actor["instance"]).unwrap();
    (path(actor["spiffe_id"].as_str().unwrap()), u8::try_from(instance + 1).unwrap())
}

#[test]
fn every_pair_is_judged_by_a_running_issuer_as_by_the_oracle() {
    let (count, seed) = if full() { (200_000, "4") } else { (5_000, "3") };
    let pairs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tasks/pairs.py");
    let mut python = Command::new("python3");
    python.arg("-B").arg(pairs).args(["--count", &count.to_string(), "--seed", seed, "--check"]).stdout(Stdio::piped());
    let mut python = python.spawn().unwrap();
    let lines = BufReader::new(python.stdout.take().unwrap()).lines();
    on_runtime(async {
        let issuer = Issuer::started().await;
        let judged =
            futures_util::stream::iter(lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()))
                .map(|pair| async { (issuer.judge(&pair).await, pair) })
                .buffer_unordered(AT_ONCE);
        let mut judged = std::pin::pin!(judged);
        let (mut asked, mut not_asked) = (0, BTreeMap::<_, usize>::new());
        while let Some((said, pair)) = judged.next().await {
            match said {
                Said::Verdict(verdict) => {
                    assert_eq!(verdict, expected(&pair), "{pair}");
                    asked += 1;
                }
                Said::NotAsked(why) => *not_asked.entry(why).or_default() += 1,
            }
        }
        println!("{asked} pairs were judged alike; not asked: {not_asked:?}");
        assert_eq!(asked + not_asked.values().sum::<usize>(), count);
        assert!(asked * 100 >= count * (100 - NOT_ASKED), "{not_asked:?}");
    });
    assert!(python.wait().unwrap().success(), "some kind of pair is too rare");
}
