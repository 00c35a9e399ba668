//! The name of one running process, or of one cgroup, on one node.

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::reason::{Reason, Refusal};

/// The 128-bit id that a node agent gives to one instance of a workload. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct InstanceId([u8; 16]);

impl InstanceId {
    /// A new random id.
    ///
    /// # Errors
    /// [`Reason::RandomnessUnavailable`] if the kernel gives no random bytes.
    pub fn generate() -> Result<Self, Refusal> {
        let mut bytes = [0; 16];
        match SystemRandom::new().fill(&mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(ring::error::Unspecified) => Err(Refusal::no_randomness()),
        }
    }

    /// The id with these bytes.
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

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text or bytes are not an instance id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an instance id is 32 lower-case hexadecimal digits")]
pub struct InstanceIdError;

impl From<InstanceIdError> for Refusal {
    fn from(error: InstanceIdError) -> Self {
        Refusal::new(Reason::InvalidArgument, error.to_string())
    }
}

impl FromStr for InstanceId {
    type Err = InstanceIdError;

    fn from_str(text: &str) -> Result<Self, InstanceIdError> {
        crate::serial::parse_hex_16(text).map(Self).ok_or(InstanceIdError)
    }
}

impl TryFrom<&[u8]> for InstanceId {
    type Error = InstanceIdError;

    fn try_from(bytes: &[u8]) -> Result<Self, InstanceIdError> {
        bytes.try_into().ok().map(Self).ok_or(InstanceIdError)
    }
}

impl TryFrom<String> for InstanceId {
    type Error = InstanceIdError;

    fn try_from(text: String) -> Result<Self, InstanceIdError> {
        text.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_read_back_and_two_ids_differ() {
        let (a, b) = (InstanceId::generate().unwrap(), InstanceId::generate().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.to_string().parse(), Ok(a));
        assert_eq!(InstanceId::try_from(&a.as_bytes()[..]), Ok(a));
        assert_eq!(InstanceId::try_from(&a.as_bytes()[1..]), Err(InstanceIdError));
        assert_eq!("AB".repeat(16).parse::<InstanceId>(), Err(InstanceIdError));
    }
}
