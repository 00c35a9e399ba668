//! Where a daemon keeps its state and its sockets when nothing else was set.

use std::path::{Path, PathBuf};

/// The default directories of one daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// What must survive a reboot.
    pub state: PathBuf,
    /// Sockets, gone with a reboot.
    pub runtime: PathBuf,
}

impl Directories {
    /// Of the daemon `name` (`issuer`, `agent`): root has `/var/lib/mayfly/NAME` and `/run/mayfly/NAME`; another user the XDG
    /// directories, and `STATE/run` where there is no runtime directory.
    #[must_use]
    pub fn of(name: &str) -> Self {
        if is_root() {
            return Self {
                state: Path::new("/var/lib/mayfly").join(name),
                runtime: Path::new("/run/mayfly").join(name),
            };
        }
        let state = absolute("XDG_STATE_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".local/state")))
            .unwrap_or_else(|| PathBuf::from("/var/tmp"))
            .join("mayfly")
            .join(name);
        let runtime =
            absolute("XDG_RUNTIME_DIR").map_or_else(|| state.join("run"), |dir| dir.join("mayfly").join(name));
        Self { state, runtime }
    }
}

/// A directory from the environment; relative ones are ignored, as the XDG specification says.
fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Whether this process may write where the system's daemons do.
fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&match std::fs::metadata("/proc/self") {
        Ok(metadata) => metadata,
        Err(_) => return false,
    }) == 0
}
