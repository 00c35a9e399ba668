//! Log lines of the daemons, to standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people; what a terminal gets by default.
    Text,
    /// One JSON object a line; what anything else gets by default.
    Json,
}

/// Flags of a daemon's log.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LogArgs {
    /// Level (error, warn, info, debug, trace) or filter (`info,mayfly_issuer=debug`)
    #[arg(long, env = "MAYFLY_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// Form of log lines [default: text on a terminal, json elsewhere]
    #[arg(long, env = "MAYFLY_LOG_FORMAT", value_name = "FORM")]
    log_format: Option<LogFormat>,
}

/// Starts logging; flags win over the daemon's own settings.
pub(crate) fn start(args: &LogArgs, level: &str, format: Option<LogFormat>) -> Result<(), Failure> {
    let filter = args.log.as_deref().unwrap_or(level);
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::input(
            "the daemon did not start",
            format!("`{filter}` is not a log filter: {error}"),
            "use a level such as info, or info,mayfly_issuer=debug",
        )
    })?;
    let default = if io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match args.log_format.or(format).unwrap_or(default) {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
    };
    started.map_err(|error| Failure::bug("the daemon did not start", error))
}
