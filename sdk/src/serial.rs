//! The number of one issue.

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::reason::{Reason, Refusal};

/// The number of one issue: the X.509 serial number, the `jti` and the ledger's event id are this same value.
///
/// 48 bits of Unix milliseconds, then 80 random bits: ordered by time, so that the prefix finds the ledger batch, and
/// unguessable (CA/Browser Forum 7.1 asks for 64 bits). The top bit is clear, so that it is a positive DER INTEGER of
/// sixteen bytes (RFC 5280 4.1.2.2). Written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Serial([u8; 16]);

const TIME_BYTES: usize = 6;
/// The last millisecond with a clear top bit; far beyond any date that X.509 can write.
const MAX_TIME_MS: u64 = (1 << 47) - 1;

impl Serial {
    /// A new serial for an issue at `now_ms` (Unix milliseconds; a time before 1970 counts as 1970).
    ///
    /// # Errors
    /// [`Reason::RandomnessUnavailable`] if the kernel gives no random bytes.
    pub fn generate(now_ms: i64) -> Result<Self, Refusal> {
        let mut bytes = Self::at(now_ms, 0).0;
        let random = bytes.get_mut(TIME_BYTES..).unwrap_or_default();
        match SystemRandom::new().fill(random) {
            Ok(()) => Ok(Self(bytes)),
            Err(ring::error::Unspecified) => Err(Refusal::no_randomness()),
        }
    }

    /// The least serial that an issue in this millisecond can have.
    #[must_use]
    pub fn first_at(ms: i64) -> Self {
        Self::at(ms, 0)
    }

    /// The greatest serial that an issue in this millisecond can have.
    #[must_use]
    pub fn last_at(ms: i64) -> Self {
        Self::at(ms, 0xff)
    }

    /// When it was issued, in Unix milliseconds.
    #[must_use]
    pub fn time_ms(&self) -> i64 {
        self.0.iter().take(TIME_BYTES).fold(0, |ms, byte| ms << 8 | i64::from(*byte))
    }

    /// Its bytes, big-endian, as X.509 has them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    fn at(ms: i64, fill: u8) -> Self {
        let ms = u64::try_from(ms).unwrap_or(0).min(MAX_TIME_MS);
        let mut bytes = [fill; 16];
        for (to, from) in bytes.iter_mut().zip(ms.to_be_bytes().into_iter().skip(2)).take(TIME_BYTES) {
            *to = from;
        }
        Self(bytes)
    }
}

/// Sixteen bytes from 32 lower-case hexadecimal digits.
pub(crate) fn parse_hex_16(text: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    (!text.bytes().any(|byte| byte.is_ascii_uppercase())).then_some(bytes)
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text or bytes are not a serial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a serial is 32 lower-case hexadecimal digits, the first of them below 8")]
pub struct SerialError;

impl From<SerialError> for Refusal {
    fn from(error: SerialError) -> Self {
        Refusal::new(Reason::InvalidArgument, error.to_string())
    }
}

impl TryFrom<[u8; 16]> for Serial {
    type Error = SerialError;

    fn try_from(bytes: [u8; 16]) -> Result<Self, SerialError> {
        if bytes.first().is_some_and(|byte| *byte < 0x80) { Ok(Self(bytes)) } else { Err(SerialError) }
    }
}

impl TryFrom<&[u8]> for Serial {
    type Error = SerialError;

    fn try_from(bytes: &[u8]) -> Result<Self, SerialError> {
        <[u8; 16]>::try_from(bytes).ok().ok_or(SerialError)?.try_into()
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    fn from_str(text: &str) -> Result<Self, SerialError> {
        parse_hex_16(text).ok_or(SerialError)?.try_into()
    }
}

impl TryFrom<String> for Serial {
    type Error = SerialError;

    fn try_from(text: String) -> Result<Self, SerialError> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> String {
        serial.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_carries_its_time_and_lies_between_the_bounds_of_its_millisecond() {
        for ms in [0, 1, 1_760_000_000_123, (1 << 47) - 1] {
            let serial = Serial::generate(ms).unwrap();
            assert_eq!(serial.time_ms(), ms);
            assert!(Serial::first_at(ms) <= serial && serial <= Serial::last_at(ms));
            assert!(serial.as_bytes()[0] < 0x80);
            assert_eq!(serial.to_string().parse(), Ok(serial));
        }
        assert!(Serial::last_at(5) < Serial::first_at(6));
        assert_eq!(Serial::first_at(-5).time_ms(), 0);
        assert_eq!(Serial::last_at(i64::MAX).time_ms(), (1 << 47) - 1);
    }

    #[test]
    fn two_serials_of_one_millisecond_differ() {
        let all: std::collections::HashSet<_> = (0..1000).map(|_| Serial::generate(7).unwrap()).collect();
        assert_eq!(all.len(), 1000);
    }

    #[test]
    fn a_set_top_bit_and_other_texts_are_refused() {
        assert!(Serial::try_from([0x7f; 16]).is_ok());
        assert_eq!(Serial::try_from([0x80; 16]), Err(SerialError));
        assert_eq!(Serial::try_from(&[1_u8; 15][..]), Err(SerialError));
        assert_eq!("0".repeat(31).parse::<Serial>(), Err(SerialError));
        assert_eq!("0A".repeat(16).parse::<Serial>(), Err(SerialError));
    }
}
