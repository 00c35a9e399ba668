//! SPIFFE IDs and trust domains (SPIFFE-ID 2).
//!
//! The parser is strict and changes nothing: the text of an id is the bytes that were parsed. No URL library is
//! involved, because those resolve dots, drop tabs and re-encode. Upper case in the scheme or the trust domain is
//! refused, as go-spiffe and SPIRE do (decision K1); [`SpiffeId::parse_normalizing`] is for what people type.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::reason::{Reason, Refusal};

/// The longest trust domain name, in bytes (SPIFFE-ID 2.3).
pub const MAX_TRUST_DOMAIN_BYTES: usize = 255;
/// The longest SPIFFE ID, in bytes, scheme included (SPIFFE-ID 2.3).
pub const MAX_ID_BYTES: usize = 2048;
/// The first path segment that Mayfly keeps to itself in every trust domain.
pub const RESERVED_SEGMENT: &str = "mayfly";

const SCHEME: &str = "spiffe://";

/// The name of a trust domain, for example `example.org` (SPIFFE-ID 2.1).
///
/// Cheap to clone. `Display` is the bare name; [`TrustDomain::id`] is the URI form.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TrustDomain(Arc<str>);

/// A SPIFFE ID: a trust domain and a path, for example `spiffe://example.org/billing/api` (SPIFFE-ID 2).
///
/// Cheap to clone. Comparison is of bytes, so that paths are case-sensitive.
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SpiffeId {
    text: Arc<str>,
    trust_domain: TrustDomain,
}

/// Why a text is not a SPIFFE ID or trust domain. The caller's to mend; never worth a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The text does not begin with `spiffe://`.
    #[error("a SPIFFE ID begins with spiffe://, in lower case")]
    WrongScheme,
    /// Nothing stands between `spiffe://` and the path.
    #[error("the trust domain is missing")]
    MissingTrustDomain,
    /// A byte outside `[a-z0-9._-]` in the trust domain; a port, user info and upper case end here too.
    #[error("a trust domain holds only the characters a-z 0-9 . _ -")]
    BadTrustDomainChar,
    /// The trust domain is longer than [`MAX_TRUST_DOMAIN_BYTES`].
    #[error("a trust domain has at most 255 bytes")]
    TrustDomainTooLong,
    /// A byte outside `[A-Za-z0-9._-]` in a path segment; queries, fragments and percent encoding end here too.
    #[error("a path segment holds only the characters A-Z a-z 0-9 . _ -")]
    BadPathSegmentChar,
    /// A path that does not begin with `/`.
    #[error("a path begins with a slash")]
    NoLeadingSlash,
    /// Two slashes in a row.
    #[error("a path segment is empty")]
    EmptySegment,
    /// A segment `.` or `..`.
    #[error("a path segment may not be . or ..")]
    DotSegment,
    /// The text ends with a slash.
    #[error("a SPIFFE ID does not end with a slash")]
    TrailingSlash,
    /// The id is longer than [`MAX_ID_BYTES`].
    #[error("a SPIFFE ID has at most 2048 bytes")]
    TooLong,
}

impl IdError {
    /// The stable reason code of this error.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::MissingTrustDomain | Self::BadTrustDomainChar | Self::TrustDomainTooLong => {
                Reason::InvalidTrustDomain
            }
            _ => Reason::InvalidSpiffeId,
        }
    }
}

impl From<IdError> for Refusal {
    fn from(error: IdError) -> Self {
        Refusal::new(error.reason(), error.to_string())
    }
}

impl TrustDomain {
    /// Parses a bare name, refusing the URI form.
    ///
    /// # Errors
    /// An [`IdError`] about the name.
    pub fn from_name(name: &str) -> Result<Self, IdError> {
        if name.is_empty() {
            return Err(IdError::MissingTrustDomain);
        }
        if !name.bytes().all(is_trust_domain_byte) {
            return Err(IdError::BadTrustDomainChar);
        }
        if name.len() > MAX_TRUST_DOMAIN_BYTES {
            return Err(IdError::TrustDomainTooLong);
        }
        Ok(Self(name.into()))
    }

    /// Like `FromStr`, after lower-casing scheme and name. For what people type, never for data that came signed.
    ///
    /// # Errors
    /// An [`IdError`] if the lower-cased text is still not a trust domain.
    pub fn parse_normalizing(text: &str) -> Result<Self, IdError> {
        let text = text.trim();
        if has_scheme_any_case(text) {
            return Ok(SpiffeId::parse_normalizing(text)?.trust_domain);
        }
        Self::from_name(&text.to_ascii_lowercase())
    }

