use std::fmt;
use std::str::FromStr;

use mayfly_sdk::{Reason, Refusal};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

/// The issuer's own name for an entry, never used twice: 48 bits of Unix milliseconds, 24 bits of the position in the
/// file that made it, 56 random bits. So uids sort by age, and entries of one file in the order of the file. Written as
/// 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Uid([u8; 16]);

impl Uid {
    /// A new uid for the entry at `position` of what was applied at `now_ms` (Unix milliseconds).
    ///
    /// # Errors
    /// The kernel gave no random bytes.
    pub fn generate(now_ms: i64, position: usize) -> Result<Self, Refusal> {
        let mut random = [0; 7];
        SystemRandom::new().fill(&mut random).map_err(|ring::error::Unspecified| Refusal::no_randomness())?;
        Ok(Self::from_parts(now_ms, position, random))
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

    fn from_parts(now_ms: i64, position: usize, random: [u8; 7]) -> Self {
        let ms = u128::from(now_ms.max(0).unsigned_abs() & ((1 << 48) - 1));
        let position = u128::try_from(position).unwrap_or(u128::MAX).min((1 << 24) - 1);
        let random = random.iter().fold(0_u128, |sum, byte| (sum << 8) | u128::from(*byte));
        Self(((ms << 80) | (position << 56) | random).to_be_bytes())
    }

    /// Age in 56 bits, older first: 42 bits of milliseconds since 2025, then the position up to 2^14.
    pub(super) fn age_order(self) -> u64 {
        const YEAR_2025_MS: u64 = 1_735_689_600_000;
        let bits = u128::from_be_bytes(self.0);
        let ms = u64::try_from(bits >> 80).unwrap_or(u64::MAX).saturating_sub(YEAR_2025_MS).min((1 << 42) - 1);
        let position = u64::try_from((bits >> 56) & ((1 << 24) - 1)).unwrap_or(u64::MAX).min((1 << 14) - 1);
        (ms << 14) | position
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
    fn uids_sort_by_age_and_then_by_position() {
        let at = 1_760_000_000_000;
        let first = Uid::from_parts(at, 0, [0xff; 7]);
        let second = Uid::from_parts(at, 1, [0; 7]);
        let later = Uid::from_parts(at + 1, 0, [0; 7]);
        assert!(first < second && second < later);
        assert!(first.age_order() < second.age_order() && second.age_order() < later.age_order());
        assert!(later.age_order() < 1 << 56);
        assert_eq!(Uid::from_parts(at, usize::MAX, [0; 7]).age_order() & ((1 << 14) - 1), (1 << 14) - 1);
    }

    #[test]
    fn a_uid_is_read_back_from_its_text() {
        let uid = Uid::generate(1_760_000_000_000, 7).unwrap();
        assert_eq!(uid.to_string().parse(), Ok(uid));
        assert_eq!(uid.to_string().len(), 32);
        for bad in ["", "xyz", "00", "0123456789abcdef0123456789abcdeg"] {
            assert!(bad.parse::<Uid>().is_err(), "{bad}");
        }
    }
}
