//! May this node have that credential, now? The registry's half of `authorize` (DESIGN 2).

mod renderings;

use std::sync::Arc;

use mayfly_sdk::{Reason, Refusal, Selector, SpiffeId, Timestamp, Ttl};

pub(super) use renderings::Renderings;

use super::entry::{Entry, NodeMatch};
use super::facts::{AssertedFacts, NodeFacts};
use super::template::{FactOf, Placeholder};
use super::uid::Uid;
use super::{Registry, Rules};

/// A node asks for a credential for one of its workloads.
#[derive(Debug, Clone, Copy)]
pub struct MintRequest<'a> {
    /// The node, as the issuer attested it.
    pub node: &'a NodeFacts,
    /// The entry.
    pub entry: Uid,
    /// The issuance of the entry that the node knows.
    pub issuance: u64,
    /// What the node says about the workload: the facts that the entry's template uses.
    pub facts: &'a AssertedFacts,
    /// What is asked for.
    pub wanted: Wanted<'a>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// An X.509-SVID.
    X509,
    /// A WIT-SVID. It lives as long as an X.509-SVID of the entry.
    Wit,
    /// A JWT-SVID for these audiences.
    Jwt {
        /// At least one.
        audiences: &'a [String],
    },
}

/// The registry's consent to one credential.
#[derive(Debug, Clone)]
pub struct Authorization {
    /// The entry that it rests on.
    pub entry: Arc<Entry>,
    /// The identity, rendered.
    pub spiffe_id: SpiffeId,
    /// The lifetime, counted from now. Shorter than the entry asks for only where the entry itself ends before.
    pub ttl: Ttl,
}

impl Authorization {
    /// DNS SANs of an X.509-SVID.
    #[must_use]
    pub fn dns_names(&self) -> &[Box<str>] {
        &self.entry.spec.extra().dns_names
    }

    /// Static extra claims of a JWT-SVID.
    #[must_use]
    pub fn claims(&self) -> &serde_json::Map<String, serde_json::Value> {
        &self.entry.spec.extra().claims
    }
}

/// The most audiences of one JWT-SVID.
const MAX_AUDIENCES: usize = 16;
/// The longest audience, in bytes.
const MAX_AUDIENCE_BYTES: usize = 2048;

impl Registry {
    /// Decides whether a node may have a credential now.
    ///
    /// Of the entry's selectors only those that concern the facts at hand can be checked here: the node attests its
    /// workloads itself. What the template uses must agree with them.
    ///
    /// # Errors
    /// The refusal says which condition does not hold. After [`Reason::EntryChanged`] the node has, or is about to get,
    /// the newer entry and asks again.
    pub fn authorize(&self, request: &MintRequest<'_>, now: Timestamp) -> Result<Authorization, Refusal> {
        let entry = self
            .get(request.entry)
            .ok_or_else(|| Refusal::new(Reason::UnknownEntry, format!("there is no entry {}", request.entry)))?;
        if !entry.may_be_served_by(request.node) {
            return Err(Refusal::new(
                Reason::EntryNotForNode,
                format!("the entry {} is not for the node {}", entry.name(), request.node.spiffe_id),
            ));
        }
        if entry.issuance != request.issuance {
            return Err(Refusal::new(
                Reason::EntryChanged,
                format!(
                    "the entry {} is at issuance {}, the node asked for {}",
                    entry.name(),
                    entry.issuance,
                    request.issuance
                ),
            ));
        }
        if entry.is_expired(now) {
            return Err(Refusal::new(Reason::EntryExpired, format!("the entry {} has ended", entry.name())));
        }
        if let Wanted::Jwt { audiences } = request.wanted {
            entry.check_audiences(audiences)?;
        }
        entry.check_facts(request.facts.as_slice())?;
        let spiffe_id = entry.spec.spiffe_id.render(request.node, request.facts)?;
        let ttl = entry.lifetime(request.wanted, self.rules(), now)?;
        if entry.spec.spiffe_id.uses_workload() {
            self.renderings.admit(
                &request.node.spiffe_id,
                entry,
                &spiffe_id,
                now,
                now.saturating_add(ttl),
                self.rules(),
            )?;
        }
        Ok(Authorization { entry: Arc::clone(entry), spiffe_id, ttl })
    }

