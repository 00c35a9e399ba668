//! SVIDs as files, for programs that know nothing else: stable names, swapped all together.
//!
//! ```text
//! DIR/svid.pem   -> ..data/svid.pem      DIR/..data -> ..2027-01-15T08-00-00Z.4711     (the set that counts; a rename swaps it)
//! DIR/key.pem    -> ..data/key.pem       DIR/..2027-01-15T08-00-00Z.4711/{svid,key,bundle}.pem
//! DIR/bundle.pem -> ..data/bundle.pem
//! ```
//!
//! A reader that opens `..data` once and reads through it sees one set; one that opens the files by name sees each of them whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use mayfly_sdk::x509::X509Svid;
use mayfly_sdk::{Timestamp, pem};

use crate::failure::Failure;

/// The link that is renamed over.
const DATA: &str = "..data";
/// Modes: anybody may verify with the certificates, only the owner has the key.
const PUBLIC: u32 = 0o644;
const SECRET: u32 = 0o600;

/// Writes the SVID, its key and the bundle (PEM) into `dir`, which is made (0755) where it is missing. The paths of the three files.
pub(crate) fn write_files(
    dir: &Path,
    svid: &X509Svid,
    bundle_pem: &str,
    now: Timestamp,
) -> Result<[PathBuf; 3], Failure> {
    let key = pem::private_key(svid.key());
    let chain = svid.chain_pem();
    let files =
        [("svid.pem", chain.as_str(), PUBLIC), ("key.pem", key.as_str(), SECRET), ("bundle.pem", bundle_pem, PUBLIC)];
    let failed = |error: io::Error| {
        let remedy = "give a directory that this user may write, or remove what stands in the way";
        Failure::input(format!("the SVID was not written to {}", dir.display()), error.to_string(), remedy)
    };
    swap(dir, &files, now).map_err(failed)?;
    Ok(files.map(|(name, _, _)| dir.join(name)))
}

fn swap(dir: &Path, files: &[(&str, &str, u32)], now: Timestamp) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for (name, _, _) in files {
        refuse_foreign(&dir.join(name))?;
    }
    let old = fs::read_link(dir.join(DATA)).ok();
    let set = format!("..{}.{}", now.to_string().replace(':', "-"), std::process::id());
    let set = free_name(dir, &set)?;
    for (name, content, mode) in files {
        let path = dir.join(&set).join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(*mode).open(path)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
    }
    File::open(dir.join(&set))?.sync_all()?;
    replace_link(dir, Path::new(&set), DATA)?;
    for (name, _, _) in files {
        let target = Path::new(DATA).join(name);
        if fs::read_link(dir.join(name)).ok().as_ref() != Some(&target) {
            replace_link(dir, &target, name)?;
        }
    }
    File::open(dir)?.sync_all()?;
    // Only sets of our own making are removed: `..data` may have been pointed elsewhere by hand.
    if let Some(old) = old.filter(|old| old.to_str().is_some_and(|name| name.starts_with("..2") && !name.contains('/')))
    {
        fs::remove_dir_all(dir.join(old))?;
    }
    Ok(())
}

/// A new directory; sets of the same second get a number.
fn free_name(dir: &Path, set: &str) -> io::Result<String> {
    for n in 0..1000 {
        let name = if n == 0 { set.to_owned() } else { format!("{set}.{n}") };
        match DirBuilder::new().mode(0o755).create(dir.join(&name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(name),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// A plain file under one of our names was put there by somebody else.
fn refuse_foreign(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_symlink() => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} exists and was not written by mayfly", path.display()),
        )),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn replace_link(dir: &Path, target: &Path, name: &str) -> io::Result<()> {
    let temporary = dir.join(format!("..tmp.{}", std::process::id()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => symlink(target, &temporary)?,
    }
    fs::rename(temporary, dir.join(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn write(dir: &Path, content: &str, second: i64) -> io::Result<()> {
        let files = [("svid.pem", content, PUBLIC), ("key.pem", content, SECRET), ("bundle.pem", content, PUBLIC)];
        swap(dir, &files, Timestamp::from_unix_s(1_800_000_000 + second))
    }

    fn sets(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().filter(|entry| entry.as_ref().unwrap().file_type().unwrap().is_dir()).count()
    }

    #[test]
    fn the_names_stay_and_the_set_behind_them_is_swapped_whole() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("new/certs");
        for (n, content) in ["one", "two", "three"].into_iter().enumerate() {
            // Twice in the same second: the directory's name must not collide.
            write(&dir, content, i64::try_from(n / 2).unwrap()).unwrap();
            for name in ["svid.pem", "key.pem", "bundle.pem"] {
                assert_eq!(fs::read_link(dir.join(name)).unwrap(), Path::new(DATA).join(name));
                assert_eq!(fs::read_to_string(dir.join(name)).unwrap(), content);
            }
            assert_eq!(sets(&dir), 1, "the set before is gone");
        }
        let mode = |name: &str| fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("key.pem"), mode("svid.pem") & 0o600), (0o600, 0o600));
    }

    #[test]
    fn a_reader_of_the_set_never_sees_a_mixture() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "0", 0).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (1..200).for_each(|n| write(dir.path(), &n.to_string(), n).unwrap()));
            let mut seen = 0;
            while !writer.is_finished() {
                let set = dir.path().join(fs::read_link(dir.path().join(DATA)).unwrap());
                // A set that was replaced meanwhile is gone; one that is there is whole.
                let read = |name: &str| fs::read_to_string(set.join(name)).ok();
                if let (Some(svid), Some(key)) = (read("svid.pem"), read("key.pem")) {
                    assert_eq!(svid, key);
                    seen += 1;
                }
            }
            assert!(seen > 0);
        });
    }

    #[test]
    fn a_file_of_somebody_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("key.pem"), "mine").unwrap();
        let error = write(dir.path(), "x", 0).unwrap_err();
        assert!(error.to_string().ends_with("key.pem exists and was not written by mayfly"), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join("key.pem")).unwrap(), "mine");
        assert_eq!(sets(dir.path()), 0);
    }
}
