use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use mayfly_sdk::supervisor;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::hardening::keyring::{self, KEY_BYTES};

/// How much longer sealed bytes are than plain ones, without the nonce.
pub(super) const OVERHEAD: usize = 16;
/// What is sealed says what it is.
const CONTEXT: &[u8] = b"mayfly warm state v1\0";
/// The name of the key in the keyring, and of its descriptor in the store.
const NAME: &str = "mayfly-agent-warm";

/// The key under which the warm state is sealed.
#[derive(Debug)]
pub(crate) struct WarmKey {
    key: LessSafeKey,
    /// What is sealed is bound to: what it is, and where it is kept.
    context: Vec<u8>,
}

impl WarmKey {
    /// The key that the kernel keeps for this user, for the state at `path`; made where there is none.
    ///
    /// # Errors
    /// The kernel's: often forbidden in containers.
    pub(super) fn in_keyring(path: &Path) -> io::Result<Self> {
        // One key for all agents of the user, since the kernel lets it have 200 only; which agent's state it is, the state says.
        if let Some(key) = keyring::load(NAME)? {
            return Self::of(&key, path);
        }
        keyring::store(NAME, &*fresh()?)?;
        // Another agent may have stored one at the same moment: the last one counts for both.
        let key = keyring::load(NAME)?.ok_or_else(|| io::Error::other("the keyring lost the key"))?;
        Self::of(&key, path)
    }

    /// The key that the service manager keeps in its descriptor store, in memory only, for the state at `path`; made where there is
    /// none.
    ///
    /// # Errors
    /// No service manager started this process, or it cannot be reached.
    pub(super) fn in_descriptor_store(path: &Path) -> io::Result<Self> {
        if let Some(kept) = supervisor::kept(NAME) {
            return Self::of(&Zeroizing::new(std::fs::read(kept)?), path);
        }
        let key = fresh()?;
        let memory = memfd_create(NAME, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        let mut file = File::from(memory);
        file.write_all(&*key)?;
        let fixed = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(fixed))?;
        supervisor::keep(NAME, file.as_fd())?;
        Self::of(&*key, path)
    }

    /// The key in `file`, for the state at `path`; made (0600) where there is none.
    ///
    /// # Errors
    /// The file cannot be read or made, others may read it, or it is no key.
    pub(super) fn in_file(file: &Path, path: &Path) -> io::Result<Self> {
        match std::fs::metadata(file) {
            Ok(metadata) if metadata.mode() & 0o077 != 0 => Err(io::Error::other("others may read the key file")),
            Ok(_) => Self::of(&Zeroizing::new(std::fs::read(file)?), path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = fresh()?;
                let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(file)?;
                file.write_all(&*key)?;
                file.sync_all()?;
                Self::of(&*key, path)
            }
            Err(error) => Err(error),
        }
    }

    fn of(key: &[u8], path: &Path) -> io::Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key)
            .map_err(|ring::error::Unspecified| io::Error::other("it is not a key of 32 bytes"))?;
        let context = [CONTEXT, path.as_os_str().as_bytes()].concat();
        Ok(Self { key: LessSafeKey::new(key), context })
    }

    /// Seals in place. The nonce, which goes before what was sealed.
    ///
    /// # Errors
    /// The kernel gave no random bytes.
    pub(super) fn seal(&self, bytes: &mut Vec<u8>) -> io::Result<[u8; NONCE_LEN]> {
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce)?;
        let sealed =
            self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&self.context), bytes);
        sealed.map_err(|ring::error::Unspecified| io::Error::other("it cannot be sealed"))?;
        Ok(nonce)
    }

    /// Opens what [`Self::seal`] sealed, nonce first.
    ///
    /// # Errors
    /// It was sealed under another key, or changed.
    pub(super) fn open(&self, mut bytes: Zeroizing<Vec<u8>>) -> io::Result<Zeroizing<Vec<u8>>> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "it was sealed under another key, or was changed");
        let (nonce, sealed) = bytes.split_first_chunk_mut::<NONCE_LEN>().ok_or_else(invalid)?;
        let plain = self.key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(&self.context), sealed);
        let length = plain.map_err(|ring::error::Unspecified| invalid())?.len();
        bytes.truncate(NONCE_LEN + length);
        bytes.drain(..NONCE_LEN);
        Ok(bytes)
    }
}

fn fresh() -> io::Result<Zeroizing<[u8; KEY_BYTES]>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    random(&mut *key)?;
    Ok(key)
}

fn random(bytes: &mut [u8]) -> io::Result<()> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|ring::error::Unspecified| io::Error::other("the kernel gave no random bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_under_the_same_key_only_and_unchanged() {
        let temp = tempfile::tempdir().unwrap();
        let key = WarmKey::in_file(&temp.path().join("key"), Path::new("/state")).unwrap();
        let mut bytes = b"secret".to_vec();
        let nonce = key.seal(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 6 + OVERHEAD);
        let sealed = Zeroizing::new([&nonce[..], &bytes].concat());
        let again = WarmKey::in_file(&temp.path().join("key"), Path::new("/state")).unwrap();
        assert_eq!(again.open(sealed.clone()).unwrap().as_slice(), b"secret");
        let other = WarmKey::in_file(&temp.path().join("other"), Path::new("/state")).unwrap();
        assert!(other.open(sealed.clone()).is_err());
        let elsewhere = WarmKey::in_file(&temp.path().join("key"), Path::new("/other")).unwrap();
        assert!(elsewhere.open(sealed.clone()).is_err(), "the state of another agent");
        let mut changed = sealed.clone();
        changed[NONCE_LEN] ^= 1;
        assert!(key.open(changed).is_err());
        assert!(key.open(Zeroizing::new(vec![0; 3])).is_err());
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("key");
        WarmKey::in_file(&path, Path::new("/state")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(WarmKey::in_file(&path, Path::new("/state")).is_err());
    }
}
