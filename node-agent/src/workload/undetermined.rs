//! The third answer: neither a fact nor its absence.

use std::io;

use mayfly_sdk::selector::Selector;

/// A fact that may or may not hold: the node agent could not find out.
///
/// Whoever is refused for want of this fact is answered Unavailable, with `why` and `remedy`, and never `PermissionDenied`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undetermined {
    /// The type of the selectors that this concerns, such as `unix`.
    pub kind: &'static str,
    /// Their key, such as `path`.
    pub key: &'static str,
    /// The only value that the fact could have; `None` if it could have any.
    pub value: Option<String>,
    /// What stood in the way: a clause without a full stop.
    pub why: String,
    /// What the operator can do about it: a clause without a full stop.
    pub remedy: &'static str,
}

const NO_PTRACE: &str =
    "give the node agent CAP_SYS_PTRACE (systemd: AmbientCapabilities=CAP_SYS_PTRACE), or run it as root";
const NO_SEARCH: &str = "give the node agent CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, or run it as root";
const OTHER_PIDS: &str =
    "run the node agent in the host's PID namespace (containers: --pid=host; Kubernetes: hostPID: true)";
const OTHER_CGROUPS: &str = "run the node agent in the host's cgroup namespace (containers: --cgroupns=host)";
const OTHER_FILE: &str = "if the program was replaced on disk, restart the workload; if it runs in a container, choose it by unix:sha256 or cgroup:path instead";
const TRY_AGAIN: &str = "try again; if it stays so, look for this error on the node";

impl Undetermined {
    /// Whether this leaves open if the selector holds.
    #[must_use]
    pub fn covers(&self, selector: &Selector) -> bool {
        self.kind == selector.kind()
            && self.key == selector.key()
            && self.value.as_deref().is_none_or(|value| value == selector.value())
    }

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
        let why = "the process is not visible in the node agent's PID namespace".to_owned();
        Self { kind, key, value: None, why, remedy: OTHER_PIDS }
    }

    /// The process is in a cgroup above the node agent's root.
    pub(super) fn other_cgroup_namespace(kind: &'static str, key: &'static str) -> Self {
        let why = "the process is outside the node agent's cgroup namespace".to_owned();
        Self { kind, key, value: None, why, remedy: OTHER_CGROUPS }
    }

    /// The file at the path of the executable is not the one that runs.
    pub(super) fn other_file(path: String) -> Self {
        let why = format!("the program says that it is {path}, and the file there is another one");
        Self { kind: "unix", key: "path", value: Some(path), why, remedy: OTHER_FILE }
    }

    /// Something that may be otherwise in a moment.
    pub(super) fn passing(kind: &'static str, key: &'static str, why: String) -> Self {
        Self { kind, key, value: None, why, remedy: TRY_AGAIN }
    }
}
