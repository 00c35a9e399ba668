//! `mayfly task explain`: what was asked, what came of it, and what it rests on.

use std::io::{self, Write};

use mayfly_proto::admin as wire;
use serde::Serialize;
use serde_json::Value;

use super::shown::granted;
use crate::admin::AdminArgs;
use crate::failure::Failure;
use crate::output::{self, Out, View};

#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// Id of a task, or of the request that a refusal shows
    id: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// A decision, as it is shown.
#[derive(Debug, Serialize)]
struct Explained {
    id: String,
    /// As the issuer kept it; null: an older version began this task.
    decision: Option<Value>,
    /// What was granted, and how it stands; null: it was refused.
    task: Option<Granted>,
}

#[derive(Debug, Serialize)]
struct Granted {
    id: String,
    root: String,
    parent: Option<String>,
    state: String,
    begun_at: Option<String>,
    deadline: Option<String>,
    subject: String,
    hop: u32,
    max_hops: u32,
    #[serde(rename = "granted")]
    grant: Value,
}

impl Explain {
    pub(crate) async fn run(self, out: Out) -> Result<(), Failure> {
        let what = format!("{} is not explained", self.id);
        let answer = self.admin.connect().await?.explain_task(wire::ExplainTaskRequest { id: self.id.clone() }).await;
        let answer = answer.map_err(|status| Failure::status(&what, &status))?.into_inner();
        let decision = match answer.decision.as_str() {
            "" => None,
            json => Some(serde_json::from_str(json).map_err(|error| Failure::bug(&what, error))?),
        };
        Ok(out.show(&Explained::new(self.id, decision, answer.task))?)
    }
}

impl Explained {
    fn new(id: String, mut decision: Option<Value>, task: Option<wire::Task>) -> Self {
        if let Some(decision) = &mut decision {
            decision.sort_all_objects();
        }
        Self { id, decision, task: task.map(Granted::from) }
    }
}

impl From<wire::Task> for Granted {
    fn from(task: wire::Task) -> Self {
        Self {
            id: task.id,
            root: task.root,
            parent: Some(task.parent).filter(|parent| !parent.is_empty()),
            state: task.state,
            begun_at: output::time(task.begun_at),
            deadline: output::time(task.deadline),
            subject: task.subject,
            hop: task.hop,
            max_hops: task.max_hops,
            grant: granted(&task.grant),
        }
    }
}

impl View for Explained {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        let Some(decision) = &self.decision else {
            let state = self.task.as_ref().map_or("unknown", |task| &task.state);
            return writeln!(w, "{}: {state}; an older version of Mayfly began it and kept no reasons", self.id);
        };
        let told = |pointer: &str| decision.pointer(pointer).filter(|value| !value.is_null()).map(plain);
        let or_dash = |pointer: &str| told(pointer).unwrap_or_else(|| "-".to_owned());
        writeln!(w, "{}: {} {} at {}", self.id, or_dash("/action"), or_dash("/outcome"), or_dash("/at"))?;
        if let Some(reason) = told("/reason") {
            writeln!(w, "  because   {reason}: {}", or_dash("/what"))?;
        }
        writeln!(w, "  by        {} ({}) on {}", or_dash("/spiffe_id"), or_dash("/instance"), or_dash("/node"))?;
        for (name, asked) in decision.get("asked").and_then(Value::as_object).into_iter().flatten() {
            writeln!(w, "  asked     {name}: {}", plain(asked))?;
        }
        if let Some(user) = told("/user/subject") {
            let client = told("/user/client").map(|client| format!(", issued to {client}")).unwrap_or_default();
            let session = told("/user/session").map(|session| format!(", in session {session}")).unwrap_or_default();
            writeln!(w, "  user      {user}, by a token of {}{client}{session}", or_dash("/user/issued_at"))?;
        }
        for (name, pointer) in [("task", "/task"), ("below", "/parent")] {
            if let Some(id) = told(pointer) {
                writeln!(w, "  {name:<9} {id}")?;
            }
        }
        if let Some(task) = &self.task {
            let Granted { state, deadline, hop, max_hops, grant, .. } = task;
            let deadline = output::or_dash(deadline.as_ref());
            writeln!(w, "  granted   {grant} until {deadline}, hop {hop} of {max_hops}; it is {state} now")?;
        }
        match told("/entry/name") {
            Some(name) => {
                writeln!(w, "  entry     {name} ({}) at {}", or_dash("/entry/uid"), or_dash("/entry/revision"))?;
            }
            None => writeln!(w, "  entry     none")?,
        }
        policies(w, decision)?;
        for (name, value) in decision.get("context").and_then(Value::as_object).into_iter().flatten() {
            writeln!(w, "  context   {name}: {}", plain(value))?;
        }
        Ok(())
    }
}

