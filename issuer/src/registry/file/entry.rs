//! One entry of a file: which keys there are, and the rules that bind several of them.

use std::collections::BTreeMap;

use mayfly_sdk::id::is_legal_segment;
use mayfly_sdk::{Reason, Refusal, Selector, SpiffeId, Ttl};

use super::fields::{Fields, Place, as_text};
use super::text::{self, invalid};
use super::tree::Tree;
use super::{grants, unsupported};
use crate::registry::agentless;
use crate::registry::entry::{EntrySpec, Extra, NodeAsserted, NodeMatch, Sharing};
use crate::registry::problem::Problems;
use crate::registry::rules::Rules;
use crate::registry::template::{FactOf, Placeholder, Template};

/// Every key of an entry.
pub(super) const KEYS: &[&str] = &[
    "name",
    "spiffe_id",
    "node",
    "selectors",
    "x509_ttl",
    "jwt_ttl",
    "jwt_audiences",
    "dns_names",
    "hint",
    "federates_with",
    "admin",
    "downstream",
    "claims",
    "task",
    "serves",
    "sharing",
    "instance",
    "priority",
    "allowed_values",
    "node_asserted",
    "quotas",
    "required_features",
    "expires_at",
    "labels",
];

/// The most alternatives of `node`.
const MAX_NODE_ALTERNATIVES: usize = 1024;
/// The most DNS SANs: they are in every certificate.
const MAX_DNS_NAMES: usize = 32;
/// The most trust domains to federate with.
const MAX_FEDERATES: usize = 64;
/// The most audiences, features, labels, and values of one template fact.
const MAX_ITEMS: usize = 256;
/// The longest label, in bytes.
const MAX_LABEL_BYTES: usize = 1024;

/// The longest entry, in bytes of its JSON: nodes get it whole, in one message.
const MAX_ENTRY_BYTES: usize = 1024 * 1024;

/// Reads the entry at a position of the list. `None` if something without which there is no entry is wrong.
pub(super) fn read(at: usize, tree: Tree, rules: &Rules, problems: &mut Problems) -> Option<EntrySpec> {
    let name = match &tree {
        Tree::Map(fields) => fields.iter().find_map(|(key, value)| match value {
            Tree::Text(name) if key == "name" => text::entry_name(name).ok(),
            _ => None,
        }),
        _ => None,
    };
    let place = Place::entry(name.unwrap_or_else(|| format!("entries[{at}]")));
    let mut fields = Fields::open(tree, place.clone(), KEYS, problems);
    let name = fields.required("name", text::entry_name);
    let template = fields.required("spiffe_id", |text| template(text, rules));
    let node = node(&mut fields, rules);
    let selectors = selectors(&mut fields, rules);
    let mut spec = EntrySpec::new("", Template::parse(PLACEHOLDER_ID).ok()?, Vec::new(), Vec::new());
    spec.x509_ttl = ttl(&mut fields, "x509_ttl", rules.longest_x509_ttl.min(rules.longest_wit_ttl), rules);
    spec.jwt_ttl = ttl(&mut fields, "jwt_ttl", rules.longest_jwt_ttl, rules);
    spec.expires_at = fields.timestamp("expires_at");
    let sharing = fields.word("sharing", &[("entry", Sharing::Entry), ("instance", Sharing::Instance)]);
    let priority = fields.integer("priority", -100, 100).and_then(|priority| i8::try_from(priority).ok());
    spec.priority = priority.unwrap_or_default();
    let extra = extra(&mut fields, rules);
    refuse_unsupported(&mut fields);
    if extra.task.is_some() && sharing == Some(Sharing::Entry) {
        fields.note("sharing", invalid("an entry with task has one SVID for each instance".to_owned()));
    }
    // `task` forces it; kept as it is in force, so that a diff compares what counts.
    spec.sharing = if extra.task.is_some() { Sharing::Instance } else { sharing.unwrap_or_default() };
    let is_agentless = node.iter().any(|node| matches!(node, NodeMatch::Agentless(_)));
    if let Some(template) = template.as_ref().filter(|_| is_agentless)
        && let Err((key, refusal)) = agentless::check(&node, &selectors, template.uses_node())
    {
        fields.note(key, refusal);
    }
    if let Some(template) = &template {
        check_template(&mut fields, template, &selectors, &extra, is_agentless);
    }
    spec.name = name?.into();
    spec.spiffe_id = template?;
    spec.node = node;
    spec.selectors = selectors;
    let spec = spec.with_extra(extra);
    let bytes = spec.count_bytes();
    if bytes > MAX_ENTRY_BYTES {
        let what = format!("the entry has {bytes} bytes, and at most {MAX_ENTRY_BYTES} are allowed");
        problems.push(place.problem(invalid(what)));
        return None;
    }
    Some(spec)
}

