//! The documents that are made from the code, and held against it: `UPDATE_DOCUMENTS=1 cargo test -p mayfly documents` writes them anew.

mod conformance;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, Command, CommandFactory as _};
use mayfly_sdk::ops::Metric;
use mayfly_sdk::settings::compare_sample;
use mayfly_sdk::{Reason, Retry, Whose};

use crate::cli::Cli;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Compares a document with what the code says, or writes it.
fn hold(path: &str, expected: &str) {
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        fs::write(repository().join(path), expected).unwrap();
    }
    assert!(
        read(path) == expected,
        "{path} is not what the code says: UPDATE_DOCUMENTS=1 cargo test -p mayfly documents"
    );
}

#[test]
fn every_reason_code_stands_in_its_document_with_its_remedy() {
    let mut text = String::from(
        "# Reason codes\n\nEvery refusal carries a stable code: in errors of the command (`[code]`, and `reason` in JSON), in gRPC \
         metadata (`mayfly-reason`), in logs, metrics and the ledger. A code never changes its meaning. *Whose move* says who has to change something; \
         *again* whether the same request can succeed without that.\n\n| code | whose move | again | what to do |\n|---|---|---|---|\n",
    );
    let mut reasons = Reason::ALL.to_vec();
    reasons.sort_by_key(|reason| reason.code());
    for reason in reasons {
        let whose = match reason.whose() {
            Whose::Caller => "caller",
            Whose::Operator => "operator",
            Whose::Peer => "peer",
            Whose::Bug => "Mayfly",
        };
        let again = match reason.retry() {
            Retry::No => "no",
            Retry::Later => "later",
            Retry::Now => "at once",
        };
        writeln!(text, "| `{}` | {whose} | {again} | {} |", reason.code(), reason.remedy().replace('|', "\\|"))
            .unwrap();
    }
    text.push_str(
        "\nThe command has a few codes of its own: `usage`, `invalid_configuration`, `daemon_stopped`, `in_use`, `interrupted`, `output_failed`, \
         `parent_gone`, `step_did_not_hold`, `bug`. Their remedies stand in the message.\n",
    );
    hold("docs/reasons.md", &text);
}

#[test]
fn the_schema_of_policies_is_published_as_it_is() {
    hold("docs/policies.cedarschema", mayfly_issuer::policy::SCHEMA);
}

#[test]
fn every_metric_stands_in_its_document_with_what_to_do_when_it_looks_bad() {
    let mut text = String::from(
        "# Metrics\n\nEach daemon shows them at `/metrics` of its loopback listener (`metrics.listen`: issuer `127.0.0.1:9464`, node agent `127.0.0.1:9465`) as OpenMetrics \
         text, which Prometheus and what is compatible with it read. A series with labels is there from the first event that it counts. Counters begin at 0 with the daemon: look at \
         `rate(..)`, not at the value. No label has a value that a workload chooses, so their number is bounded.\n\n`/live` says that the daemon answers at all, `/ready` (200 or 503) \
         whether it can do its work, and in words why not.\n",
    );
    for (title, prefix, metrics) in [
        ("The issuer", mayfly_issuer::metrics::PREFIX, &mayfly_issuer::metrics::ALL[..]),
        ("The node agent", mayfly_node_agent::metrics::PREFIX, &mayfly_node_agent::metrics::ALL[..]),
    ] {
        write!(text, "\n## {title}\n\n| series | kind | unit | labels | what it says | what looks bad, and what to do |\n|---|---|---|---|---|---|\n").unwrap();
        for metric in metrics {
            row(metric, prefix, &mut text);
        }
    }
    hold("docs/metrics.md", &text);
}

fn row(metric: &Metric, prefix: &str, text: &mut String) {
    let labels: Vec<_> = metric.labels.iter().map(|(label, values)| format!("`{label}`: {values}")).collect();
    let cells =
        [labels.join("; "), metric.help.to_owned(), metric.remedy.to_owned()].map(|cell| cell.replace('|', "\\|"));
    let (series, kind, unit) = (metric.series(prefix), metric.kind.as_str(), metric.unit.unwrap_or_default());
    writeln!(text, "| `{series}` | {kind} | {unit} | {} |", cells.join(" | ")).unwrap();
}

#[test]
fn the_sample_of_the_issuer_holds_every_key_with_its_default() {
    let default = mayfly_issuer::Config {
        trust_domain: "example.org".into(),
        state_dir: "/var/lib/mayfly/issuer".into(),
        admin_socket: "/run/mayfly/issuer/admin/admin.sock".into(),
        ..mayfly_issuer::Config::default()
    };
    compare_sample(&default, &read("deploy/issuer.toml"))
        .unwrap_or_else(|problems| panic!("deploy/issuer.toml\n{problems}"));
}

