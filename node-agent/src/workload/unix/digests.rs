//! SHA-256 of executables, each computed once.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use parking_lot::Mutex;
use ring::digest::{Context, SHA256};

/// Executables remembered. One more, and all are forgotten.
const REMEMBERED: usize = 512;

/// A state of a file: any write to it changes one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Version {
    dev: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The digest of one version, under a lock while it is computed, so that of many callers one computes it and the others wait.
type Digest = Arc<Mutex<Option<[u8; 32]>>>;

/// The digests of the executables seen so far.
#[derive(Debug, Default)]
pub(super) struct Digests {
    known: Mutex<HashMap<Version, Digest>>,
}

impl Digests {
    /// The SHA-256 of a file that was just opened. Reads all of it, unless this version was read before.
    pub(super) fn of(&self, mut file: File) -> io::Result<[u8; 32]> {
        let version = Version::of(&file.metadata()?);
        let digest = self.entry(version);
        let mut digest = digest.lock();
        if let Some(known) = *digest {
            return Ok(known);
        }
        let computed = sha256(&mut file)?;
        if Version::of(&file.metadata()?) != version {
            return Err(io::Error::other("the executable was written to while it was read"));
        }
        *digest = Some(computed);
        Ok(computed)
    }

    fn entry(&self, version: Version) -> Digest {
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED && !known.contains_key(&version) {
            known.clear();
        }
        Arc::clone(known.entry(version).or_default())
    }
}

impl Version {
    fn of(file: &Metadata) -> Self {
        Self {
            dev: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

fn sha256(file: &mut File) -> io::Result<[u8; 32]> {
    let mut context = Context::new(&SHA256);
    let mut piece = vec![0; 64 * 1024];
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => context.update(piece.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    context.finish().as_ref().try_into().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_is_read_again_only_after_it_changed() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"abc").unwrap();
        let digests = Digests::default();
        let of = |digests: &Digests| hex::encode(digests.of(File::open(file.path()).unwrap()).unwrap());
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of(&digests), abc);
        let version = *digests.known.lock().keys().next().unwrap();
        *digests.known.lock()[&version].lock() = Some([7; 32]);
        assert_eq!(of(&digests), hex::encode([7; 32]), "answered from memory");
        file.as_file().write_all(b"d").unwrap();
        assert_ne!(of(&digests), hex::encode([7; 32]), "read again");
        assert_eq!(digests.known.lock().len(), 2);
    }

    #[test]
    fn memory_for_digests_is_bounded() {
        let digests = Digests::default();
        for inode in 0..2000 {
            digests.entry(Version { dev: 1, inode, size: 0, modified: (0, 0), changed: (0, 0) });
        }
        assert!(digests.known.lock().len() <= REMEMBERED);
    }
}
