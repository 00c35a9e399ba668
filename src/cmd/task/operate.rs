//! `mayfly task show | suspend | resume | revoke`, and `list --all`: any task, for administrators.

use std::io::{self, Write};

use mayfly_proto::admin as wire;
use serde::Serialize;
use serde_json::Value;

use super::shown::granted;
use crate::admin::AdminArgs;
use crate::failure::Failure;
use crate::output::{self, Items, Out, View, or_dash, table};

#[derive(Debug, clap::Args)]
pub(crate) struct One {
    /// Id of the task
    id: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// A task with what is below it, or all tasks of a user.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Id of the task
    #[arg(required_unless_present = "user")]
    id: Option<String>,
    /// Every task of this user, `user:PROVIDER:SUBJECT` as tasks show it, and those that the user would begin
    #[arg(long, value_name = "USER", conflicts_with = "id")]
    user: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// A task as the issuer knows it.
#[derive(Debug, Serialize)]
struct Held {
    id: String,
    root: String,
    parent: Option<String>,
    state: String,
    purpose: String,
    begun_at: Option<String>,
    deadline: Option<String>,
    subject: String,
    /// From the root on, the task's own last.
    chain: Vec<Holder>,
    hop: u32,
    max_hops: u32,
    detached: bool,
    node: String,
    entry_uid: String,
    /// Null: anybody whose entry allows it.
    may_act: Option<Vec<String>>,
    granted: Value,
}

#[derive(Debug, Serialize)]
struct Holder {
    spiffe_id: String,
    instance: String,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Done {
    id: String,
    state: &'static str,
    /// The tasks that this changed: the one that was named, and those below it.
    changed: Vec<String>,
}

impl One {
    pub(crate) async fn show(self, out: Out) -> Result<(), Failure> {
        let what = format!("the task {} is not shown", self.id);
        let answer = self.admin.connect().await?.get_task(wire::GetTaskRequest { id: self.id }).await;
        let answer = answer.map_err(|status| Failure::status(&what, &status))?.into_inner();
        let task = answer.task.ok_or_else(|| Failure::bug(&what, "the issuer answered without a task"))?;
        Ok(out.show(&Held::from(task))?)
    }

    /// Suspends, resumes or revokes: `state` is `suspended`, `open` or `revoked`.
    pub(crate) async fn set(self, state: &'static str, out: Out) -> Result<(), Failure> {
        let request = wire::SetTaskStateRequest { id: self.id.clone(), state: state.to_owned() };
        let answer = self.admin.connect().await?.set_task_state(request).await;
        let what = format!("the task {} is not {state} now", self.id);
        let answer = answer.map_err(|status| Failure::status(&what, &status))?.into_inner();
        Ok(out.show(&Done { id: self.id, state, changed: answer.changed })?)
    }
}

impl Which {
    /// Suspends or resumes: `state` is `suspended` or `open`.
    pub(crate) async fn set(self, state: &'static str, out: Out) -> Result<(), Failure> {
        let Self { id, user, admin } = self;
        let Some(user) = user else {
            return One { id: id.unwrap_or_default(), admin }.set(state, out).await;
        };
        let request = wire::SetUserStateRequest { user: user.clone(), state: state.to_owned() };
        let answer = admin.connect().await?.set_user_state(request).await;
        let what = format!("{user} is not {state} now");
        let answer = answer.map_err(|status| Failure::status(&what, &status))?.into_inner();
        Ok(out.show(&Done { id: user, state, changed: answer.changed })?)
    }
}

/// Lists every task of the trust domain that has not ended.
pub(crate) async fn list_all(admin: &AdminArgs, out: Out) -> Result<(), Failure> {
    let mut client = admin.connect().await?;
    let mut request = wire::ListTasksRequest::default();
    let mut items = Vec::new();
    loop {
        let page = client.list_tasks(request.clone()).await;
        let page = page.map_err(|status| Failure::status("the tasks were not listed", &status))?.into_inner();
        items.extend(page.items.into_iter().map(Held::from));
        if page.next_page_token.is_empty() {
            return Ok(out.show(&Items { items })?);
        }
        request.page_token = page.next_page_token;
    }
}

impl From<wire::Task> for Held {
    fn from(task: wire::Task) -> Self {
        let chain = task.chain.into_iter();
        Self {
            id: task.id,
            root: task.root,
            parent: Some(task.parent).filter(|parent| !parent.is_empty()),
            state: task.state,
            purpose: task.purpose,
            begun_at: output::time(task.begun_at),
            deadline: output::time(task.deadline),
            subject: task.subject,
            chain: chain.map(|holder| Holder { spiffe_id: holder.spiffe_id, instance: holder.instance }).collect(),
            hop: task.hop,
            max_hops: task.max_hops,
            detached: task.detached,
            node: task.node,
            entry_uid: task.entry_uid,
            may_act: task.limits_actors.then_some(task.may_act),
            granted: granted(&task.grant),
        }
    }
}

impl Held {
    fn holder(&self) -> &str {
        self.chain.last().map_or("-", |holder| &holder.spiffe_id)
    }
}

impl View for Held {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        let chain: Vec<_> =
            self.chain.iter().map(|holder| format!("{} ({})", holder.spiffe_id, holder.instance)).collect();
        let may_act =
            self.may_act.as_ref().map_or_else(|| "anybody whose entry allows it".to_owned(), |ids| ids.join(" "));
        writeln!(w, "{}: {}", self.id, self.state)?;
        let fields = [
            ("purpose", self.purpose.clone()),
            ("subject", self.subject.clone()),
            ("chain", chain.join(" -> ")),
            ("root", self.root.clone()),
            ("parent", or_dash(self.parent.as_ref())),
            ("hop", format!("{} of {}", self.hop, self.max_hops)),
            ("may act", may_act),
            ("begun", or_dash(self.begun_at.as_ref())),
            ("deadline", or_dash(self.deadline.as_ref())),
            ("detached", self.detached.to_string()),
            ("node", self.node.clone()),
            ("entry", self.entry_uid.clone()),
            ("granted", self.granted.to_string()),
        ];
        fields.into_iter().try_for_each(|(name, value)| writeln!(w, "  {name:<9} {value}"))
    }
}

impl View for Items<Held> {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        let row = |it: &Held| {
            let audience = it.granted.get("audience").and_then(Value::as_str).unwrap_or("-").to_owned();
            [it.id.clone(), it.state.clone(), it.holder().to_owned(), audience, it.purpose.clone()]
        };
        let rows: Vec<_> = self.items.iter().map(row).collect();
        table(w, ["ID", "STATE", "HOLDER", "AUDIENCE", "PURPOSE"], &rows)
    }
}

