//! `mayfly policy`: sets of Cedar policies that every task must be permitted by, beyond what its entry allows.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use mayfly_issuer::policy::SCHEMA;
use mayfly_proto::admin;
use serde::Serialize;

use super::entry::read_document;
use crate::admin::AdminArgs;
use crate::failure::Failure;
use crate::output::{self, Items, Out, View, or_dash, table};
use crate::runtime;

/// How the set is called where nobody names it.
const DEFAULT: &str = "default";

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Apply a set of policies, in place of the one with its name; a broken one is refused and the old one stays
    Apply(Apply),
    /// Show the sets that are applied, or the policies of one
    Show {
        /// Of this set alone
        name: Option<String>,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Delete a set; without any, registration entries alone decide
    Delete {
        name: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Print the schema that policies are checked against
    Schema,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Apply {
    /// Files of Cedar policies, or directories whose *.cedar files are taken; - for standard input
    #[arg(short, long = "file", value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
    /// The set: each set must permit a task by itself
    #[arg(long, default_value = DEFAULT)]
    name: String,
    /// Only check them
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What was applied, or checked.
#[derive(Debug, Serialize)]
struct Applied {
    name: String,
    dry_run: bool,
    policies: u32,
    /// Of this change, `epoch.n`; null in a dry run.
    revision: Option<String>,
}

/// A set as it is listed.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    policies: u32,
    revision: Option<String>,
    files: Vec<File>,
}

#[derive(Debug, Serialize)]
struct File {
    name: String,
    text: String,
}

/// Every set.
#[derive(Debug, Serialize)]
struct All {
    /// Of the newest change of any set; null: there never was one, and entries alone decide.
    revision: Option<String>,
    #[serde(flatten)]
    sets: Items<Listed>,
}

/// A set that is gone.
#[derive(Debug, Serialize)]
struct Deleted {
    name: String,
    revision: Option<String>,
    /// Sets that are left.
    left: u32,
}

/// The schema.
#[derive(Debug, Serialize)]
struct Schema {
    schema: &'static str,
}

impl Policy {
    pub(crate) fn run(self, out: Out) -> Result<(), Failure> {
        match self {
            Self::Schema => Ok(out.show(&Schema { schema: SCHEMA })?),
            Self::Apply(verb) => {
                let files = read_all(&verb.files)?;
                runtime::client(verb.run(files, out))
            }
            Self::Show { name, admin } => runtime::client(show(name, &admin, out)),
            Self::Delete { name, admin } => runtime::client(delete(name, &admin, out)),
        }
    }
}

impl Apply {
    async fn run(self, files: Vec<admin::PolicyFile>, out: Out) -> Result<(), Failure> {
        let request = admin::ApplyPolicyRequest { name: self.name.clone(), files, dry_run: self.dry_run };
        let answer = self.admin.connect().await?.apply_policy(request).await;
        let what = format!("the policy set {} was not applied", self.name);
        let answer = answer.map_err(|status| Failure::status(what, &status))?.into_inner();
        Ok(out.show(&Applied {
            name: self.name,
            dry_run: self.dry_run,
            policies: answer.policies,
            revision: output::revision(answer.revision.as_ref()),
        })?)
    }
}

async fn show(name: Option<String>, admin: &AdminArgs, out: Out) -> Result<(), Failure> {
    let request = admin::GetPoliciesRequest { name: name.clone().unwrap_or_default() };
    let answer = admin.connect().await?.get_policies(request).await;
    let answer = answer.map_err(|status| Failure::status("the policies are not shown", &status))?.into_inner();
    let mut sets = answer.items.into_iter().map(Listed::from);
    match (name, sets.next()) {
        (Some(_), Some(set)) => Ok(out.show(&set)?),
        (_, first) => {
            let revision = output::revision(answer.revision.as_ref());
            Ok(out.show(&All { revision, sets: Items { items: first.into_iter().chain(sets).collect() } })?)
        }
    }
}

async fn delete(name: String, admin: &AdminArgs, out: Out) -> Result<(), Failure> {
    let request = admin::DeletePolicyRequest { name: name.clone() };
    let answer = admin.connect().await?.delete_policy(request).await;
    let answer = answer.map_err(|status| Failure::status(format!("the policy set {name} was not deleted"), &status))?;
    let admin::DeletePolicyResponse { revision, left } = answer.into_inner();
    Ok(out.show(&Deleted { name, revision: output::revision(revision.as_ref()), left })?)
}

/// The files that are meant, those of a directory in the order of their names.
fn read_all(paths: &[PathBuf]) -> Result<Vec<admin::PolicyFile>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            for path in in_directory(path)? {
                files.push(read(&path)?);
            }
        } else {
            files.push(read(path)?);
        }
    }
    Ok(files)
}

fn in_directory(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: io::Error| {
        let what = format!("{} was not read", directory.display());
        Failure::input(what, error.to_string(), "give a directory that this user may read")
    };
    let entries = std::fs::read_dir(directory).map_err(failed)?;
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(failed)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "cedar"));
    paths.sort();
    if paths.is_empty() {
        // An empty set denies everything: that is never what a wrong directory should mean.
        let what = format!("{} has no policies", directory.display());
        let remedy = "name a directory with *.cedar files; an empty file makes a set that denies everything";
        return Err(Failure::input(what, "no file in it is called *.cedar", remedy));
    }
    Ok(paths)
}