#[test]
fn every_setting_stands_in_the_document_of_the_configuration() {
    let mut text = String::from(
        "# Configuration\n\nEach daemon reads one TOML file (`--config F`, else `/etc/mayfly/issuer.toml` and `/etc/mayfly/agent.toml` where they \
         exist). Every key is optional except the issuer's `trust_domain`. An unknown key is an error that names the nearest known one, and all problems are reported at \
         once: `mayfly issuer check`, `mayfly agent check`. Secrets are given as paths only.\n\nAn environment variable overrides the file: \
         `MAYFLY_ISSUER__TTL__X509=5m` sets `ttl.x509` of the issuer, `MAYFLY_AGENT__LIMITS__STREAMS_PER_UID=100` sets `limits.streams_per_uid` of \
         the agent. A flag overrides both. Lifetimes are written `90s`, `15m`, `24h`, `30d`, or as seconds.\n\nThe defaults below are those of root; \
         another user has directories below `$XDG_STATE_HOME` and `$XDG_RUNTIME_DIR`.\n",
    );
    for (title, sample) in [("The issuer", "deploy/issuer.toml"), ("The node agent", "deploy/agent.toml")] {
        write!(
            text,
            "\n## {title}\n\nSample: [`{sample}`](../{sample}).\n\n| key | default | what it is |\n|---|---|---|\n"
        )
        .unwrap();
        let mut table = String::new();
        let mut comment = Vec::new();
        for line in read(sample).lines() {
            let bare = line.trim_start_matches("# ");
            let key = bare
                .split_once(" = ")
                .filter(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
            if let Some((key, value)) = key {
                let default = if line.starts_with('#') { "none".to_owned() } else { format!("`{value}`") };
                writeln!(text, "| `{table}{key}` | {default} | {} |", comment.join(" ")).unwrap();
                comment.clear();
            } else if let Some(name) = line.strip_prefix('[') {
                table = format!("{}.", name.trim_end_matches(']'));
                comment.clear();
            } else if line.is_empty() {
                comment.clear();
            } else {
                comment.push(bare);
            }
        }
    }
    hold("docs/configuration.md", &text);
}

#[test]
fn every_command_stands_in_its_document() {
    let mut text = String::from(
        "# The command\n\nOne binary. `--output json` gives one JSON object a command (streams: one a line), snake_case, times in RFC 3339 UTC, durations in \
         seconds named `_s`, lists as `{\"items\": [..]}`. Errors say what, why and what to do; with `--output json` they are \
         `{\"error\": {reason, what, why, remedy, retry}}` on standard error.\n\n| exit code | meaning |\n|---|---|\n| 0 | done |\n| 2 | the arguments make no \
         command |\n| 65 | what was given cannot be used as it is |\n| 69 | somebody who is needed does not answer |\n| 70 | a mistake of Mayfly: please report it \
         |\n| 77 | refused |\n\nWhere the issuer is administrated: `--admin-socket` or `MAYFLY_ADMIN_SOCKET`. Where the Workload API is: `--socket` or \
         `SPIFFE_ENDPOINT_SOCKET`. Private keys are never printed; `svid x509 fetch --write DIR` writes them into files of mode 0600.\n",
    );
    let mut cli = Cli::command();
    cli.build();
    for verb in verbs(&cli) {
        describe(verb, "mayfly", &mut text);
    }
    hold("docs/command.md", &text);
}

/// The verbs of a command that people are told of.
fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
}

/// A command without verbs of its own, with what it takes; or each of its verbs.
fn describe(command: &Command, parents: &str, text: &mut String) {
    let name = format!("{parents} {}", command.get_name());
    let mut verbs = verbs(command).peekable();
    if verbs.peek().is_some() {
        verbs.for_each(|verb| describe(verb, &name, text));
        return;
    }
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    write!(text, "\n## `{name}`\n\n{about}.\n").unwrap();
    // What every command has stands above.
    let shown = |argument: &&Arg| {
        !argument.is_hide_set() && !["help", "version", "output"].contains(&argument.get_id().as_str())
    };
    let arguments: Vec<_> = command.get_arguments().filter(shown).collect();
    if !arguments.is_empty() {
        text.push_str("\n| argument | what it is |\n|---|---|\n");
    }
    for argument in arguments {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let variable = argument.get_env().map(|name| format!(" (`{}`)", name.display())).unwrap_or_default();
        writeln!(text, "| `{}` | {help}{variable} |", argument.to_string().replace('|', "\\|")).unwrap();
    }
}

#[test]
fn every_test_that_the_security_document_names_is_there() {
    let mut sources = String::new();
    for directory in ["src", "sdk", "issuer", "node-agent", "proto", "tests", "examples"] {
        gather(&repository().join(directory), &mut sources);
    }
    let document = read("docs/security.md");
    let rows = document.lines().filter(|line| line.starts_with("| ") && line.matches('|').count() > 2);
    let named = rows
        .filter_map(|row| row.trim_end_matches('|').rsplit('|').next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let tests: Vec<_> = named.filter(|name| name.len() > 12 && !name.contains(['/', ' ', '.'])).collect();
    assert!(tests.len() > 40, "the document names tests: {tests:?}");
    let missing: Vec<_> = tests.into_iter().filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "docs/security.md names tests that do not exist: {missing:?}");
}

/// The text of every Rust file below a directory.
fn gather(directory: &Path, into: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}
