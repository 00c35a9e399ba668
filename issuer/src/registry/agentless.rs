//! May this caller, who is no node agent, have an X.509-SVID now?
//!
//! What it is was verified by the issuer itself, so that all of an entry's selectors are checked here, and a template may
//! rest on any claim of the token.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use mayfly_sdk::{Reason, Refusal, Selector, SpiffeId, Timestamp};

use super::authorize::{Authorization, Wanted};
use super::entry::Entry;
use super::{NodeMatch, Registry};

/// A caller whose token was verified. Not a node: its claims are about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentlessCaller {
    /// Where it comes from, as the ledger says it: `spiffe://T/mayfly/agentless/<issuer name>`.
    pub origin: SpiffeId,
    /// The name of the issuer of its token in the configuration.
    pub issuer: Arc<str>,
    /// What its token says, as `oidc:<claim>:<value>`.
    pub claims: Arc<[Selector]>,
}

/// What such a caller asks for.
#[derive(Debug, Clone, Copy)]
pub struct AgentlessRequest<'a> {
    /// Who asks.
    pub caller: &'a AgentlessCaller,
    /// Which identity; none: the first.
    pub spiffe_id: Option<&'a SpiffeId>,
}

impl Registry {
    /// Decides which identity a caller without a node agent gets.
    ///
    /// # Errors
    /// [`Reason::NoIdentity`]: no entry that has not ended is for this issuer and these claims, or none gives the identity
    /// that was asked for. Otherwise what keeps the one that is.
    pub fn authorize_agentless(
        &self,
        request: &AgentlessRequest<'_>,
        now: Timestamp,
    ) -> Result<Authorization, Refusal> {
        let AgentlessRequest { caller, spiffe_id } = *request;
        let marker = marker(&caller.issuer)?;
        let facts = caller.claims.iter().chain([&marker]);
        let mut entries: Vec<&Arc<Entry>> =
            self.by_claims.matches(facts).iter().filter_map(|alternative| self.at(alternative.slot)).collect();
        entries.sort_by_key(|entry| entry.order());
        let mut refused = None;
        for entry in entries.into_iter().filter(|entry| !entry.is_expired(now)) {
            match self.consent(entry, caller, spiffe_id, now) {
                Ok(Some(consent)) => return Ok(consent),
                Ok(None) => {}
                Err(refusal) => {
                    refused.get_or_insert(refusal);
                }
            }
        }
        Err(refused.unwrap_or_else(|| {
            let wanted = spiffe_id.map(|id| format!(" {id} to")).unwrap_or_default();
            let what = format!("no entry gives{wanted} a caller from agentless:{} with these claims", caller.issuer);
            Refusal::new(Reason::NoIdentity, what)
        }))
    }

    /// The consent of one entry; none if it gives another identity than the one that was asked for.
    fn consent(
        &self,
        entry: &Arc<Entry>,
        caller: &AgentlessCaller,
        wanted: Option<&SpiffeId>,
        now: Timestamp,
    ) -> Result<Option<Authorization>, Refusal> {
        entry.check_facts(&caller.claims)?;
        let spiffe_id = entry.spec.spiffe_id.render_claims(&caller.claims)?;
        if wanted.is_some_and(|wanted| *wanted != spiffe_id) {
            return Ok(None);
        }
        let ttl = entry.lifetime(Wanted::X509, self.rules(), now)?;
        if entry.spec.spiffe_id.uses_workload() {
            let until = now.saturating_add(ttl);
            self.renderings.admit(&caller.origin, entry, &spiffe_id, now, until, self.rules())?;
        }
        Ok(Some(Authorization { entry: Arc::clone(entry), spiffe_id, ttl }))
    }
}

/// Stands among the selectors of an entry for one issuer, so that one index finds the entries of all.
pub(super) fn marker(issuer: &str) -> Result<Selector, Refusal> {
    Ok(Selector::new("agentless", "issuer", issuer)?)
}

/// What an entry for callers without a node agent must be, beside what every entry is: it is for no node as well, every
/// condition is one on a claim, and its template rests on claims.
///
/// # Errors
/// The first rule that does not hold, and the key that it is about.
pub(super) fn check(
    node: &[NodeMatch],
    selectors: &[Selector],
    uses_node: bool,
) -> Result<(), (&'static str, Refusal)> {
    let invalid = |what: &str| Refusal::new(Reason::InvalidValue, what);
    if !node.iter().all(|node| matches!(node, NodeMatch::Agentless(_))) {
        return Err(("node", invalid("an entry is either for nodes or for agentless callers, not for both")));
    }
    if selectors.iter().any(|selector| selector.kind() != "oidc") {
        return Err((
            "selectors",
            invalid("agentless callers have claims only, which are written oidc:<claim>:<value>"),
        ));
    }
    if uses_node {
        return Err(("spiffe_id", invalid("agentless callers have no node whose facts a template could use")));
    }
    Ok(())
}
