//! Binds a Unix socket at a path, or says why not.
//!
//! The socket is bound under another name in the same directory and then renamed over the path: at no moment is there nothing, and nothing is unlinked. Looking
//! and renaming happen under a lock on the directory, so that of two daemons that start together one finds the other's socket alive.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::{getegid, geteuid};
use tokio::net::UnixListener;

/// The most octets that a socket's path may have (`sun_path` in `unix(7)`, less the final NUL).
const LONGEST_PATH: usize = 107;

/// Why a socket was not bound. Nothing was changed, except that directories may have been made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The kernel takes no longer path.
    #[error("socket path {path} has {octets} octets, and the kernel takes 107 at most: choose a shorter path")]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        octets: usize,
    },
    /// A path that has no directory or no file name, or is relative.
    #[error("socket path {0} is not the absolute path of a file: give one such as /run/mayfly/agent/api.sock")]
    NotAbsolute(PathBuf),
    /// Whoever controls the link would decide what is served where.
    #[error("socket path {0} is a symbolic link, which is not followed: give the path that it points to, or remove it")]
    Symlink(PathBuf),
    /// Something else than a socket, which may be of use to somebody.
    #[error("socket path {0} exists and is not a socket: move it away, or choose another path")]
    NotASocket(PathBuf),
    /// Another process answers there.
    #[error(
        "socket path {0} is served by a running process: stop it (is the daemon running already?), or choose another path"
    )]
    InUse(PathBuf),
    /// Others could put a socket of their own in our place.
    #[error(
        "directory {directory} of the socket path may be changed by others (owner {owner}, mode {mode:04o}): {remedy}"
    )]
    UnsafeDirectory {
        /// The directory.
        directory: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// Its permission bits.
        mode: u32,
        /// What to do.
        remedy: &'static str,
    },
    /// A system call failed.
    #[error("socket path {path}: could not {doing}: {cause}")]
    Io {
        /// The path.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The kernel's answer.
        cause: io::Error,
    },
}

/// Who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Every user of the machine: the socket has mode 0777, directories that are made have 0755.
    Everybody,
    /// The daemon's own user and root: the socket's directory has mode 0700, the socket 0600.
    Owner,
}

impl Access {
    const fn socket_mode(self) -> u32 {
        match self {
            Self::Everybody => 0o777,
            Self::Owner => 0o600,
        }
    }
}

/// Binds, listens, and puts the socket in its place. Must be called within a tokio runtime.
///
/// # Errors
/// [`BindError`] says which rule the path breaks and what to do.
pub fn bind(path: &Path, access: Access) -> Result<UnixListener, BindError> {
    let octets = path.as_os_str().as_bytes().len();
    if octets > LONGEST_PATH {
        return Err(BindError::TooLong { path: path.to_owned(), octets });
    }
    let (Some(parent), Some(name), true) = (path.parent(), path.file_name(), path.is_absolute()) else {
        return Err(BindError::NotAbsolute(path.to_owned()));
    };
    let failed = |doing| move |cause: io::Error| BindError::Io { path: path.to_owned(), doing, cause };

    make_directories(parent).map_err(failed("make its directory"))?;
    if access == Access::Owner {
        fs::set_permissions(parent, Permissions::from_mode(0o700)).map_err(failed("close its directory to others"))?;
    }
    let parent = fs::canonicalize(parent).map_err(failed("resolve its directory"))?;
    check_directories(&parent)?;
    let directory = File::open(&parent).map_err(failed("open its directory"))?;
    let directory = Flock::lock(directory, FlockArg::LockExclusive)
        .map_err(|(_, errno)| failed("lock its directory")(errno.into()))?;
    check_place(&parent.join(name), path)?;

    // By way of the descriptor, so that the temporary name may be longer than the final one.
    let directory = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    let new = directory.join(format!(".new-socket-{:016x}", fastrand::u64(..)));
    let listener = UnixListener::bind(&new).map_err(failed("make the socket"))?;
    let placed = fs::set_permissions(&new, Permissions::from_mode(access.socket_mode()))
        .and_then(|()| fs::rename(&new, directory.join(name)));
    if let Err(cause) = placed {
        drop(fs::remove_file(&new));
        return Err(failed("put the socket in its place")(cause));
    }
    Ok(listener)
}

/// Makes what is missing of `directory`, with mode 0755 whatever the umask.
fn make_directories(directory: &Path) -> io::Result<()> {
    match fs::metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other.map(drop),
    }
    if let Some(parent) = directory.parent() {
        make_directories(parent)?;
    }
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => fs::set_permissions(directory, Permissions::from_mode(0o755)),
    }
}

/// Whoever may write to a directory above the socket could put another in its place, and be asked for identities.
fn check_directories(parent: &Path) -> Result<(), BindError> {
    const STICKY: u32 = 0o1000;
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    for directory in parent.ancestors() {
        let found = fs::metadata(directory).map_err(|cause| BindError::Io {
            path: parent.to_owned(),
            doing: "look at its directory",
            cause,
        })?;
        let (owner, mode) = (found.uid(), found.mode() & 0o7777);
        let refused = |remedy| Err(BindError::UnsafeDirectory { directory: directory.to_owned(), owner, mode, remedy });
        let nearest = directory == parent;
        if owner != uid && owner != 0 && directory.parent().is_some() {
            return refused("let it belong to root or to the daemon's user, or choose another path");
        }
        if nearest && mode & 0o022 != 0 {
            return refused("chmod go-w it, or give the socket a directory of its own");
        }
        let group_may = mode & 0o020 != 0 && found.gid() != gid && found.gid() != 0;
        if (mode & 0o002 != 0 || group_may) && mode & STICKY == 0 {
            return refused("chmod go-w it, or choose another path");
        }
    }
    Ok(())
}

/// Whether what is at `place` (nothing, or a socket that nobody serves) may be replaced.
fn check_place(place: &Path, path: &Path) -> Result<(), BindError> {
    let failed = |doing, cause| Err(BindError::Io { path: path.to_owned(), doing, cause });
    let kind = match fs::symlink_metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return failed("look at it", cause),
        Ok(found) => found.file_type(),
    };
    if kind.is_symlink() {
        return Err(BindError::Symlink(path.to_owned()));
    }
    if !kind.is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match try_connect(place) {
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(()),
        // EAGAIN: it is served, and its queue is full. EPROTOTYPE: it is served, and not a stream.
        Ok(()) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => Err(BindError::InUse(path.to_owned())),
        Err(errno) => failed("find out whether it is served", errno.into()),
    }
}

/// Connects without waiting, and hangs up.
fn try_connect(place: &Path) -> Result<(), Errno> {
    let client = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    connect(client.as_raw_fd(), &UnixAddr::new(place)?)
}

#[cfg(test)]
mod tests;
