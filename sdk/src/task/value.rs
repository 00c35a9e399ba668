use serde_json::Value;

/// The longest text of a value, bytes.
const MAX_TEXT: usize = 512;
/// Beyond it readers of JSON lose integers (RFC 8259 6).
const MAX_INTEGER: i64 = (1 << 53) - 1;

/// What an argument of a call can be. Values of different kinds are never equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArgumentValue {
    /// A text of at most 512 bytes.
    Text(String),
    /// From -(2^53-1) to 2^53-1.
    Integer(i64),
    /// `true` or `false`.
    Flag(bool),
}

impl ArgumentValue {
    /// Reads one from JSON. Whatever else an argument of a call is (a list, an object, a fraction) is no value, and no
    /// constraint admits it.
    #[must_use]
    pub fn from_json(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) if text.len() <= MAX_TEXT => Some(Self::Text(text.clone())),
            Value::Number(_) => integer(value).map(Self::Integer),
            Value::Bool(flag) => Some(Self::Flag(*flag)),
            _ => None,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => text.clone().into(),
            Self::Integer(number) => (*number).into(),
            Self::Flag(flag) => (*flag).into(),
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// An integer that every reader of JSON reads alike.
pub(super) fn integer(value: &Value) -> Option<i64> {
    value.as_i64().filter(|number| (-MAX_INTEGER..=MAX_INTEGER).contains(number))
}

/// A text of one byte to the longest.
pub(super) fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| (1..=MAX_TEXT).contains(&text.len()))
}
