use super::{Authority, Certificate, Usage, X509Error};
use crate::key::PublicKey;
use crate::time::Timestamp;

/// The most signatures that one chain can make us check: 16 certificates, each with a few issuers of one name.
const MAX_SIGNATURES: u32 = 32;

/// A path that was found.
#[derive(Debug)]
pub(super) struct Path<'s> {
    /// Where it ends.
    pub(super) anchor: &'s Authority,
    /// The moment up to which all its issuers are valid.
    pub(super) until: Timestamp,
}

/// Finds a path from the leaf through the intermediates to an anchor (RFC 5280 6.1).
///
/// Cheap checks come before signatures. Of several failures the one that came furthest is reported.
pub(super) fn find<'s>(
    leaf: &Certificate<'_>,
    intermediates: &[Certificate<'_>],
    anchors: &'s [Authority],
    now: Timestamp,
    usage: Usage,
) -> Result<Path<'s>, X509Error> {
    let mut search = Search { intermediates, anchors, now, usage, signatures: 0, best: (0, X509Error::NoPath) };
    match search.climb(&mut vec![leaf]) {
        Some(path) => Ok(path),
        None => Err(search.best.1),
    }
}

struct Search<'s, 'a, 't> {
    intermediates: &'s [Certificate<'a>],
    anchors: &'t [Authority],
    now: Timestamp,
    usage: Usage,
    signatures: u32,
    best: (usize, X509Error),
}

impl<'s, 'a, 't> Search<'s, 'a, 't> {
    /// Looks for an issuer of the last certificate of `path`, anchors first.
    fn climb(&mut self, path: &mut Vec<&'s Certificate<'a>>) -> Option<Path<'t>> {
        let subject = *path.last()?;
        for anchor in self.anchors.iter().filter(|anchor| anchor.subject_der() == subject.issuer_der()) {
            match self.step_to_anchor(anchor, path) {
                Ok(until) => return Some(Path { anchor, until }),
                Err(error) => self.note(path.len(), error),
            }
        }
        for issuer in self.intermediates {
            if issuer.subject_der() != subject.issuer_der() || path.iter().any(|seen| seen.spki() == issuer.spki()) {
                continue;
            }
            if let Err(error) = self.step_to_intermediate(issuer, path) {
                self.note(path.len(), error);
                continue;
            }
            path.push(issuer);
            let found = self.climb(path);
            path.pop();
            if let Some(Path { anchor, until }) = found {
                return Some(Path { anchor, until: until.min(issuer.validity().not_after()) });
            }
        }
        None
    }

    /// An anchor need not say that it is an authority, but must not deny it (row X-27).
    fn step_to_anchor(&mut self, anchor: &Authority, path: &[&Certificate<'a>]) -> Result<Timestamp, X509Error> {
        let certificate = Certificate::parse(anchor.der())?;
        if !anchor.is_ca_or_silent() {
            return Err(X509Error::NotAnAuthority);
        }
        self.check_issuer(&certificate, path)?;
        self.check_signature(anchor.public_key(), path)?;
        Ok(anchor.validity().not_after())
    }

    fn step_to_intermediate(&mut self, issuer: &Certificate<'a>, path: &[&Certificate<'a>]) -> Result<(), X509Error> {
        let signs = issuer.key_usage().is_some_and(super::KeyUsage::key_cert_sign);
        if issuer.basic_constraints_ca() != Some(true) || !signs {
            return Err(X509Error::NotAnAuthority);
        }
        self.check_issuer(issuer, path)?;
        self.check_signature(&issuer.public_key()?, path)
    }

    /// What holds for every issuer: times, path length, usage, constraints.
    fn check_issuer(&self, issuer: &Certificate<'_>, path: &[&Certificate<'a>]) -> Result<(), X509Error> {
        if !issuer.validity().contains(self.now) {
            return Err(X509Error::AuthorityNotValid);
        }
        if issuer.has_unknown_critical_extension() {
            return Err(X509Error::CriticalExtension);
        }
        let below = path.iter().skip(1).filter(|certificate| !certificate.is_self_issued()).count();
        if issuer.path_len().is_some_and(|most| below > most as usize) {
            return Err(X509Error::PathLength);
        }
        // Go and webpki let an issuer's extended key usage bind what it issues.
        let allowed = match (issuer.extended_key_usage(), self.usage) {
            (None, _) => true,
            (Some((server, _)), Usage::Server) => server,
            (Some((_, client)), Usage::Client) => client,
            (Some((server, client)), Usage::Any) => server && client,
        };
        if !allowed {
            return Err(X509Error::ExtendedKeyUsage);
        }
        let Some(constraints) = issuer.name_constraints() else { return Ok(()) };
        let mut bound = path.iter().enumerate().filter(|(at, below)| *at == 0 || !below.is_self_issued());
        if bound.all(|(_, below)| constraints.allow(below)) { Ok(()) } else { Err(X509Error::NameConstraint) }
    }

    fn check_signature(&mut self, issuer: &PublicKey, path: &[&Certificate<'a>]) -> Result<(), X509Error> {
        if self.signatures >= MAX_SIGNATURES {
            return Err(X509Error::TooManySignatures);
        }
        self.signatures += 1;
        path.last().ok_or(X509Error::NoPath)?.verify_signature(issuer)
    }

    /// Later ones of the same length do not replace the first, but one says more than a signature of another key.
    fn note(&mut self, length: usize, error: X509Error) {
        let says_more = self.best.1 == X509Error::BadSignature;
        if length > self.best.0 || (length == self.best.0 && says_more) || error == X509Error::TooManySignatures {
            self.best = (length, error);
        }
    }
}