/// Stands in while an entry is read; an entry without a template is not kept.
const PLACEHOLDER_ID: &str = "spiffe://entry/pending";

fn extra(fields: &mut Fields<'_>, rules: &Rules) -> Extra {
    let words = [("refuse", NodeAsserted::Refuse), ("accept", NodeAsserted::Accept)];
    Extra {
        hint: fields.optional("hint", text::hint),
        dns_names: fields.texts("dns_names", MAX_DNS_NAMES, text::dns_name),
        jwt_audiences: fields.texts("jwt_audiences", MAX_ITEMS, text::audience),
        federates_with: fields
            .texts("federates_with", MAX_FEDERATES, |domain| text::federated(domain, &rules.trust_domain)),
        claims: grants::claims(fields),
        admin: grants::admin(fields, rules),
        task: grants::task(fields),
        serves: grants::serves(fields, rules),
        allowed_values: allowed_values(fields),
        node_asserted: fields.word("node_asserted", &words).unwrap_or_default(),
        quotas: grants::quotas(fields),
        required_features: fields.texts("required_features", MAX_ITEMS, text::feature),
        labels: labels(fields),
    }
}

fn template(text: &str, rules: &Rules) -> Result<Template, Refusal> {
    let template = Template::parse(text)?;
    if !template.is_member_of(&rules.trust_domain) {
        return Err(invalid(format!("{template} is not in the trust domain {}", rules.trust_domain)));
    }
    template.refuse_reserved()?;
    if template.as_str().parse::<SpiffeId>().is_ok_and(|id| id.is_root()) {
        return Err(invalid("the SPIFFE ID of a workload has a path".to_owned()));
    }
    Ok(template)
}

fn node(fields: &mut Fields<'_>, rules: &Rules) -> Box<[NodeMatch]> {
    let Some(items) = fields.required_list("node") else { return Box::default() };
    let place = fields.place().key("node");
    if items.is_empty() || items.len() > MAX_NODE_ALTERNATIVES {
        fields.note(
            "node",
            invalid(format!("an entry names from 1 to {MAX_NODE_ALTERNATIVES} nodes or sets of node selectors")),
        );
        return Box::default();
    }
    let mut alternatives: Vec<NodeMatch> = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let place = place.item(at);
        let alternative = match item {
            Tree::List(set) if set.is_empty() => Err(invalid("a set of node selectors is not empty".to_owned())),
            Tree::List(set) => {
                let set = fields.texts_of(&place, set, rules.selectors_per_entry, |text| Ok(text.parse::<Selector>()?));
                Ok(NodeMatch::Selectors(set))
            }
            other => as_text(other).and_then(|text| node_from_text(text, rules)),
        };
        match alternative {
            Ok(alternative) if alternatives.contains(&alternative) => {
                fields.note_at(&place, invalid("the alternative stands there twice".to_owned()));
            }
            Ok(alternative) => alternatives.push(alternative),
            Err(refusal) => fields.note_at(&place, refusal),
        }
    }
    alternatives.into()
}

fn node_from_text(text: &str, rules: &Rules) -> Result<NodeMatch, Refusal> {
    let node = NodeMatch::from_text(text)?;
    if let NodeMatch::Id(id) = &node {
        let is_node = id.path().strip_prefix("/mayfly/node/").is_some_and(|rest| rest.contains('/'));
        if !id.is_member_of(&rules.trust_domain) || !is_node {
            return Err(invalid(format!(
                "{id} is not a node; nodes are named spiffe://{}/mayfly/node/<attestor>/<id>",
                rules.trust_domain
            )));
        }
    }
    Ok(node)
}

fn selectors(fields: &mut Fields<'_>, rules: &Rules) -> Box<[Selector]> {
    let Some(items) = fields.required_list("selectors") else { return Box::default() };
    let place = fields.place().key("selectors");
    if items.is_empty() {
        fields.note("selectors", invalid("an entry without selectors would be for everybody".to_owned()));
    }
    fields.texts_of(&place, &items, rules.selectors_per_entry, |text| Ok(text.parse::<Selector>()?))
}

