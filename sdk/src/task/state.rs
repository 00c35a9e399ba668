use std::fmt;
use std::str::FromStr;

/// How a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskState {
    /// Its tokens are good.
    Open,
    /// Its tokens are refused until it is resumed.
    Suspended,
    /// Done, as whoever began it said.
    Completed,
    /// Given up, as whoever began it said.
    Failed,
    /// Its deadline has passed.
    Expired,
    /// The instance that it belonged to has ended.
    Abandoned,
    /// An administrator ended it.
    Revoked,
}

impl TaskState {
    /// Every state.
    pub const ALL: [Self; 7] =
        [Self::Open, Self::Suspended, Self::Completed, Self::Failed, Self::Expired, Self::Abandoned, Self::Revoked];

    /// The word for it, on the wire, in the store and for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Suspended => "suspended",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Abandoned => "abandoned",
            Self::Revoked => "revoked",
        }
    }

    /// Whether it never changes again.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Open | Self::Suspended)
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TaskState {
    type Err = UnknownTaskState;

    fn from_str(text: &str) -> Result<Self, UnknownTaskState> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(UnknownTaskState)
    }
}

/// A text is no state of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task is open, suspended, completed, failed, expired, abandoned or revoked")]
pub struct UnknownTaskState;
