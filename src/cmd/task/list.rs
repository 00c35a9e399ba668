//! `mayfly task list`.

use std::io::{self, Write};

use mayfly_proto::task as wire;
use serde::Serialize;
use serde_json::Value;

use super::shown::{TaskShown, granted};
use crate::admin::AdminArgs;
use crate::endpoint::EndpointArgs;
use crate::failure::Failure;
use crate::output::{Items, Out, View, or_dash, table};

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Every task of the trust domain, for administrators
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

/// A task, with all that is known of it here.
#[derive(Debug, Serialize)]
struct Listed {
    #[serde(flatten)]
    task: TaskShown,
    purpose: String,
    spiffe_id: String,
    subject: String,
    hop: u32,
    max_hops: u32,
    detached: bool,
    granted: Value,
}

impl List {
    pub(crate) async fn run(self, out: Out) -> Result<(), Failure> {
        if self.all {
            return super::operate::list_all(&self.admin, out).await;
        }
        let answer = self.endpoint.tasks().await?.list(wire::ListRequest {}).await;
        let answer = answer.map_err(|status| Failure::status("the tasks were not listed", &status))?.into_inner();
        Ok(out.show(&Items { items: answer.tasks.iter().map(Listed::of).collect() })?)
    }
}

impl Listed {
    fn of(task: &wire::Task) -> Self {
        Self {
            task: TaskShown::of(task),
            purpose: task.purpose.clone(),
            spiffe_id: task.spiffe_id.clone(),
            subject: task.subject.clone(),
            hop: task.hop,
            max_hops: task.max_hops,
            detached: task.detached,
            granted: granted(&task.grant),
        }
    }
}

impl View for Items<Listed> {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        let row = |it: &Listed| {
            let audience = it.granted.get("audience").and_then(Value::as_str).unwrap_or("-").to_owned();
            let purpose = it.purpose.chars().filter(|character| !character.is_control()).collect();
            [it.task.id.clone(), it.task.state.clone(), or_dash(it.task.deadline.as_ref()), audience, purpose]
        };
        let rows: Vec<_> = self.items.iter().map(row).collect();
        table(w, ["TASK", "STATE", "DEADLINE", "AUDIENCE", "PURPOSE"], &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output;

    #[test]
    fn tasks_are_listed_in_both_forms() {
        let task = wire::Task {
            id: "01".to_owned(),
            root: "01".to_owned(),
            state: "open".to_owned(),
            purpose: "to see\u{1b}[2J".to_owned(),
            deadline: 1_800_003_600,
            grant: r#"{"audience":"https://files.example.org/"}"#.to_owned(),
            subject: "spiffe://example.org/web".to_owned(),
            spiffe_id: "spiffe://example.org/web".to_owned(),
            max_hops: 3,
            detached: true,
            ..wire::Task::default()
        };
        assert_eq!(
            output::golden(&Items { items: vec![Listed::of(&task)] }),
            "TASK  STATE  DEADLINE              AUDIENCE                    PURPOSE\n01    open   2027-01-15T09:00:00Z  https://files.example.org/  \
             to see[2J\n{\"items\":[{\"id\":\"01\",\"root\":\"01\",\"parent\":null,\"state\":\"open\",\"deadline\":\"2027-01-15T09:00:00Z\",\
             \"purpose\":\"to see\\u001b[2J\",\"spiffe_id\":\"spiffe://example.org/web\",\"subject\":\"spiffe://example.org/web\",\"hop\":0,\
             \"max_hops\":3,\"detached\":true,\"granted\":{\"audience\":\"https://files.example.org/\"}}]}\n"
        );
    }
}
