//! A directory of the agent's own, in which a file is always wholly old or wholly new.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};
use zeroize::Zeroizing;

/// The longest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;

/// A directory that only this process uses.
#[derive(Debug, Clone)]
pub(crate) struct Directory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    _lock: Flock<File>,
}

/// Why a directory or a file in it cannot be used. The operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A system call failed.
    #[error(
        "could not {doing} {path}: {cause}; check that the directory exists on a writable disk with room, and belongs to this user"
    )]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// Others may write into it, or own it.
    #[error("{path} may be changed by others (owner {owner}, mode {mode:04o}): make it this user's own with mode 0700")]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// A file is there and cannot be used. Guessing would be worse: a node that forgets its key cannot come back by itself.
    #[error(
        "{file} in the state directory cannot be used: {why}; restore it, or remove it and enrol the node anew with a join token"
    )]
    Unreadable {
        /// Its name.
        file: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Another agent runs from it. Two agents with one node key look like a cloned node, which the issuer freezes.
    #[error("{0} is in use by another node agent: stop it, or give this one a state_dir of its own")]
    InUse(PathBuf),
}

impl Directory {
    /// Opens a directory for this process alone, making it (0700) with its parents where it is missing.
    ///
    /// # Errors
    /// [`DirectoryError`] says what to mend.
    pub(crate) fn open(path: &Path) -> Result<Self, DirectoryError> {
        let io = |doing| move |cause| DirectoryError::Io { doing, path: path.to_owned(), cause };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("make"))?;
        let metadata = std::fs::metadata(path).map_err(io("look at"))?;
        let ours = metadata.uid() == nix::unistd::geteuid().as_raw();
        if !ours || metadata.mode() & 0o022 != 0 {
            let mode = metadata.mode() & 0o7777;
            return Err(DirectoryError::Unsafe { path: path.to_owned(), owner: metadata.uid(), mode });
        }
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path.join("lock"));
        let lock =
            Flock::lock(file.map_err(io("write in"))?, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
                if errno == nix::Error::EWOULDBLOCK {
                    DirectoryError::InUse(path.to_owned())
                } else {
                    DirectoryError::Io { doing: "lock", path: path.to_owned(), cause: errno.into() }
                }
            })?;
        Ok(Self(Arc::new(Inner { path: path.to_owned(), _lock: lock })))
    }

    /// The whole of a file; none where there is no such file.
    ///
    /// # Errors
    /// [`DirectoryError::Io`].
    pub(crate) fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, DirectoryError> {
        let mut file = match File::open(self.0.path.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(self.io("open", name)(cause)),
        };
        // Sized beforehand, so that no copy of a key is left behind by a growing buffer.
        let length = file.metadata().map_err(self.io("look at", name))?.len().min(MAX_FILE_BYTES);
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1));
        std::io::Read::by_ref(&mut file).take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(self.io("read", name))?;
        Ok(Some(bytes))
    }

    /// Puts a file in the place of what was there, in one step that survives a power cut: another name (0600), synced, renamed, and the
    /// directory synced.
    ///
    /// # Errors
    /// [`DirectoryError::Io`]; the old file is then still there.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), DirectoryError> {
        let fresh = self.0.path.join(format!("{name}.new"));
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(self.io("write", name))?;
        file.write_all(bytes).map_err(self.io("write", name))?;
        file.sync_all().map_err(self.io("sync", name))?;
        std::fs::rename(&fresh, self.0.path.join(name)).map_err(self.io("replace", name))?;
        File::open(&self.0.path)
            .and_then(|directory| directory.sync_all())
            .map_err(self.io("sync the directory of", name))
    }

    /// As [`Directory::replace`], off the async workers.
    ///
    /// # Errors
    /// As [`Directory::replace`].
    pub(crate) async fn replace_later(
        &self,
        name: &'static str,
        bytes: Zeroizing<Vec<u8>>,
    ) -> Result<(), DirectoryError> {
        let directory = self.clone();
        let written = tokio::task::spawn_blocking(move || directory.replace(name, &bytes)).await;
        written.unwrap_or_else(|stopped| Err(self.io("write", name)(io::Error::other(stopped))))
    }

    fn io(&self, doing: &'static str, name: &str) -> impl Fn(io::Error) -> DirectoryError + use<> {
        let path = self.0.path.join(name);
        move |cause| DirectoryError::Io { doing, path: path.clone(), cause }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_replaced_file_is_read_back_and_is_for_its_owner_alone() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::open(&temp.path().join("state")).unwrap();
        assert!(directory.read("node.json").unwrap().is_none());
        directory.replace("node.json", b"one").unwrap();
        directory.replace("node.json", b"two").unwrap();
        assert_eq!(directory.read("node.json").unwrap().unwrap().as_slice(), b"two");
        let mode = std::fs::metadata(temp.path().join("state/node.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn two_agents_cannot_share_a_directory() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state");
        let held = Directory::open(&path).unwrap();
        assert!(matches!(Directory::open(&path), Err(DirectoryError::InUse(_))));
        drop(held);
        Directory::open(&path).unwrap();
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::set_permissions(temp.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = Directory::open(temp.path()).unwrap_err();
        assert!(error.to_string().contains("mode 0700"), "{error}");
    }
}
