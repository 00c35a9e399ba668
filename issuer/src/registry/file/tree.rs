//! A document as a tree, within bounds that hold before anything large is allocated.

use std::cell::Cell;
use std::fmt;

use mayfly_sdk::{Reason, Refusal};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::yaml;
use crate::registry::problem::{Problem, Problems};

/// The longest document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 32 * 1024 * 1024;
/// The deepest nesting.
const MAX_DEPTH: usize = 32;

/// A value of a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number; integers that fit are kept as such.
    Number(serde_json::Number),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Tree>),
    /// Keys and values in the order of the document. A key may stand there twice.
    Map(Vec<(String, Tree)>),
}

impl Tree {
    /// What a person calls it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// Reads a document: JSON if it begins with a brace, else YAML.
///
/// # Errors
/// [`Reason::DocumentUnreadable`], with the line where the syntax ends; for YAML, one for each entry that cannot be read.
pub(super) fn read(document: &[u8]) -> Result<Tree, Problems> {
    let unreadable = |what| Problem::new("", "", unreadable(what));
    if document.len() > MAX_DOCUMENT_BYTES {
        let what = format!("the document has {} bytes, and at most {MAX_DOCUMENT_BYTES} are read", document.len());
        return Err(unreadable(what).into());
    }
    let text = str::from_utf8(document)
        .map_err(|error| unreadable(format!("the document is not UTF-8 from byte {} on", error.valid_up_to())))?;
    if !text.trim_start().starts_with('{') {
        return yaml::read(text);
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let tree = build(&mut json, text.len()).and_then(|tree| json.end().map(|()| tree));
    tree.map_err(|error| unreadable(format!("the document begins with a brace and is not JSON: {error}")).into())
}

pub(super) fn unreadable(what: String) -> Refusal {
    Refusal::new(Reason::DocumentUnreadable, what)
}

/// The tree of a document of this many bytes.
pub(super) fn build<'de, D: Deserializer<'de>>(deserializer: D, bytes: usize) -> Result<Tree, D::Error> {
    // Without aliases no document has more nodes than bytes.
    let budget = Cell::new(bytes.saturating_mul(2).saturating_add(1024));
    Seed { budget: &budget, depth: 0 }.deserialize(deserializer)
}

/// Builds a tree and charges every node to the budget.
#[derive(Clone, Copy)]
struct Seed<'a> {
    budget: &'a Cell<usize>,
    depth: usize,
}

impl Seed<'_> {
    fn charge<E: de::Error>(self, cost: usize) -> Result<(), E> {
        let left = self.budget.get().checked_sub(cost);
        self.budget.set(left.unwrap_or(0));
        left.map(drop).ok_or_else(|| E::custom("its aliases make it far larger than it is"))
    }

    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format_args!("it is nested more than {MAX_DEPTH} levels deep")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, true, false, a list or a map, without tags")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Tree, E> {
        self.charge(1)?;
        Ok(Tree::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Tree, E> {
        self.visit_unit()
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Tree, E> {
        self.charge(1)?;
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Tree, E> {
        self.charge(1)?;
        Ok(Tree::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Tree, E> {
        self.charge(1)?;
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Tree, E> {
        self.charge(1)?;
        serde_json::Number::from_f64(value).map(Tree::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Tree, E> {
        self.charge(value.len().max(1))?;
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        self.charge(1)?;
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        self.charge(1)?;
        let inner = self.deeper()?;
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.charge(key.len())?;
            map.push((key, entries.next_value_seed(inner)?));
        }
        Ok(Tree::Map(map))
    }
}
