//! The log of a daemon, which both have in common.

use serde::{Deserialize, Serialize};

/// What is logged, and how it looks: the table `[log]`. Log lines go to standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A level (`info`) or a filter (`info,mayfly_issuer=debug`).
    pub level: String,
    /// For people or for machines; none: text on a terminal, JSON elsewhere.
    pub format: Option<LogFormat>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: None }
    }
}
