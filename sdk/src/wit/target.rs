use std::fmt;
use std::str::FromStr;

use super::ProofError;

/// The longest target, in bytes.
const MAX_BYTES: usize = 8 * 1024;

/// The URI of a request over a secure channel, without query and fragment: what a proof is for (RFC 9110 7.1).
///
/// Scheme and host are lower case, port 443 is left out, an empty path is `/`; the path stays as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetUri(String);

/// Where a service is reached, as its operator says: scheme, host and port.
///
/// A validator makes the targets that it accepts from this and from the path of the request. It never takes the `Host` of
/// a request, or `X-Forwarded-Host`, for it: whoever sends those chooses for whom a stolen proof would be good.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin(String);

impl TargetUri {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Origin {
    /// The target of a request to this path; a query or fragment behind it does not count.
    ///
    /// # Errors
    /// [`ProofError::BadTarget`] if it does not begin with `/` or is no path.
    pub fn at(&self, path: &str) -> Result<TargetUri, ProofError> {
        if path.starts_with('/') { format!("{}{path}", self.0).parse() } else { Err(ProofError::BadTarget) }
    }
}

impl FromStr for TargetUri {
    type Err = ProofError;

    fn from_str(text: &str) -> Result<Self, ProofError> {
        if text.len() > MAX_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ProofError::BadTarget);
        }
        let (scheme, rest) = text.split_once("://").ok_or(ProofError::BadTarget)?;
        // Token and proof go over a secure channel only (WIT-SVID 7.3).
        if !scheme.eq_ignore_ascii_case("https") {
            return Err(ProofError::BadTarget);
        }
        let uri = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = uri.split_at(uri.find('/').unwrap_or(uri.len()));
        let authority = authority_of(authority)?;
        Ok(Self(format!("https://{authority}{}", if path.is_empty() { "/" } else { path })))
    }
}

impl FromStr for Origin {
    type Err = ProofError;

    fn from_str(text: &str) -> Result<Self, ProofError> {
        let target: TargetUri = text.parse()?;
        // Nothing but scheme, host and port.
        match target.0.strip_suffix('/') {
            Some(origin) if origin.matches('/').count() == 2 && !text.contains(['?', '#']) => {
                Ok(Self(origin.to_owned()))
            }
            _ => Err(ProofError::BadTarget),
        }
    }
}

impl fmt::Display for TargetUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Host and port (RFC 3986 3.2): no user, which would be taken for the host by people.
fn authority_of(text: &str) -> Result<String, ProofError> {
    let is_bracketed = text.starts_with('[');
    let end = if is_bracketed { text.find(']').map(|at| at + 1) } else { text.find(':') };
    let (host, port) = text.split_at(end.unwrap_or(text.len()));
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte);
    let is_literal = |byte: u8| byte.is_ascii_hexdigit() || b":.".contains(&byte);
    let legal = match host.strip_prefix('[') {
        Some(literal) => literal.strip_suffix(']').is_some_and(|it| !it.is_empty() && it.bytes().all(is_literal)),
        None => !host.is_empty() && host.bytes().all(is_name),
    };
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse::<u16>().ok().filter(|port| *port != 0).ok_or(ProofError::BadTarget)?
        }
        None if port.is_empty() => 443,
        _ => return Err(ProofError::BadTarget),
    };
    if !legal {
        return Err(ProofError::BadTarget);
    }
    let host = host.to_ascii_lowercase();
    Ok(if port == 443 { host } else { format!("{host}:{port}") })
}