impl View for Done {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        writeln!(w, "{}: {}", self.id, self.state)?;
        self.changed.iter().filter(|id| **id != self.id).try_for_each(|id| writeln!(w, "  with it {id}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Held {
        let holder = wire::TaskHolder { spiffe_id: "spiffe://example.org/agent".into(), instance: "0".repeat(32) };
        Held::from(wire::Task {
            id: "0a".into(),
            root: "0a".into(),
            state: "open".into(),
            purpose: "summarise".into(),
            begun_at: 1_800_000_000,
            deadline: 1_800_003_600,
            grant: r#"{"audience":"https://a.example"}"#.into(),
            subject: "spiffe://example.org/agent".into(),
            chain: vec![holder],
            max_hops: 3,
            node: "spiffe://example.org/mayfly/node/join_token/a".into(),
            entry_uid: "u1".into(),
            ..wire::Task::default()
        })
    }

    #[test]
    fn a_task_is_shown_whole() {
        assert_eq!(
            output::golden(&held()),
            "0a: open\n  purpose   summarise\n  subject   spiffe://example.org/agent\n  chain     spiffe://example.org/agent \
             (00000000000000000000000000000000)\n  root      0a\n  parent    -\n  hop       0 of 3\n  may act   anybody whose entry allows \
             it\n  begun     2027-01-15T08:00:00Z\n  deadline  2027-01-15T09:00:00Z\n  detached  false\n  node      \
             spiffe://example.org/mayfly/node/join_token/a\n  entry     u1\n  granted   {\"audience\":\"https://a.example\"}\n\
             {\"id\":\"0a\",\"root\":\"0a\",\"parent\":null,\"state\":\"open\",\"purpose\":\"summarise\",\"begun_at\":\"2027-01-15T08:00:00Z\",\
             \"deadline\":\"2027-01-15T09:00:00Z\",\"subject\":\"spiffe://example.org/agent\",\"chain\":[{\"spiffe_id\":\
             \"spiffe://example.org/agent\",\"instance\":\"00000000000000000000000000000000\"}],\"hop\":0,\"max_hops\":3,\"detached\":false,\
             \"node\":\"spiffe://example.org/mayfly/node/join_token/a\",\"entry_uid\":\"u1\",\"may_act\":null,\"granted\":{\"audience\":\
             \"https://a.example\"}}\n"
        );
    }

    #[test]
    fn what_was_changed_with_it_is_named() {
        let done = Done { id: "0a".into(), state: "suspended", changed: vec!["0a".into(), "0b".into()] };
        assert_eq!(
            output::golden(&done),
            "0a: suspended\n  with it 0b\n{\"id\":\"0a\",\"state\":\"suspended\",\"changed\":[\"0a\",\"0b\"]}\n"
        );
    }
}
