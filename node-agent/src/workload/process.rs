//! One process, held so that no other can be taken for it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};

use super::{Undetermined, pidfd};

/// A process held by its pidfd, with the credentials that it had when it connected.
///
/// A pid may be given to another process; a pidfd never. So the order is always: take the pidfd, read the files of the process, then ask
/// [`alive`](Self::alive), and believe what was read only if it says yes.
#[derive(Debug)]
pub struct HeldProcess {
    pidfd: OwnedFd,
    pid: i32,
    start_time: u64,
    number: Option<u64>,
    uid: u32,
    gid: u32,
    executable: Result<FileId, Undetermined>,
}

/// A file, whatever its name (`stat(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// The device that holds the file.
    pub dev: u64,
    /// The inode on that device.
    pub inode: u64,
}

/// Why a process cannot be held.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// It has ended. Nothing is lost: nobody is there to be answered.
    #[error("the process has ended")]
    Dead,
    /// It lives, and `/proc` does not show it.
    #[error("/proc hides the process: mount it without hidepid, or run the node agent as root")]
    Hidden,
    /// The kernel refused; the cause says why. The connection is closed, and the next one is tried as usual.
    #[error("the kernel does not say which process this is: {0}")]
    Kernel(#[from] io::Error),
}

/// What became of the program of a process since it was first held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// The process lives and runs the same executable file.
    Same,
    /// It runs another executable: nothing may be sent to it on what was attested before.
    Changed,
    /// The process has ended.
    Dead,
    /// The node agent may not see it.
    Undetermined(Undetermined),
}

impl HeldProcess {
    /// The process that connected the other end of a Unix socket (`SO_PEERCRED`, `SO_PEERPIDFD`).
    ///
    /// A child that inherited or was handed the socket counts as the process that connected, as long as that one lives.
    /// And the program is that which runs when the connection is accepted: a process that connects, hands the socket to a child and execs before
    /// that (microseconds, unless the queue is long) is taken for the new program. The kernel keeps no record of the one that connected. So
    /// whoever may start a program of the same user counts as that program where only `unix:path` or `unix:sha256` tell them apart.
    /// Kernels before 6.5 have no `SO_PEERPIDFD`; there the pid is taken, and believed if its start time is the same before and after.
    ///
    /// # Errors
    /// [`HoldError::Dead`] if the process has ended, [`HoldError::Kernel`] if the socket is no Unix socket or the kernel is older than 5.3.
    pub fn of_peer(socket: &impl AsFd) -> Result<Self, HoldError> {
        let peer = getsockopt(socket, sockopt::PeerCredentials).map_err(io::Error::from)?;
        match getsockopt(socket, sockopt::PeerPidfd) {
            Ok(pidfd) => Self::hold(pidfd, peer.pid(), peer.uid(), peer.gid()),
            Err(nix::Error::ENOPROTOOPT) => {
                let before = start_time(peer.pid())?;
                let process = Self::hold(pidfd::open(peer.pid())?, peer.pid(), peer.uid(), peer.gid())?;
                if process.start_time == before { Ok(process) } else { Err(HoldError::Dead) }
            }
            Err(nix::Error::ESRCH | nix::Error::EINVAL | nix::Error::ENODATA) => Err(HoldError::Dead),
            Err(other) => Err(HoldError::Kernel(other.into())),
        }
    }

    /// The process with this pid, with the effective ids that it has now.
    ///
    /// # Errors
    /// [`HoldError::Dead`] if there is none.
    pub fn of_pid(pid: i32) -> Result<Self, HoldError> {
        let pidfd = pidfd::open(pid)?;
        let status = fs::metadata(format!("/proc/{pid}")).map_err(dead_if_absent)?;
        Self::hold(pidfd, pid, status.uid(), status.gid())
    }

    fn hold(pidfd: OwnedFd, pid: i32, uid: u32, gid: u32) -> Result<Self, HoldError> {
        // A process of another PID namespace has the pid 0 here; of such a one the kernel vouches for uid and gid only.
        let start_time = if pid > 0 { start_time(pid) } else { Ok(0) };
        let executable = executable(pid);
        if !alive(pidfd.as_fd()) {
            return Err(HoldError::Dead);
        }
        let start_time = start_time.map_err(|error| match error {
            HoldError::Dead => HoldError::Hidden,
            other => other,
        })?;
        let number = pidfd::number(&pidfd);
        Ok(Self { pidfd, pid, start_time, number, uid, gid, executable })
    }

    /// The process id in the node agent's PID namespace; 0 where it has none there.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// When the process began, in clock ticks since boot (`/proc/<pid>/stat`, field 22).
    #[must_use]
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// The kernel's own number of the process, which no other gets before the next boot; none before Linux 6.9.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.number
    }

    /// The effective user id at the time of connecting.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The effective group id at the time of connecting.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// The executable file that the process ran when it was first held.
    ///
    /// # Errors
    /// [`Undetermined`] if the node agent may not see it.
    pub fn executable(&self) -> Result<FileId, &Undetermined> {
        self.executable.as_ref().copied()
    }

    /// Whether the process lives. A zombie does not: `pidfd_send_signal` would say that it does, so `poll` is asked.
    #[must_use]
    pub fn alive(&self) -> bool {
        alive(self.pidfd.as_fd())
    }

    /// Whether the process still runs the executable file that it ran when it was first held. To be asked before every send.
    ///
    /// The same file at another path is the same; the same path with another file is not.
    #[must_use]
    pub fn same_executable(&self) -> Program {
        let now = executable(self.pid);
        if !self.alive() {
            return Program::Dead;
        }
        match (&self.executable, now) {
            (Ok(then), Ok(now)) if *then == now => Program::Same,
            (Ok(_), Ok(_)) => Program::Changed,
            (Err(why), _) => Program::Undetermined(why.clone()),
            (_, Err(why)) => Program::Undetermined(why),
        }
    }
}

impl AsFd for HeldProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

fn alive(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, PollTimeout::ZERO) {
            Err(nix::Error::EINTR) => {}
            answer => return answer == Ok(0),
        }
    }
}

/// The executable file of a process (`/proc/<pid>/exe`, followed).
fn executable(pid: i32) -> Result<FileId, Undetermined> {
    if pid == 0 {
        return Err(Undetermined::other_pid_namespace("unix", "path"));
    }
    match fs::metadata(format!("/proc/{pid}/exe")) {
        Ok(file) => Ok(FileId { dev: file.dev(), inode: file.ino() }),
        Err(error) => Err(Undetermined::of_proc("unix", "path", &error)),
    }
}

fn start_time(pid: i32) -> Result<u64, HoldError> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(dead_if_absent)?;
    start_time_of(&stat).ok_or_else(|| {
        HoldError::Kernel(io::Error::new(io::ErrorKind::InvalidData, "/proc/<pid>/stat has no field 22"))
    })
}

/// Field 22 of `/proc/<pid>/stat`. The name in field 2 may hold spaces and parentheses, so counting begins after the last `)`.
pub(super) fn start_time_of(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn dead_if_absent(error: io::Error) -> HoldError {
    let absent = error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH);
    if absent { HoldError::Dead } else { HoldError::Kernel(error) }
}

impl From<nix::Error> for HoldError {
    fn from(error: nix::Error) -> Self {
        if error == nix::Error::ESRCH { Self::Dead } else { Self::Kernel(error.into()) }
    }
}

#[cfg(test)]
mod tests;
