use std::fmt;
use std::str::FromStr;

use mayfly_sdk::{Reason, Refusal};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

/// The issuer's own name for an entry, never used twice: 48 bits of Unix milliseconds, so that new ones lie side by side in
/// the store, and 80 random bits. Written as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Uid([u8; 16]);

impl Uid {
    /// A new uid. `now_ms` is in Unix milliseconds.
    ///
    /// # Errors
    /// The kernel gave no random bytes.
    pub fn generate(now_ms: i64) -> Result<Self, Refusal> {
        let mut bytes = [0; 16];
        SystemRandom::new().fill(&mut bytes).map_err(|ring::error::Unspecified| Refusal::no_randomness())?;
        for (place, byte) in bytes.iter_mut().zip(now_ms.to_be_bytes().into_iter().skip(2)) {
            *place = byte;
        }
        Ok(Self(bytes))
    }

    /// The uid with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uid {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let mut bytes = [0; 16];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(_) => Err(Refusal::new(Reason::InvalidArgument, "an entry's uid is written as 32 hex digits")),
        }
    }
}

impl TryFrom<String> for Uid {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        text.parse()
    }
}

impl From<Uid> for String {
    fn from(uid: Uid) -> String {
        uid.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_of_one_moment_differ_and_later_ones_sort_after() {
        let (a, b) = (Uid::generate(1_760_000_000_000).unwrap(), Uid::generate(1_760_000_000_000).unwrap());
        let later = Uid::generate(1_760_000_000_001).unwrap();
        assert_ne!(a, b);
        assert!(a < later && b < later);
    }

    #[test]
    fn a_uid_is_read_back_from_its_text() {
        let uid = Uid::generate(1_760_000_000_000).unwrap();
        assert_eq!(uid.to_string().parse(), Ok(uid));
        assert_eq!(uid.to_string().len(), 32);
        for bad in ["", "xyz", "00", "0123456789abcdef0123456789abcdeg"] {
            assert!(bad.parse::<Uid>().is_err(), "{bad}");
        }
    }
}
