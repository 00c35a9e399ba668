//! What is wrong with a file of settings, said so that it can be put right without asking.

use std::fmt;
use std::path::PathBuf;

/// Where a setting came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it: the default.
    #[default]
    Default,
    /// A file, and the line in it (from 1) where one is known.
    File(PathBuf, Option<usize>),
    /// An environment variable, by name.
    Environment(String),
    /// A flag of the command.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, None) => write!(f, "{}", path.display()),
            Self::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One thing to put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where the key was set.
    pub origin: Origin,
    /// Dotted key, such as `ttl.x509`; empty for a problem of the whole file.
    pub key: String,
    /// What is wrong, as a clause.
    pub what: String,
    /// What to do, as a clause.
    pub remedy: String,
}

impl Problem {
    /// A problem with one key; where it was set is added by [`super::load`].
    pub fn new(key: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { origin: Origin::Default, key: key.into(), what: what.into(), remedy: remedy.into() }
    }

    pub(super) fn at(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }
}

impl fmt::Display for Problem {
    /// `file:line: key: what; remedy`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        // Messages of parsers may span lines; a problem is one line.
        let what = self.what.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(f, "{what}")?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}

/// Everything that is wrong, in the order of the sources; displayed one problem a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Each problem.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl From<Vec<Problem>> for Problems {
    fn from(problems: Vec<Problem>) -> Self {
        Self(problems)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
