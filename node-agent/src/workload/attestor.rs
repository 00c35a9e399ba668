//! The seam for attestors.

use std::collections::BTreeSet;
use std::fmt;

use mayfly_sdk::selector::Selector;

use super::{HeldProcess, Undetermined};

/// One way to find out about a process.
pub trait Attestor: fmt::Debug + Send + Sync {
    /// The type of its selectors, such as `unix`.
    fn name(&self) -> &'static str;

    /// What it finds with a few reads of `/proc`, of what is needed. What it leaves out does not hold.
    ///
    /// The caller asks afterwards whether the process still lives and runs the same program, and believes nothing otherwise.
    fn attest(&self, process: &HeldProcess, needs: &Needs) -> Facts;

    /// The keys that may take longer, and are left to [`attest_slowly`](Self::attest_slowly).
    fn slow_keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// What it finds of one slow key that is needed. Runs on a thread that may block; after the deadline that key, and no other, is undetermined.
    fn attest_slowly(&self, process: &HeldProcess, key: &'static str) -> Facts {
        let _ = (process, key);
        Facts::none(self.name())
    }
}

/// Which facts any entry of this node asks for, by type and key. What nobody asks for is not computed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    everything: bool,
    names: BTreeSet<(String, String)>,
}

impl Needs {
    /// What these conditions ask for: those of every entry that this node may serve.
    pub fn of<'a>(selectors: impl IntoIterator<Item = &'a Selector>) -> Self {
        let names =
            selectors.into_iter().map(|selector| (selector.kind().to_owned(), selector.key().to_owned())).collect();
        Self { everything: false, names }
    }

    /// Every fact there is, to be shown to a person who writes an entry.
    #[must_use]
    pub fn everything() -> Self {
        Self { everything: true, names: BTreeSet::new() }
    }

    /// Also the facts named `{kind.key}` in templates.
    #[must_use]
    pub fn and(mut self, kind: &str, key: &str) -> Self {
        self.names.insert((kind.to_owned(), key.to_owned()));
        self
    }

    /// Whether anybody asks for this fact.
    #[must_use]
    pub fn want(&self, kind: &str, key: &str) -> bool {
        self.everything || self.names.iter().any(|(k, n)| k == kind && n == key)
    }
}

/// What one attestor found.
#[derive(Debug)]
pub struct Facts {
    kind: &'static str,
    pub(super) found: BTreeSet<Selector>,
    pub(super) undetermined: Vec<Undetermined>,
}

impl Facts {
    /// Nothing yet, for selectors of this type.
    #[must_use]
    pub fn none(kind: &'static str) -> Self {
        Self { kind, found: BTreeSet::new(), undetermined: Vec::new() }
    }

    /// It is so. A value that no selector can hold (a control character, more than 4 KiB) is left out, for no entry can ask for it.
    pub fn add(&mut self, key: &'static str, value: impl fmt::Display) {
        if let Ok(selector) = Selector::new(self.kind, key, &value.to_string()) {
            self.found.insert(selector);
        }
    }

    /// It is so, or it is not known.
    pub fn add_or_undetermined(&mut self, key: &'static str, found: Result<String, Undetermined>) {
        match found {
            Ok(value) => self.add(key, value),
            Err(undetermined) => self.undetermined(undetermined),
        }
    }

    /// It may or may not be so.
    pub fn undetermined(&mut self, undetermined: Undetermined) {
        self.undetermined.push(undetermined);
    }
}