fn ttl(fields: &mut Fields<'_>, key: &str, longest: Ttl, rules: &Rules) -> Option<Ttl> {
    let ttl = fields.ttl(key)?;
    let longest = longest.min(Rules::LONGEST_TTL);
    let refuse = |what: String| Err(Refusal::new(Reason::InvalidTtl, what));
    let checked = if ttl > longest {
        refuse(format!("{ttl} is longer than {longest}, the longest that the authorities' rotation allows"))
    } else if ttl < Rules::SHORTEST_TTL && !rules.allow_short_ttl {
        refuse(format!("{ttl} is shorter than {}, and allow_short_ttl is off", Rules::SHORTEST_TTL))
    } else {
        Ok(ttl)
    };
    fields.keep(key, checked)
}

fn allowed_values(fields: &mut Fields<'_>) -> BTreeMap<Box<str>, Box<[Box<str>]>> {
    let mut allowed = BTreeMap::new();
    for (place, fact, values) in fields.map("allowed_values") {
        let Tree::List(values) = values else {
            fields.note_at(&place, invalid(format!("{} stands where a list belongs", values.kind())));
            continue;
        };
        let values = fields.texts_of(&place, &values, MAX_ITEMS, |value| {
            if is_legal_segment(value) {
                return Ok(value.into());
            }
            Err(invalid(format!("{value:?} is not a legal path segment, so that no template can give it")))
        });
        allowed.insert(fact.into(), values);
    }
    allowed
}

fn labels(fields: &mut Fields<'_>) -> BTreeMap<Box<str>, Box<str>> {
    let all = fields.map("labels");
    if all.len() > MAX_ITEMS {
        fields.note("labels", invalid(format!("an entry has at most {MAX_ITEMS} labels")));
    }
    let mut labels = BTreeMap::new();
    for (place, key, value) in all.into_iter().take(MAX_ITEMS) {
        let label = text::name("a label's name", &key).and_then(|key| match as_text(&value)? {
            value if value.len() > MAX_LABEL_BYTES || value.contains(char::is_control) => {
                Err(invalid(format!("a label has at most {MAX_LABEL_BYTES} bytes and no control characters")))
            }
            value => Ok((key.into(), value.into())),
        });
        match label {
            Ok((key, value)) => {
                labels.insert(key, value);
            }
            Err(refusal) => fields.note_at(&place, refusal),
        }
    }
    labels
}

/// Keys that the design names and that would change what is issued today: they are refused, not ignored.
fn refuse_unsupported(fields: &mut Fields<'_>) {
    if fields.boolean("downstream") == Some(true) {
        fields.note("downstream", unsupported("downstream issuers"));
    }
    if fields.word("instance", &[("process", false), ("cgroup", true)]) == Some(true) {
        fields.note("instance", unsupported("instances that are cgroups"));
    }
}

/// A template that rests on what a node says about its workloads needs more than the node's word (DESIGN 6). The claims of
/// an agentless caller are nobody's word: the issuer verified them.
fn check_template(
    fields: &mut Fields<'_>,
    template: &Template,
    selectors: &[Selector],
    extra: &Extra,
    is_agentless: bool,
) {
    let facts: Vec<Placeholder<'_>> = template.placeholders().filter(|fact| fact.of == FactOf::Workload).collect();
    let name = |fact: &Placeholder<'_>| format!("{}.{}", fact.kind, fact.key);
    for key in extra.allowed_values.keys() {
        if !facts.iter().any(|fact| name(fact) == **key) {
            let place = fields.place().key("allowed_values").key(key);
            fields.note_at(&place, invalid(format!("the template does not use the workload fact {{{key}}}")));
        }
    }
    if is_agentless || template.uses_node() || extra.node_asserted == NodeAsserted::Accept {
        return;
    }
    for fact in &facts {
        let is_bound = extra.allowed_values.contains_key(name(fact).as_str())
            || selectors.iter().any(|selector| fact.names(selector));
        if !is_bound {
            fields.note("spiffe_id", Refusal::new(Reason::NodeAssertedFact, format!(
                "{fact} is what a node says about its workloads, and any node that serves this entry could say anything"
            )));
        }
    }
}
