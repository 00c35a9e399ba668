//! JWT-SVIDs as the Workload API hands them out.

use std::fmt;

use mayfly_proto::workload::{JwtsvidResponse, ValidateJwtsvidResponse};
use zeroize::Zeroizing;

use super::context::{invalid, mandatory};
use crate::id::SpiffeId;
use crate::jwt::{Audience, UnverifiedJwt, insecure_claims};
use crate::reason::Refusal;

/// A JWT-SVID of one's own, as the agent handed it out. Its text shows in no `Debug`.
pub struct FetchedJwt {
    token: Zeroizing<String>,
    claims: UnverifiedJwt,
    hint: Option<String>,
}

impl FetchedJwt {
    /// The token, as it goes into `Authorization: Bearer`.
    #[must_use]
    pub fn expose_token(&self) -> &str {
        &self.token
    }

    /// Whom it names.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        self.claims.spiffe_id()
    }

    /// What it says; nobody verified it here.
    #[must_use]
    pub fn claims(&self) -> &UnverifiedJwt {
        &self.claims
    }

    /// What it is meant for, where the caller has several identities.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Debug for FetchedJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FetchedJwt({} until {})", self.spiffe_id(), self.claims.expires_at())
    }
}

/// A JWT-SVID that the agent validated for the caller.
#[derive(Debug)]
pub struct ValidatedJwt {
    claims: UnverifiedJwt,
}

impl ValidatedJwt {
    /// Whom it names.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        self.claims.spiffe_id()
    }

    /// The claims of the token, read here from its text: the agent's answer carries numbers as doubles (row WA-48).
    #[must_use]
    pub fn claims(&self) -> &UnverifiedJwt {
        &self.claims
    }
}

/// Checks the agent's answer: a token for each identity, for all audiences that were asked for (rows WA-11, WA-13).
pub(super) fn fetched(response: JwtsvidResponse, audiences: &[Audience]) -> Result<Vec<FetchedJwt>, Refusal> {
    if response.svids.is_empty() {
        return Err(invalid("it has no SVID"));
    }
    let mut fetched: Vec<FetchedJwt> = Vec::with_capacity(response.svids.len());
    for svid in response.svids {
        let token = Zeroizing::new(svid.svid);
        mandatory("svid", token.as_bytes())?;
        let claims =
            insecure_claims(&token).map_err(|error| invalid(&format!("a JWT-SVID cannot be read: {error}")))?;
        if claims.spiffe_id().as_str() != svid.spiffe_id {
            return Err(invalid("a JWT-SVID names another identity than the message"));
        }
        if !audiences.iter().all(|asked| claims.audience().iter().any(|audience| audience == asked.as_str())) {
            return Err(invalid("a JWT-SVID lacks an audience that was asked for"));
        }
        let hint = Some(svid.hint).filter(|hint| !hint.is_empty());
        if hint.is_some() && fetched.iter().any(|earlier| earlier.hint == hint) {
            continue;
        }
        fetched.push(FetchedJwt { token, claims, hint });
    }
    Ok(fetched)
}

/// Checks that the agent's verdict is about this token.
pub(super) fn validated(response: &ValidateJwtsvidResponse, token: &str) -> Result<ValidatedJwt, Refusal> {
    mandatory("spiffe_id", response.spiffe_id.as_bytes())?;
    let claims = insecure_claims(token)
        .map_err(|error| invalid(&format!("it validates a token that cannot be read: {error}")))?;
    if claims.spiffe_id().as_str() != response.spiffe_id {
        return Err(invalid("it names another identity than the token"));
    }
    Ok(ValidatedJwt { claims })
}
