//! Rules for single values. Each takes the text as it was written and gives the value or a refusal.

use mayfly_sdk::{Reason, Refusal, TrustDomain};

/// The longest name of an entry or owner, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// The longest URI or audience, in bytes.
const MAX_URI_BYTES: usize = 2048;
/// The longest DNS name, in bytes (RFC 1035 2.3.4).
const MAX_DNS_BYTES: usize = 253;
/// The longest hint, in bytes (WA-12).
const MAX_HINT_BYTES: usize = 1024;

/// The name of an entry or owner: letters, digits and `. _ / -`, beginning with a letter or digit.
pub(super) fn name(what: &str, text: &str) -> Result<String, Refusal> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
    if !text.bytes().all(legal) || !text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return Err(invalid(format!(
            "{what} begins with a letter or digit and holds only A-Z a-z 0-9 . _ - /, and {text:?} does not"
        )));
    }
    if text.len() > MAX_NAME_BYTES {
        return Err(invalid(format!("{what} has at most {MAX_NAME_BYTES} bytes")));
    }
    Ok(text.to_owned())
}

/// The name of an entry, which must not look like a uid, because commands take either.
pub(super) fn entry_name(text: &str) -> Result<String, Refusal> {
    if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(invalid(format!("an entry's name may not look like a uid, as {text:?} does")));
    }
    name("an entry's name", text)
}

/// A DNS name for a SAN: letters, digits and inner hyphens in labels of at most 63; the first label may be `*`.
pub(super) fn dns_name(text: &str) -> Result<Box<str>, Refusal> {
    let labels = text.strip_prefix("*.").unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name that ends in a number is an address to some verifiers (RFC 3696 2).
    let ends_in_number = labels.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    if text.len() > MAX_DNS_BYTES || !labels.split('.').all(is_label) || ends_in_number {
        return Err(invalid(format!("{text:?} is not a DNS name for a certificate")));
    }
    Ok(text.into())
}

/// A hint: any text of at most 1,024 bytes without control characters.
pub(super) fn hint(text: &str) -> Result<Box<str>, Refusal> {
    if text.is_empty() || text.len() > MAX_HINT_BYTES || text.contains(char::is_control) {
        return Err(invalid(format!("a hint has from 1 to {MAX_HINT_BYTES} bytes and no control characters")));
    }
    Ok(text.into())
}

/// An audience of a JWT-SVID: any text without control characters.
pub(super) fn audience(text: &str) -> Result<Box<str>, Refusal> {
    if text.is_empty() || text.len() > MAX_URI_BYTES || text.contains(char::is_control) {
        return Err(invalid(format!("an audience has from 1 to {MAX_URI_BYTES} bytes and no control characters")));
    }
    Ok(text.into())
}

/// A resource: an absolute URI without a fragment (RFC 8707 2).
pub(super) fn resource(text: &str) -> Result<Box<str>, Refusal> {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    };
    let is_absolute = text.split_once(':').is_some_and(|(scheme, rest)| is_scheme(scheme) && !rest.is_empty());
    let is_clean =
        text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'\\'));
    if !is_absolute || !is_clean || text.len() > MAX_URI_BYTES {
        return Err(invalid(format!("{text:?} is not an absolute URI without a fragment")));
    }
    Ok(text.into())
}

/// A resource, or `*` for any.
pub(super) fn resource_or_any(text: &str) -> Result<Box<str>, Refusal> {
    if text == "*" { Ok(text.into()) } else { resource(text) }
}

/// A scope token (RFC 6749 3.3), of which `*` is one.
pub(super) fn scope(text: &str) -> Result<Box<str>, Refusal> {
    let legal = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    if text.is_empty() || text.len() > MAX_NAME_BYTES || !text.bytes().all(legal) {
        return Err(invalid(format!(
            "{text:?} is not a scope: at most {MAX_NAME_BYTES} printable characters, no blanks"
        )));
    }
    Ok(text.into())
}

/// What a provider calls a client, or `*`.
pub(super) fn client(text: &str) -> Result<Box<str>, Refusal> {
    if text.is_empty() || text.len() > MAX_NAME_BYTES || text.contains(char::is_control) {
        return Err(invalid(format!("a client has 1 to {MAX_NAME_BYTES} bytes in one line, and {text:?} does not")));
    }
    Ok(text.into())
}

/// The name of an ability of an agent.
pub(super) fn feature(text: &str) -> Result<Box<str>, Refusal> {
    let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.');
    if text.is_empty() || text.len() > 64 || !text.bytes().all(legal) {
        return Err(invalid(format!("a feature holds 1 to 64 of the characters a-z 0-9 . _ -, and {text:?} does not")));
    }
    Ok(text.into())
}

/// A verb of administration: `noun:verb`, either of which may be `*`.
pub(super) fn verb(text: &str) -> Result<Box<str>, Refusal> {
    let is_word = |word: &str| {
        word == "*" || (!word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
    };
    match text.split_once(':') {
        Some((noun, verb)) if is_word(noun) && is_word(verb) && text.len() <= 64 => Ok(text.into()),
        _ if text == "admin" => Ok(text.into()),
        _ => Err(invalid(format!("a verb is written noun:verb, for example entry:*, and {text:?} is not"))),
    }
}

/// A trust domain to federate with, other than our own.
pub(super) fn federated(text: &str, own: &TrustDomain) -> Result<TrustDomain, Refusal> {
    let other = text.parse::<TrustDomain>()?;
    if other == *own {
        return Err(invalid(format!("{own} is this trust domain; its bundle is always there")));
    }
    Ok(other)
}

pub(super) fn invalid(what: String) -> Refusal {
    Refusal::new(Reason::InvalidValue, what)
}
