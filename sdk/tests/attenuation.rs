//! The rules by which a task is handed on, against an oracle in Python that was written from `docs/tasks.md` alone
//! (`tests/tasks`): what one of them allows and the other refuses is a hole, and what refuses what is legitimate is a fault too.
//!
//! 5,000 pairs; 200,000 with `MAYFLY_TESTS=full`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test root")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use mayfly_sdk::json::{Object, object};
use mayfly_sdk::task::{Actor, Grant, Parent, Wish, attenuate};
use mayfly_sdk::{SpiffeId, Timestamp};
use serde_json::{Value, json};

fn grant(value: &Value) -> Option<Grant> {
    Grant::from_json(value["grant"].to_string().as_bytes()).ok()
}

fn actor(value: &Value) -> Actor {
    let text = |name: &str| value[name].as_str().unwrap();
    Actor { spiffe_id: text("spiffe_id").parse().unwrap(), instance: text("instance").parse().unwrap() }
}

fn time(value: &Value) -> Timestamp {
    Timestamp::from_unix_s(value.as_i64().unwrap())
}

fn small(value: &Value) -> u8 {
    value.as_u64().unwrap().try_into().unwrap()
}

/// What we say about a pair.
fn judge(pair: &Object) -> Value {
    let (parent, child) = (&pair["parent"], &pair["child"]);
    let (Some(parent_grant), Some(child_grant)) = (grant(parent), grant(child)) else {
        return json!({"verdict": "invalid"});
    };
    let chain: Vec<_> = parent["chain"].as_array().unwrap().iter().map(actor).collect();
    let ids = |ids: &Vec<Value>| ids.iter().map(|id| id.as_str().unwrap().parse::<SpiffeId>().unwrap()).collect();
    let may_act = parent["may_act"].as_array().map(ids);
    let caller = actor(&child["caller"]);
    let parent = Parent {
        grant: &parent_grant,
        deadline: time(&parent["deadline"]),
        state: parent["state"].as_str().unwrap().parse().unwrap(),
        hop: small(&parent["hop"]),
        max_hops: small(&parent["max_hops"]),
        chain: &chain,
        may_act: may_act.as_ref(),
    };
    let max_hops = Some(&child["max_hops"]).filter(|hops| !hops.is_null()).map(small);
    let wish = Wish { grant: &child_grant, deadline: time(&child["deadline"]), max_hops, caller: &caller };
    match attenuate(&parent, &wish, time(&pair["now"])) {
        Ok(_) => json!({"verdict": "allowed"}),
        Err(error) => json!({"verdict": "refused", "code": error.reason().code()}),
    }
}

#[test]
fn every_pair_is_judged_as_the_oracle_judges_it() {
    let (count, seed) = match std::env::var("MAYFLY_TESTS").as_deref() {
        Ok("full") => ("200000", "2"),
        _ => ("5000", "1"),
    };
    let pairs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tasks/pairs.py");
    let mut python = Command::new("python3");
    python.arg("-B").arg(pairs).args(["--count", count, "--seed", seed, "--summary", "--check"]).stdout(Stdio::piped());
    let mut python = python.spawn().unwrap();
    let mut judged = 0;
    for line in BufReader::new(python.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let pair = object(line.as_bytes()).unwrap();
        assert_eq!(judge(&pair), pair["expect"], "{line}");
        judged += 1;
    }
    assert!(python.wait().unwrap().success(), "some kind of pair is too rare");
    assert_eq!(judged, count.parse::<u32>().unwrap());
}