    /// Forgets what was counted for a node that is gone.
    pub fn forget_node(&self, node: &SpiffeId) {
        self.renderings.forget(node);
    }
}

impl Entry {
    /// Whether one of the alternatives of `node` holds.
    #[must_use]
    pub fn may_be_served_by(&self, node: &NodeFacts) -> bool {
        self.spec.node.iter().any(|alternative| match alternative {
            NodeMatch::Id(id) => *id == node.spiffe_id,
            NodeMatch::Selectors(all) => {
                !all.is_empty() && all.iter().all(|selector| node.selectors.contains(selector))
            }
            NodeMatch::Agentless(_) => false,
        })
    }

    fn check_audiences(&self, audiences: &[String]) -> Result<(), Refusal> {
        if audiences.is_empty() || audiences.len() > MAX_AUDIENCES {
            return Err(Refusal::new(
                Reason::InvalidArgument,
                format!("a JWT-SVID needs from 1 to {MAX_AUDIENCES} audiences"),
            ));
        }
        if audiences.iter().any(|audience| audience.is_empty() || audience.len() > MAX_AUDIENCE_BYTES) {
            return Err(Refusal::new(
                Reason::InvalidArgument,
                format!("an audience has from 1 to {MAX_AUDIENCE_BYTES} bytes"),
            ));
        }
        let allowed = &self.spec.extra().jwt_audiences;
        match audiences.iter().find(|audience| !allowed.iter().any(|allowed| **allowed == ***audience)) {
            Some(audience) if !allowed.is_empty() => Err(Refusal::new(
                Reason::AudienceNotAllowed,
                format!("the entry {} does not allow the audience {audience:?}", self.name()),
            )),
            _ => Ok(()),
        }
    }

    /// The facts that the template uses must have allowed values, and must not contradict the entry's own selectors.
    pub(super) fn check_facts(&self, facts: &[Selector]) -> Result<(), Refusal> {
        for placeholder in self.spec.spiffe_id.placeholders().filter(|placeholder| placeholder.of == FactOf::Workload) {
            for fact in facts.iter().filter(|fact| placeholder.names(fact)) {
                let demanded = self.spec.selectors.iter().filter(|selector| placeholder.names(selector));
                let allowed = self.allowed_values(&placeholder);
                if demanded.into_iter().any(|selector| selector != fact)
                    || allowed.is_some_and(|allowed| !allowed.iter().any(|value| **value == *fact.value()))
                {
                    return Err(Refusal::new(
                        Reason::TemplateFactRefused,
                        format!("the entry {} does not allow {:?} for {placeholder}", self.name(), fact.value()),
                    ));
                }
            }
        }
        Ok(())
    }

    fn allowed_values(&self, placeholder: &Placeholder<'_>) -> Option<&[Box<str>]> {
        let name = format!("{}.{}", placeholder.kind, placeholder.key);
        self.spec.extra().allowed_values.get(name.as_str()).map(AsRef::as_ref)
    }

    pub(super) fn lifetime(&self, wanted: Wanted<'_>, rules: &Rules, now: Timestamp) -> Result<Ttl, Refusal> {
        let (ttl, longest) = match wanted {
            Wanted::X509 => (self.spec.x509_ttl.unwrap_or(rules.default_x509_ttl), rules.longest_x509_ttl),
            Wanted::Wit => (self.spec.x509_ttl.unwrap_or(rules.default_x509_ttl), rules.longest_wit_ttl),
            Wanted::Jwt { .. } => (self.spec.jwt_ttl.unwrap_or(rules.default_jwt_ttl), rules.longest_jwt_ttl),
        };
        if ttl > longest {
            return Err(Refusal::new(
                Reason::InvalidTtl,
                format!(
                    "the entry {} asks for a lifetime of {ttl}, and the authorities allow at most {longest}",
                    self.name()
                ),
            ));
        }
        Ok(self.spec.expires_at.map_or(ttl, |end| ttl.min(end.remaining(now))))
    }
}

#[cfg(test)]
mod tests;
