//! Reading a file of entries: YAML or JSON, hostile until shown otherwise, every problem reported at once.
//!
//! `bytes ──tree──> Tree (bounded) ──entry──> EntrySpec`, with the rules of the installation applied to each field as it
//! is read, so that a file which is wrong in two ways says both.

mod entry;
mod fields;
mod grants;
mod text;
mod tree;
mod yaml;

use std::collections::HashMap;
use std::sync::Arc;

use mayfly_sdk::{Reason, Refusal};

pub use tree::MAX_DOCUMENT_BYTES;

use super::entry::EntrySpec;
use super::problem::{Problem, Problems};
use super::rules::Rules;
use fields::{Fields, Place};

/// A file of entries that obeys the rules.
#[derive(Debug, Clone, PartialEq)]
pub struct EntriesFile {
    /// Whose entries these are.
    pub owner: Arc<str>,
    /// The entries, in the order of the file, each name once.
    pub entries: Vec<EntrySpec>,
}

impl EntriesFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Everything that is wrong with it: the document cannot be read, or some of it is unknown, missing, of the wrong
    /// form or against the rules.
    pub fn parse(document: &[u8], rules: &Rules) -> Result<Self, Problems> {
        let tree = tree::read(document)?;
        let mut problems = Problems::default();
        let mut top = Fields::open(tree, Place::file(), &["owner", "entries"], &mut problems);
        let owner = top.required("owner", |owner| text::name("an owner", owner));
        let entries = top.required_list("entries");
        drop(top);
        let specs: Vec<EntrySpec> = entries
            .unwrap_or_default()
            .into_iter()
            .enumerate()
            .filter_map(|(at, tree)| entry::read(at, tree, rules, &mut problems))
            .collect();
        refuse_twins(&specs, &mut problems);
        problems.unless_any(Self { owner: owner.unwrap_or_default().into(), entries: specs })
    }
}

fn refuse_twins(specs: &[EntrySpec], problems: &mut Problems) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (at, spec) in specs.iter().enumerate() {
        if let Some(first) = seen.insert(&spec.name, at) {
            let what = format!("entries[{first}] and entries[{at}] have the same name");
            problems.push(Problem::new(&spec.name, "name", Refusal::new(Reason::InvalidValue, what)));
        }
    }
}

fn unsupported(what: &str) -> Refusal {
    Refusal::new(Reason::NotSupportedYet, format!("{what} are planned, and this version does not have them"))
}

/// Feeds bytes to the parser of files, for fuzzing: whatever they are, it must come back, and what it accepts must be
/// read again from what it is stored as.
#[doc(hidden)]
pub fn fuzz_entries_document(document: &[u8]) {
    let Ok(trust_domain) = "example.org".parse() else { return };
    let Ok(file) = EntriesFile::parse(document, &Rules::new(trust_domain)) else { return };
    for spec in file.entries {
        assert_eq!(serde_json::from_str::<EntrySpec>(&spec.to_json()).ok().as_ref(), Some(&spec));
    }
}

#[cfg(test)]
mod tests;
