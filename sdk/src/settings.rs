//! Strict settings for the daemons: one TOML file, every key optional, every problem reported at once.
//!
//! ```text
//! file ─┐
//! environment ─┼─> one list of (key, value, where it stands) ─each key by itself─> T ─check()─> T, or all problems together
//! flags ─┘
//! ```
//!
//! A later source wins: a flag over the environment, the environment over the file, the file over the default. The known keys are not
//! listed anywhere: they are what the default value serialises to, so that a key cannot exist without being known. Two rules follow
//! for a settings type: each table is a struct with `#[serde(default, deny_unknown_fields)]`, and an optional value is serialised as
//! null (no `skip_serializing_if`). An empty map in the default stands for a table of free keys.
//!
//! Each key is deserialised by itself on top of the defaults, which is what makes it possible to report every bad value and not only
//! the first one; what remains is then checked by the daemon's own [`Settings::check`].

mod directories;
mod key;
mod log;
mod problem;
mod sample;
mod source;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Value;

pub use self::directories::Directories;
pub use self::log::{Log, LogFormat};
pub use self::problem::{Origin, Problem, Problems};
pub use self::sample::{compare_sample, keys};

use self::key::{Known, Schema};
use self::source::Setting;

/// The settings of a daemon.
pub trait Settings: DeserializeOwned + Serialize + Default {
    /// What is wrong with these values taken together: each problem names the key it is about, and [`load`] adds where that key was set.
    fn check(&self) -> Vec<Problem> {
        Vec::new()
    }
}

/// A value given by the caller, such as a flag of the command; wins over every other source.
#[derive(Debug, Clone)]
pub struct Override {
    /// As people know it, such as `--trust-domain`.
    pub flag: String,
    /// Dotted key, such as `ttl.x509`.
    pub key: String,
    /// As it was written; read like a value from the environment.
    pub value: String,
}

/// Settings from `path` (none: no file), this process's environment and `overrides`.
///
/// `env_prefix` without the trailing underscores: with `MAYFLY_ISSUER`, the variable `MAYFLY_ISSUER__TTL__X509` sets `ttl.x509`. A value from
/// the environment or a flag is a string, number or boolean as the key needs it, or TOML (`["a", "b"]`) for anything longer.
///
/// # Errors
/// All problems together: the file cannot be read, TOML syntax errors, unknown keys (each with the nearest known one), values of a
/// wrong form, and what [`Settings::check`] finds.
pub fn load<T: Settings>(path: Option<&Path>, env_prefix: &str, overrides: &[Override]) -> Result<T, Problems> {
    load_from(path, env_prefix, std::env::vars_os(), overrides)
}

/// As [`load`], with the environment given.
///
/// # Errors
/// As [`load`].
pub fn load_from<T: Settings>(
    path: Option<&Path>,
    env_prefix: &str,
    env: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    overrides: &[Override],
) -> Result<T, Problems> {
    let mut problems = Problems::default();
    let schema = Schema::of(&T::default());
    let mut settings = Vec::new();
    if let Some(path) = path {
        source::read_file(path, &schema, &mut settings, &mut problems);
    }
    source::read_env(env_prefix, env, &mut settings, &mut problems);
    source::read_overrides(overrides, &mut settings);

    let Some((value, accepted)) = assemble::<T>(&schema, settings, &mut problems) else { return Err(problems) };
    for problem in value.check() {
        let origin =
            accepted.iter().rev().find(|setting| setting.concerns(&problem.key)).map(|setting| setting.origin.clone());
        problems.push(problem.at(origin.unwrap_or_default()));
    }
    if problems.is_empty() { Ok(value) } else { Err(problems) }
}

/// The value of all settings that hold, and those settings; none where they contradict each other.
fn assemble<T: Settings>(
    schema: &Schema,
    settings: Vec<Setting>,
    problems: &mut Problems,
) -> Option<(T, Vec<Setting>)> {
    let mut table = toml::Table::new();
    let mut accepted = Vec::new();
    for setting in settings {
        match accept::<T>(schema, &setting) {
            Ok(value) => {
                if put(&mut table, &setting.path, value) {
                    accepted.push(setting);
                } else {
                    let what = "is set both as a value and as a table";
                    problems.push(Problem::new(setting.key(), what, "keep one of the two").at(setting.origin));
                }
            }
            Err(problem) => problems.push(problem.at(setting.origin)),
        }
    }
    match Value::Table(table).try_into::<T>() {
        Ok(value) => Some((value, accepted)),
        // Each key was accepted by itself, so this is a type whose keys depend on each other: the message is all there is.
        Err(error) => {
            problems.push(Problem::new("", error.message(), "change the keys that contradict each other"));
            None
        }
    }
}

/// The value in the form this key takes, once it was seen to deserialise on top of the defaults.
fn accept<T: Settings>(schema: &Schema, setting: &Setting) -> Result<Value, Problem> {
    match schema.known(&setting.path) {
        Known::Leaf | Known::Free | Known::Opaque => {}
        Known::Table => {
            let remedy = format!("set one of {}", schema.children(&setting.path));
            return Err(Problem::new(setting.key(), "is a table of keys and has no value of its own", remedy));
        }
        Known::No => {
            let remedy = match schema.nearest(&setting.path) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => "remove it".to_owned(),
            };
            return Err(Problem::new(setting.key(), "unknown key", remedy));
        }
    }
    let mut first_error = None;
    for candidate in setting.candidates(schema.is_text(&setting.path)) {
        let mut alone = toml::Table::new();
        put(&mut alone, &setting.path, candidate.clone());
        match Value::Table(alone).try_into::<T>() {
            Ok(_) => return Ok(candidate),
            Err(error) => {
                first_error.get_or_insert_with(|| error.message().to_owned());
            }
        }
    }
    let what = first_error.unwrap_or_else(|| "has no value".to_owned());
    let remedy = match schema.default(&setting.path) {
        Some(default) => format!("the default is {default}"),
        None => "leave it out, or give a value of that form".to_owned(),
    };
    Err(Problem::new(setting.key(), what, remedy))
}

/// Sets a nested key; false where a value stands in the way.
fn put(table: &mut toml::Table, path: &[String], value: Value) -> bool {
    let Some((last, parents)) = path.split_last() else { return false };
    let mut table = table;
    for parent in parents {
        let next = table.entry(parent.clone()).or_insert_with(|| Value::Table(toml::Table::new()));
        match next {
            Value::Table(next) => table = next,
            _ => return false,
        }
    }
    table.insert(last.clone(), value);
    true
}
