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

/// A key that workloads are sent: its bytes are shared, and not shown.
pub(super) struct SecretBytes(Bytes);

impl std::ops::Deref for SecretBytes {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.0
    }
}

impl std::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretBytes")
    }
}

/// A copy of a key in a locked page that is wiped when the last user is gone. Wiping the original is the caller's.
///
/// # Errors
/// [`Reason::KeyFailed`]: no memory.
pub(super) fn locked(key: &[u8]) -> Result<SecretBytes, Refusal> {
    let copy = LockedBytes::copy_of(key);
    let copy = copy.map_err(|error| Refusal::new(Reason::KeyFailed, format!("no memory for a key: {error}")))?;
    Ok(SecretBytes(Bytes::from_owner(Owner(copy))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_shown() {
        let key = locked(b"s3cret").unwrap();
        assert_eq!(&key[..], b"s3cret");
        assert_eq!(format!("{key:?}"), "SecretBytes");
    }
}
