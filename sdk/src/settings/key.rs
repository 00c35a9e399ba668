//! The known keys: what the default value serialises to.

use serde::Serialize;
use serde_json::Value;

/// What a path of keys leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// A value.
    Leaf,
    /// A table with keys of its own.
    Table,
    /// Inside a table of free keys, or that table itself.
    Free,
    /// Below an optional value that is absent by default: only the type knows.
    Opaque,
    /// Nothing.
    No,
}

/// The default value as a tree.
#[derive(Debug)]
pub(super) struct Schema(Value);

impl Schema {
    pub(super) fn of<T: Serialize>(default: &T) -> Self {
        // A default that does not serialise has no known keys: every key is then refused, which the daemon's first test shows.
        Self(serde_json::to_value(default).unwrap_or_default())
    }

    pub(super) fn known(&self, path: &[String]) -> Known {
        let mut at = &self.0;
        for key in path {
            match at {
                Value::Object(keys) if keys.is_empty() => return Known::Free,
                Value::Object(keys) => match keys.get(key) {
                    Some(next) => at = next,
                    None => return Known::No,
                },
                Value::Null => return Known::Opaque,
                _ => return Known::No,
            }
        }
        match at {
            Value::Object(keys) if keys.is_empty() => Known::Free,
            Value::Object(_) => Known::Table,
            _ => Known::Leaf,
        }
    }

    /// Whether the default is a string, so that `true` or `12` from the environment is one too.
    pub(super) fn is_text(&self, path: &[String]) -> bool {
        matches!(self.at(path), Some(Value::String(_)))
    }

    /// The default as it would be written; none where the key is absent by default.
    pub(super) fn default(&self, path: &[String]) -> Option<String> {
        self.at(path).filter(|value| !value.is_null()).map(ToString::to_string)
    }

    /// Keys of a table, for a message.
    pub(super) fn children(&self, path: &[String]) -> String {
        let Some(Value::Object(keys)) = self.at(path) else { return String::new() };
        let prefix = path.join(".");
        // The order of an object's members depends on who else is in the program.
        let mut names: Vec<_> = keys.keys().map(|key| format!("`{prefix}.{key}`")).collect();
        names.sort_unstable();
        names.join(", ")
    }

    /// Every leaf with its default, sorted by path as the tables are.
    pub(super) fn leaves(&self) -> Vec<(Vec<String>, &Value)> {
        let mut leaves = Vec::new();
        descend(&self.0, &mut Vec::new(), &mut leaves);
        leaves
    }

    /// The known key that is most like `path`, where one is like it at all.
    pub(super) fn nearest(&self, path: &[String]) -> Option<String> {
        let wanted = path.join(".");
        let last = path.last().map_or("", String::as_str);
        self.leaves()
            .into_iter()
            .map(|(known, _)| {
                let whole = strsim::jaro_winkler(&wanted, &known.join("."));
                // A key in the wrong table: the same last name counts.
                let name = if known.last().is_some_and(|name| name == last) { 0.95 } else { 0.0 };
                (f64::max(whole, name), known.join("."))
            })
            .filter(|(likeness, _)| *likeness >= 0.75)
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, known)| known)
    }

    fn at(&self, path: &[String]) -> Option<&Value> {
        path.iter().try_fold(&self.0, |at, key| at.get(key))
    }
}

fn descend<'a>(value: &'a Value, path: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, &'a Value)>) {
    match value {
        Value::Object(keys) if !keys.is_empty() => {
            for (key, value) in keys {
                path.push(key.clone());
                descend(value, path, leaves);
                path.pop();
            }
        }
        leaf => leaves.push((path.clone(), leaf)),
    }
}
