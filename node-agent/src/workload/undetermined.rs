//! The third answer: neither a fact nor its absence.

use std::io;

/// A fact that may or may not hold: the node agent could not find out.
///
/// Whoever is refused for want of this fact is answered Unavailable, with `why` and `remedy`, and never PermissionDenied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undetermined {
    /// The type of the selectors that this concerns, such as `unix`.
    pub kind: &'static str,
    /// Their key, such as `path`.
    pub key: &'static str,
    /// The only value that the fact could have; `None` if it could have any.
    pub value: Option<String>,
    /// What stood in the way.
    pub why: String,
    /// What the operator can do about it.
    pub remedy: &'static str,
}

const NO_PTRACE: &str =
    "give the node agent CAP_SYS_PTRACE (systemd: AmbientCapabilities=CAP_SYS_PTRACE), or run it as root";
const NO_SEARCH: &str = "give the node agent CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, or run it as root";
const OTHER_PIDS: &str =
    "run the node agent in the host's PID namespace (containers: --pid=host; Kubernetes: hostPID: true)";
const TRY_AGAIN: &str = "try again; if it stays so, look for this error on the node";

impl Undetermined {
    /// A file below `/proc/<pid>` could not be read.
    pub(super) fn of_proc(kind: &'static str, key: &'static str, error: &io::Error) -> Self {
        let (why, remedy) = match error.kind() {
            io::ErrorKind::PermissionDenied if key == "sha256" => {
                ("the node agent may not read the executable".to_owned(), NO_SEARCH)
            }
            io::ErrorKind::PermissionDenied => ("the node agent may not look into the process".to_owned(), NO_PTRACE),
            _ => (format!("the process could not be looked into: {error}"), TRY_AGAIN),
        };
        Self { kind, key, value: None, why, remedy }
    }

    /// The process has no pid in the node agent's PID namespace.
    pub(super) fn other_pid_namespace(kind: &'static str, key: &'static str) -> Self {
        Self {
            kind,
            key,
            value: None,
            why: "the process is not visible in the node agent's PID namespace".to_owned(),
            remedy: OTHER_PIDS,
        }
    }

    /// Something that may be otherwise in a moment.
    pub(super) fn passing(kind: &'static str, key: &'static str, why: String) -> Self {
        Self { kind, key, value: None, why, remedy: TRY_AGAIN }
    }
}
