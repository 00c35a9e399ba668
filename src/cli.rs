//! From arguments to a verb, and from its end to an exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cmd;
use crate::failure::{Exit, Failure};
use crate::output::{Format, Out};

/// Identities for workloads that live for minutes and renew themselves.
#[derive(Debug, Parser)]
#[command(name = "mayfly", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Form of results and errors
    #[arg(long, global = true, value_name = "FORM", default_value = "text")]
    output: Format,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the whole story in a minute: rotation, an outage, a withdrawn identity; exit 0 only if every step held
    Demo(cmd::demo::Demo),
    /// Run an issuer and a node agent for development, until ^C
    Dev(cmd::dev::Dev),
    /// The control plane
    #[command(subcommand)]
    Issuer(cmd::issuer::Issuer),
    /// The node agent
    #[command(subcommand)]
    Agent(cmd::agent::Agent),
    /// Registration entries: who gets which identity
    #[command(subcommand)]
    Entry(cmd::entry::Entry),
    /// Enrolled nodes
    #[command(subcommand)]
    Node(cmd::node::Node),
    /// Tokens that enrol one node each
    #[command(subcommand)]
    JoinToken(cmd::join_token::JoinToken),
    /// Identities, as a workload gets them
    #[command(subcommand)]
    Svid(cmd::svid::Svid),
    /// Tasks: a token for one piece of work, gone when it is done
    #[command(subcommand)]
    Task(cmd::task::Task),
    /// Tokens, looked at
    #[command(subcommand)]
    Token(cmd::token::Token),
    /// Policies that tasks must be permitted by
    #[command(subcommand)]
    Policy(cmd::policy::Policy),
    /// Signing keys
    #[command(subcommand)]
    Authority(cmd::authority::Authority),
    /// Trust bundles
    #[command(subcommand)]
    Bundle(cmd::bundle::Bundle),
    /// The record of everything attested, issued, refused, rotated
    #[command(subcommand)]
    Ledger(cmd::ledger::Ledger),
    /// Ask the issuer and the node agent on this machine how they are
    Health(cmd::health::Health),
    #[command(hide = true, subcommand)]
    DemoWorkload(cmd::demo::workload::Workload),
}

impl Verb {
    fn run(self, out: Out) -> Result<(), Failure> {
        match self {
            Self::Demo(verb) => verb.run(out),
            Self::Dev(verb) => verb.run(out),
            Self::Issuer(verb) => verb.run(out),
            Self::Agent(verb) => verb.run(out),
            Self::Entry(verb) => verb.run(out),
            Self::Node(verb) => verb.run(out),
            Self::JoinToken(verb) => verb.run(out),
            Self::Svid(verb) => verb.run(out),
            Self::Task(verb) => verb.run(out),
            Self::Token(verb) => verb.run(out),
            Self::Policy(verb) => verb.run(out),
            Self::Authority(verb) => verb.run(out),
            Self::Bundle(verb) => verb.run(out),
            Self::Ledger(verb) => verb.run(out),
            Self::Health(verb) => verb.run(out),
            Self::DemoWorkload(verb) => verb.run(),
        }
    }
}

/// The command's life.
pub(crate) fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &arguments),
    };
    let out = Out { format: cli.output };
    match cli.verb.run(out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_closed_output() => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report(out.format);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Help and version are no failures; anything else that clap says is one of usage.
fn usage(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if !error.use_stderr() {
        error.print().ok();
        return ExitCode::SUCCESS;
    }
    if wants_json(arguments) {
        let text = error.render().to_string();
        let why = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Failure::new(Exit::Usage, "usage", "the arguments make no command", why, "see mayfly --help")
            .report(Format::Json);
    } else {
        error.print().ok();
    }
    ExitCode::from(Exit::Usage as u8)
}

/// What `--output` asks for, where the arguments as a whole could not be read.
fn wants_json(arguments: &[OsString]) -> bool {
    let joined = arguments.iter().any(|argument| argument == "--output=json");
    joined || arguments.windows(2).any(|pair| matches!(pair, [flag, value] if flag == "--output" && value == "json"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_authority_may_be_called_like_a_flag() {
        for line in ["activate --force -Xk", "activate -Xk --force", "activate -Xk", "taint -fk", "revoke --k"] {
            let arguments = ["mayfly", "authority"].into_iter().chain(line.split(' '));
            let parsed = Cli::try_parse_from(arguments).map_err(|error| error.to_string());
            let shown = format!("{:?}", parsed.unwrap().verb);
            assert!(shown.contains("\"-"), "{shown}");
            assert_eq!(shown.contains("force: true"), line.contains("--force"), "{shown}");
        }
    }

    #[test]
    fn the_form_of_errors_is_known_even_when_the_arguments_are_wrong() {
        let wants = |line: &str| wants_json(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert!(wants("mayfly entry lst --output json"));
        assert!(wants("mayfly --output=json entry"));
        assert!(!wants("mayfly entry lst --output text"));
    }
}
