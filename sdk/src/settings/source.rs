//! Reading the sources into one list of settings, each with where it stands.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::Override;
use super::key::{Known, Schema};
use super::problem::{Origin, Problem, Problems};

/// A settings file larger than this is refused, bytes.
const LARGEST_FILE: u64 = 1024 * 1024;

/// One key with its value, as a source gives it.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) path: Vec<String>,
    pub(super) value: Value,
    /// The value came as text, whose form depends on the key.
    pub(super) text: bool,
    pub(super) origin: Origin,
}

impl Setting {
    /// Dotted.
    pub(super) fn key(&self) -> String {
        self.path.join(".")
    }

    /// Whether this sets `key`, or something inside it.
    pub(super) fn concerns(&self, key: &str) -> bool {
        let own = self.key();
        own == key
            || own.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'))
            || key.strip_prefix(&own).is_some_and(|rest| rest.starts_with('.'))
    }

    /// The readings to try, the likeliest first.
    pub(super) fn candidates(&self, is_text: bool) -> Vec<Value> {
        let Value::String(text) = &self.value else { return vec![self.value.clone()] };
        if !self.text {
            return vec![self.value.clone()];
        }
        let plain = Value::String(text.clone());
        match format!("v = {text}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("v")) {
            Some(read) if is_text => vec![plain, read],
            Some(read) => vec![read, plain],
            None => vec![plain],
        }
    }
}

pub(super) fn read_file(path: &Path, schema: &Schema, settings: &mut Vec<Setting>, problems: &mut Problems) {
    let here = Origin::File(path.to_owned(), None);
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_string(&mut text));
    if let Err(error) = read {
        let remedy = "check that the file exists, is UTF-8 and may be read by this user";
        problems.push(Problem::new("", format!("cannot be read: {error}"), remedy).at(here.clone()));
        return;
    }
    if text.len() as u64 > LARGEST_FILE {
        problems.push(Problem::new("", "is larger than 1 MiB", "give a settings file").at(here.clone()));
        return;
    }
    read_text(&text, path, schema, settings, problems);
}

/// `path` only says where the text stands.
pub(super) fn read_text(
    text: &str,
    path: &Path,
    schema: &Schema,
    settings: &mut Vec<Setting>,
    problems: &mut Problems,
) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut lines: Vec<_> = errors.iter().map(|error| (error.span().map(|span| line_of(text, &span)), error)).collect();
    lines.sort_by_key(|(line, _)| *line);
    for (line, error) in lines {
        problems
            .push(Problem::new("", error.message(), "correct the TOML syntax").at(Origin::File(path.to_owned(), line)));
    }
    // After a syntax error the tables may be cut wrongly: naming unknown keys would mislead.
    if errors.is_empty() {
        let mut found = Vec::new();
        flatten(table.get_ref(), text, path, schema, &mut Vec::new(), &mut found);
        // Problems are told in the order in which the file is read.
        found.sort_by_key(|setting| match setting.origin {
            Origin::File(_, line) => line,
            _ => None,
        });
        settings.append(&mut found);
    }
}

/// Descends as far as the schema has tables; what lies below is one value.
fn flatten(
    table: &DeTable<'_>,
    text: &str,
    file: &Path,
    schema: &Schema,
    path: &mut Vec<String>,
    settings: &mut Vec<Setting>,
) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        let inner = value.get_ref().as_table().filter(|_| matches!(schema.known(path), Known::Table));
        match inner {
            Some(inner) => flatten(inner, text, file, schema, path, settings),
            None => settings.push(Setting {
                path: path.clone(),
                value: owned(value.get_ref()),
                text: false,
                origin: Origin::File(file.to_owned(), Some(line_of(text, &key.span()))),
            }),
        }
        path.pop();
    }
}

fn owned(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(value) => Value::Datetime(*value),
        DeValue::Array(items) => Value::Array(items.iter().map(|item| owned(item.get_ref())).collect()),
        DeValue::Table(table) => {
            Value::Table(table.iter().map(|(key, value)| (key.get_ref().to_string(), owned(value.get_ref()))).collect())
        }
        // A number that fits no type stays text, so that deserialising says what was expected.
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::String(number.to_string()), Value::Integer),
        DeValue::Float(number) => {
            number.as_str().parse().map_or_else(|_| Value::String(number.to_string()), Value::Float)
        }
    }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
}

pub(super) fn read_env(
    prefix: &str,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    settings: &mut Vec<Setting>,
    problems: &mut Problems,
) {
    let mut found = Vec::new();
    for (name, value) in env {
        let Some(name) = name.to_str() else { continue };
        let Some(key) = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix("__")) else { continue };
        let path: Vec<String> = key.split("__").map(str::to_ascii_lowercase).collect();
        let origin = Origin::Environment(name.to_owned());
        match value.into_string() {
            Ok(value) => found.push(Setting { path, value: Value::String(value), text: true, origin }),
            Err(_) => problems.push(Problem::new(path.join("."), "is not UTF-8", "give it as UTF-8").at(origin)),
        }
    }
    // The environment has no order of its own; messages should.
    found.sort_by(|a, b| a.path.cmp(&b.path));
    settings.append(&mut found);
}

pub(super) fn read_overrides(overrides: &[Override], settings: &mut Vec<Setting>) {
    settings.extend(overrides.iter().map(|given| Setting {
        path: given.key.split('.').map(str::to_owned).collect(),
        value: Value::String(given.value.clone()),
        text: true,
        origin: Origin::Flag(given.flag.clone()),
    }));
}
