//! From files to a set that can be asked.

use std::collections::HashSet;
use std::str::FromStr as _;
use std::sync::LazyLock;

use cedar_policy::{Effect, Policy, PolicyId, Schema, ValidationMode, Validator};
use mayfly_sdk::{Reason, Refusal};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};

use super::SCHEMA;

/// The most bytes of policies, of all sets together.
pub const MAX_TEXT: usize = 1024 * 1024;
/// The most policies, of all sets together.
pub const MAX_POLICIES: usize = 4096;
/// The most sets.
pub const MAX_SETS: usize = 64;
/// The most files of one set.
const MAX_FILES: usize = 1024;
/// The longest name of a set or file, bytes.
const MAX_NAME: usize = 64;
/// The longest `@id`, bytes.
const MAX_ID: usize = 64;
/// The most problems that are told of.
const MAX_PROBLEMS: usize = 20;
/// The longest of them, characters.
const MAX_PROBLEM: usize = 300;

static CEDAR_SCHEMA: LazyLock<Option<Schema>> =
    LazyLock::new(|| Schema::from_cedarschema_str(SCHEMA).ok().map(|(schema, _)| schema));

/// The schema as Cedar has it.
///
/// # Errors
/// [`Reason::Internal`]: this build's own schema cannot be read.
pub(super) fn schema() -> Result<&'static Schema, Refusal> {
    CEDAR_SCHEMA.as_ref().ok_or_else(|| Refusal::new(Reason::Internal, "the schema of policies cannot be read"))
}

/// A file of policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFile {
    /// What it is called, without its directory.
    pub name: String,
    /// What stands in it.
    pub text: String,
}

/// A set of policies that was read and checked, and can be asked.
#[derive(Debug, Clone)]
pub struct PolicySet {
    name: String,
    files: Vec<PolicyFile>,
    bytes: usize,
    /// In the order of the files: what tells of a decision names them in this order.
    ids: Vec<(PolicyId, Effect)>,
    pub(super) cedar: cedar_policy::PolicySet,
}

impl PolicySet {
    /// Reads files and checks them against the schema.
    ///
    /// # Errors
    /// [`Reason::InvalidPolicy`]: each problem with its file and line.
    pub fn read(name: &str, files: Vec<PolicyFile>) -> Result<Self, Refusal> {
        if !is_name(name) {
            return Err(invalid("a set is called by 1 to 64 of the characters a-z 0-9 . _ -".to_owned()));
        }
        let bytes = files.iter().map(|file| file.text.len()).sum();
        if bytes > MAX_TEXT || files.len() > MAX_FILES {
            return Err(invalid("a set has at most 1 MiB of policies in 1,024 files".to_owned()));
        }
        let mut set = Self {
            name: name.to_owned(),
            files: Vec::new(),
            bytes,
            ids: Vec::new(),
            cedar: cedar_policy::PolicySet::default(),
        };
        let mut problems = Vec::new();
        let mut names = HashSet::new();
        for file in &files {
            if !is_file_name(&file.name) || !names.insert(file.name.as_str()) {
                problems
                    .push(format!("{}: a file has a short name that no other one of the set has", shown(&file.name)));
                continue;
            }
            set.add(file, &mut problems)?;
        }
        if set.ids.len() > MAX_POLICIES {
            problems.push(format!("a set has at most {MAX_POLICIES} policies, and this one {}", set.ids.len()));
        }
        set.files = files;
        if problems.is_empty() { Ok(set) } else { Err(invalid(listed(problems))) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The files that it was read from.
    #[must_use]
    pub fn files(&self) -> &[PolicyFile] {
        &self.files
    }

    /// How many policies it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether it has none, and so denies everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Bytes of its files.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// It as the store keeps it.
    #[must_use]
    pub fn document(&self) -> String {
        // Only maps with keys that are not text fail to serialize, and there is none here.
        serde_json::to_string(&self.files).unwrap_or_default()
    }

    /// It from what the store keeps.
    ///
    /// # Errors
    /// [`Reason::StoreCorrupt`]: what cannot be read any more must not be passed over.
    pub fn stored(name: &str, document: &str) -> Result<Self, Refusal> {
        let damaged = |what: String| {
            Refusal::new(Reason::StoreCorrupt, format!("the stored policy set {name:?} cannot be read: {what}"))
        };
        let files = serde_json::from_str(document).map_err(|error| damaged(error.to_string()))?;
        Self::read(name, files).map_err(|refusal| damaged(refusal.what))
    }

    /// The policies, in their order.
    pub(super) fn ids(&self) -> &[(PolicyId, Effect)] {
        &self.ids
    }

    fn add(&mut self, file: &PolicyFile, problems: &mut Vec<String>) -> Result<(), Refusal> {
        let read = match cedar_policy::PolicySet::from_str(&file.text) {
            Ok(read) => read,
            Err(errors) => {
                problems.extend(errors.iter().map(|error| problem(file, error)));
                return Ok(());
            }
        };
        if read.templates().next().is_some() {
            problems.push(format!("{}: a policy is a template, with ?principal or ?resource: name them", file.name));
        }
        let checked = Validator::new(schema()?.clone()).validate(&read, ValidationMode::Strict);
        problems.extend(checked.validation_errors().map(|error| problem(file, error)));
        let mut policies: Vec<&Policy> = read.policies().collect();
        // Cedar calls them policy0, policy1 and so on, in the order of the text.
        policies
            .sort_by_key(|policy| AsRef::<str>::as_ref(policy.id()).trim_start_matches("policy").parse::<usize>().ok());
        for (n, policy) in policies.into_iter().enumerate() {
            let own = format!("{}#{}", file.name, n + 1);
            let id = match policy.annotation("id") {
                Some(id) if is_id(id) => id.to_owned(),
                Some(_) => {
                    problems.push(format!("{own}: an @id is 1 to 64 of the characters A-Z a-z 0-9 . _ - : /"));
                    continue;
                }
                None => own.clone(),
            };
            let policy = policy.new_id(PolicyId::new(&id));
            let (id, effect) = (policy.id().clone(), policy.effect());
            if self.cedar.add(policy).is_err() {
                problems.push(format!("{own}: another policy of the set has the same @id"));
                continue;
            }
            self.ids.push((id, effect));
        }
        Ok(())
    }
}

fn problem(file: &PolicyFile, error: &(impl Diagnostic + ?Sized)) -> String {
    let line = error.labels().and_then(|mut labels| labels.next()).map(|label| {
        let before = file.text.as_bytes().iter().take(label.offset());
        1 + before.filter(|byte| **byte == b'\n').count()
    });
    let mut what = error.to_string();
    if let Some(help) = error.help() {
        what = format!("{what} ({help})");
    }
    match line {
        Some(line) => format!("{}:{line}: {}", file.name, shown(&what)),
        None => format!("{}: {}", file.name, shown(&what)),
    }
}

/// One line, not too long, without control characters: what stood in a file may be quoted.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_PROBLEM).collect()
}

fn listed(mut problems: Vec<String>) -> String {
    let beyond = problems.len().saturating_sub(MAX_PROBLEMS);
    problems.truncate(MAX_PROBLEMS);
    let listed = problems.join("; ");
    if beyond == 0 { listed } else { format!("{listed}; and {beyond} more") }
}

fn invalid(what: String) -> Refusal {
    Refusal::new(Reason::InvalidPolicy, what)
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

fn is_file_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_id(id: &str) -> bool {
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:/".contains(&b))
}
