//! Bytes that stay out of swap and core files and are wiped when dropped.
//!
//! Many keys share a page: the limit of locked memory (`RLIMIT_MEMLOCK`, often 8 MiB, in places 64 KiB) counts pages. Where it is too small, keys are kept
//! in pages that are not locked, and the log says so once.
#![expect(unsafe_code, reason = "pages can be mapped and locked by no safe call")]

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Once;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use parking_lot::Mutex;
use zeroize::Zeroize;

/// Sizes of slots, in bytes. A P-256 key in PKCS#8 has 138 bytes, one of RSA 4096 about 2,400.
const SIZES: [usize; 4] = [64, 256, 1024, 4096];
/// Bytes mapped at a time for slots of one size.
const BLOCK: usize = 16 * 1024;

/// Free slots, by size. Blocks are kept for the life of the process.
static FREE: Mutex<[Vec<Slot>; SIZES.len()]> = Mutex::new([const { Vec::new() }; SIZES.len()]);

/// The start of a slot that nobody uses.
struct Slot(NonNull<u8>);

// SAFETY: a slot is memory that nobody refers to; it may be handed to any thread.
unsafe impl Send for Slot {}

/// Bytes of fixed length in locked memory, for keys. Wiped when dropped; `Debug` shows the length only.
pub struct LockedBytes {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory belongs to this value alone, like that of a Box<[u8]>.
unsafe impl Send for LockedBytes {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for LockedBytes {}

impl LockedBytes {
    /// `length` zero bytes.
    ///
    /// # Errors
    /// The kernel's, when there is no memory.
    pub fn zeroed(length: usize) -> io::Result<Self> {
        let start = match class(length) {
            Some(class) => take(class)?,
            None => map(length)?,
        };
        Ok(Self { start, length })
    }

    /// A copy. Wiping the original is the caller's.
    ///
    /// # Errors
    /// As [`zeroed`](Self::zeroed).
    pub fn copy_of(bytes: &[u8]) -> io::Result<Self> {
        let mut copy = Self::zeroed(bytes.len())?;
        copy.copy_from_slice(bytes);
        Ok(copy)
    }
}

impl Deref for LockedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` is the beginning of at least `length` mapped and initialised bytes that this value owns.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for LockedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`; the exclusive reference makes this the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for LockedBytes {
    fn drop(&mut self) {
        self.zeroize();
        if let Some(free) =
            class(self.length).and_then(|class| FREE.lock().get_mut(class).map(|free| free.push(Slot(self.start))))
        {
            return free;
        }
        // SAFETY: a mapping of its own, made for this value with this length, to which nothing refers any more.
        if let Err(error) = unsafe { munmap(self.start.cast(), self.length) } {
            tracing::debug!(%error, "pages were not given back");
        }
    }
}

impl fmt::Debug for LockedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockedBytes({} bytes)", self.length)
    }
}

/// The smallest size of slot that holds `length` bytes; `None` if they need a mapping of their own.
fn class(length: usize) -> Option<usize> {
    SIZES.iter().position(|size| length <= *size)
}

/// A slot of this class, zeroed.
fn take(class: usize) -> io::Result<NonNull<u8>> {
    let mut free = FREE.lock();
    let (Some(free), Some(size)) = (free.get_mut(class), SIZES.get(class)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    if let Some(Slot(start)) = free.pop() {
        return Ok(start);
    }
    let block = map(BLOCK)?;
    for offset in (*size..BLOCK).step_by(*size) {
        // SAFETY: every offset is a multiple of the size below BLOCK, the length of the mapping, which all sizes divide.
        free.push(Slot(unsafe { block.add(offset) }));
    }
    Ok(block)
}

/// Zeroed pages: locked if possible, left out of core files, and empty in a forked child.
fn map(length: usize) -> io::Result<NonNull<u8>> {
    static WARN: Once = Once::new();
    let length = NonZeroUsize::new(length).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no other memory.
    let pages =
        unsafe { mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE) }?;
    for advice in [MmapAdvise::MADV_DONTDUMP, MmapAdvise::MADV_WIPEONFORK] {
        // SAFETY: the mapping was made above, and this advice keeps its content in this process.
        if let Err(error) = unsafe { madvise(pages, length.get(), advice) } {
            tracing::debug!(%error, "advice about key pages was not taken");
        }
    }
    // SAFETY: locks the mapping made above.
    if let Err(error) = unsafe { mlock(pages, length.get()) } {
        WARN.call_once(|| {
            tracing::warn!(%error, "keys may be swapped out: raise the limit of locked memory (systemd: LimitMEMLOCK=64M)");
        });
    }
    Ok(pages.cast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_kept_and_wiped_when_dropped() {
        let start = {
            let bytes = LockedBytes::copy_of(&[7; 1000]).unwrap();
            assert_eq!(&bytes[..], &[7; 1000]);
            assert!(!format!("{bytes:?}").contains('7'));
            bytes.start
        };
        // Other tests may take the slot first; then there is nothing to see.
        let again = LockedBytes::zeroed(1000).unwrap();
        if again.start == start {
            assert_eq!(&again[..], &[0; 1000]);
        }
    }

    #[test]
    fn slots_do_not_overlap() {
        let mut all: Vec<LockedBytes> = (0..600_u16)
            .map(|n| LockedBytes::copy_of(&n.to_be_bytes().repeat(1 + usize::from(n % 130))).unwrap())
            .collect();
        all.retain(|bytes| bytes.len() % 4 != 0);
        all.extend(
            (600..900_u16).map(|n| LockedBytes::copy_of(&n.to_be_bytes().repeat(1 + usize::from(n % 130))).unwrap()),
        );
        for bytes in &all {
            let n = u16::from_be_bytes([bytes[0], bytes[1]]);
            assert_eq!(&bytes[..], n.to_be_bytes().repeat(1 + usize::from(n % 130)));
        }
    }

    #[test]
    fn long_and_empty_values_work() {
        assert_eq!(LockedBytes::copy_of(&[1; 10_000]).unwrap().len(), 10_000);
        assert!(LockedBytes::zeroed(0).unwrap().is_empty());
    }

    #[test]
    fn the_pages_are_locked_and_left_out_of_core_files() {
        let bytes = LockedBytes::copy_of(&[3; 32]).unwrap();
        let address = bytes.start.as_ptr() as usize;
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in maps.lines() {
            let range = line.split_ascii_whitespace().next().and_then(|word| word.split_once('-'));
            if let Some((from, to)) = range.and_then(|(from, to)| {
                Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?))
            }) {
                inside = (from..to).contains(&address);
            }
            if let (true, Some(flags)) = (inside, line.strip_prefix("VmFlags:")) {
                let flags: Vec<_> = flags.split_ascii_whitespace().collect();
                assert!(flags.contains(&"dd") && flags.contains(&"wf"), "{flags:?}");
                assert!(flags.contains(&"lo"), "{flags:?}");
                return;
            }
        }
        panic!("the mapping was not found");
    }
}
