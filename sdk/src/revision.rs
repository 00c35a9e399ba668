//! The position in an issuer's history of changes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::reason::{Reason, Refusal};

/// A position in the history of entries, bundles, slots, bans and policies. Written `epoch.n`.
///
/// Within an epoch `n` has no gaps in commit order; a new epoch begins when a store was restored or failed over with
/// loss. The order is by epoch first, so that nobody accepts an older `(epoch, n)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Revision {
    /// The life of the store, counted from 1; 0 is before any store.
    pub epoch: u64,
    /// The number of changes in this epoch.
    pub n: u64,
}

impl Revision {
    /// Before everything: what somebody holds who holds nothing.
    pub const NONE: Self = Self { epoch: 0, n: 0 };

    /// The revision after this one in the same epoch. Saturates at the end of 64 bits.
    #[must_use]
    pub fn next(self) -> Self {
        Self { epoch: self.epoch, n: self.n.saturating_add(1) }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.n)
    }
}

/// The text is not `epoch.n` with two decimal numbers of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a revision is written epoch.n, two decimal numbers")]
pub struct RevisionError;

impl From<RevisionError> for Refusal {
    fn from(error: RevisionError) -> Self {
        Refusal::new(Reason::InvalidArgument, error.to_string())
    }
}

impl FromStr for Revision {
    type Err = RevisionError;

    fn from_str(text: &str) -> Result<Self, RevisionError> {
        let (epoch, n) = text.split_once('.').ok_or(RevisionError)?;
        Ok(Self { epoch: decimal(epoch)?, n: decimal(n)? })
    }
}

/// A decimal number as `Display` writes it: no sign and no leading zero, so that one revision has one text.
fn decimal(text: &str) -> Result<u64, RevisionError> {
    let value: u64 = text.parse().ok().ok_or(RevisionError)?;
    if value.to_string() == text { Ok(value) } else { Err(RevisionError) }
}

impl TryFrom<String> for Revision {
    type Error = RevisionError;

    fn try_from(text: String) -> Result<Self, RevisionError> {
        text.parse()
    }
}

impl From<Revision> for String {
    fn from(revision: Revision) -> String {
        revision.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_epoch_is_later_than_any_change_of_the_old_one() {
        assert!(Revision { epoch: 2, n: 0 } > Revision { epoch: 1, n: u64::MAX });
        assert!(Revision { epoch: 1, n: 2 } > Revision { epoch: 1, n: 1 });
        assert!(Revision::NONE < Revision { epoch: 1, n: 0 });
    }

    #[test]
    fn the_text_is_read_back_and_has_one_form() {
        let revision = Revision { epoch: 3, n: u64::MAX };
        assert_eq!(revision.to_string().parse(), Ok(revision));
        for bad in ["", "1", "1.", ".1", "1.2.3", "+1.2", "01.2", "1.-2", " 1.2", "1.18446744073709551616"] {
            assert_eq!(bad.parse::<Revision>(), Err(RevisionError), "{bad}");
        }
    }
}
