//! What keeps the daemon's secrets inside it.
//!
//! ```text
//! harden (once, first thing in main)     LockedBytes (keys in memory)     memfd, keyring (keys over a restart)
//! ```

pub mod keyring;
mod locked;
pub mod memfd;

use std::io;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub use crate::workload::boot::BootId;
pub use locked::LockedBytes;

/// Makes this process one that others cannot look into: no core files, not dumpable (so that only root may trace it or read its memory), no new privileges
/// by exec. Also raises the limit of open files to the hard one.
///
/// For daemons, before they read a secret. The `mayfly` client commands stay dumpable, for the node agent must see their executable.
///
/// # Errors
/// The kernel's. None is to be expected; a daemon should not start then.
pub fn harden() -> io::Result<()> {
    prctl::set_dumpable(false)?;
    prctl::set_no_new_privs()?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}
