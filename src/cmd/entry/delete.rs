//! `mayfly entry delete`.

use std::io::{self, Write};

use mayfly_proto::admin;
use serde::Serialize;

use crate::admin::AdminArgs;
use crate::failure::Failure;
use crate::output::{self, Out, View};
use crate::runtime;

#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// Name or uid
    entry: String,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Serialize)]
struct Deleted {
    deleted: String,
    revision: Option<String>,
}

impl Delete {
    pub(crate) fn run(self, out: Out) -> Result<(), Failure> {
        runtime::client(async {
            let request = admin::DeleteEntryRequest { entry: self.entry.clone() };
            let answer = self.admin.connect().await?.delete_entry(request).await;
            let answer = answer
                .map_err(|status| Failure::status(format!("the entry {} was not deleted", self.entry), &status))?;
            Ok(out.show(&Deleted {
                deleted: self.entry,
                revision: output::revision(answer.into_inner().revision.as_ref()),
            })?)
        })
    }
}

impl View for Deleted {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        writeln!(w, "deleted {}, revision {}", self.deleted, output::or_dash(self.revision.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_is_shown_in_both_forms() {
        let deleted = Deleted { deleted: "web".into(), revision: Some("1.8".into()) };
        assert_eq!(output::golden(&deleted), "deleted web, revision 1.8\n{\"deleted\":\"web\",\"revision\":\"1.8\"}\n");
    }
}
