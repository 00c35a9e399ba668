//! `FetchJWTSVID`.

use std::sync::Arc;
use std::time::Duration;

use mayfly_proto::workload as wire;
use mayfly_sdk::{Reason, Refusal, SpiffeId, Whose};
use tokio::time::Instant;

use super::Shared;
use super::caller::Caller;
use super::entitlement::{Entitlement, no_identity};
use super::hints::unique_hints;
use super::leases::as_lack_of_identity;
use crate::holdings::Entry;
use crate::identity::{Held, Jwt, JwtRequest, Lease, Standing};

/// How long a call waits for a token that is being minted.
const MINT_WITHIN: Duration = Duration::from_secs(5);
/// The most audiences of one token; validators take no more.
const MOST_AUDIENCES: usize = 32;

/// Tokens of the caller for the audiences that it names: of all its identities, or of the one that it names.
///
/// # Errors
/// As B4 of the conformance table: [`Reason::InvalidArgument`], [`Reason::NoIdentity`], [`Reason::Unavailable`].
pub(super) async fn fetch(
    shared: &Shared,
    caller: &Caller,
    request: wire::JwtsvidRequest,
) -> Result<wire::JwtsvidResponse, Refusal> {
    let wire::JwtsvidRequest { audience, spiffe_id } = request;
    check_audience(&audience)?;
    if !spiffe_id.is_empty() {
        spiffe_id.parse::<SpiffeId>().map_err(|error| Refusal::new(error.reason(), error.to_string()))?;
    }
    let entitlement = shared.entitlement_of_newcomer(caller).await?;
    let wanted =
        |entry: &Arc<Entry>| spiffe_id.is_empty() || entry.rendered(&entitlement.facts).as_ref() == Some(&spiffe_id);
    let mut entries = unique_hints(&entitlement.entries);
    entries.retain(wanted);
    if entries.is_empty() {
        return Err(Refusal::new(
            Reason::NoIdentity,
            format!("no identity issued: {spiffe_id} is not this workload's"),
        ));
    }
    let svids = tokens(shared, &entitlement, &entries, &JwtRequest::new(audience)).await?;
    Ok(wire::JwtsvidResponse { svids })
}

fn check_audience(audience: &[String]) -> Result<(), Refusal> {
    let wrong = |what: &str| Err(Refusal::new(Reason::InvalidArgument, what));
    if audience.is_empty() {
        return wrong("the audience is missing");
    }
    if audience.iter().any(String::is_empty) {
        return wrong("an audience is empty");
    }
    if audience.len() > MOST_AUDIENCES {
        return wrong("a token has 32 audiences at most");
    }
    Ok(())
}

async fn tokens(
    shared: &Shared,
    entitlement: &Entitlement,
    entries: &[Arc<Entry>],
    request: &JwtRequest,
) -> Result<Vec<wire::Jwtsvid>, Refusal> {
    let deadline = Instant::now() + MINT_WITHIN;
    // All leases first, so that what must be minted goes out together.
    let leases = entries
        .iter()
        .map(|entry| Ok(shared.identities.jwt.lease(entitlement.subject(entry)?, request.clone())))
        .collect::<Result<Vec<_>, Refusal>>()?;
    let (mut svids, mut refused) = (Vec::with_capacity(entries.len()), None);
    for (entry, mut lease) in entries.iter().zip(leases) {
        match token(shared, entry, &mut lease, deadline).await {
            Ok(held) => svids.push(wire::Jwtsvid {
                spiffe_id: held.spiffe_id().to_string(),
                svid: held.credential().expose_token().to_owned(),
                hint: entry.wire().hint.clone(),
            }),
            // Another identity may be allowed what this one is not.
            Err(why) if why.reason == Reason::AudienceNotAllowed => refused = Some(why),
            Err(why) if why.reason.whose() == Whose::Caller => return Err(why),
            Err(why) => return Err(as_lack_of_identity(&why)),
        }
    }
    if svids.is_empty() { Err(refused.unwrap_or_else(no_identity)) } else { Ok(svids) }
}

/// A token with enough left; the one that is held is good for that while a new one is on its way.
async fn token(
    shared: &Shared,
    entry: &Entry,
    lease: &mut Lease<Jwt>,
    deadline: Instant,
) -> Result<Arc<Held<Jwt>>, Refusal> {
    loop {
        lease.mark_seen();
        let refused = lease.refused();
        let usable = lease.held().filter(|held| {
            let enough = held.life().has_left(held.life().floor(), shared.clock.monotonic());
            // While the issuer does not answer, what is not denied serves on.
            match held.standing(entry, &shared.link.holdings.borrow()) {
                Standing::Good => enough,
                Standing::Replace => enough && refused.is_some(),
                Standing::Discard => false,
            }
        });
        if let Some(held) = usable {
            return Ok(held);
        }
        if let Some(why) = refused {
            return Err(Refusal::clone(&why));
        }
        if tokio::time::timeout_at(deadline, lease.changed()).await.is_err() {
            return Err(shared.link.status.borrow().why_nothing_was_minted());
        }
    }
}
