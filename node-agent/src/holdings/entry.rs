use std::collections::BTreeSet;
use std::sync::Arc;

use mayfly_proto::node;
use mayfly_sdk::{Selector, Timestamp, TrustDomain};

/// A registration entry as this node serves it.
#[derive(Debug)]
pub struct Entry {
    uid: Arc<str>,
    wire: node::Entry,
    selectors: Vec<Selector>,
    federates_with: Vec<TrustDomain>,
    placeholders: Vec<Placeholder>,
}

/// A fact of the workload that the entry's SPIFFE ID is made of: `{type.key}`.
#[derive(Debug, PartialEq, Eq)]
struct Placeholder {
    kind: String,
    key: String,
}

/// Abilities by name that an entry may require and this build has.
const FEATURES: &[&str] = &[crate::tasks::FEATURE];

impl Entry {
    /// Reads an entry from the wire.
    ///
    /// # Errors
    /// What this node cannot serve and why, in the form that goes back to the issuer for operators.
    pub fn read(wire: node::Entry) -> Result<Self, node::EntryProblem> {
        let problem = |reason: &str, what: String| node::EntryProblem {
            entry_uid: wire.uid.clone(),
            reason: reason.to_owned(),
            what,
        };
        if let Some(feature) = wire.required_features.iter().find(|feature| !FEATURES.contains(&feature.as_str())) {
            return Err(problem("feature_missing", format!("this node agent lacks the feature `{feature}`")));
        }
        let selectors = wire
            .selectors
            .iter()
            .map(|text| text.parse::<Selector>())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| problem("invalid_selector", error.to_string()))?;
        let federates_with = wire
            .federates_with
            .iter()
            .map(|text| text.parse::<TrustDomain>())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| problem("invalid_trust_domain", error.to_string()))?;
        let placeholders = placeholders(&wire.spiffe_id)
            .ok_or_else(|| problem("invalid_template", format!("`{}` is not a template", wire.spiffe_id)))?;
        Ok(Self { uid: wire.uid.as_str().into(), selectors, federates_with, placeholders, wire })
    }

    /// Its name for machines: another one when a name is used again.
    #[must_use]
    pub fn uid(&self) -> &Arc<str> {
        &self.uid
    }

    /// As it came over the wire.
    #[must_use]
    pub fn wire(&self) -> &node::Entry {
        &self.wire
    }

    /// What a workload must show to be served; all of them.
    #[must_use]
    pub fn selectors(&self) -> &[Selector] {
        &self.selectors
    }

    /// Trust domains whose bundles go to the workload.
    #[must_use]
    pub fn federates_with(&self) -> &[TrustDomain] {
        &self.federates_with
    }

    /// Changes only when what is issued changes.
    #[must_use]
    pub fn issuance(&self) -> u64 {
        self.wire.issuance
    }

    /// Whether each instance has credentials of its own: always where it begins tasks, whose tokens are bound to them.
    #[must_use]
    pub fn is_per_instance(&self) -> bool {
        self.wire.tasks || self.wire.sharing() == node::Sharing::Instance
    }

    /// Whether its workloads may begin tasks.
    #[must_use]
    pub fn begins_tasks(&self) -> bool {
        self.wire.tasks
    }

    /// Whether its workloads may validate the task tokens of a resource. `*` means any only where it stands alone.
    #[must_use]
    pub fn serves(&self, audience: &str) -> bool {
        matches!(self.wire.serves.as_slice(), [any] if any == "*") || self.wire.serves.iter().any(|uri| uri == audience)
    }

    /// Until when it may be served; none: for ever.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        (self.wire.expires_at != 0).then(|| Timestamp::from_unix_s(self.wire.expires_at))
    }

    /// Where its identity stands among several: lower first, then by uid, so that the order never depends on anything else.
    #[must_use]
    pub fn order(&self) -> (u64, &str) {
        (self.wire.order, &self.uid)
    }

    /// The facts that its template names, of those the workload shows, in a stable order. The issuer renders them; a fact that is
    /// missing or has several values is its to refuse.
    #[must_use]
    pub fn template_facts<'a>(&self, shown: impl IntoIterator<Item = &'a Selector>) -> Arc<[Selector]> {
        if self.placeholders.is_empty() {
            return Arc::default();
        }
        let named = |fact: &&Selector| {
            self.placeholders.iter().any(|place| place.kind == fact.kind() && place.key == fact.key())
        };
        let mut facts: Vec<Selector> = shown.into_iter().filter(named).cloned().collect();
        facts.sort_unstable();
        facts.dedup();
        facts.into()
    }

    /// Type and key of each fact that the template names.
    pub(super) fn placeholders(&self) -> impl Iterator<Item = (&str, &str)> {
        self.placeholders.iter().map(|place| (place.kind.as_str(), place.key.as_str()))
    }

    /// What the issuer will render for a workload with these facts; none where a fact is missing or has several values. For looking an
    /// identity up by name only: what an SVID says is the issuer's.
    #[must_use]
    pub fn rendered(&self, shown: &BTreeSet<Selector>) -> Option<String> {
        let mut text = self.wire.spiffe_id.clone();
        for Placeholder { kind, key } in &self.placeholders {
            let mut values = shown.iter().filter(|fact| fact.kind() == kind && fact.key() == key);
            let value = values.next().filter(|_| values.next().is_none())?;
            text = text.replace(&format!("{{{kind}.{key}}}"), value.value());
        }
        Some(text)
    }
}

