use mayfly_proto::{node, task as wire};
use mayfly_sdk::task::{MAX_AUDIENCE, MAX_TOKEN_BYTES};
use mayfly_sdk::{Reason, Refusal};
use tonic::Status;

use crate::holdings::Entry;
use crate::workload_api::Shared;
use crate::workload_api::caller::Caller;
use crate::workload_api::entitlement::Entitlement;

/// The longest certificate, in bytes.
const MOST_CERTIFICATE: usize = 16 * 1024;

/// Asks the issuer whether a token is good at this moment, for a caller whose entry serves the audience.
///
/// # Errors
/// [`Reason::AudienceNotServed`] for a caller that does not serve it, and what the issuer says, in its words.
pub(super) async fn validate(
    shared: &Shared,
    caller: &Caller,
    request: wire::ValidateRequest,
) -> Result<wire::ValidateResponse, Status> {
    let wire::ValidateRequest { token, audience, peer_certificate } = request;
    let wrong = |reason, what: &str| Err(Refusal::new(reason, what).into());
    checked_audience(&audience)?;
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return wrong(Reason::TaskTokenInvalid, "the token is missing, or longer than 8 KiB");
    }
    if peer_certificate.len() > MOST_CERTIFICATE {
        return wrong(Reason::InvalidArgument, "the certificate is longer than 16 KiB");
    }
    let entitlement = shared.entitlement_of_newcomer(caller).await?;
    let entry = serving(&entitlement, &audience)?;
    let binding_checked = !peer_certificate.is_empty();
    let service = entitlement.subject(entry)?.to_wire(entry.issuance());
    let request = node::CheckTaskRequest { service: Some(service), token, audience, peer_certificate };
    let checked = shared.tasks.check(request).await?;
    Ok(wire::ValidateResponse { claims: checked.claims, binding_checked })
}

/// Bounds the URI of a resource.
///
/// # Errors
/// [`Reason::InvalidArgument`].
pub(super) fn checked_audience(audience: &str) -> Result<(), Refusal> {
    if audience.is_empty() || audience.len() > MAX_AUDIENCE {
        return Err(Refusal::new(Reason::InvalidArgument, "an audience has 1 to 512 bytes"));
    }
    Ok(())
}

/// The entry by which a caller serves an audience.
///
/// # Errors
/// [`Reason::AudienceNotServed`].
pub(super) fn serving<'a>(entitlement: &'a Entitlement, audience: &str) -> Result<&'a Entry, Refusal> {
    entitlement.entries.iter().find(|entry| entry.serves(audience)).map(|entry| &**entry).ok_or_else(|| {
        // The audience is the caller's own text.
        let shown: String = audience.chars().filter(|character| !character.is_control()).collect();
        Refusal::new(Reason::AudienceNotServed, format!("no entry of this workload serves {shown}"))
    })
}
