use bytes::Bytes;
use mayfly_sdk::{Reason, Refusal};

use crate::hardening::LockedBytes;

/// What [`Bytes`] keeps alive: it shows the key, and wipes it at the end.
struct Owner(LockedBytes);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A copy of a key in a locked page that is wiped when the last user is gone. Wiping the original is the caller's.
///
/// # Errors
/// [`Reason::KeyFailed`]: no memory.
pub(super) fn locked(key: &[u8]) -> Result<Bytes, Refusal> {
    let copy = LockedBytes::copy_of(key);
    let copy = copy.map_err(|error| Refusal::new(Reason::KeyFailed, format!("no memory for a key: {error}")))?;
    Ok(Bytes::from_owner(Owner(copy)))
}