    /// The bare name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the trust domain itself, `spiffe://name`, which is also its key in the bundle maps of the Workload API.
    #[must_use]
    pub fn id(&self) -> SpiffeId {
        SpiffeId { text: format!("{SCHEME}{}", self.0).into(), trust_domain: self.clone() }
    }
}

/// Accepts the bare name, and any SPIFFE ID, of which it takes the trust domain (row ID-20).
impl FromStr for TrustDomain {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.starts_with(SCHEME) {
            return Ok(text.parse::<SpiffeId>()?.trust_domain);
        }
        Self::from_name(text)
    }
}

impl SpiffeId {
    /// The id with this path in this trust domain. `path` is empty or begins with a slash.
    ///
    /// # Errors
    /// An [`IdError`] about the path, or [`IdError::TooLong`].
    pub fn from_path(trust_domain: &TrustDomain, path: &str) -> Result<Self, IdError> {
        check_path(path)?;
        if SCHEME.len() + trust_domain.0.len() + path.len() > MAX_ID_BYTES {
            return Err(IdError::TooLong);
        }
        let text = format!("{SCHEME}{trust_domain}{path}").into();
        Ok(Self { text, trust_domain: trust_domain.clone() })
    }

    /// Like `FromStr`, after lower-casing the scheme and the trust domain and trimming surrounding blanks; the path
    /// stays as it is. For what people type, never for a SAN, a `sub` or the key of a map (decision K1).
    ///
    /// # Errors
    /// An [`IdError`] if the normalized text is still not a SPIFFE ID.
    pub fn parse_normalizing(text: &str) -> Result<Self, IdError> {
        let text = text.trim();
        if !has_scheme_any_case(text) {
            return Err(IdError::WrongScheme);
        }
        let rest = text.get(SCHEME.len()..).unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        format!("{SCHEME}{}{path}", authority.to_ascii_lowercase()).parse()
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain it belongs to.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path with its leading slash, or the empty string for the trust domain's own id.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(SCHEME.len() + self.trust_domain.0.len()..).unwrap_or_default()
    }

    /// The segments of the path, in order.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.path().split('/').skip(1)
    }

    /// Whether this is the trust domain's own id, without a path. No workload has it.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.path().is_empty()
    }

    /// Whether the path is Mayfly's own: `/mayfly`, or anything below it.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.segments().next() == Some(RESERVED_SEGMENT)
    }

    /// Whether the id belongs to this trust domain.
    #[must_use]
    pub fn is_member_of(&self, trust_domain: &TrustDomain) -> bool {
        self.trust_domain == *trust_domain
    }
}

impl FromStr for SpiffeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let rest = text.strip_prefix(SCHEME).ok_or(IdError::WrongScheme)?;
        let (name, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let trust_domain = TrustDomain::from_name(name)?;
        check_path(path)?;
        if text.len() > MAX_ID_BYTES {
            return Err(IdError::TooLong);
        }
        Ok(Self { text: text.into(), trust_domain })
    }
}

fn check_path(path: &str) -> Result<(), IdError> {
    if path.is_empty() {
        return Ok(());
    }
    let segments = path.strip_prefix('/').ok_or(IdError::NoLeadingSlash)?;
    if segments.ends_with('/') || segments.is_empty() {
        return Err(IdError::TrailingSlash);
    }
    segments.split('/').try_for_each(|segment| match segment {
        "" => Err(IdError::EmptySegment),
        "." | ".." => Err(IdError::DotSegment),
        _ if segment.bytes().all(is_segment_byte) => Ok(()),
        _ => Err(IdError::BadPathSegmentChar),
    })
}

/// Whether `text` may stand as one segment of a path (SPIFFE-ID 2.2). Templates ask this of every fact they fill in.
#[must_use]
pub fn is_legal_segment(text: &str) -> bool {
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(is_segment_byte)
}

fn is_trust_domain_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-')
}

fn is_segment_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

fn has_scheme_any_case(text: &str) -> bool {
    text.get(..SCHEME.len()).is_some_and(|start| start.eq_ignore_ascii_case(SCHEME))
}

impl PartialEq for SpiffeId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SpiffeId {}

impl PartialOrd for SpiffeId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SpiffeId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl std::hash::Hash for SpiffeId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

macro_rules! text_traits {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }
        impl TryFrom<&str> for $type {
            type Error = IdError;
            fn try_from(text: &str) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl TryFrom<String> for $type {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.as_str().to_owned()
            }
        }
    };
}
text_traits!(TrustDomain);
text_traits!(SpiffeId);

#[cfg(test)]
mod tests;
