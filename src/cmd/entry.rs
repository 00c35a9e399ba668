//! `mayfly entry`: registration entries.

mod apply;
mod delete;
mod list;
mod show;

use std::io::{self, Write};

use clap::Subcommand;
use mayfly_proto::admin;
use serde::Serialize;
use serde_json::Value;

use crate::failure::Failure;
use crate::output::{self, Out, View};

pub(crate) use apply::read_document;

#[derive(Debug, Subcommand)]
pub(crate) enum Entry {
    /// Make the entries of a file's owner what the file says, in one transaction
    Apply(apply::Apply),
    /// List entries
    List(list::List),
    /// Show one entry
    Show(show::Show),
    /// Delete one entry
    Delete(delete::Delete),
}

impl Entry {
    pub(crate) fn run(self, out: Out) -> Result<(), Failure> {
        match self {
            Self::Apply(verb) => verb.run(out),
            Self::List(verb) => verb.run(out),
            Self::Show(verb) => verb.run(out),
            Self::Delete(verb) => verb.run(out),
        }
    }
}

/// An entry as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    uid: String,
    owner: String,
    spiffe_id: String,
    /// Of the last change, `epoch.n`.
    revision: Option<String>,
    created_at: Option<String>,
    updated_at: Option<String>,
    /// As it stands in a file of entries.
    entry: Value,
}

impl From<admin::Entry> for Shown {
    fn from(entry: admin::Entry) -> Self {
        Self {
            revision: output::revision(entry.revision.as_ref()),
            created_at: output::time(entry.created_at),
            updated_at: output::time(entry.updated_at),
            entry: serde_json::from_str(&entry.document).unwrap_or(Value::String(entry.document)),
            name: entry.name,
            uid: entry.uid,
            owner: entry.owner,
            spiffe_id: entry.spiffe_id,
        }
    }
}

impl View for Shown {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        writeln!(w, "{}", self.name)?;
        writeln!(w, "  spiffe id   {}", self.spiffe_id)?;
        writeln!(w, "  uid         {}", self.uid)?;
        writeln!(w, "  owner       {}", self.owner)?;
        writeln!(w, "  revision    {}", output::or_dash(self.revision.as_ref()))?;
        writeln!(w, "  created     {}", output::or_dash(self.created_at.as_ref()))?;
        writeln!(w, "  updated     {}", output::or_dash(self.updated_at.as_ref()))?;
        if let Value::Object(fields) = &self.entry {
            for (key, value) in fields.iter().filter(|(key, _)| !matches!(key.as_str(), "name" | "spiffe_id")) {
                writeln!(w, "  {:<11} {value}", key.replace('_', " "))?;
            }
        }
        Ok(())
    }
}

/// An entry for golden tests.
#[cfg(test)]
fn example() -> Shown {
    Shown::from(admin::Entry {
        name: "web".into(),
        uid: "01jd".into(),
        owner: "shop".into(),
        spiffe_id: "spiffe://example.org/web".into(),
        document: r#"{"name":"web","node":["node:attestor:join_token"],"selectors":["unix:uid:1000"],"spiffe_id":"spiffe://example.org/web","x509_ttl":300}"#.into(),
        revision: Some(admin::Revision { epoch: 1, n: 7 }),
        created_at: 1_800_000_000,
        updated_at: 0,
    })
}
