//! What every kind of credential is checked for.

use mayfly_sdk::{PublicKey, Reason, Refusal, SpiffeId, TrustDomain};
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};

/// The identity that the issuer says it issued: of this trust domain, a workload's, and no reserved one.
///
/// # Errors
/// [`Reason::MessageInvalid`].
pub(super) fn workload_id(text: &str, trust_domain: &TrustDomain) -> Result<SpiffeId, Refusal> {
    let wrong = |why: &str| {
        Refusal::new(Reason::MessageInvalid, format!("the issuer sent a credential for {text}, which is {why}"))
    };
    let id: SpiffeId = text.parse().map_err(|_not_an_id: mayfly_sdk::id::IdError| wrong("not a SPIFFE ID"))?;
    if !id.is_member_of(trust_domain) {
        return Err(wrong("of another trust domain"));
    }
    if id.is_root() || id.is_reserved() {
        return Err(wrong("not a workload's"));
    }
    Ok(id)
}

/// The key id (hex SHA-1 of the SPKI's bit string, RFC 5280 4.2.1.2) by which taints name an authority.
pub(super) fn key_id(key: &PublicKey) -> Option<String> {
    let (_, spki) = SubjectPublicKeyInfo::from_der(key.spki()).ok()?;
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &spki.subject_public_key.data);
    Some(hex::encode(digest))
}
