//! Keys of 32 bytes in the persistent keyring of this user: they outlast the process and its session, and never touch a disk.
//!
//! The kernel forgets the keyring at the next boot, or when nobody of this user has asked for it for `/proc/sys/kernel/keys/persistent_keyring_expiry` seconds
//! (3 days). Containers often forbid it: then every call here fails with `EPERM` or `ENOSYS`.
#![expect(unsafe_code, reason = "the key system calls have no wrapper in nix")]

use std::ffi::{CString, c_long};
use std::io;

use nix::errno::Errno;
use zeroize::Zeroizing;

use super::LockedBytes;

/// Bytes in a key.
pub const KEY_BYTES: usize = 32;

const USER_TYPE: &std::ffi::CStr = c"user";
const KEYCTL_UNLINK: c_long = 9;
const KEYCTL_SEARCH: c_long = 10;
const KEYCTL_READ: c_long = 11;
const KEYCTL_GET_PERSISTENT: c_long = 22;
const KEY_SPEC_PROCESS_KEYRING: c_long = -2;
const OWN_UID: c_long = -1;

/// Keeps `key` under `name`, in place of what was there.
///
/// # Errors
/// The kernel's: `EPERM` or `ENOSYS` where keyrings are forbidden, `EDQUOT` when the user's quota is used up.
pub fn store(name: &str, key: &[u8; KEY_BYTES]) -> io::Result<()> {
    let (ring, name) = (persistent()?, CString::new(name)?);
    // SAFETY: both strings end with a NUL, and the key has the length that is given; the kernel copies all of them.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_add_key, USER_TYPE.as_ptr(), name.as_ptr(), key.as_ptr(), key.len(), ring)
    })?;
    Ok(())
}

/// The key under `name`; `None` if there is none.
///
/// # Errors
/// As [`store`]; `InvalidData` if the key has another length.
pub fn load(name: &str) -> io::Result<Option<LockedBytes>> {
    let Some((_, key)) = search(name)? else { return Ok(None) };
    let mut bytes = Zeroizing::new([0_u8; KEY_BYTES]);
    // SAFETY: the kernel writes at most as many bytes as the array has.
    let length =
        Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_READ, key, bytes.as_mut_ptr(), bytes.len()) })?;
    if usize::try_from(length) != Ok(KEY_BYTES) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the key in the keyring has another length"));
    }
    LockedBytes::copy_of(&*bytes).map(Some)
}

/// Forgets the key under `name`, if there is one.
///
/// # Errors
/// As [`store`].
pub fn remove(name: &str) -> io::Result<()> {
    let Some((ring, key)) = search(name)? else { return Ok(()) };
    // SAFETY: takes integers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_UNLINK, key, ring) })?;
    Ok(())
}

/// The persistent keyring, and in it the key of this name.
fn search(name: &str) -> io::Result<Option<(c_long, c_long)>> {
    let (ring, name) = (persistent()?, CString::new(name)?);
    // SAFETY: both strings end with a NUL; 0 means that the key found is linked nowhere else.
    match Errno::result(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_SEARCH, ring, USER_TYPE.as_ptr(), name.as_ptr(), 0)
    }) {
        Ok(key) => Ok(Some((ring, key))),
        Err(Errno::ENOKEY | Errno::EKEYEXPIRED | Errno::EKEYREVOKED) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Asking for the keyring also makes it, puts off its expiry, and gives this process the right to use it.
fn persistent() -> io::Result<c_long> {
    // SAFETY: takes integers only.
    Ok(Errno::result(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_GET_PERSISTENT, OWN_UID, KEY_SPEC_PROCESS_KEYRING)
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_replaced_and_removed() {
        if let Err(error) = persistent() {
            assert!(matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS | libc::EOPNOTSUPP)), "{error}");
            eprintln!("skipped: no persistent keyring here ({error})");
            return;
        }
        let name = format!("mayfly-test-{:016x}", fastrand::u64(..));
        assert!(load(&name).unwrap().is_none());
        store(&name, &[1; 32]).unwrap();
        store(&name, &[2; 32]).unwrap();
        assert_eq!(&load(&name).unwrap().unwrap()[..], &[2; 32]);
        remove(&name).unwrap();
        assert!(load(&name).unwrap().is_none());
        remove(&name).unwrap();
    }
}
