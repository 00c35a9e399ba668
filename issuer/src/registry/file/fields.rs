use std::collections::HashSet;

use mayfly_sdk::{Reason, Refusal, Timestamp, Ttl};

use super::text::invalid;
use super::tree::Tree;
use crate::registry::problem::{Problem, Problems};

/// How much of a key is shown; it may be 32 MiB long.
const MAX_SHOWN_CHARS: usize = 64;

/// Where something stands in the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// The entry's name or position; empty for the file itself.
    pub(super) entry: String,
    /// The path of keys within the entry; empty for all of it.
    pub(super) field: String,
}

impl Place {
    /// The file itself.
    pub(super) fn file() -> Self {
        Self::default()
    }

    /// A whole entry.
    pub(super) fn entry(name: String) -> Self {
        Self { entry: name, field: String::new() }
    }

    /// A key below this place.
    pub(super) fn key(&self, key: &str) -> Self {
        let dot = if self.field.is_empty() { "" } else { "." };
        let key: String = key.chars().take(MAX_SHOWN_CHARS).collect();
        Self { entry: self.entry.clone(), field: format!("{}{dot}{key}", self.field) }
    }

    /// An item of the list at this place.
    pub(super) fn item(&self, at: usize) -> Self {
        Self { entry: self.entry.clone(), field: format!("{}[{at}]", self.field) }
    }

    /// A problem here.
    pub(super) fn problem(&self, refusal: Refusal) -> Problem {
        Problem::new(&self.entry, &self.field, refusal)
    }
}

/// The keys of one map. What is wrong with a value is noted, and the value is then as if it were absent.
pub(super) struct Fields<'p> {
    place: Place,
    values: Vec<(String, Tree)>,
    /// Whether it is a map at all; if not, nothing more is said about what it lacks.
    is_map: bool,
    problems: &'p mut Problems,
}

impl<'p> Fields<'p> {
    /// Opens a map whose keys must be among `known`.
    pub(super) fn open(tree: Tree, place: Place, known: &[&str], problems: &'p mut Problems) -> Self {
        let Tree::Map(all) = tree else {
            let what = format!("{} stands where a map with the keys {} belongs", tree.kind(), known.join(", "));
            problems.push(place.problem(invalid(what)));
            return Self { place, values: Vec::new(), is_map: false, problems };
        };
        let mut values: Vec<(String, Tree)> = Vec::with_capacity(all.len());
        for (key, value) in all {
            if !known.contains(&key.as_str()) {
                problems.push_with(|| unknown(&place, &key, known));
            } else if values.iter().any(|(other, _)| *other == key) {
                problems.push(place.key(&key).problem(invalid("the key stands there twice".to_owned())));
            } else if value == Tree::Null {
                let refusal = Refusal::new(Reason::MissingKey, "the key has no value");
                let remedy = "give it a value, or remove the key".to_owned();
                problems.push(Problem { remedy, ..place.key(&key).problem(refusal) });
            } else {
                values.push((key, value));
            }
        }
        Self { place, values, is_map: true, problems }
    }

    /// Where this map stands.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Notes a problem with a key.
    pub(super) fn note(&mut self, key: &str, refusal: Refusal) {
        self.problems.push(self.place.key(key).problem(refusal));
    }

    /// Notes a problem at a place.
    pub(super) fn note_at(&mut self, place: &Place, refusal: Refusal) {
        self.problems.push(place.problem(refusal));
    }

    /// Everybody's problems, for what is read below this map.
    pub(super) fn problems(&mut self) -> &mut Problems {
        self.problems
    }

    /// The value of a key, whatever it is.
    pub(super) fn take(&mut self, key: &str) -> Option<Tree> {
        let at = self.values.iter().position(|(other, _)| other == key)?;
        Some(self.values.swap_remove(at).1)
    }

    /// The text of a key.
    pub(super) fn optional<T>(&mut self, key: &str, read: impl FnOnce(&str) -> Result<T, Refusal>) -> Option<T> {
        let tree = self.take(key)?;
        let value = as_text(&tree).and_then(read);
        self.keep(key, value)
    }

    /// The text of a key that must be there.
    pub(super) fn required<T>(&mut self, key: &str, read: impl FnOnce(&str) -> Result<T, Refusal>) -> Option<T> {
        if self.must_have(key) { self.optional(key, read) } else { None }
    }

    /// The items of a list that must be there.
    pub(super) fn required_list(&mut self, key: &str) -> Option<Vec<Tree>> {
        if !self.must_have(key) {
            return None;
        }
        match self.take(key)? {
            Tree::List(items) => Some(items),
            other => self.keep(key, Err(invalid(format!("{} stands where a list belongs", other.kind())))),
        }
    }

