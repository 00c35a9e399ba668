use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::grant::{At, GrantError};
use super::network::Network;
use super::value::{ArgumentValue, integer, text};
use crate::json::Object;

/// The most values that a constraint lists.
const MAX_VALUES: usize = 64;

/// Which values an argument of a call may have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Constraint {
    /// This one.
    Exact(ArgumentValue),
    /// Any of these; none if there are none.
    OneOf(BTreeSet<ArgumentValue>),
    /// Integers between bounds.
    Range(Range),
    /// Texts that begin with this one.
    Prefix(String),
    /// A path and whatever lies below it.
    Subpath(Path),
    /// Addresses of a network.
    Cidr(Network),
}

/// Integers from `min` to `max`, both included. At least one is there; the other side is open then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    min: Option<i64>,
    max: Option<i64>,
}

/// An absolute path without empty, `.` and `..` segments: what it means needs no file system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(String);

impl Constraint {
    /// Whether a call may have this value.
    #[must_use]
    pub fn admits(&self, value: &ArgumentValue) -> bool {
        match self {
            Self::Exact(only) => only == value,
            Self::OneOf(values) => values.contains(value),
            Self::Range(range) => matches!(value, ArgumentValue::Integer(number) if range.admits(*number)),
            Self::Prefix(prefix) => value.text().is_some_and(|text| text.starts_with(prefix)),
            Self::Subpath(path) => value.text().and_then(Path::new).is_some_and(|other| path.holds(&other)),
            Self::Cidr(network) => value.text().is_some_and(|text| network.admits(text)),
        }
    }

    /// Whether every value that this admits is admitted by `other`, as far as that can be seen: values that are listed are
    /// looked at one by one, the rest is compared with its own kind only.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(value), _) => other.admits(value),
            (Self::OneOf(values), _) => values.iter().all(|value| other.admits(value)),
            (Self::Range(own), Self::Range(other)) => own.is_within(other),
            (Self::Prefix(own), Self::Prefix(other)) => own.starts_with(other),
            (Self::Subpath(own), Self::Subpath(other)) => other.holds(own),
            (Self::Cidr(own), Self::Cidr(other)) => own.is_within(other),
            _ => false,
        }
    }

    pub(super) fn parse(value: &Value, at: &At<'_>) -> Result<Self, GrantError> {
        let object = value.as_object().ok_or_else(|| at.wrong("a constraint is an object"))?;
        let mut members = object.iter();
        let (Some((name, value)), None) = (members.next(), members.next()) else {
            return Err(at.wrong("a constraint has exactly one member"));
        };
        let not_a_value = || at.wrong("a value is a text of at most 512 bytes, an integer within 2^53, true or false");
        match name.as_str() {
            "exact" => ArgumentValue::from_json(value).map(Self::Exact).ok_or_else(not_a_value),
            "one_of" => {
                let list = value.as_array().ok_or_else(|| at.wrong("one_of is a list"))?;
                if list.len() > MAX_VALUES {
                    return Err(at.wrong("one_of has at most 64 values"));
                }
                let mut values = BTreeSet::new();
                for one in list {
                    if !values.insert(ArgumentValue::from_json(one).ok_or_else(not_a_value)?) {
                        return Err(at.wrong("a value is listed twice"));
                    }
                }
                Ok(Self::OneOf(values))
            }
            "range" => value.as_object().and_then(Range::parse).map(Self::Range).ok_or_else(|| {
                at.wrong("a range has an integer min, or an integer max, or both, and min is not above max")
            }),
            "prefix" => text(value)
                .map(|text| Self::Prefix(text.to_owned()))
                .ok_or_else(|| at.wrong("a prefix has 1 to 512 bytes")),
            "subpath" => text(value).and_then(Path::new).map(Self::Subpath).ok_or_else(|| {
                at.wrong("a path begins with /, has no empty, . or .. segments, and does not end with /")
            }),
            "cidr" => {
                let network = text(value).ok_or_else(|| at.wrong("a network is a text"))?;
                network.parse().map(Self::Cidr).map_err(|what| at.wrong(what))
            }
            _ => Err(at.wrong("a constraint is one of exact, one_of, range, prefix, subpath, cidr")),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Exact(value) => json!({"exact": value.to_json()}),
            Self::OneOf(values) => json!({"one_of": values.iter().map(ArgumentValue::to_json).collect::<Vec<_>>()}),
            Self::Range(range) => json!({"range": range.to_json()}),
            Self::Prefix(prefix) => json!({"prefix": prefix}),
            Self::Subpath(Path(path)) => json!({"subpath": path}),
            Self::Cidr(network) => json!({"cidr": network.to_string()}),
        }
    }
}

impl Range {
    fn parse(object: &Object) -> Option<Self> {
        let side = |name| object.get(name).map(|value| integer(value).ok_or(())).transpose().ok();
        let range = Self { min: side("min")?, max: side("max")? };
        let sides = usize::from(range.min.is_some()) + usize::from(range.max.is_some());
        let ordered = !matches!(range, Self { min: Some(min), max: Some(max) } if min > max);
        (sides > 0 && sides == object.len() && ordered).then_some(range)
    }

    fn admits(&self, number: i64) -> bool {
        self.min.is_none_or(|min| number >= min) && self.max.is_none_or(|max| number <= max)
    }

    /// An open side is within an open side only: an integer of a call has no bounds that a range would know.
    fn is_within(&self, other: &Self) -> bool {
        let least = other.min.is_none_or(|least| self.min.is_some_and(|min| min >= least));
        let most = other.max.is_none_or(|most| self.max.is_some_and(|max| max <= most));
        least && most
    }

    fn to_json(self) -> Value {
        let sides = [("min", self.min), ("max", self.max)];
        sides.into_iter().filter_map(|(name, side)| Some((name.to_owned(), side?.into()))).collect::<Object>().into()
    }
}

impl Path {
    /// Reads a path.
    #[must_use]
    pub fn new(path: &str) -> Option<Self> {
        let below = path.strip_prefix('/')?;
        let legal = |segment: &str| !matches!(segment, "" | "." | "..") && !segment.contains('\0');
        (below.is_empty() || below.split('/').all(legal)).then(|| Self(path.to_owned()))
    }

    /// Whether `other` is this path or lies below it.
    fn holds(&self, other: &Self) -> bool {
        match other.0.strip_prefix(self.0.as_str()) {
            Some(rest) => rest.is_empty() || rest.starts_with('/') || self.0 == "/",
            None => false,
        }
    }
}
