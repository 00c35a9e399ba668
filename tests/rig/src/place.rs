//! Where things are: the command under test, the repository, and a loopback address for each rig.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// The `mayfly` executable that was built beside the running test.
pub fn mayfly() -> PathBuf {
    if let Some(path) = std::env::var_os("MAYFLY_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().unwrap();
    let found = test.ancestors().skip(1).map(|dir| dir.join("mayfly")).find(|path| path.is_file());
    found.expect("build the command first: cargo build, or tests/run")
}

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// An address in 127/8 of this process and this call, so that rigs never share a port.
pub(crate) fn own_address() -> String {
    static CALLS: AtomicU32 = AtomicU32::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let call = CALLS.fetch_add(1, Ordering::Relaxed) % 250;
    // The third byte of a process id is small; it shares an octet with a fixed bit that keeps 127.0.0.x free.
    format!("127.{}.{}.{}", high | 0x80, low, call + 1)
}
