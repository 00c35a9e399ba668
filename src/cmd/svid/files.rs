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
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown, symlink,
};
use std::path::{Path, PathBuf};

use mayfly_sdk::x509::X509Svid;
use mayfly_sdk::{Timestamp, pem};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Gid, Group, Uid, User};

use crate::failure::Failure;

/// The link that is renamed over.
const DATA: &str = "..data";
/// Modes: anybody may verify with the certificates, only the owner has the key.
const PUBLIC: u32 = 0o644;
const SECRET: u32 = 0o600;

/// Who may read the files.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Access {
    /// Give the files to this user, and to its group unless one is named; by name or number
    #[arg(long, value_name = "USER[:GROUP]", requires = "write", value_parser = owner)]
    owner: Option<(Uid, Gid)>,
    /// Mode of key.pem, and of the token of a task, octal: nothing for others [default: 0600]
    #[arg(long, value_name = "MODE", requires = "write", value_parser = mode)]
    mode: Option<u32>,
}

/// Writes the SVID, its key and the bundle (PEM) into `dir`, which is made (0755) where it is missing. The paths of the three files.
pub(crate) fn write_files(
    dir: &Path,
    svid: &X509Svid,
    bundle_pem: &str,
    access: &Access,
    now: Timestamp,
) -> Result<Vec<PathBuf>, Failure> {
    write_set_of(dir, svid, bundle_pem, &[], access, now)
}

/// The same, and the token of a task that is bound to the SVID, all in one set: `token`, whose mode is that of the key.
pub(crate) fn write_task_files(
    dir: &Path,
    svid: &X509Svid,
    bundle_pem: &str,
    token: &str,
    access: &Access,
    now: Timestamp,
) -> Result<Vec<PathBuf>, Failure> {
    write_set_of(dir, svid, bundle_pem, &[("token", token, access.mode.unwrap_or(SECRET))], access, now)
}

fn write_set_of(
    dir: &Path,
    svid: &X509Svid,
    bundle_pem: &str,
    further: &[(&str, &str, u32)],
    access: &Access,
    now: Timestamp,
) -> Result<Vec<PathBuf>, Failure> {
    let key = pem::private_key(svid.key());
    let chain = svid.chain_pem();
    let mut files = vec![
        ("svid.pem", chain.as_str(), PUBLIC),
        ("key.pem", key.as_str(), access.mode.unwrap_or(SECRET)),
        ("bundle.pem", bundle_pem, PUBLIC),
    ];
    files.extend(further);
    let failed = |error: io::Error| {
        let remedy = "give a directory that this user may write, or remove what stands in the way";
        Failure::input(format!("the SVID was not written to {}", dir.display()), error.to_string(), remedy)
    };
    swap(dir, &files, access.owner, now).map_err(failed)?;
    Ok(files.iter().map(|(name, _, _)| dir.join(name)).collect())
}

fn swap(dir: &Path, files: &[(&str, &str, u32)], owner: Option<(Uid, Gid)>, now: Timestamp) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    let opened = File::open(dir)?;
    refuse_shared(dir, &opened)?;
    // Two writers take turns. It is let go when this returns.
    let lock = Flock::lock(opened, FlockArg::LockExclusive).map_err(|(_, error)| io::Error::from(error))?;
    for (name, _, _) in files {
        refuse_foreign(&dir.join(name))?;
    }
    let set = format!("..{}.{}", now.to_string().replace(':', "-"), std::process::id());
    let set = free_name(dir, &set)?;
    let written = write_set(&dir.join(&set), files, owner).and_then(|()| replace_link(dir, Path::new(&set), DATA));
    if let Err(error) = written {
        fs::remove_dir_all(dir.join(&set)).ok();
        return Err(error);
    }
    for (name, _, _) in files {
        let target = Path::new(DATA).join(name);
        if fs::read_link(dir.join(name)).ok().as_ref() != Some(&target) {
            replace_link(dir, &target, name)?;
        }
    }
    lock.sync_all()?;
    // The set before, and any that a writer left when it was killed.
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with("..2") && name != set);
        if ours && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Every file is whole, durable and its owner's before anything points to it. Nothing that is there already is followed or opened.
fn write_set(set: &Path, files: &[(&str, &str, u32)], owner: Option<(Uid, Gid)>) -> io::Result<()> {
    for (name, content, mode) in files {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(SECRET).open(set.join(name))?;
        file.write_all(content.as_bytes())?;
        if let Some((user, group)) = owner {
            fchown(&file, Some(user.as_raw()), Some(group.as_raw()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(*mode))?;
        file.sync_all()?;
    }
    File::open(set)?.sync_all()
}

/// Whoever else may write in a directory can put a link of his own in the place of ours, and read or choose the key.
fn refuse_shared(dir: &Path, opened: &File) -> io::Result<()> {
    let metadata = opened.metadata()?;
    let ours = [0, Uid::effective().as_raw()].contains(&metadata.uid());
    if ours && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    let what =
        format!("{} can be written by others: make it this user's own (chown), mode 0755 or less", dir.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
}

fn owner(text: &str) -> Result<(Uid, Gid), String> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let known = match user.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(user),
    };
    let known = known.ok().flatten();
    let uid = known.as_ref().map(|known| known.uid).or_else(|| user.parse().ok().map(Uid::from_raw));
    let gid = match group {
        None => known.map(|known| known.gid),
        Some(group) => group
            .parse()
            .map(Gid::from_raw)
            .ok()
            .or_else(|| Group::from_name(group).ok().flatten().map(|group| group.gid)),
    };
    uid.zip(gid).ok_or_else(|| format!("`{text}` is not a user, or not a user and a group, of this machine"))
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| mode & !0o660 == 0 && mode & 0o400 != 0);
    mode.ok_or_else(|| format!("`{text}` is not a mode for a key: 0400, 0600, 0440, 0640 or 0660"))
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
        swap(dir, &files, None, Timestamp::from_unix_s(1_800_000_000 + second))
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
    fn a_directory_that_others_may_write_is_refused_and_what_a_killed_writer_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o777, 0o1777, 0o775] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(write(dir.path(), "x", 0).unwrap_err().kind(), io::ErrorKind::PermissionDenied, "{mode:o}");
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("..2020-01-01T00-00-00Z.1")).unwrap();
        // A link in the place of a set is not followed and not removed through.
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("kept"), "").unwrap();
        symlink(elsewhere.path(), dir.path().join("..2020-01-01T00-00-00Z.2")).unwrap();
        symlink(elsewhere.path(), dir.path().join(DATA)).unwrap();
        write(dir.path(), "x", 0).unwrap();
        assert_eq!(sets(dir.path()), 1);
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
    }

    #[test]
    fn owners_and_modes_are_read_strictly() {
        assert_eq!(owner("root").unwrap(), (Uid::from_raw(0), Gid::from_raw(0)));
        assert_eq!(owner("root:7").unwrap(), (Uid::from_raw(0), Gid::from_raw(7)));
        assert!(owner("no-such-user").is_err() && owner("root:no-such-group").is_err() && owner("").is_err());
        assert_eq!(mode("0640").unwrap(), 0o640);
        for text in ["0644", "0777", "4600", "0200", "x", ""] {
            assert!(mode(text).is_err(), "{text}");
        }
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