/// What each set said.
fn policies(w: &mut dyn Write, decision: &Value) -> io::Result<()> {
    let Some(policy) = decision.get("policy").filter(|policy| !policy.is_null()) else {
        return writeln!(w, "  policy    not asked");
    };
    let Some(revision) = policy.get("revision").and_then(Value::as_str) else {
        return writeln!(w, "  policy    none");
    };
    writeln!(w, "  policy    at revision {}", safe(revision))?;
    for set in policy.get("sets").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| set.get(name).map(plain).unwrap_or_default();
        let said = if set.get("permits") == Some(&Value::Bool(true)) { "permits" } else { "does not permit" };
        let policies: Vec<_> = set.get("policies").and_then(Value::as_array).into_iter().flatten().map(plain).collect();
        let by = if policies.is_empty() { "no permit applies".to_owned() } else { policies.join(", ") };
        writeln!(w, "  set       {} at {} {said}: {by}", text("name"), text("revision"))?;
    }
    Ok(())
}

/// A value on one line: what was asked may be anything.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => safe(text),
        other => other.to_string(),
    }
}

fn safe(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_says_what_was_asked_and_who_said_no() {
        let decision = json!({
            "at": "2027-01-15T08:00:00Z", "outcome": "refused", "action": "begin", "node": "spiffe://t/mayfly/node/a/1",
            "instance": "00", "spiffe_id": "spiffe://t/web", "task": null, "parent": null,
            "asked": { "purpose": "to see\u{1b}[2J", "detached": false },
            "entry": { "name": "web", "uid": "u1", "revision": "1.3" },
            "policy": { "revision": "1.7", "sets": [
                { "name": "default", "revision": "1.7", "permits": false, "policies": ["no-nights"] } ] },
            "context": { "hop": 0 }, "reason": "policy_denied", "what": "the policy set \"default\" forbids it, by no-nights",
        });
        let shown = Explained::new("0b".into(), Some(decision), None);
        let mut text = Vec::new();
        shown.text(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "0b: begin refused at 2027-01-15T08:00:00Z\n  because   policy_denied: the policy set \"default\" forbids it, by no-nights\n  \
             by        spiffe://t/web (00) on spiffe://t/mayfly/node/a/1\n  asked     detached: false\n  asked     purpose: to see[2J\n  \
             entry     web (u1) at 1.3\n  policy    at revision 1.7\n  set       default at 1.7 does not permit: no-nights\n  context   hop: 0\n"
        );
    }

    #[test]
    fn what_was_granted_is_shown_with_how_it_stands_in_both_forms() {
        let task = wire::Task {
            id: "0a".into(),
            root: "0a".into(),
            state: "completed".into(),
            begun_at: 1_800_000_000,
            deadline: 1_800_003_600,
            grant: r#"{"audience":"https://a.example"}"#.into(),
            subject: "spiffe://t/web".into(),
            max_hops: 3,
            ..wire::Task::default()
        };
        let decision = json!({ "outcome": "granted", "action": "begin", "policy": { "revision": null, "sets": [] } });
        let shown = Explained::new("0a".into(), Some(decision), Some(task));
        assert_eq!(
            output::golden(&shown),
            "0a: begin granted at -\n  by        - (-) on -\n  granted   {\"audience\":\"https://a.example\"} until 2027-01-15T09:00:00Z, \
             hop 0 of 3; it is completed now\n  entry     none\n  policy    none\n{\"id\":\"0a\",\"decision\":{\"action\":\"begin\",\
             \"outcome\":\"granted\",\"policy\":{\"revision\":null,\"sets\":[]}},\"task\":{\"id\":\"0a\",\"root\":\"0a\",\"parent\":null,\
             \"state\":\"completed\",\"begun_at\":\"2027-01-15T08:00:00Z\",\"deadline\":\"2027-01-15T09:00:00Z\",\"subject\":\
             \"spiffe://t/web\",\"hop\":0,\"max_hops\":3,\"granted\":{\"audience\":\"https://a.example\"}}}\n"
        );
    }
}
