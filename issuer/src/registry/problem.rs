use std::fmt;

use mayfly_sdk::{Reason, Refusal};

/// The most problems that are listed; what is beyond is counted.
const MAX_LISTED: usize = 100;

/// The longest description of a problem, in characters.
const MAX_WHAT_CHARS: usize = 400;

/// One thing that is wrong with a file of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The entry's name, or `entries[3]` where it has none; empty for the file itself.
    pub entry: String,
    /// The field, for example `node[1]` or `claims.iss`; empty for the whole entry.
    pub field: String,
    /// The stable code.
    pub reason: Reason,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// Everything that is wrong with a file of entries; never empty when it is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    listed: Vec<Problem>,
    unlisted: usize,
}

impl Problem {
    /// A problem whose remedy is that of its reason.
    #[must_use]
    pub fn new(entry: &str, field: &str, refusal: Refusal) -> Self {
        let Refusal { reason, mut what } = refusal;
        // What stood in the file may be quoted, and may be 32 MiB of it.
        if let Some((end, _)) = what.char_indices().nth(MAX_WHAT_CHARS) {
            what.truncate(end);
        }
        let remedy = reason.remedy().to_owned();
        Self { entry: entry.to_owned(), field: field.to_owned(), reason, what, remedy }
    }
}

impl Problems {
    /// The problems, in the order of the file; at most 100.
    #[must_use]
    pub fn as_slice(&self) -> &[Problem] {
        &self.listed
    }

    /// How many there are beyond those that are listed.
    #[must_use]
    pub fn unlisted(&self) -> usize {
        self.unlisted
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    pub(super) fn push(&mut self, problem: Problem) {
        self.push_with(|| problem);
    }

    /// Like `push`, for a problem that takes work to describe: beyond those that are listed, none is done.
    pub(super) fn push_with(&mut self, problem: impl FnOnce() -> Problem) {
        if self.listed.len() < MAX_LISTED {
            self.listed.push(problem());
        } else {
            self.unlisted += 1;
        }
    }

    /// `value`, unless there is a problem.
    pub(super) fn unless_any<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self { listed: vec![problem], unlisted: 0 }
    }
}

/// A single problem keeps its own reason.
impl From<Problems> for Refusal {
    fn from(problems: Problems) -> Self {
        let reason = match problems.listed.as_slice() {
            [only] => only.reason,
            _ => Reason::EntriesInvalid,
        };
        Refusal::new(reason, problems.to_string())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in [&self.entry, &self.field] {
            if !place.is_empty() {
                write!(f, "{place}: ")?;
            }
        }
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// One problem a line.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.listed.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        if self.unlisted > 0 {
            write!(f, "\nand {} more", self.unlisted)?;
        }
        Ok(())
    }
}
