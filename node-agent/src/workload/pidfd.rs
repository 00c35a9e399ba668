//! Pidfds: what nix and tokio have no safe call for.
#![expect(
    unsafe_code,
    reason = "pidfd_open has no wrapper in nix, and tokio's AsyncFd has no safe constructor that gives an owner back"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, fstatfs};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::HeldProcess;

/// A file descriptor for the process that has this pid now; closed on exec.
///
/// # Errors
/// `ESRCH` if there is no such process, `ENOSYS` before Linux 5.3.
pub(super) fn open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: takes two integers and returns a new descriptor, or -1.
    let answer = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let descriptor = RawFd::try_from(answer).ok().ok_or(Errno::EBADF)?;
    // SAFETY: the descriptor was made by the call above, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The magic number of the file system that pidfds are files of, from Linux 6.9 on (`PID_FS_MAGIC`).
const PIDFS: FsType = FsType(0x5049_4446);

/// The number of the process behind a pidfd, which no other process gets before the next boot; none where the kernel has none to give.
pub(super) fn number(pidfd: &OwnedFd) -> Option<u64> {
    // Elsewhere all pidfds are one file, which says nothing.
    let is_own_file = fstatfs(pidfd).is_ok_and(|file_system| file_system.filesystem_type() == PIDFS);
    is_own_file.then(|| fstat(pidfd).ok()).flatten().map(|file| file.st_ino)
}

/// Wakes a task when a process ends.
#[derive(Debug)]
pub struct Death(AsyncFd<Held>);

#[derive(Debug)]
struct Held(Arc<HeldProcess>);

impl AsRawFd for Held {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Death {
    /// Begins to watch. To be called on a tokio runtime.
    ///
    /// # Errors
    /// The kernel's, when it has no room for another watch.
    pub fn of(process: Arc<HeldProcess>) -> io::Result<Self> {
        // SAFETY: a HeldProcess owns its pidfd and never changes it, and the Arc keeps it for as long as the AsyncFd is.
        Ok(Self(unsafe { AsyncFd::register_with_interest(Held(process), Interest::READABLE) }?))
    }

    /// Ready once the process has ended. Wakes the task that asked last.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_read_ready(cx).map(drop)
    }
}

/// The deaths of many processes on one descriptor: a few octets of kernel memory for each, and one task for all.
#[derive(Debug)]
pub(super) struct Deaths(AsyncFd<Set>);

#[derive(Debug)]
struct Set(Epoll);

impl AsRawFd for Set {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

impl Deaths {
    /// Watches nobody yet. To be called on a tokio runtime.
    pub(super) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        // SAFETY: the Epoll owns its descriptor and nothing replaces it while the AsyncFd is.
        Ok(Self(unsafe { AsyncFd::register_with_interest(Set(epoll), Interest::READABLE) }?))
    }

    /// Reports `token` once the process ends. Whoever calls keeps the process, and gives it to [`unwatch`](Self::unwatch) then.
    pub(super) fn watch(&self, process: &HeldProcess, token: u64) -> io::Result<()> {
        Ok(self.0.get_ref().0.add(process, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    pub(super) fn unwatch(&self, process: &HeldProcess) {
        if let Err(error) = self.0.get_ref().0.delete(process) {
            tracing::debug!(%error, "a process was not watched");
        }
    }

    /// The tokens of processes that have ended and are still watched: at least one.
    pub(super) async fn next(&self) -> io::Result<Vec<u64>> {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let mut ready = self.0.readable().await?;
            let found = self.0.get_ref().0.wait(&mut events, EpollTimeout::ZERO)?;
            if found < events.len() {
                ready.clear_ready();
            }
            if found > 0 {
                return Ok(events.iter().take(found).map(EpollEvent::data).collect());
            }
        }
    }
}
