//! A task and its token, as they are printed.

use std::io::{self, Write};
use std::path::PathBuf;

use mayfly_proto::task as wire;
use serde::Serialize;
use serde_json::Value;

use crate::output::{View, time};

/// A task, in few words.
#[derive(Debug, Serialize)]
pub(super) struct TaskShown {
    pub(super) id: String,
    pub(super) root: String,
    pub(super) parent: Option<String>,
    pub(super) state: String,
    pub(super) deadline: Option<String>,
}

/// A task that was begun.
#[derive(Debug, Serialize)]
pub(super) struct Begun {
    pub(super) task: TaskShown,
    pub(super) token: String,
    pub(super) expires_at: Option<String>,
    /// The grant as given.
    pub(super) granted: Value,
    /// The files, where `--write` was given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) written: Vec<PathBuf>,
}

/// A task at a moment.
#[derive(Debug, Serialize)]
pub(super) struct Now {
    pub(super) task: TaskShown,
    /// None while it is suspended and once it has ended.
    pub(super) token: Option<String>,
    pub(super) expires_at: Option<String>,
    pub(super) no_new_work: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) written: Vec<PathBuf>,
}

impl TaskShown {
    pub(super) fn of(task: &wire::Task) -> Self {
        Self {
            id: task.id.clone(),
            root: task.root.clone(),
            parent: Some(task.parent.clone()).filter(|parent| !parent.is_empty()),
            state: task.state.clone(),
            deadline: time(task.deadline),
        }
    }
}

/// A grant as the issuer gave it; as text if it is no JSON.
pub(super) fn granted(grant: &str) -> Value {
    serde_json::from_str(grant).unwrap_or_else(|_| grant.into())
}

impl View for Begun {
    /// The token alone.
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        writeln!(w, "{}", self.token)
    }
}

impl View for Now {
    /// The state, and the token where there is one.
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        let warning = if self.no_new_work { ", begin nothing new" } else { "" };
        match (&self.token, &self.expires_at) {
            (Some(token), Some(end)) => writeln!(w, "{} until {end}{warning}: {token}", self.task.state),
            _ => writeln!(w, "{}", self.task.state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output;

    fn task(state: &str) -> TaskShown {
        TaskShown::of(&wire::Task {
            id: "02".to_owned(),
            root: "01".to_owned(),
            parent: "01".to_owned(),
            state: state.to_owned(),
            deadline: 1_800_003_600,
            ..wire::Task::default()
        })
    }

    #[test]
    fn a_task_that_was_begun_is_its_token_in_text_and_everything_but_keys_in_json() {
        let begun = Begun {
            task: task("open"),
            token: "a.b.c".to_owned(),
            expires_at: time(1_800_000_300),
            granted: granted(r#"{"audience": "https://files.example.org/"}"#),
            written: vec!["/tmp/d/token".into()],
        };
        assert_eq!(
            output::golden(&begun),
            "a.b.c\n{\"task\":{\"id\":\"02\",\"root\":\"01\",\"parent\":\"01\",\"state\":\"open\",\"deadline\":\"2027-01-15T09:00:00Z\"},\
             \"token\":\"a.b.c\",\"expires_at\":\"2027-01-15T08:05:00Z\",\"granted\":{\"audience\":\"https://files.example.org/\"},\
             \"written\":[\"/tmp/d/token\"]}\n"
        );
    }

    #[test]
    fn a_task_that_is_watched_says_how_it_stands() {
        let now = Now {
            task: task("open"),
            token: Some("a.b.c".to_owned()),
            expires_at: time(1_800_000_300),
            no_new_work: true,
            written: Vec::new(),
        };
        let shown = "{\"task\":{\"id\":\"02\",\"root\":\"01\",\"parent\":\"01\",\"state\":\"";
        assert_eq!(
            output::golden(&now),
            format!(
                "open until 2027-01-15T08:05:00Z, begin nothing new: a.b.c\n{shown}open\",\"deadline\":\"2027-01-15T09:00:00Z\"}},\
                 \"token\":\"a.b.c\",\"expires_at\":\"2027-01-15T08:05:00Z\",\"no_new_work\":true}}\n"
            )
        );
        let ended =
            Now { task: task("completed"), token: None, expires_at: None, no_new_work: false, written: Vec::new() };
        assert_eq!(
            output::golden(&ended),
            format!(
                "completed\n{shown}completed\",\"deadline\":\"2027-01-15T09:00:00Z\"}},\"token\":null,\"expires_at\":null,\
                 \"no_new_work\":false}}\n"
            )
        );
    }
}
