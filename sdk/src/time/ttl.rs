use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::reason::{Reason, Refusal};

/// A lifetime in whole seconds.
///
/// Read as seconds (`300`) or in units from days to seconds (`15m`, `1h30m`); never zero when read. `Display` writes
/// units, serde writes the number of seconds and reads either form.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ttl(u32);

const UNITS: [(char, u32); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

impl Ttl {
    /// Nothing left. Not a lifetime that anybody can ask for.
    pub const ZERO: Self = Self(0);

    /// This many seconds.
    #[must_use]
    pub const fn from_s(seconds: u32) -> Self {
        Self(seconds)
    }

    /// Its seconds.
    #[must_use]
    pub const fn as_s(self) -> u32 {
        self.0
    }

    /// The same as a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// A text or number is not a lifetime. The caller's to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TtlError {
    /// Neither a number nor numbers with the units d, h, m, s in that order.
    #[error("a lifetime is written as seconds (300) or with units (90s, 15m, 1h30m, 7d)")]
    Malformed,
    /// Zero.
    #[error("a lifetime of zero is not possible")]
    Zero,
    /// More than 4294967295 seconds.
    #[error("the lifetime is too long")]
    TooLong,
}

impl From<TtlError> for Refusal {
    fn from(error: TtlError) -> Self {
        Refusal::new(Reason::InvalidTtl, error.to_string())
    }
}

impl FromStr for Ttl {
    type Err = TtlError;

    fn from_str(text: &str) -> Result<Self, TtlError> {
        let seconds = if text.bytes().all(|byte| byte.is_ascii_digit()) { number(text)? } else { in_units(text)? };
        if seconds == 0 { Err(TtlError::Zero) } else { Ok(Self(seconds)) }
    }
}

fn in_units(mut text: &str) -> Result<u32, TtlError> {
    let mut units = UNITS.iter();
    let mut sum = 0_u32;
    while !text.is_empty() {
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(TtlError::Malformed)?;
        let (count, rest) = text.split_at(digits);
        let mut letters = rest.chars();
        let letter = letters.next();
        let (_, unit) = units.find(|(name, _)| Some(*name) == letter).ok_or(TtlError::Malformed)?;
        let part = number(count)?.checked_mul(*unit).ok_or(TtlError::TooLong)?;
        sum = sum.checked_add(part).ok_or(TtlError::TooLong)?;
        text = letters.as_str();
    }
    Ok(sum)
}

/// `digits` holds ASCII digits only.
fn number(digits: &str) -> Result<u32, TtlError> {
    if digits.is_empty() {
        return Err(TtlError::Malformed);
    }
    digits.parse().ok().ok_or(TtlError::TooLong)
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut left = self.0;
        for (letter, unit) in UNITS {
            if left / unit > 0 {
                write!(f, "{}{letter}", left / unit)?;
                left %= unit;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Ttl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl serde::de::Visitor<'_> for Either {
            type Value = Ttl;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a lifetime: seconds (300) or with units (90s, 15m, 1h30m, 7d)")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Ttl, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Ttl, E> {
                match u32::try_from(seconds) {
                    Ok(0) => Err(E::custom(TtlError::Zero)),
                    Ok(seconds) => Ok(Ttl(seconds)),
                    Err(_) => Err(E::custom(TtlError::TooLong)),
                }
            }
            fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Ttl, E> {
                match u64::try_from(seconds) {
                    Ok(seconds) => self.visit_u64(seconds),
                    Err(_) => Err(E::custom(TtlError::Malformed)),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seconds_and_units_are_read() {
        for (text, seconds) in
            [("300", 300), ("15m", 900), ("90s", 90), ("1h", 3600), ("1h30m", 5400), ("7d", 604_800), ("1d1s", 86_401)]
        {
            assert_eq!(text.parse(), Ok(Ttl::from_s(seconds)), "{text}");
        }
    }

    #[test]
    fn nothing_left_is_written_as_such() {
        assert_eq!(Ttl::ZERO.to_string(), "0s");
    }

    #[test]
    fn other_texts_are_refused() {
        use TtlError::{Malformed, TooLong, Zero};
        for (text, error) in [
            ("", Malformed),
            ("0", Zero),
            ("0m", Zero),
            ("m", Malformed),
            ("15x", Malformed),
            ("1m1h", Malformed),
            ("1m1m", Malformed),
            ("-1", Malformed),
            ("1.5h", Malformed),
            (" 1m", Malformed),
            ("1h30", Malformed),
            ("4294967296", TooLong),
            ("100000d", TooLong),
            ("71582788m99s", TooLong),
        ] {
            assert_eq!(text.parse::<Ttl>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn serde_reads_both_forms_and_writes_seconds() {
        assert_eq!(serde_json::from_str::<Ttl>("\"15m\"").unwrap(), Ttl::from_s(900));
        assert_eq!(serde_json::from_str::<Ttl>("900").unwrap(), Ttl::from_s(900));
        assert_eq!(serde_json::to_string(&Ttl::from_s(900)).unwrap(), "900");
        for bad in ["0", "-1", "1.5", "\"x\"", "null", "4294967296"] {
            assert!(serde_json::from_str::<Ttl>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_lifetime_is_read_back_from_its_text(seconds in 1_u32..) {
            let ttl = Ttl::from_s(seconds);
            prop_assert_eq!(ttl.to_string().parse(), Ok(ttl));
            prop_assert_eq!(seconds.to_string().parse(), Ok(ttl));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9dhms. -]{0,12}|\\PC*") {
            if let Ok(ttl) = text.parse::<Ttl>() {
                prop_assert!(!ttl.is_zero());
            }
        }
    }
}
