//! The C library's calls, in front of the C library's own.

#![expect(
    unsafe_code,
    reason = "functions that replace the C library's have its signatures; each passes its arguments on to the kernel as they came, or \
              reads and writes exactly what the call says that the caller owns"
)]

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ffi::{CStr, c_char, c_int, c_void},
    os::unix::ffi::OsStringExt,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use libc::{off_t, size_t, ssize_t, stat as Stat};

use crate::shadow::{Disk, Shadow};

/// Device and inode: every descriptor of one file shares its shadow.
type File = (libc::dev_t, libc::ino_t);

/// As `pwrite(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite(fd: c_int, bytes: *const c_void, count: size_t, offset: off_t) -> ssize_t {
    let (mut shadows, Some((file, at))) = (shadows(), file_of(fd).zip(usize::try_from(offset).ok())) else {
        // SAFETY: the caller's own arguments.
        return unsafe { size(libc::syscall(libc::SYS_pwrite64, fd, bytes, count, offset)) };
    };
    match shadow(&mut shadows, fd, file) {
        Some(shadow) => {
            // SAFETY: the caller says that `count` bytes may be read there.
            shadow.write(at, unsafe { std::slice::from_raw_parts(bytes.cast(), count) });
            size(count)
        }
        // SAFETY: the caller's own arguments.
        None => unsafe { size(libc::syscall(libc::SYS_pwrite64, fd, bytes, count, offset)) },
    }
}

/// As `pwrite(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, count: size_t, offset: off_t) -> ssize_t {
    // SAFETY: the same call under its other name.
    unsafe { pwrite(fd, bytes, count, offset) }
}

/// As `pread(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pread(fd: c_int, to: *mut c_void, count: size_t, offset: off_t) -> ssize_t {
    let shadows = shadows();
    let shadow = file_of(fd).and_then(|file| shadows.get(&file)).zip(usize::try_from(offset).ok());
    match shadow {
        Some((shadow, at)) => {
            // SAFETY: the caller says that `count` bytes may be written there.
            let read = shadow.read(at, unsafe { std::slice::from_raw_parts_mut(to.cast(), count) });
            size(read)
        }
        // SAFETY: the caller's own arguments.
        None => unsafe { size(libc::syscall(libc::SYS_pread64, fd, to, count, offset)) },
    }
}

/// As `pread(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pread64(fd: c_int, to: *mut c_void, count: size_t, offset: off_t) -> ssize_t {
    // SAFETY: the same call under its other name.
    unsafe { pread(fd, to, count, offset) }
}

/// As `ftruncate(2)`.
#[unsafe(no_mangle)]
extern "C" fn ftruncate(fd: c_int, length: off_t) -> c_int {
    let mut shadows = shadows();
    let file = file_of(fd).zip(usize::try_from(length).ok());
    match file.and_then(|(file, length)| shadow(&mut shadows, fd, file).zip(Some(length))) {
        Some((shadow, length)) => {
            shadow.set_length(length);
            0
        }
        // SAFETY: takes no pointer.
        None => status(unsafe { libc::syscall(libc::SYS_ftruncate, fd, length) }),
    }
}

/// As `ftruncate(2)`.
#[unsafe(no_mangle)]
extern "C" fn ftruncate64(fd: c_int, length: off_t) -> c_int {
    ftruncate(fd, length)
}

/// As `fsync(2)`; the kernel survives, so nothing waits for the disk.
#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    let mut shadows = shadows();
    match file_of(fd).and_then(|file| shadows.get_mut(&file)) {
        Some(shadow) => shadow.sync(&mut Descriptor(fd)).map_or(-1, |()| 0),
        // SAFETY: takes no pointer.
        None => status(unsafe { libc::syscall(libc::SYS_fsync, fd) }),
    }
}

/// As `fdatasync(2)`.
#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    fsync(fd)
}

/// As `fstat(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn fstat(fd: c_int, to: *mut Stat) -> c_int {
    // SAFETY: the caller's own arguments; `to` is his, and filled in where the call succeeded.
    unsafe { lengthened(libc::syscall(libc::SYS_fstat, fd, to), to) }
}

/// As `fstat(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn fstat64(fd: c_int, to: *mut Stat) -> c_int {
    // SAFETY: the same call under its other name.
    unsafe { fstat(fd, to) }
}

/// As `stat(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn stat(path: *const c_char, to: *mut Stat) -> c_int {
    // SAFETY: the caller's own arguments; `to` is his, and filled in where the call succeeded.
    unsafe { lengthened(libc::syscall(libc::SYS_newfstatat, libc::AT_FDCWD, path, to, 0), to) }
}

/// As `stat(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn stat64(path: *const c_char, to: *mut Stat) -> c_int {
    // SAFETY: the same call under its other name.
    unsafe { stat(path, to) }
}

