//! Log lines of the daemons, to standard error.

use std::io::{self, IsTerminal};

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use mayfly_sdk::settings::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// Flags of a daemon's log; they win over its settings.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LogArgs {
    /// Level (error, warn, info, debug, trace) or filter (`info,mayfly_issuer=debug`)
    #[arg(long, env = "MAYFLY_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// Form of log lines: text or json [default: text on a terminal, json elsewhere]
    #[arg(long, env = "MAYFLY_LOG_FORMAT", value_name = "FORM", hide_possible_values = true, value_parser = form())]
    log_format: Option<LogFormat>,
}

fn form() -> impl clap::builder::TypedValueParser<Value = LogFormat> {
    PossibleValuesParser::new(["text", "json"])
        .map(|form| if form == "json" { LogFormat::Json } else { LogFormat::Text })
}

/// Reads a level or filter.
pub(crate) fn filter(text: &str) -> Result<EnvFilter, Failure> {
    EnvFilter::try_new(text).map_err(|error| {
        let why = format!("log.level: `{text}` is not a log filter: {error}");
        Failure::input(
            "the settings do not hold",
            why,
            "use a level such as info, or a filter such as info,mayfly_issuer=debug",
        )
    })
}

/// Starts logging.
pub(crate) fn start(args: &LogArgs, log: &Log) -> Result<(), Failure> {
    let filter = filter(args.log.as_deref().unwrap_or(&log.level))?;
    let terminal = io::stderr().is_terminal();
    let default = if terminal { LogFormat::Text } else { LogFormat::Json };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match args.log_format.or(log.format).unwrap_or(default) {
        LogFormat::Text => lines.with_ansi(terminal).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
    };
    started.map_err(|error| Failure::bug("the daemon did not start", error))
}