    /// The texts of a list, each of them once.
    pub(super) fn texts<T: PartialEq>(
        &mut self,
        key: &str,
        most: usize,
        read: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Box<[T]> {
        let items = match self.take(key) {
            None => return Box::default(),
            Some(Tree::List(items)) => items,
            Some(other) => {
                self.note(key, invalid(format!("{} stands where a list belongs", other.kind())));
                return Box::default();
            }
        };
        self.texts_of(&self.place.key(key), &items, most, read)
    }

    /// The texts of a list that must be there and have an item.
    pub(super) fn required_texts<T: PartialEq>(
        &mut self,
        key: &str,
        most: usize,
        read: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Box<[T]> {
        let Some(items) = self.required_list(key) else { return Box::default() };
        if items.is_empty() {
            self.note(key, invalid("the list is empty".to_owned()));
        }
        self.texts_of(&self.place.key(key), &items, most, read)
    }

    /// The texts of these items, each of them once.
    pub(super) fn texts_of<T: PartialEq>(
        &mut self,
        place: &Place,
        items: &[Tree],
        most: usize,
        read: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Box<[T]> {
        if items.len() > most {
            self.note_at(place, invalid(format!("the list has {} items, and at most {most} are allowed", items.len())));
            return Box::default();
        }
        let mut values: Vec<T> = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            match as_text(item).and_then(&read) {
                Ok(value) if values.contains(&value) => {
                    self.note_at(&place.item(at), invalid("the item stands there twice".to_owned()));
                }
                Ok(value) => values.push(value),
                Err(refusal) => self.note_at(&place.item(at), refusal),
            }
        }
        values.into()
    }

    /// The keys and values of a map with keys of the owner's choice, each of them once, and where each stands.
    pub(super) fn map(&mut self, key: &str) -> Vec<(Place, String, Tree)> {
        let all = match self.take(key) {
            None => return Vec::new(),
            Some(Tree::Map(all)) => all,
            Some(other) => {
                self.note(key, invalid(format!("{} stands where a map belongs", other.kind())));
                return Vec::new();
            }
        };
        let place = self.place.key(key);
        let mut seen = HashSet::new();
        let mut once = Vec::with_capacity(all.len());
        for (key, value) in all {
            let place = place.key(&key);
            if seen.insert(key.clone()) {
                once.push((place, key, value));
            } else {
                self.note_at(&place, invalid("the key stands there twice".to_owned()));
            }
        }
        once
    }

    /// A lifetime: seconds, or text with units.
    pub(super) fn ttl(&mut self, key: &str) -> Option<Ttl> {
        let tree = self.take(key)?;
        let text = match tree {
            Tree::Number(number) => Ok(number.to_string()),
            other => as_text(&other).map(str::to_owned),
        };
        let ttl = text.and_then(|text| Ok(text.parse::<Ttl>()?));
        self.keep(key, ttl)
    }

    /// A moment: RFC 3339.
    pub(super) fn timestamp(&mut self, key: &str) -> Option<Timestamp> {
        self.optional(key, |text| Ok(text.parse::<Timestamp>()?))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &str) -> Option<bool> {
        let value = match self.take(key)? {
            Tree::Bool(value) => Ok(value),
            other => Err(invalid(format!("{} stands where true or false belongs", other.kind()))),
        };
        self.keep(key, value)
    }

    /// A whole number in a range.
    pub(super) fn integer(&mut self, key: &str, least: i64, most: i64) -> Option<i64> {
        let value = match self.take(key)? {
            Tree::Number(number) => number.as_i64().filter(|number| (least..=most).contains(number)),
            _ => None,
        };
        self.keep(key, value.ok_or_else(|| invalid(format!("a whole number from {least} to {most} belongs here"))))
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        self.optional(key, |text| {
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                invalid(format!("{text:?} is not one of {}", known.join(", ")))
            })
        })
    }

    /// The value, or a note of why there is none.
    pub(super) fn keep<T>(&mut self, key: &str, value: Result<T, Refusal>) -> Option<T> {
        value.map_err(|refusal| self.note(key, refusal)).ok()
    }

    fn must_have(&mut self, key: &str) -> bool {
        let has = self.values.iter().any(|(other, _)| other == key);
        let place = self.place.key(key);
        // What was there and refused by `open` is not missing.
        if !has
            && self.is_map
            && !self.problems.as_slice().iter().any(|p| p.entry == place.entry && p.field == place.field)
        {
            self.note(key, Refusal::new(Reason::MissingKey, format!("the key {key} is missing")));
        }
        has
    }
}

/// The text that a value is.
pub(super) fn as_text(tree: &Tree) -> Result<&str, Refusal> {
    match tree {
        Tree::Text(text) => Ok(text),
        Tree::Number(_) | Tree::Bool(_) => Err(invalid(format!("{} stands where text belongs; quote it", tree.kind()))),
        _ => Err(invalid(format!("{} stands where text belongs", tree.kind()))),
    }
}

fn unknown(place: &Place, key: &str, known: &[&str]) -> Problem {
    let key: String = key.chars().take(MAX_SHOWN_CHARS).collect();
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&key, name), *name))
        .min()
        .filter(|(distance, name)| *distance <= name.len().max(3) / 2);
    let remedy = match nearest {
        Some((_, name)) => format!("write {name}, which is the nearest known key, or remove it"),
        None => format!("remove it; the known keys are {}", known.join(", ")),
    };
    let refusal = Refusal::new(Reason::UnknownKey, format!("there is no key {key}"));
    Problem { remedy, ..place.key(&key).problem(refusal) }
}
