//! `ValidateJWTSVID`.

use mayfly_proto::workload as wire;
use mayfly_sdk::bundle::JwtBundleSet;
use mayfly_sdk::jwt::{self, Audience, Options};
use mayfly_sdk::{Reason, Refusal};

use super::Shared;
use super::caller::Caller;
use super::claims::to_struct;

/// The longest token that is looked at, in bytes.
const MOST_BYTES: usize = 64 * 1024;

/// Validates a token against the bundles that the caller would get: its own trust domain's, and those that its entries federate with.
///
/// # Errors
/// [`Reason::InvalidArgument`] and the like for a token that does not hold, [`Reason::NoIdentity`] for a caller that has none.
pub(super) async fn validate(
    shared: &Shared,
    caller: &Caller,
    request: wire::ValidateJwtsvidRequest,
) -> Result<wire::ValidateJwtsvidResponse, Refusal> {
    let wire::ValidateJwtsvidRequest { audience, svid } = request;
    let wrong = |what: &str| Err(Refusal::new(Reason::InvalidArgument, what));
    if audience.is_empty() {
        return wrong("the audience is missing");
    }
    if svid.is_empty() {
        return wrong("the token is missing");
    }
    if svid.len() > MOST_BYTES {
        return wrong("the token is longer than 64 KiB");
    }
    let entitlement = shared.entitlement_of_newcomer(caller).await?;
    let holdings = shared.link.holdings.borrow();
    let federated = entitlement.entries.iter().flat_map(|entry| entry.federates_with());
    let bundles = std::iter::once(&shared.trust_domain)
        .chain(federated)
        .filter_map(|trust_domain| holdings.bundle(trust_domain))
        .map(|held| held.bundle().jwt.clone())
        .collect::<JwtBundleSet>();
    let audience = Audience::new(audience).map_err(Refusal::from)?;
    let svid =
        jwt::verify(&svid, &bundles, &audience, shared.clock.now(), &Options::default()).map_err(Refusal::from)?;
    let denials = holdings.denials();
    let jti = svid.claims().get("jti").and_then(serde_json::Value::as_str);
    if denials.denies_id(svid.spiffe_id()) || jti.is_some_and(|jti| denials.serials.contains(jti)) {
        return Err(Refusal::new(Reason::JwtSvidUntrusted, "the token or its subject was revoked"));
    }
    Ok(wire::ValidateJwtsvidResponse { spiffe_id: svid.spiffe_id().to_string(), claims: Some(to_struct(&svid)) })
}
