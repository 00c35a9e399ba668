//! `mayfly entry apply`: a file of entries as a diff against what its owner has.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use mayfly_proto::admin;
use mayfly_proto::admin::entry_change::Kind;
use serde::Serialize;

use crate::admin::AdminArgs;
use crate::failure::Failure;
use crate::output::{self, Out, View};
use crate::runtime;

/// The largest file that is sent, bytes (as in admin.proto).
const LARGEST_FILE: u64 = 32 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Apply {
    /// File of entries, YAML or JSON; - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Also delete the owner's entries that the file does not name
    #[arg(long)]
    prune: bool,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What changed, or would.
#[derive(Debug, Serialize)]
struct Applied {
    dry_run: bool,
    changes: Vec<Change>,
    unchanged: u32,
    /// Of this change, `epoch.n`; null when nothing was changed.
    revision: Option<String>,
}

#[derive(Debug, Serialize)]
struct Change {
    kind: &'static str,
    name: String,
    uid: String,
    fields: Vec<String>,
    /// Whether SVIDs are minted anew.
    reissues: bool,
}

impl Apply {
    pub(crate) fn run(self, out: Out) -> Result<(), Failure> {
        let document = read_document(&self.file)?;
        runtime::client(async {
            let request =
                admin::ApplyEntriesRequest { document: document.into(), prune: self.prune, dry_run: self.dry_run };
            let answer = self.admin.connect().await?.apply_entries(request).await;
            let answer =
                answer.map_err(|status| Failure::status("the entries were not applied", &status))?.into_inner();
            Ok(out.show(&Applied::of(answer, self.dry_run))?)
        })
    }
}

/// A file, or standard input for `-`.
pub(crate) fn read_document(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut document = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(LARGEST_FILE + 1).read_to_end(&mut document)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut document))
    };
    let what = || format!("{} was not read", path.display());
    match read {
        Err(error) => Err(Failure::input(
            what(),
            error.to_string(),
            "give a file that this user may read, or - for standard input",
        )),
        Ok(_) if document.len() as u64 > LARGEST_FILE => {
            Err(Failure::input(what(), "it is larger than 32 MiB", "split it into files of different owners"))
        }
        Ok(_) => Ok(document),
    }
}

impl Applied {
    fn of(answer: admin::ApplyEntriesResponse, dry_run: bool) -> Self {
        let changes = answer.changes.into_iter().map(|change| Change {
            kind: match change.kind() {
                Kind::Created => "created",
                Kind::Updated => "updated",
                Kind::Deleted => "deleted",
                Kind::Unspecified => "unknown",
            },
            name: change.name,
            uid: change.uid,
            fields: change.fields,
            reissues: change.reissues,
        });
        Self {
            dry_run,
            changes: changes.collect(),
            unchanged: answer.unchanged,
            revision: output::revision(answer.revision.as_ref()),
        }
    }
}

impl View for Applied {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        for change in &self.changes {
            write!(w, "{} {}", change.kind, change.name)?;
            if !change.fields.is_empty() {
                write!(w, ": {}", change.fields.join(", "))?;
            }
            writeln!(w, "{}", if change.reissues { "; its identities are issued anew" } else { "" })?;
        }
        let count = self.changes.len();
        match (&self.revision, self.dry_run) {
            (_, true) => writeln!(w, "{count} would change, {} unchanged (dry run)", self.unchanged),
            (Some(revision), false) => {
                writeln!(w, "{count} changed, {} unchanged, revision {revision}", self.unchanged)
            }
            (None, false) => writeln!(w, "nothing changed, {} unchanged", self.unchanged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(revision: Option<admin::Revision>) -> admin::ApplyEntriesResponse {
        let change = |kind: Kind, name: &str, fields: &[&str], reissues| admin::EntryChange {
            kind: kind.into(),
            name: name.into(),
            uid: format!("uid-{name}"),
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            reissues,
        };
        admin::ApplyEntriesResponse {
            changes: vec![
                change(Kind::Created, "web", &[], false),
                change(Kind::Updated, "db", &["labels"], false),
                change(Kind::Updated, "api", &["x509_ttl", "dns_names"], true),
                change(Kind::Deleted, "old", &[], false),
            ],
            unchanged: 3,
            revision,
        }
    }

    #[test]
    fn what_changed_is_shown_in_both_forms() {
        let applied = Applied::of(answer(Some(admin::Revision { epoch: 1, n: 9 })), false);
        assert_eq!(
            output::golden(&applied),
            "created web\nupdated db: labels\nupdated api: x509_ttl, dns_names; its identities are issued anew\ndeleted old\n4 changed, 3 \
             unchanged, revision 1.9\n{\"dry_run\":false,\"changes\":[{\"kind\":\"created\",\"name\":\"web\",\"uid\":\"uid-web\",\"fields\":[],\
             \"reissues\":false},{\"kind\":\"updated\",\"name\":\"db\",\"uid\":\"uid-db\",\"fields\":[\"labels\"],\"reissues\":false},{\"kind\":\
             \"updated\",\"name\":\"api\",\"uid\":\"uid-api\",\"fields\":[\"x509_ttl\",\"dns_names\"],\"reissues\":true},{\"kind\":\"deleted\",\
             \"name\":\"old\",\"uid\":\"uid-old\",\"fields\":[],\"reissues\":false}],\"unchanged\":3,\"revision\":\"1.9\"}\n"
        );
    }

    #[test]
    fn a_dry_run_and_an_unchanged_file_say_so() {
        let text = |applied: &Applied| output::golden(applied).lines().rev().nth(1).unwrap().to_owned();
        assert_eq!(text(&Applied::of(answer(None), true)), "4 would change, 3 unchanged (dry run)");
        let nothing = admin::ApplyEntriesResponse { unchanged: 4, ..Default::default() };
        assert_eq!(text(&Applied::of(nothing, false)), "nothing changed, 4 unchanged");
    }
}