fn read(path: &Path) -> Result<admin::PolicyFile, Failure> {
    let name = match path.file_name() {
        Some(name) if path != Path::new("-") => name.to_string_lossy().into_owned(),
        _ => "stdin".to_owned(),
    };
    let text = String::from_utf8(read_document(path)?).map_err(|error| {
        Failure::input(format!("{} was not read", path.display()), error.to_string(), "write policies in UTF-8")
    })?;
    Ok(admin::PolicyFile { name, text })
}

impl From<admin::PolicySet> for Listed {
    fn from(set: admin::PolicySet) -> Self {
        let files = set.files.into_iter().map(|file| File { name: file.name, text: file.text });
        Self {
            name: set.name,
            policies: set.policies,
            revision: output::revision(set.revision.as_ref()),
            files: files.collect(),
        }
    }
}

impl View for Applied {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        let Self { name, policies, .. } = self;
        match (&self.revision, policies) {
            (None, _) => writeln!(w, "{name}: {policies} policies, not applied (dry run)"),
            (Some(revision), 0) => {
                writeln!(w, "{name}: no policies, so that it denies everything; revision {revision}")
            }
            (Some(revision), _) => writeln!(w, "{name}: {policies} policies, revision {revision}"),
        }
    }
}

impl View for Listed {
    /// The policies alone.
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        for file in &self.files {
            writeln!(w, "// {}", file.name)?;
            w.write_all(file.text.as_bytes())?;
            if !file.text.ends_with('\n') {
                writeln!(w)?;
            }
        }
        Ok(())
    }
}

impl View for All {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        match (&self.revision, self.sets.items.as_slice()) {
            (None, []) => writeln!(w, "no policies were ever applied: entries alone decide"),
            (Some(revision), []) => writeln!(w, "no policies since revision {revision}: entries alone decide"),
            (_, sets) => {
                let row = |it: &Listed| [it.name.clone(), it.policies.to_string(), or_dash(it.revision.as_ref())];
                table(w, ["SET", "POLICIES", "REVISION"], &sets.iter().map(row).collect::<Vec<_>>())
            }
        }
    }
}

impl View for Deleted {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        let rest = if self.left == 0 { "; no set is left: entries alone decide" } else { "" };
        writeln!(w, "{} deleted, revision {}{rest}", self.name, or_dash(self.revision.as_ref()))
    }
}

impl View for Schema {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        w.write_all(self.schema.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(n: u64) -> admin::Revision {
        admin::Revision { epoch: 1, n }
    }

    fn listed() -> Listed {
        let files =
            vec![admin::PolicyFile { name: "a.cedar".into(), text: "permit(principal, action, resource);".into() }];
        Listed::from(admin::PolicySet { name: "default".into(), revision: Some(revision(7)), policies: 1, files })
    }

    #[test]
    fn a_set_is_shown_as_its_policies() {
        assert_eq!(
            output::golden(&listed()),
            "// a.cedar\npermit(principal, action, resource);\n{\"name\":\"default\",\"policies\":1,\"revision\":\"1.7\",\"files\":\
             [{\"name\":\"a.cedar\",\"text\":\"permit(principal, action, resource);\"}]}\n"
        );
    }

    #[test]
    fn all_sets_are_listed_and_none_says_who_decides() {
        let all = All { revision: Some("1.7".into()), sets: Items { items: vec![listed()] } };
        assert_eq!(
            output::golden(&all),
            "SET      POLICIES  REVISION\ndefault  1         1.7\n{\"revision\":\"1.7\",\"items\":[{\"name\":\"default\",\"policies\":1,\
             \"revision\":\"1.7\",\"files\":[{\"name\":\"a.cedar\",\"text\":\"permit(principal, action, resource);\"}]}]}\n"
        );
        let never = All { revision: None, sets: Items { items: Vec::new() } };
        assert_eq!(
            output::golden(&never),
            "no policies were ever applied: entries alone decide\n{\"revision\":null,\"items\":[]}\n"
        );
    }

    #[test]
    fn what_was_done_is_told() {
        let applied = |policies, revision| Applied { name: "default".into(), dry_run: false, policies, revision };
        assert_eq!(
            output::golden(&applied(2, Some("1.8".into()))),
            "default: 2 policies, revision 1.8\n{\"name\":\"default\",\"dry_run\":false,\"policies\":2,\"revision\":\"1.8\"}\n"
        );
        assert_eq!(
            output::golden(&applied(0, Some("1.9".into()))),
            "default: no policies, so that it denies everything; revision 1.9\n{\"name\":\"default\",\"dry_run\":false,\"policies\":0,\
             \"revision\":\"1.9\"}\n"
        );
        let deleted = Deleted { name: "default".into(), revision: Some("1.10".into()), left: 0 };
        assert_eq!(
            output::golden(&deleted),
            "default deleted, revision 1.10; no set is left: entries alone decide\n{\"name\":\"default\",\"revision\":\"1.10\",\"left\":0}\n"
        );
    }
}
