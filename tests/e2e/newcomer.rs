//! A newcomer, who has docs/operators.md and nothing else, on two machines: every command of the path is run as it stands there.
//!
//! The machines are namespaces of this one with a network, files and a systemd of their own. Not run as written: `cargo build`, which gives the program
//! under test. Names resolve as the document has them.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use mayfly_rig::{install, mayfly, repository};

use crate::machine::{self, Machine};

/// One step of the path.
#[derive(Debug)]
enum Step {
    /// Commands, and where.
    Run { on: String, commands: String },
    /// "Bring `FILE` to .."
    Bring { file: String, to: String },
}

#[test]
fn the_path_in_the_operators_document_works_as_written() {
    if !machine::to_be_had("the path of docs/operators.md") {
        return;
    }
    let document = fs::read_to_string(repository().join("docs/operators.md")).unwrap();
    let builder = Builder::new();
    let issuer = Machine::boot("issuer");
    let node = Machine::boot("web-1");
    node.connect("192.0.2.2", &issuer, "192.0.2.1", "issuer.example.org");

    let (mut told, mut ran) = (String::new(), 0);
    let mut at = builder.dir().to_owned();
    for step in path(&document) {
        match step {
            Step::Bring { file, to } => {
                for machine in machines(&to, &issuer, &node) {
                    fs::copy(at.join(&file), machine.directory().join(&file))
                        .unwrap_or_else(|error| panic!("{file}: {error}"));
                }
            }
            Step::Run { on, commands } if on == "where you build" => {
                builder.run(&commands);
                ran += 1;
            }
            Step::Run { on, commands } => {
                for machine in machines(&on, &issuer, &node) {
                    let output = machine.at_root(&commands);
                    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
                    let status = output.status;
                    assert!(
                        status.success(),
                        "on {on}, {status}:\n{commands}\n--- said:\n{said}\n--- logs:\n{}",
                        logs(&issuer, &node)
                    );
                    write!(told, "# {on}\n{commands}\n{said}\n").unwrap();
                    at = machine.directory();
                    ran += 1;
                }
            }
        }
    }
    assert!(ran >= 17, "a path of {ran} steps:\n{told}");
    for expected in [
        "issuer of example.org: serving",
        "node agent: serving",
        "spiffe://example.org/mayfly/node/join_token/web-1",
        "exit code 77",
        "revoked",
        "connected 1",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    let serials: Vec<_> = told.lines().filter_map(|line| line.trim().strip_prefix("serial ")).map(str::trim).collect();
    assert!(serials.len() >= 3, "{told}");
    assert_eq!(
        serials.iter().collect::<std::collections::BTreeSet<_>>().len(),
        1,
        "one SVID, before and during the outage and after the restart: {serials:?}"
    );
}

fn logs(issuer: &Machine, node: &Machine) -> String {
    [issuer, node]
        .map(|machine| {
            String::from_utf8_lossy(&machine.at_root("journalctl --no-pager -n 40 -o cat").stdout).into_owned()
        })
        .join("\n--- node:\n")
}

fn machines<'a>(which: &str, issuer: &'a Machine, node: &'a Machine) -> Vec<&'a Machine> {
    match which {
        "the issuer's machine" => vec![issuer],
        "the node" => vec![node],
        "both machines" => vec![issuer, node],
        other => panic!("the document speaks of {other:?}"),
    }
}

/// The steps of the document, in its order: what is fenced as `sh` and says first where it is run, and what is brought from one machine to another.
fn path(document: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if line == "```sh" {
            let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            let Some(place) = block.first().and_then(|first| first.strip_prefix("# ")) else { continue };
            let on = place.strip_prefix("on ").unwrap_or(place).to_owned();
            if place.starts_with("on ") || place == "where you build" {
                steps.push(Step::Run { on, commands: block[1..].join("\n") });
            }
        } else if let Some((_, brought)) = line.split_once("Bring `") {
            let (file, to) = brought.split_once("` to ").unwrap_or_else(|| panic!("{line}"));
            let to = to.split([',', '.']).next().unwrap_or_default();
            steps.push(Step::Bring { file: file.to_owned(), to: to.to_owned() });
        }
    }
    steps
}

/// Where the program is built: a copy of what is packed, with a `cargo` that gives the program under test.
struct Builder(tempfile::TempDir);

impl Builder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(repository().join("deploy"), dir.path().join("deploy")).unwrap();
        let cargo = dir.path().join("cargo");
        let script = format!(
            "#!/bin/sh\n[ \"$*\" = 'build --release' ] && mkdir -p target/release && strip -o target/release/mayfly '{}'\n",
            mayfly().display()
        );
        let text = cargo.with_extension("text");
        fs::write(&text, script).unwrap();
        install(&text, &cargo);
        Self(dir)
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, commands: &str) {
        // Packs what the link leads to.
        let output = Command::new("bash")
            .args(["-euc", commands])
            .current_dir(self.dir())
            .env("PATH", format!("{}:/usr/bin:/bin", self.dir().display()))
            .env("TAR_OPTIONS", "--dereference")
            .output()
            .unwrap();
        assert!(output.status.success(), "{commands}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