/// As `unlink(2)`. The inode may be another file's at once, which must not get this one's shadow.
#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    let mut shadows = shadows();
    let mut found = std::mem::MaybeUninit::<Stat>::uninit();
    // SAFETY: the caller's path; the structure is our own, and read only where the kernel has filled it in.
    let file = unsafe {
        let flags = libc::AT_SYMLINK_NOFOLLOW;
        let done = libc::syscall(libc::SYS_newfstatat, libc::AT_FDCWD, path, found.as_mut_ptr(), flags);
        (done == 0).then(|| found.assume_init()).map(|stat| (stat.st_dev, stat.st_ino))
    };
    // SAFETY: the caller's own argument.
    let done = status(unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0) });
    if done == 0
        && let Some(file) = file
    {
        shadows.remove(&file);
    }
    done
}

/// The file behind a descriptor of the caller's.
struct Descriptor(c_int);

impl Disk for Descriptor {
    /// `errno` says what.
    type Error = ();

    fn write(&mut self, mut offset: usize, mut bytes: &[u8]) -> Result<(), ()> {
        while !bytes.is_empty() {
            // SAFETY: the slice is valid for its length.
            let done = unsafe { libc::syscall(libc::SYS_pwrite64, self.0, bytes.as_ptr(), bytes.len(), offset) };
            let done = usize::try_from(done).map_err(drop)?;
            bytes = bytes.get(done..).unwrap_or_default();
            offset += done;
        }
        Ok(())
    }

    fn set_length(&mut self, length: usize) -> Result<(), ()> {
        // SAFETY: takes no pointer.
        if unsafe { libc::syscall(libc::SYS_ftruncate, self.0, length) } == 0 { Ok(()) } else { Err(()) }
    }
}

fn shadows() -> MutexGuard<'static, BTreeMap<File, Shadow>> {
    static SHADOWS: Mutex<BTreeMap<File, Shadow>> = Mutex::new(BTreeMap::new());
    SHADOWS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file's shadow, made now if it is a file that gets one.
fn shadow(shadows: &mut BTreeMap<File, Shadow>, fd: c_int, file: File) -> Option<&mut Shadow> {
    match shadows.entry(file) {
        Entry::Occupied(there) => Some(there.into_mut()),
        Entry::Vacant(place) => is_kept_back(fd).then(|| place.insert(Shadow::new(content(fd)))),
    }
}

fn file_of(fd: c_int) -> Option<File> {
    let mut found = std::mem::MaybeUninit::<Stat>::uninit();
    // SAFETY: the structure is our own, and read only where the kernel has filled it in.
    let found = unsafe { (libc::syscall(libc::SYS_fstat, fd, found.as_mut_ptr()) == 0).then(|| found.assume_init())? };
    (found.st_mode & libc::S_IFMT == libc::S_IFREG).then_some((found.st_dev, found.st_ino))
}

fn is_kept_back(fd: c_int) -> bool {
    static DIRECTORY: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| std::env::var_os("MAYFLY_POWERCUT_DIR").map(OsStringExt::into_vec));
    let Some(directory) = directory else { return false };
    let mut path = [0_u8; 4096];
    let link = format!("/proc/self/fd/{fd}\0");
    let Ok(link) = CStr::from_bytes_with_nul(link.as_bytes()) else { return false };
    // SAFETY: the kernel writes at most as many bytes as the array has.
    let length =
        unsafe { libc::syscall(libc::SYS_readlinkat, libc::AT_FDCWD, link.as_ptr(), path.as_mut_ptr(), path.len()) };
    let path = usize::try_from(length).ok().and_then(|length| path.get(..length)).unwrap_or_default();
    let ends = [&b".db"[..], b"-wal", b"-journal"];
    path.strip_prefix(directory.as_slice()).is_some_and(|rest| rest.starts_with(b"/"))
        && ends.iter().any(|end| path.ends_with(end))
}

fn content(fd: c_int) -> Vec<u8> {
    let mut content = Vec::new();
    let mut part = vec![0_u8; 1 << 16];
    loop {
        // SAFETY: the kernel writes at most as many bytes as the buffer has.
        let read = unsafe { libc::syscall(libc::SYS_pread64, fd, part.as_mut_ptr(), part.len(), content.len()) };
        match usize::try_from(read) {
            Ok(1..) => content.extend(part.iter().take(usize::try_from(read).unwrap_or_default())),
            _ => return content,
        }
    }
}

/// The status of a call that fills in `to`, whose length becomes that of the file's shadow.
///
/// # Safety
/// Where `done` is 0, `to` points to a structure that is filled in and may be written.
unsafe fn lengthened(done: i64, to: *mut Stat) -> c_int {
    if done == 0 {
        // SAFETY: see above.
        let found = unsafe { &mut *to };
        if let Some(shadow) = shadows().get(&(found.st_dev, found.st_ino)) {
            found.st_size = off_t::try_from(shadow.length()).unwrap_or(off_t::MAX);
        }
    }
    status(done)
}

/// What the C library gives for what the kernel gave; `errno` is set already.
fn status(done: i64) -> c_int {
    if done == 0 { 0 } else { -1 }
}

/// A number of bytes; what is none, the kernel's -1, stays -1.
fn size(done: impl TryInto<ssize_t>) -> ssize_t {
    done.try_into().unwrap_or(-1)
}
