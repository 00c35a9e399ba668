//! Which boot of the machine this is.

use std::fmt;
use std::io;

/// The kernel's random id of the running boot (`/proc/sys/kernel/random/boot_id`). Pids and start times mean something only together with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BootId([u8; 16]);

impl BootId {
    /// That of the running kernel.
    ///
    /// # Errors
    /// When the file cannot be read, which means that `/proc` is not mounted.
    pub fn current() -> io::Result<Self> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let mut bytes = [0; 16];
        match hex::decode_to_slice(text.trim_end().replace('-', ""), &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    /// The id with these bytes, as they were stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes, for storing.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
