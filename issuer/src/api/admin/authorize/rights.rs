//! What a remote caller may do: grants, the objects that they cover, and the grants that they cover.

use mayfly_sdk::{SpiffeId, Timestamp};

use crate::registry::{AdminGrant, Registry, Template};

/// The verb of granting; only the local socket gives it away.
pub(super) const ADMIN: &str = "admin";
/// The noun that only the local socket gives away.
const AUTHORITY: &str = "authority";

/// What a call is about.
#[derive(Debug, Clone, Copy)]
pub enum Object<'a> {
    /// The whole trust domain, or what has neither owner nor id.
    Everything,
    /// The entries of an owner, before it is known which.
    EntriesOf(&'a str),
    /// One entry.
    Entry {
        /// Whose file it stands in.
        owner: &'a str,
        /// The identity, with its placeholders.
        spiffe_id: &'a Template,
    },
    /// One node; nodes have no owner.
    Node(&'a SpiffeId),
    /// A task of a workload.
    Task {
        /// Whose file its entry stands in; `None` if that is gone.
        owner: Option<&'a str>,
        /// Who holds it.
        holder: &'a SpiffeId,
    },
}

/// The grants that one SPIFFE ID holds at one moment.
#[derive(Debug)]
pub struct Grants<'r>(Vec<&'r AdminGrant>);

impl<'r> Grants<'r> {
    /// Those of the entries with exactly this SPIFFE ID that have not ended at `now`.
    #[must_use]
    pub fn of(registry: &'r Registry, id: &SpiffeId, now: Timestamp) -> Self {
        // The identities of nodes and issuers are no administrators' (DESIGN 3).
        if id.is_reserved() || !id.is_member_of(&registry.rules().trust_domain) {
            return Self(Vec::new());
        }
        let live = registry.administrators(id).filter(|entry| !entry.is_expired(now));
        Self(live.flat_map(|entry| &entry.spec.extra().admin).collect())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them has this verb, for whatever objects.
    #[must_use]
    pub fn have(&self, verb: &str) -> bool {
        self.0.iter().any(|grant| has(grant, verb))
    }

    /// Whether one of them has this verb for this object.
    #[must_use]
    pub fn allow(&self, verb: &str, object: Object<'_>) -> bool {
        self.0.iter().any(|grant| has(grant, verb) && reaches(grant, object))
    }

    /// Whether the holder has everything that `grant` would give: each of its verbs, no further than he has it himself.
    #[must_use]
    pub fn cover(&self, grant: &AdminGrant) -> bool {
        let no_wider = |own: &&&AdminGrant| {
            let prefix = own.id_prefix.as_ref().is_none_or(|own| {
                grant.id_prefix.as_ref().is_some_and(|prefix| is_at_or_below(prefix.as_str(), own.as_str()))
            });
            prefix && own.owner.as_ref().is_none_or(|own| grant.owner.as_ref() == Some(own))
        };
        let within: Vec<_> = self.0.iter().filter(no_wider).collect();
        grant.verbs.iter().all(|verb| within.iter().any(|own| own.verbs.iter().any(|own| includes(own, verb))))
    }
}

/// Whether only the local socket may grant it: `admin`, `authority:*`, and every pattern that includes a verb of it.
pub(super) fn is_local_only(grant: &AdminGrant) -> bool {
    let reaches_it = |verb: &str| verb.split_once(':').is_none_or(|(noun, _)| noun == AUTHORITY || noun == "*");
    grant.verbs.iter().any(|verb| reaches_it(verb))
}

fn has(grant: &AdminGrant, verb: &str) -> bool {
    grant.verbs.iter().any(|own| includes(own, verb))
}

/// Whether a verb or pattern includes another. `admin` is included by nothing but itself.
fn includes(own: &str, other: &str) -> bool {
    match (own.split_once(':'), other.split_once(':')) {
        (Some((own_noun, own_verb)), Some((noun, verb))) => {
            (own_noun == "*" || own_noun == noun) && (own_verb == "*" || own_verb == verb)
        }
        _ => own == other,
    }
}

fn reaches(grant: &AdminGrant, object: Object<'_>) -> bool {
    let owner = |of: Option<&str>| grant.owner.as_deref().is_none_or(|owner| of == Some(owner));
    let prefix = |of: Option<&str>| {
        grant.id_prefix.as_ref().is_none_or(|prefix| of.is_some_and(|of| is_at_or_below(of, prefix.as_str())))
    };
    match object {
        Object::Everything => owner(None) && prefix(None),
        Object::EntriesOf(of) => owner(Some(of)),
        // Every rendering lies below the fixed prefix, or is it.
        Object::Entry { owner: of, spiffe_id } => owner(Some(of)) && prefix(Some(spiffe_id.fixed_prefix())),
        Object::Node(id) => owner(None) && prefix(Some(id.as_str())),
        Object::Task { owner: of, holder } => owner(of) && prefix(Some(holder.as_str())),
    }
}

/// Whole path segments: `/teamx` is not below `/team`.
fn is_at_or_below(id: &str, prefix: &str) -> bool {
    id.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
