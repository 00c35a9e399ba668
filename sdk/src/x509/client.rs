use super::{Authority, Certificate, Usage, X509Error, path};
use crate::time::Timestamp;

/// Verifies the chain of a certificate that is no SVID and authenticates a client all the same, such as the one that a
/// machine got from the public key infrastructure of its owner. Returns the anchor that it leads to.
///
/// The rules are those of RFC 5280 6: times, signatures, path lengths, constraints. A leaf that says what it may be used
/// for must allow client authentication by signature. Its names are not looked at: they are for the caller to judge. How
/// many certificates there are, and how strong their keys, is for the caller to bound **before**.
///
/// # Errors
/// An [`X509Error`]: what is wrong with the leaf, or with the most promising path that was tried.
pub fn verify_client<'s>(
    leaf: &Certificate<'_>,
    intermediates: &[Certificate<'_>],
    anchors: &'s [Authority],
    now: Timestamp,
) -> Result<&'s Authority, X509Error> {
    let key_usage = leaf.key_usage();
    let signs = key_usage.is_some_and(|usage| usage.key_cert_sign() || usage.crl_sign());
    if leaf.basic_constraints_ca() == Some(true) || signs {
        return Err(X509Error::LeafIsAuthority);
    }
    if key_usage.is_some_and(|usage| !usage.digital_signature()) {
        return Err(X509Error::LeafKeyUsage);
    }
    if leaf.extended_key_usage().is_some_and(|(_, client)| !client) {
        return Err(X509Error::ExtendedKeyUsage);
    }
    if leaf.has_unknown_critical_extension() || leaf.name_constraints().is_some() {
        return Err(X509Error::CriticalExtension);
    }
    if now < leaf.validity().not_before() {
        return Err(X509Error::NotYetValid);
    }
    if now > leaf.validity().not_after() {
        return Err(X509Error::Expired);
    }
    Ok(path::find(leaf, intermediates, anchors, now, Usage::Client)?.anchor)
}
