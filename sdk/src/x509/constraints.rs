use std::net::Ipv4Addr;

use x509_parser::asn1_rs::{Any, Class, FromDer, Tag};
use x509_parser::extensions::GeneralName;

use super::{Certificate, X509Error};

/// The name constraints of an issuer (RFC 5280 4.2.1.10).
///
/// URIs and DNS names are evaluated. Constraints on another form of name refuse every certificate that has a name of
/// that form, and `minimum` or `maximum` refuse the certificate that holds them: closed where we do not understand.
#[derive(Debug, Clone)]
pub(super) struct NameConstraints<'a> {
    permitted: Vec<Subtree<'a>>,
    excluded: Vec<Subtree<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct Subtree<'a> {
    form: u32,
    base: &'a [u8],
}

const RFC822: u32 = 1;
const DNS: u32 = 2;
const DIRECTORY: u32 = 4;
const URI: u32 = 6;

impl<'a> NameConstraints<'a> {
    pub(super) fn parse(value: &'a [u8]) -> Result<Self, X509Error> {
        let Ok(([], outer)) = Any::from_der(value) else { return Err(X509Error::Malformed) };
        if outer.tag() != Tag::Sequence {
            return Err(X509Error::Malformed);
        }
        let mut read = Self { permitted: Vec::new(), excluded: Vec::new() };
        let mut last = None;
        for part in elements(outer.data) {
            let part = part?;
            let number = part.tag().0;
            if part.class() != Class::ContextSpecific || last >= Some(number) {
                return Err(X509Error::Malformed);
            }
            last = Some(number);
            let subtrees = match number {
                0 => &mut read.permitted,
                1 => &mut read.excluded,
                _ => return Err(X509Error::Malformed),
            };
            for subtree in elements(part.data) {
                subtrees.push(Subtree::parse(&subtree?)?);
            }
        }
        Ok(read)
    }

    /// Whether every name of the certificate is allowed.
    pub(super) fn allow(&self, certificate: &Certificate<'_>) -> bool {
        let subject = if certificate.has_empty_subject() { None } else { Some(DIRECTORY) };
        // Other forms cannot be told apart from one another where they are constrained: none of them is allowed.
        certificate.names().iter().all(|name| self.allow_name(name)) && subject.is_none_or(|form| !self.constrain(form))
    }

    fn allow_name(&self, name: &GeneralName<'_>) -> bool {
        match name {
            GeneralName::URI(uri) => !self.constrain(URI) || host(uri).is_some_and(|host| self.allow_host(URI, host)),
            GeneralName::DNSName(name) => self.allow_host(DNS, name),
            GeneralName::RFC822Name(_) => !self.constrain(RFC822),
            GeneralName::DirectoryName(_) => !self.constrain(DIRECTORY),
            GeneralName::Invalid(..) => false,
            _ => !self
                .permitted
                .iter()
                .chain(&self.excluded)
                .any(|tree| ![URI, DNS, RFC822, DIRECTORY].contains(&tree.form)),
        }
    }

    fn constrain(&self, form: u32) -> bool {
        self.permitted.iter().chain(&self.excluded).any(|tree| tree.form == form)
    }

    fn allow_host(&self, form: u32, host: &str) -> bool {
        let of = |tree: &&Subtree<'_>| tree.form == form;
        let mut permitted = self.permitted.iter().filter(of).peekable();
        let inside = permitted.peek().is_none() || permitted.any(|tree| tree.contains(host) == Some(true));
        // A base that is not text excludes everything.
        let outside = self.excluded.iter().filter(of).all(|tree| tree.contains(host) == Some(false));
        inside && outside
    }
}

impl<'a> Subtree<'a> {
    fn parse(subtree: &Any<'a>) -> Result<Self, X509Error> {
        if subtree.tag() != Tag::Sequence {
            return Err(X509Error::Malformed);
        }
        match Any::from_der(subtree.data) {
            // `minimum` and `maximum` would follow; RFC 5280 forbids both.
            Ok(([], base)) if base.class() == Class::ContextSpecific => {
                Ok(Self { form: base.tag().0, base: base.data })
            }
            _ => Err(X509Error::Malformed),
        }
    }

    /// Whether a host lies in the subtree, or `None` where that cannot be said.
    fn contains(&self, host: &str) -> Option<bool> {
        let base = std::str::from_utf8(self.base).ok().filter(|base| !base.is_empty() && base.is_ascii())?;
        let (base, host) = (base.to_ascii_lowercase(), host.to_ascii_lowercase());
        if base.starts_with('.') {
            return Some(host.len() > base.len() && host.ends_with(&base));
        }
        if host == base {
            return Some(true);
        }
        // A URI constraint without a leading dot names one host; a DNS constraint names all below as well.
        let below = host.strip_suffix(&base).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'));
        Some(self.form == DNS && below)
    }
}

/// The host of a URI, unless it is an IP address, which a constraint cannot allow (RFC 5280 4.2.1.10).
fn host(uri: &str) -> Option<&str> {
    let authority = uri.split_once("://")?.1.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?.split(':').next()?;
    (!host.is_empty() && !host.starts_with('[') && host.parse::<Ipv4Addr>().is_err()).then_some(host)
}

fn elements(content: &[u8]) -> impl Iterator<Item = Result<Any<'_>, X509Error>> {
    let mut rest = content;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let read = Any::from_der(rest).ok();
        rest = read.as_ref().map_or(&[], |(after, _)| after);
        Some(read.map(|(_, any)| any).ok_or(X509Error::Malformed))
    })
}
