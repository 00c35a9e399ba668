//! Files without a name, whose content nobody can change any more: for what goes into systemd's descriptor store over a restart.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use zeroize::Zeroizing;

/// The most that [`read`] reads, in bytes.
pub const MOST: u64 = 64 * 1024 * 1024;

fn seals() -> SealFlag {
    SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL
}

/// A file in memory with this content, sealed against every change; closed on exec. `name` shows in `/proc/<pid>/fd`.
///
/// Its pages may be swapped out: seal secrets under a key first.
///
/// # Errors
/// The kernel's, when there is no room.
pub fn sealed(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let memfd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(memfd);
    file.write_all(content)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals()))?;
    Ok(file.into())
}

/// The content of a descriptor that [`sealed`] made.
///
/// # Errors
/// `InvalidData` if it is not sealed as [`sealed`] seals (then somebody else may be changing it), or is larger than [`MOST`]; else the kernel's.
pub fn read(memfd: impl AsFd) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::from(memfd.as_fd().try_clone_to_owned()?);
    let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    let found = fcntl(&file, FcntlArg::F_GET_SEALS)
        .map_err(|_not_a_memfd| invalid("the descriptor is not a file in memory"))?;
    if !SealFlag::from_bits_retain(found).contains(seals()) {
        return Err(invalid("the file in memory is not sealed"));
    }
    let length = file.metadata()?.len();
    let length = usize::try_from(length)
        .ok()
        .filter(|_| length <= MOST)
        .ok_or_else(|| invalid("the file in memory is too large"))?;
    let mut content = Zeroizing::new(vec![0; length]);
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_comes_back_and_cannot_be_changed() {
        let memfd = sealed("test", b"kept").unwrap();
        assert_eq!(read(&memfd).unwrap().as_slice(), b"kept");
        assert_eq!(read(&memfd).unwrap().as_slice(), b"kept", "it can be read twice");
        let file = File::from(memfd);
        assert!(file.write_at(b"x", 0).is_err());
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(100).is_err());
    }

    #[test]
    fn what_others_may_change_is_refused() {
        let open = File::from(memfd_create("test", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap());
        assert_eq!(read(&open).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let plain = tempfile::tempfile().unwrap();
        assert_eq!(read(&plain).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
