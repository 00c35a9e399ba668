//! Facts about nodes and workloads, and the conditions that entries set on them.

mod index;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use index::SelectorIndex;

use crate::reason::{Reason, Refusal};

/// The longest selector, in bytes: a path of 4096 bytes and its type and key.
pub const MAX_SELECTOR_BYTES: usize = 4352;
const MAX_NAME_BYTES: usize = 64;

/// One fact, or one condition, `type:key:value`, for example `unix:uid:1000` or `unix:path:/usr/bin/curl`.
///
/// Type and key are `[a-z0-9_-]+` of at most 64 bytes, so that `{type.key}` names the fact in a template; the value is
/// any text without control characters, and may hold colons. Comparison is of bytes. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Selector {
    text: Arc<str>,
    kind_end: u8,
    key_end: u8,
}

/// A text is not a selector. The caller's to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectorError {
    /// Fewer than two colons.
    #[error("a selector is written type:key:value")]
    MissingPart,
    /// The type or the key is empty, long, or holds another character.
    #[error("the type and the key of a selector hold 1 to 64 of the characters a-z 0-9 _ -")]
    BadName,
    /// The value is empty.
    #[error("the value of a selector is empty")]
    EmptyValue,
    /// The value holds a control character.
    #[error("the value of a selector holds a control character")]
    ControlCharacter,
    /// Longer than [`MAX_SELECTOR_BYTES`].
    #[error("a selector has at most 4352 bytes")]
    TooLong,
}

impl From<SelectorError> for Refusal {
    fn from(error: SelectorError) -> Self {
        Refusal::new(Reason::InvalidSelector, error.to_string())
    }
}

impl Selector {
    /// The selector `kind:key:value`.
    ///
    /// # Errors
    /// A [`SelectorError`] about the part at fault.
    pub fn new(kind: &str, key: &str, value: &str) -> Result<Self, SelectorError> {
        if !is_name(kind) || !is_name(key) {
            return Err(SelectorError::BadName);
        }
        format!("{kind}:{key}:{value}").parse()
    }

    /// Who says so, for example `unix`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text.get(..usize::from(self.kind_end)).unwrap_or_default()
    }

    /// What is said, for example `uid`.
    #[must_use]
    pub fn key(&self) -> &str {
        self.text.get(usize::from(self.kind_end) + 1..usize::from(self.key_end)).unwrap_or_default()
    }

    /// The value, for example `1000`.
    #[must_use]
    pub fn value(&self) -> &str {
        self.text.get(usize::from(self.key_end) + 1..).unwrap_or_default()
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_SELECTOR_BYTES {
            return Err(SelectorError::TooLong);
        }
        let (kind, rest) = text.split_once(':').ok_or(SelectorError::MissingPart)?;
        let (key, value) = rest.split_once(':').ok_or(SelectorError::MissingPart)?;
        if !is_name(kind) || !is_name(key) {
            return Err(SelectorError::BadName);
        }
        if value.is_empty() {
            return Err(SelectorError::EmptyValue);
        }
        if value.contains(char::is_control) {
            return Err(SelectorError::ControlCharacter);
        }
        // Two names of at most 64 bytes and a colon: both ends fit into a byte.
        let kind_end = u8::try_from(kind.len()).ok().ok_or(SelectorError::BadName)?;
        let key_end = u8::try_from(kind.len() + 1 + key.len()).ok().ok_or(SelectorError::BadName)?;
        Ok(Self { text: text.into(), kind_end, key_end })
    }
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

impl TryFrom<String> for Selector {
    type Error = SelectorError;

    fn try_from(text: String) -> Result<Self, SelectorError> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> String {
        selector.text.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_value_keeps_its_colons() {
        let selector: Selector = "k8s:pod-label:app:web".parse().unwrap();
        assert_eq!((selector.kind(), selector.key(), selector.value()), ("k8s", "pod-label", "app:web"));
        assert_eq!(Selector::new("k8s", "pod-label", "app:web"), Ok(selector));
    }

    #[test]
    fn other_texts_are_refused() {
        let long = format!("unix:path:{}", "a".repeat(MAX_SELECTOR_BYTES));
        let long_name = format!("{}:uid:1", "a".repeat(65));
        for (text, error) in [
            ("", SelectorError::MissingPart),
            ("unix:uid", SelectorError::MissingPart),
            ("unix:uid:", SelectorError::EmptyValue),
            (":uid:1", SelectorError::BadName),
            ("unix::1", SelectorError::BadName),
            ("Unix:uid:1", SelectorError::BadName),
            ("unix:u.id:1", SelectorError::BadName),
            ("unix:path:/a\n", SelectorError::ControlCharacter),
            ("unix:path:/a\u{0}", SelectorError::ControlCharacter),
            (&long, SelectorError::TooLong),
            (&long_name, SelectorError::BadName),
        ] {
            assert_eq!(text.parse::<Selector>(), Err(error), "{text:?}");
        }
        assert_eq!(Selector::new("unix", "a:b", "c"), Err(SelectorError::BadName));
    }

    proptest! {
        #[test]
        fn parts_and_text_say_the_same(kind in "[a-z0-9_-]{1,64}", key in "[a-z0-9_-]{1,64}", value in "[^\\pC]{1,40}") {
            let selector = Selector::new(&kind, &key, &value).unwrap();
            prop_assert_eq!(selector.as_str().parse(), Ok(selector.clone()));
            prop_assert_eq!((selector.kind(), selector.key(), selector.value()), (&*kind, &*key, &*value));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*|[a:é\\x00]{0,12}") {
            if let Ok(selector) = text.parse::<Selector>() {
                prop_assert_eq!(selector.to_string(), text);
            }
        }
    }
}
