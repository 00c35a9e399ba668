//! Which SPIFFE IDs a connection is for.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::id::{SpiffeId, TrustDomain};
use crate::reason::{Reason, Refusal};

/// Decides by SPIFFE ID whether a verified peer is one that this connection is for.
///
/// Every TLS configuration demands one: a chain that verifies says who the peer is, and not that it may be here.
#[derive(Clone)]
pub struct Authorizer(Rule);

#[derive(Clone)]
enum Rule {
    Any,
    Exact(SpiffeId),
    OneOf(Arc<HashSet<SpiffeId>>),
    MemberOf(TrustDomain),
    IssuerOf(TrustDomain),
    NodeOf(TrustDomain),
    Matcher(Arc<dyn Fn(&SpiffeId) -> bool + Send + Sync>),
}

impl Authorizer {
    /// Every peer whose chain verifies, whatever trust domain it is of: the caller decides afterwards, call by call.
    #[must_use]
    pub const fn any() -> Self {
        Self(Rule::Any)
    }

    /// This peer alone.
    #[must_use]
    pub const fn exact(id: SpiffeId) -> Self {
        Self(Rule::Exact(id))
    }

    /// These peers. An empty list allows nobody.
    pub fn one_of(ids: impl IntoIterator<Item = SpiffeId>) -> Self {
        Self(Rule::OneOf(Arc::new(ids.into_iter().collect())))
    }

    /// Every peer of this trust domain.
    #[must_use]
    pub const fn member_of(trust_domain: TrustDomain) -> Self {
        Self(Rule::MemberOf(trust_domain))
    }

    /// The issuers of this trust domain: `spiffe://T/mayfly/issuer/<name>`, a namespace that no entry can name.
    #[must_use]
    pub const fn issuer_of(trust_domain: TrustDomain) -> Self {
        Self(Rule::IssuerOf(trust_domain))
    }

    /// The nodes of this trust domain: `spiffe://T/mayfly/node/<attestor>/<id>`, a namespace that no entry can name.
    #[must_use]
    pub const fn node_of(trust_domain: TrustDomain) -> Self {
        Self(Rule::NodeOf(trust_domain))
    }

    /// The peers for which `allow` says yes. It is asked during the handshake and must not block.
    pub fn matcher(allow: impl Fn(&SpiffeId) -> bool + Send + Sync + 'static) -> Self {
        Self(Rule::Matcher(Arc::new(allow)))
    }

    /// Whether this peer is one of them.
    #[must_use]
    pub fn allows(&self, id: &SpiffeId) -> bool {
        match &self.0 {
            Rule::Any => true,
            Rule::Exact(only) => id == only,
            Rule::OneOf(ids) => ids.contains(id),
            Rule::MemberOf(trust_domain) => id.is_member_of(trust_domain),
            Rule::IssuerOf(trust_domain) => id.is_member_of(trust_domain) && names_an_issuer(id),
            Rule::NodeOf(trust_domain) => id.is_member_of(trust_domain) && names_a_node(id),
            Rule::Matcher(allow) => allow(id),
        }
    }

    /// Refuses a peer that is not one of them.
    ///
    /// # Errors
    /// `unauthorized_peer`, with the peer's SPIFFE ID.
    pub fn authorize(&self, id: &SpiffeId) -> Result<(), Refusal> {
        if self.allows(id) {
            return Ok(());
        }
        Err(Refusal::new(Reason::UnauthorizedPeer, format!("{id} is not a peer that this connection is for")))
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rule::Any => f.write_str("any"),
            Rule::Exact(id) => write!(f, "exact({id})"),
            Rule::OneOf(ids) => write!(f, "one_of({} ids)", ids.len()),
            Rule::MemberOf(trust_domain) => write!(f, "member_of({trust_domain})"),
            Rule::IssuerOf(trust_domain) => write!(f, "issuer_of({trust_domain})"),
            Rule::NodeOf(trust_domain) => write!(f, "node_of({trust_domain})"),
            Rule::Matcher(_) => f.write_str("matcher(..)"),
        }
    }
}

/// `/mayfly/issuer/<name>`, with exactly one segment for the name.
fn names_an_issuer(id: &SpiffeId) -> bool {
    id.path().strip_prefix("/mayfly/issuer/").is_some_and(|name| !name.is_empty() && !name.contains('/'))
}

/// `/mayfly/node/<attestor>/<id>`, with exactly one segment for each.
fn names_a_node(id: &SpiffeId) -> bool {
    let name = id.path().strip_prefix("/mayfly/node/").and_then(|name| name.split_once('/'));
    name.is_some_and(|(attestor, id)| !attestor.is_empty() && !id.is_empty() && !id.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SpiffeId {
        text.parse().unwrap()
    }

    /// Rows: X-24.
    #[test]
    fn each_rule_allows_what_it_names_and_nothing_else() {
        let (a, b, foreign) = (id("spiffe://td/a"), id("spiffe://td/b"), id("spiffe://other/a"));
        let verdicts = |authorizer: Authorizer| [&a, &b, &foreign].map(|id| authorizer.allows(id));
        assert_eq!(verdicts(Authorizer::any()), [true, true, true]);
        assert_eq!(verdicts(Authorizer::exact(a.clone())), [true, false, false]);
        assert_eq!(verdicts(Authorizer::one_of([a.clone(), foreign.clone()])), [true, false, true]);
        assert_eq!(verdicts(Authorizer::one_of([])), [false, false, false]);
        assert_eq!(verdicts(Authorizer::member_of("td".parse().unwrap())), [true, true, false]);
        assert_eq!(verdicts(Authorizer::matcher(|id| id.path() == "/a")), [true, false, true]);
    }

    #[test]
    fn only_one_segment_below_the_reserved_path_names_an_issuer() {
        let issuers = Authorizer::issuer_of("td".parse().unwrap());
        assert!(issuers.allows(&id("spiffe://td/mayfly/issuer/one")));
        for other in [
            "spiffe://td/mayfly/issuer",
            "spiffe://td/mayfly/issuer/one/more",
            "spiffe://td/mayfly/node/join_token/1",
            "spiffe://td/x/mayfly/issuer/one",
            "spiffe://other/mayfly/issuer/one",
        ] {
            assert!(!issuers.allows(&id(other)), "{other}");
        }
    }

    #[test]
    fn only_two_segments_below_the_reserved_path_name_a_node() {
        let nodes = Authorizer::node_of("td".parse().unwrap());
        assert!(nodes.allows(&id("spiffe://td/mayfly/node/join_token/1")));
        for other in [
            "spiffe://td/mayfly/node/join_token",
            "spiffe://td/mayfly/node/join_token/1/more",
            "spiffe://td/mayfly/issuer/one",
            "spiffe://td/x/mayfly/node/join_token/1",
            "spiffe://td/workload",
            "spiffe://other/mayfly/node/join_token/1",
        ] {
            assert!(!nodes.allows(&id(other)), "{other}");
        }
    }

    #[test]
    fn a_refusal_names_the_peer() {
        let refusal = Authorizer::one_of([]).authorize(&id("spiffe://td/a")).unwrap_err();
        assert_eq!(refusal.reason, Reason::UnauthorizedPeer);
        assert!(refusal.what.contains("spiffe://td/a"));
    }
}