/// The placeholders of a template; none where it is not one.
fn placeholders(template: &str) -> Option<Vec<Placeholder>> {
    let mut found = Vec::new();
    let mut rest = template;
    while let Some((_, after)) = rest.split_once('{') {
        let (inside, after) = after.split_once('}')?;
        let (kind, key) = inside.split_once('.')?;
        if kind.is_empty() || key.is_empty() {
            return None;
        }
        found.push(Placeholder { kind: kind.to_owned(), key: key.to_owned() });
        rest = after;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(spiffe_id: &str) -> node::Entry {
        node::Entry { uid: "e1".to_owned(), spiffe_id: spiffe_id.to_owned(), ..node::Entry::default() }
    }

    fn facts(texts: &[&str]) -> Vec<Selector> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_template_sends_only_the_facts_it_names() {
        let entry = Entry::read(entry("spiffe://example.org/{unix.user}/app")).unwrap();
        let shown = facts(&["unix:uid:1000", "unix:user:alice", "unix:path:/bin/x"]);
        assert_eq!(entry.template_facts(&shown).as_ref(), facts(&["unix:user:alice"]).as_slice());
        let shown = shown.into_iter().collect();
        assert_eq!(entry.rendered(&shown).as_deref(), Some("spiffe://example.org/alice/app"));
        assert_eq!(entry.rendered(&BTreeSet::new()), None);
    }

    #[test]
    fn an_entry_without_a_template_sends_no_facts() {
        let entry = Entry::read(entry("spiffe://example.org/app")).unwrap();
        assert!(entry.template_facts(&facts(&["unix:uid:1000"])).is_empty());
    }

    #[test]
    fn any_audience_is_served_only_where_the_star_stands_alone() {
        let serves = |uris: &[&str], audience: &str| {
            let serves = uris.iter().map(ToString::to_string).collect();
            Entry::read(node::Entry { serves, ..entry("spiffe://example.org/app") }).unwrap().serves(audience)
        };
        assert!(serves(&["https://a.example/"], "https://a.example/") && serves(&["*"], "https://a.example/"));
        assert!(!serves(&["*", "https://b.example/"], "https://a.example/"));
        assert!(!serves(&["https://a.example/"], "https://a.example") && !serves(&[], "https://a.example/"));
    }

    #[test]
    fn an_entry_whose_workloads_begin_tasks_is_never_shared() {
        assert!(
            Entry::read(node::Entry { tasks: true, ..entry("spiffe://example.org/app") }).unwrap().is_per_instance()
        );
    }

    #[test]
    fn an_entry_that_needs_an_unknown_feature_is_a_problem_and_not_served() {
        let mut wire = entry("spiffe://example.org/app");
        wire.required_features.push("teleport".to_owned());
        assert_eq!(Entry::read(wire).unwrap_err().reason, "feature_missing");
    }

    #[test]
    fn a_template_that_is_none_is_a_problem() {
        for text in ["spiffe://example.org/{unix", "spiffe://example.org/{unix}", "spiffe://example.org/{.user}"] {
            assert_eq!(Entry::read(entry(text)).unwrap_err().reason, "invalid_template", "{text}");
        }
    }
}
