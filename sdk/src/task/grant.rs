use std::collections::BTreeSet;
use std::fmt;

use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::detail::Detail;
use crate::json::{self, Object};
use crate::reason::{Reason, Refusal};

/// The longest JSON of a grant that is read, bytes.
const MAX_BYTES: usize = 64 * 1024;
/// Bytes of the URI of a resource.
pub const MAX_AUDIENCE: usize = 512;
const MAX_SCOPE: usize = 64;
const MAX_SCOPE_TOKEN: usize = 128;
const MAX_DELEGABLE: usize = 64;

/// What a task may do: the one audience, and what of it.
///
/// Two grants that say the same are equal and have one digest, whatever the order in which they were written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    audience: String,
    scope: BTreeSet<String>,
    details: BTreeSet<Detail>,
    delegable: BTreeSet<String>,
}

/// A grant that cannot be read: where, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}")]
pub struct GrantError {
    at: String,
    what: &'static str,
}

impl From<GrantError> for Refusal {
    fn from(error: GrantError) -> Self {
        Refusal::new(Reason::InvalidGrant, error.to_string())
    }
}

/// A place in a grant.
pub(super) struct At<'a> {
    above: Option<&'a At<'a>>,
    name: &'a str,
}

impl At<'_> {
    pub(super) const WHOLE: At<'static> = At { above: None, name: "grant" };

    pub(super) fn at<'a>(&'a self, name: &'a str) -> At<'a> {
        At { above: Some(self), name }
    }

    pub(super) fn wrong(&self, what: &'static str) -> GrantError {
        GrantError { at: self.to_string(), what }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names come from whoever asks: what is shown of them is short and has no control characters.
        let shown: String = self.name.chars().filter(|character| !character.is_control()).take(64).collect();
        match self.above {
            Some(above) => write!(f, "{above}.{shown}"),
            None => f.write_str(&shown),
        }
    }
}

impl Grant {
    /// Reads a grant from JSON, of at most 64 KiB.
    ///
    /// # Errors
    /// [`GrantError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, GrantError> {
        if bytes.len() > MAX_BYTES {
            return Err(At::WHOLE.wrong("a grant has at most 64 KiB"));
        }
        let object = json::object(bytes).ok();
        Self::from_object(&object.ok_or_else(|| At::WHOLE.wrong("not a JSON object with each member once"))?)
    }

    /// Reads a grant from a JSON object that was read strictly.
    ///
    /// # Errors
    /// [`GrantError`].
    pub fn from_object(object: &Object) -> Result<Self, GrantError> {
        let whole = At::WHOLE;
        no_others(object, &["audience", "scope", "authorization_details", "delegable"], &whole)?;
        let audience = object.get("audience").ok_or_else(|| whole.at("audience").wrong("it is missing"))?;
        let audience = audience_uri(audience).map_err(|what| whole.at("audience").wrong(what))?;
        let set = |name: &str, max, one: fn(&Value) -> Result<String, &'static str>| match object.get(name) {
            None => Ok(BTreeSet::new()),
            Some(list) => distinct(list, max, &whole.at(name), one),
        };
        let details = object.get("authorization_details").map_or_else(|| Ok(BTreeSet::new()), Detail::list)?;
        Ok(Self {
            audience,
            scope: set("scope", MAX_SCOPE, scope_token)?,
            details,
            delegable: set("delegable", MAX_DELEGABLE, audience_uri)?,
        })
    }

    /// The one resource that it is for.
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// The scope tokens, in the order of their bytes.
    #[must_use]
    pub fn scope(&self) -> &BTreeSet<String> {
        &self.scope
    }

    /// The details.
    #[must_use]
    pub fn details(&self) -> &BTreeSet<Detail> {
        &self.details
    }

    /// To which audiences a child may be delegated.
    #[must_use]
    pub fn delegable(&self) -> &BTreeSet<String> {
        &self.delegable
    }

    /// The same as JSON: members and elements in the order of their bytes, empty ones left out.
    #[must_use]
    pub fn to_json(&self) -> Object {
        let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().into();
        let details: Vec<Value> = self.details.iter().map(Detail::to_json).collect();
        let members: [(&str, bool, Value); 4] = [
            ("audience", true, self.audience.clone().into()),
            ("authorization_details", !details.is_empty(), details.into()),
            ("delegable", !self.delegable.is_empty(), list(&self.delegable)),
            ("scope", !self.scope.is_empty(), list(&self.scope)),
        ];
        let members = members.into_iter().filter(|(_, there, _)| *there);
        json::sorted(members.map(|(name, _, value)| (name.to_owned(), value)).collect())
    }

    /// SHA-256 of the JSON: what the claim `digest` of a token says.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, Value::Object(self.to_json()).to_string().as_bytes()).as_ref());
        bytes
    }

    /// Whether every detail is within one of `other`'s.
    #[must_use]
    pub fn details_are_within(&self, other: &Self) -> bool {
        self.details.iter().all(|own| other.details.iter().any(|limit| own.is_within(limit)))
    }
}

/// A list whose elements differ, read by `one`.
pub(super) fn distinct(
    list: &Value,
    max: usize,
    at: &At<'_>,
    one: impl Fn(&Value) -> Result<String, &'static str>,
) -> Result<BTreeSet<String>, GrantError> {
    let list = list.as_array().ok_or_else(|| at.wrong("a list"))?;
    if list.len() > max {
        return Err(at.wrong("too many elements"));
    }
    let mut set = BTreeSet::new();
    for (n, element) in list.iter().enumerate() {
        let n = n.to_string();
        let at = at.at(&n);
        if !set.insert(one(element).map_err(|what| at.wrong(what))?) {
            return Err(at.wrong("it is listed twice"));
        }
    }
    Ok(set)
}

/// Refuses members that are not known: one that is not understood might limit.
pub(super) fn no_others(object: &Object, known: &[&str], at: &At<'_>) -> Result<(), GrantError> {
    match object.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(at.at(name).wrong("there is no such member")),
        None => Ok(()),
    }
}

/// A resource URI (RFC 8707 2): absolute, without a fragment, compared byte for byte.
fn audience_uri(value: &Value) -> Result<String, &'static str> {
    const WHAT: &str =
        "an audience is a URI with https:// or spiffe:// and a host, of at most 512 characters, without a fragment";
    let uri = value.as_str().filter(|uri| uri.len() <= MAX_AUDIENCE).ok_or(WHAT)?;
    let host = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("spiffe://")).ok_or(WHAT)?;
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"#\"'\\".contains(&byte);
    let there = !host.is_empty() && !host.starts_with(['/', '?']);
    (there && uri.bytes().all(legal)).then(|| uri.to_owned()).ok_or(WHAT)
}

/// A scope token (RFC 6749 3.3).
fn scope_token(value: &Value) -> Result<String, &'static str> {
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"\"\\".contains(&byte);
    let token = value.as_str().filter(|token| (1..=MAX_SCOPE_TOKEN).contains(&token.len()));
    let token = token.filter(|token| token.bytes().all(legal));
    token.map(str::to_owned).ok_or("a scope token has 1 to 128 printable characters without spaces, \" and \\")
}
