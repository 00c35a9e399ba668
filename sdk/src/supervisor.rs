//! What a service manager such as systemd is told, and what it keeps for a daemon over a restart (`sd_notify(3)`,
//! `sd_pid_notify_with_fds(3)`). Without one, everything here does nothing.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

/// The first descriptor that a service manager hands over.
const FIRST: u32 = 3;

/// The daemon serves.
pub fn ready() {
    tell(b"READY=1");
}

/// The daemon ends.
pub fn stopping() {
    tell(b"STOPPING=1");
}

/// Asks the manager to keep a descriptor until this service is stopped for good, and to hand it over at each start by
/// `name`. It does so only where the unit has a `FileDescriptorStoreMax`; it does not answer.
///
/// # Errors
/// There is no manager, or it cannot be reached.
pub fn keep(name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let manager = manager().ok_or_else(|| io::Error::other("no service manager started this process"))?;
    send(&manager, format!("FDSTORE=1\nFDNAME={name}").as_bytes(), Some(descriptor))
}

/// A descriptor that the manager kept, as a path to open: it stays open itself.
#[must_use]
pub fn kept(name: &str) -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name)?.into_string().ok();
    if variable("LISTEN_PID")?.parse() != Ok(std::process::id()) {
        return None;
    }
    let count: u32 = variable("LISTEN_FDS")?.parse().ok()?;
    let names = variable("LISTEN_FDNAMES")?;
    let at = (0_u32..count).zip(names.split(':')).find(|(_, kept)| *kept == name)?.0;
    Some(PathBuf::from(format!("/proc/self/fd/{}", FIRST + at)))
}

fn tell(state: &[u8]) {
    if let Some(manager) = manager()
        && let Err(error) = send(&manager, state, None)
    {
        tracing::warn!(%error, "the service manager was not told");
    }
}

fn manager() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())
}

fn send(manager: &OsString, state: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let path = manager.as_bytes();
    let address = match path.strip_prefix(b"@") {
        Some(name) => UnixAddr::new_abstract(name)?,
        None => UnixAddr::new(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    let descriptors: Vec<_> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&descriptors)];
    let control = if descriptors.is_empty() { &[] } else { control.as_slice() };
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(state)], control, MsgFlags::empty(), Some(&address))?;
    Ok(())
}
