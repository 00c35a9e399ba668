use std::fmt;
use std::str::FromStr;

use crate::id::SpiffeId;

const USER: &str = "user:";
const MAX_PROVIDER: usize = 64;
const MAX_SUBJECT: usize = 255;

/// On whose behalf a task runs. A user is never read as a workload, whatever the user's provider calls it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// An agent that acts for itself.
    Workload(SpiffeId),
    /// A user of a configured identity provider: `user:PROVIDER:SUBJECT`, the subject percent-encoded.
    User(User),
}

/// A user, as a configured identity provider names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct User {
    provider: String,
    subject: String,
}

/// A text is no subject of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a subject is the SPIFFE ID of a workload, or user:PROVIDER:SUBJECT with the subject percent-encoded")]
pub struct SubjectError;

impl Subject {
    /// The workload, where it is one.
    #[must_use]
    pub fn workload(&self) -> Option<&SpiffeId> {
        match self {
            Self::Workload(id) => Some(id),
            Self::User(_) => None,
        }
    }
}

impl User {
    /// A user by the name that the operator gave its provider (1 to 64 of `a-z 0-9 -`) and the provider's `sub` (1 to 255
    /// bytes).
    ///
    /// # Errors
    /// [`SubjectError`].
    pub fn new(provider: &str, subject: &str) -> Result<Self, SubjectError> {
        let named = (1..=MAX_PROVIDER).contains(&provider.len())
            && provider.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !named || !(1..=MAX_SUBJECT).contains(&subject.len()) {
            return Err(SubjectError);
        }
        Ok(Self { provider: provider.to_owned(), subject: subject.to_owned() })
    }

    /// The name of the provider.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// What the provider calls the user.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(id) => id.fmt(f),
            Self::User(User { provider, subject }) => {
                write!(f, "{USER}{provider}:")?;
                for byte in subject.bytes() {
                    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                        write!(f, "{}", char::from(byte))?;
                    } else {
                        write!(f, "%{byte:02X}")?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let Some(user) = text.strip_prefix(USER) else {
            let id: SpiffeId = text.parse().ok().ok_or(SubjectError)?;
            return if id.is_root() { Err(SubjectError) } else { Ok(Self::Workload(id)) };
        };
        let (provider, encoded) = user.split_once(':').ok_or(SubjectError)?;
        let mut bytes = Vec::with_capacity(encoded.len());
        let mut rest = encoded.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            rest = match (first, after) {
                (b'%', [high, low, after @ ..]) => {
                    let mut byte = [0];
                    hex::decode_to_slice([*high, *low], &mut byte).ok().ok_or(SubjectError)?;
                    bytes.extend(byte);
                    after
                }
                (b'%', _) => return Err(SubjectError),
                _ => {
                    bytes.push(*first);
                    after
                }
            };
        }
        let subject = Self::User(User::new(provider, &String::from_utf8(bytes).ok().ok_or(SubjectError)?)?);
        // One spelling: two texts are two users.
        if subject.to_string() == text { Ok(subject) } else { Err(SubjectError) }
    }
}
