//! The sample file of every setting, held against the code.

use std::path::Path;

use serde_json::Value;

use super::key::Schema;
use super::{Problem, Problems, Settings, assemble, source};

/// Every key with its default as JSON (null: none), in the order of the tables.
#[must_use]
pub fn keys<T: Settings>(default: &T) -> Vec<(String, String)> {
    Schema::of(default).leaves().into_iter().map(|(path, value)| (path.join("."), value.to_string())).collect()
}

/// Compares a sample file with the defaults of the code (given, because a daemon's may depend on who runs it): each key is there, written `key = value` or, commented out, `# key = value`, and has the default as its
/// value. A key without a default stands commented out with an example.
///
/// # Errors
/// Every key that is missing, unknown or has another value than the default.
pub fn compare_sample<T: Settings>(default: &T, sample: &str) -> Result<(), Problems> {
    let mut problems = Problems::default();
    let schema = Schema::of(default);
    let text = sample.lines().map(uncomment).collect::<Vec<_>>().join("\n");
    let mut settings = Vec::new();
    source::read_text(&text, Path::new("sample"), &schema, &mut settings, &mut problems);
    let written: Vec<_> = settings.iter().map(|setting| setting.path.clone()).collect();
    let read = assemble::<T>(&schema, settings, &mut problems)
        .and_then(|(value, _)| serde_json::to_value(value).ok())
        .unwrap_or_default();
    for (path, default) in schema.leaves() {
        let key = path.join(".");
        if !written.contains(&path) {
            problems.push(Problem::new(key, "is not in the sample", format!("add it with its default, {default}")));
            continue;
        }
        let value = path.iter().try_fold(&read, |at, key| at.get(key)).unwrap_or(&Value::Null);
        if !default.is_null() && value != default {
            problems.push(Problem::new(key, format!("is {value} in the sample"), format!("the default is {default}")));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// A line that sets a key or begins a table, without its comment sign; any other line as it is.
fn uncomment(line: &str) -> &str {
    let bare = line.trim_start_matches('#').trim_start();
    let is_setting = bare.split_once('=').is_some_and(|(key, _)| {
        let key = key.trim();
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    });
    let is_table = bare.starts_with('[') && bare.ends_with(']');
    if is_setting || is_table { bare } else { line }
}
