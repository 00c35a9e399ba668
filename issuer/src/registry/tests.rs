//! Properties: the indexes agree with looking at everything, a plan leads to what the file says, and a node that follows
//! deltas sees what a snapshot shows.

use std::collections::{BTreeMap, HashMap};

use mayfly_sdk::{Revision, Timestamp};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;
use crate::store::Committed;

const NODE_FACTS: &[&str] = &["a:zone:1", "a:zone:2", "a:tag:x", "a:tag:y", "b:role:db"];
const NODES: &[&str] = &["n1", "n2", "n3", "n4"];

fn rules() -> Rules {
    Rules { entries_per_owner: 20, ..Rules::new("example.org".parse().unwrap()) }
}

fn node_id(name: &str) -> SpiffeId {
    format!("spiffe://example.org/mayfly/node/test/{name}").parse().unwrap()
}

fn alternatives() -> impl Strategy<Value = NodeMatch> {
    prop_oneof![
        proptest::sample::select(NODES).prop_map(|name| NodeMatch::Id(node_id(name))),
        subsequence(NODE_FACTS, 1..=3)
            .prop_map(|facts| NodeMatch::Selectors(facts.iter().map(|fact| fact.parse().unwrap()).collect())),
    ]
}

fn nodes() -> impl Strategy<Value = Vec<NodeFacts>> {
    vec(subsequence(NODE_FACTS, 0..=NODE_FACTS.len()), NODES.len()).prop_map(|facts| {
        NODES
            .iter()
            .zip(facts)
            .map(|(name, facts)| NodeFacts {
                spiffe_id: node_id(name),
                selectors: facts.iter().map(|fact| fact.parse().unwrap()).collect(),
            })
            .collect()
    })
}

/// Specs that differ in what is issued, in what is not, and in which nodes may serve them.
fn spec(name: String) -> impl Strategy<Value = EntrySpec> {
    let id = proptest::sample::select(&["x", "y", "{node.a.zone}"][..]);
    let ttl = proptest::option::of(60_u32..62);
    let label = proptest::option::of(Just("v"));
    (id, vec(alternatives(), 1..3), ttl, label, -1_i8..2).prop_map(move |(id, node, ttl, label, priority)| {
        let template = Template::parse(&format!("spiffe://example.org/{id}")).unwrap();
        let mut spec = EntrySpec::new(&name, template, node, vec!["unix:uid:1".parse().unwrap()]);
        spec.x509_ttl = ttl.map(mayfly_sdk::Ttl::from_s);
        spec.priority = priority;
        let labels = label.map(|value| ("k".into(), value.into())).into_iter().collect();
        spec.with_extra(Extra { labels, ..Extra::default() })
    })
}

/// A file of the owner `o0` or `o1`, whose names begin with the owner's letter, and whether it prunes.
fn files() -> impl Strategy<Value = (EntriesFile, bool)> {
    (0..2_u8, any::<bool>()).prop_flat_map(|(owner, prune)| {
        btree_map(0..6_u8, Just(()), 0..5).prop_flat_map(move |names| {
            let specs: Vec<_> = names.into_keys().map(|name| spec(format!("{owner}-{name}"))).collect();
            specs.prop_map(move |entries| (EntriesFile { owner: format!("o{owner}").into(), entries }, prune))
        })
    })
}

/// Commits like the store does.
struct FakeStore {
    n: u64,
    next_order: u64,
}

impl FakeStore {
    fn commit(&mut self, plan: &Plan) -> Committed {
        self.n += 1;
        let first_order = self.next_order;
        self.next_order += (plan.created.len() + plan.updated.len()) as u64;
        Committed { revision: Revision { epoch: 1, n: self.n }, first_order }
    }
}

fn apply(registry: &mut Registry, store: &mut FakeStore, file: EntriesFile, prune: bool) -> Vec<EntryChange> {
    let at = 1_760_000_000_000 + i64::try_from(store.n).unwrap() * 1000;
    let plan = registry.plan(file, prune, at).unwrap();
    let committed = store.commit(&plan);
    registry.apply(plan, committed, Timestamp::from_unix_s(at / 1000))
}

fn follow(view: &mut BTreeMap<Uid, NodeEntry>, delta: NodeDelta) {
    for uid in delta.removed {
        view.remove(&uid);
    }
    view.extend(delta.put.into_iter().map(|entry| (entry.uid, entry)));
}

fn snapshot(registry: &Registry, node: &NodeFacts) -> BTreeMap<Uid, NodeEntry> {
    registry.snapshot_for_node(node).put.into_iter().map(|entry| (entry.uid, entry)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn applying_a_file_makes_the_owners_entries_those_of_the_file(files in vec(files(), 1..8)) {
        let (mut registry, mut store) = (Registry::new(rules()), FakeStore { n: 0, next_order: 1 });
        let mut model: HashMap<String, BTreeMap<String, EntrySpec>> = HashMap::new();
        for (file, prune) in files {
            let wanted = model.entry(file.owner.to_string()).or_default();
            if prune {
                wanted.clear();
            }
            wanted.extend(file.entries.iter().map(|spec| (spec.name.to_string(), spec.clone())));
            apply(&mut registry, &mut store, file.clone(), prune);
            for (owner, wanted) in &model {
                let held: BTreeMap<_, _> =
                    registry.of_owner(owner).map(|entry| (entry.name().to_owned(), entry.spec.clone())).collect();
                prop_assert_eq!(&held, wanted);
            }
            let again = registry.plan(file, prune, 0).unwrap();
            prop_assert!(again.is_empty(), "{:?}", again);
        }
        let names: Vec<_> = registry.page(None, "", 1000).iter().map(|entry| entry.name().to_owned()).collect();
        prop_assert!(names.is_sorted());
        prop_assert_eq!(names.len(), registry.len());
    }

    #[test]
    fn the_indexes_agree_with_looking_at_every_entry(files in vec(files(), 1..8), nodes in nodes()) {
        let (mut registry, mut store) = (Registry::new(rules()), FakeStore { n: 0, next_order: 1 });
        for (file, prune) in files {
            apply(&mut registry, &mut store, file, prune);
            for node in &nodes {
                let mut naive: Vec<_> = registry.page(None, "", 1000);
                naive.retain(|entry| entry.may_be_served_by(node));
                naive.sort_by_key(|entry| entry.order());
                prop_assert_eq!(registry.entries_for_node(node), naive);
            }
        }
    }

    #[test]
    fn a_node_that_follows_deltas_sees_what_a_snapshot_shows(files in vec(files(), 1..8), nodes in nodes()) {
        let (mut registry, mut store) = (Registry::new(rules()), FakeStore { n: 0, next_order: 1 });
        let mut connected = ConnectedNodes::default();
        for node in &nodes {
            connected.insert(node.clone());
        }
        let mut views: HashMap<SpiffeId, BTreeMap<Uid, NodeEntry>> = HashMap::new();
        for (file, prune) in files {
            let changes = apply(&mut registry, &mut store, file, prune);
            let before = views.clone();
            for (node, delta) in connected.deltas(&changes, registry.rules()) {
                prop_assert!(delta.put.iter().all(|entry| before.get(&node).and_then(|v| v.get(&entry.uid)) != Some(entry)));
                follow(views.entry(node).or_default(), delta);
            }
            for node in &nodes {
                prop_assert_eq!(views.entry(node.spiffe_id.clone()).or_default(), &snapshot(&registry, node));
            }
        }
    }

    #[test]
    fn a_node_that_comes_back_catches_up(files in vec(files(), 2..8), nodes in nodes(), away in 0..8_usize) {
        let (mut registry, mut store) = (Registry::new(rules()), FakeStore { n: 0, next_order: 1 });
        let node = &nodes[0];
        let (mut view, mut missed) = (BTreeMap::new(), Vec::new());
        for (at, (file, prune)) in files.into_iter().enumerate() {
            let changes = apply(&mut registry, &mut store, file, prune);
            if at < away {
                view = snapshot(&registry, node);
            } else {
                missed.extend(changes.iter().filter_map(|c| c.after.as_ref().or(c.before.as_ref())).map(|entry| entry.uid));
            }
        }
        missed.sort_unstable();
        missed.dedup();
        follow(&mut view, registry.delta_for_node(node, missed));
        prop_assert_eq!(view, snapshot(&registry, node));
    }

    #[test]
    fn what_the_store_holds_is_loaded_as_it_was(files in vec(files(), 1..4), nodes in nodes()) {
        let (mut registry, mut store) = (Registry::new(rules()), FakeStore { n: 0, next_order: 1 });
        for (file, prune) in files {
            apply(&mut registry, &mut store, file, prune);
        }
        let mut loaded = Registry::new(rules());
        for entry in registry.page(None, "", 1000) {
            loaded.load(&EntryRow {
                uid: entry.uid.to_string(),
                name: entry.name().to_owned(),
                owner: entry.owner.to_string(),
                document: entry.document(),
                revision: entry.revision,
                issuance: entry.issuance,
                order: entry.created_order,
                created_at: entry.created_at,
                updated_at: entry.updated_at,
            }).unwrap();
        }
        prop_assert_eq!(loaded.page(None, "", 1000), registry.page(None, "", 1000));
        for node in &nodes {
            prop_assert_eq!(loaded.snapshot_for_node(node), registry.snapshot_for_node(node));
        }
    }
}

fn file(owner: &str, entries: &str) -> EntriesFile {
    let text = format!("owner: {owner}\nentries:\n{entries}");
    EntriesFile::parse(text.as_bytes(), &rules()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn entry(name: &str, more: &str) -> String {
    format!(
        "- {{name: {name}, spiffe_id: spiffe://example.org/{name}, node: [a:zone:1], selectors: [unix:uid:1]{more}}}\n"
    )
}

fn started() -> (Registry, FakeStore) {
    let (mut registry, mut store) = (Registry::new(rules()), FakeStore { n: 0, next_order: 1 });
    apply(&mut registry, &mut store, file("team", &entry("api", "")), false);
    (registry, store)
}

#[test]
fn only_a_change_of_what_is_issued_issues_anew() {
    for (more, field, reissues) in [
        (", labels: {a: b}", "labels", false),
        (", expires_at: 2030-01-01T00:00:00Z", "expires_at", false),
        (", priority: 1", "priority", false),
        (", hint: x", "hint", false),
        (", federates_with: [other.org]", "federates_with", false),
        (", serves: [https://a]", "serves", false),
        (", x509_ttl: 1h", "x509_ttl", true),
        (", jwt_ttl: 1h", "jwt_ttl", true),
        (", dns_names: [a.org]", "dns_names", true),
        (", claims: {a: b}", "claims", true),
        (", jwt_audiences: [a]", "jwt_audiences", true),
        (", sharing: instance", "sharing", true),
    ] {
        let (mut registry, mut store) = started();
        let before = Arc::clone(registry.by_name("api").unwrap());
        let changed = file("team", &entry("api", more));
        let plan = registry.plan(changed.clone(), false, 0).unwrap();
        assert_eq!((plan.updated[0].fields.as_slice(), plan.updated[0].reissues), (&[field][..], reissues), "{more}");
        apply(&mut registry, &mut store, changed, false);
        let after = registry.by_name("api").unwrap();
        assert_eq!(after.issuance != before.issuance, reissues, "{more}");
        assert_eq!((after.uid, after.created_order), (before.uid, before.created_order));
        assert_eq!((after.created_at, after.revision), (before.created_at, Revision { epoch: 1, n: 2 }));
        assert!(after.updated_at > before.updated_at);
    }
}

#[test]
fn every_field_but_the_name_is_compared() {
    let sample = file("team", &entry("api", ""));
    let fields: Vec<String> = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&full().to_json())
        .unwrap()
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    let mut plain = sample.entries[0].clone();
    plain.name = full().name;
    let (mut differing, _) = diff::differences(&full(), &plain);
    differing.sort_unstable();
    assert_eq!(differing, fields.into_iter().filter(|field| field != "name").collect::<Vec<_>>());
}

/// A spec in which every field differs from its default.
fn full() -> EntrySpec {
    let text = "owner: a
entries:
- {name: all, spiffe_id: 'spiffe://example.org/{x.y}', node: [b:c:d], selectors: [x:y:z], x509_ttl: 1h, jwt_ttl: 1h, priority: 1,
  jwt_audiences: [a], dns_names: [a.org], hint: h, federates_with: [b.org], admin: [{verbs: [admin]}], claims: {a: 1},
  task: {audiences: ['*']}, serves: [https://a], sharing: instance, allowed_values: {x.y: [z]}, node_asserted: accept,
  quotas: {renderings: 1}, required_features: [f], expires_at: 2030-01-01T00:00:00Z, labels: {a: b}}";
    EntriesFile::parse(text.as_bytes(), &rules()).unwrap().entries.remove(0)
}

#[test]
fn a_name_that_is_used_again_gets_a_new_uid() {
    let (mut registry, mut store) = started();
    let before = Arc::clone(registry.by_name("api").unwrap());
    apply(&mut registry, &mut store, file("team", "  []"), true);
    assert!(registry.is_empty() && registry.get(before.uid).is_none());
    apply(&mut registry, &mut store, file("team", &entry("api", "")), false);
    let after = registry.by_name("api").unwrap();
    assert_ne!(after.uid, before.uid);
    assert!(after.created_order > before.created_order && after.issuance != before.issuance);
}

#[test]
fn another_owners_name_and_the_quota_are_refused_and_everything_is_said() {
    let (registry, _) = started();
    let many: String = (0..21).map(|n| entry(&format!("e{n}"), "")).collect();
    let problems = registry.plan(file("other", &(entry("api", "") + &many)), false, 0).unwrap_err();
    let reasons: Vec<_> = problems.as_slice().iter().map(|problem| problem.reason).collect();
    assert_eq!(reasons, [Reason::EntryNameTaken, Reason::EntryQuota]);
    // Without prune the entries that are there count too.
    let twenty: String = (0..20).map(|n| entry(&format!("e{n}"), "")).collect();
    assert_eq!(Refusal::from(registry.plan(file("team", &twenty), false, 0).unwrap_err()).reason, Reason::EntryQuota);
    assert!(registry.plan(file("team", &twenty), true, 0).is_ok());
}

#[test]
fn a_plan_writes_deletes_first_and_then_puts_in_the_order_that_apply_expects() {
    let (mut registry, mut store) = started();
    apply(&mut registry, &mut store, file("team", &entry("old", "")), false);
    let plan = registry.plan(file("team", &(entry("api", ", hint: x") + &entry("new", ""))), true, 0).unwrap();
    let names: Vec<String> = plan
        .ops()
        .into_iter()
        .map(|op| match op {
            crate::store::Op::PutEntry(put) => format!("put {} {}", put.name, put.reissues),
            crate::store::Op::DeleteEntry { .. } => "delete".to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["delete", "put new true", "put api false"]);
}

#[test]
fn one_entry_is_found_and_deleted_by_name_or_uid() {
    let (mut registry, mut store) = started();
    let uid = registry.by_name("api").unwrap().uid;
    assert_eq!(registry.find("api"), registry.find(&uid.to_string()));
    assert_eq!(registry.plan_delete("nobody").unwrap_err().reason, Reason::UnknownEntry);
    let plan = registry.plan_delete(&uid.to_string()).unwrap();
    let committed = store.commit(&plan);
    let changes = registry.apply(plan, committed, Timestamp::from_unix_s(0));
    assert!(changes[0].before.is_some() && changes[0].after.is_none() && registry.is_empty());
}

#[test]
fn entries_are_paged_by_name() {
    let (mut registry, mut store) = started();
    apply(&mut registry, &mut store, file("other", &(entry("b", "") + &entry("a", "") + &entry("c", ""))), false);
    let names = |owner, after, limit| -> Vec<String> {
        registry.page(owner, after, limit).iter().map(|entry| entry.name().to_owned()).collect()
    };
    assert_eq!(names(None, "", 2), ["a", "api"]);
    assert_eq!(names(None, "api", 10), ["b", "c"]);
    assert_eq!(names(Some("other"), "a", 10), ["b", "c"]);
    assert_eq!(registry.count_of_owner("other"), 3);
}

/// Rows: WA-14.
#[test]
fn the_order_of_identities_is_priority_and_then_age() {
    let (mut registry, mut store) = (Registry::new(rules()), FakeStore { n: 0, next_order: 1 });
    let entries = entry("z", "") + &entry("a", "") + &entry("low", ", priority: -5") + &entry("high", ", priority: 7");
    apply(&mut registry, &mut store, file("team", &entries), false);
    apply(&mut registry, &mut store, file("team", &entry("later", "")), false);
    let node = NodeFacts { spiffe_id: node_id("n1"), selectors: ["a:zone:1".parse().unwrap()].into() };
    let names: Vec<_> = registry.entries_for_node(&node).iter().map(|entry| entry.name().to_owned()).collect();
    assert_eq!(names, ["high", "z", "a", "later", "low"]);
}

#[test]
fn an_entry_whose_template_a_node_cannot_fill_is_a_problem_of_that_node_only() {
    let (mut registry, mut store) = (Registry::new(rules()), FakeStore { n: 0, next_order: 1 });
    let mut connected = ConnectedNodes::default();
    let node = |name: &str, facts: &[&str]| NodeFacts {
        spiffe_id: node_id(name),
        selectors: facts.iter().map(|fact| fact.parse().unwrap()).collect(),
    };
    let (with, without) = (node("n1", &["a:tag:x", "a:zone:1"]), node("n2", &["a:tag:x"]));
    connected.insert(with.clone());
    connected.insert(without.clone());
    let text = "- {name: z, spiffe_id: 'spiffe://example.org/{node.a.zone}', node: [a:tag:x], selectors: [unix:uid:1]}";
    let changes = apply(&mut registry, &mut store, file("team", text), false);
    let deltas = connected.deltas(&changes, registry.rules());
    assert_eq!(deltas[&with.spiffe_id].put[0].spiffe_id, "spiffe://example.org/1");
    assert!(deltas[&without.spiffe_id].is_empty());
    assert_eq!(deltas[&without.spiffe_id].problems[0].1.reason, Reason::TemplateFactMissing);
    assert_eq!(registry.snapshot_for_node(&without).problems.len(), 1);
    connected.remove(&with.spiffe_id);
    assert_eq!((connected.len(), connected.deltas(&changes, registry.rules()).len()), (1, 1));
}

#[test]
fn a_row_that_cannot_be_read_names_its_entry() {
    let mut registry = Registry::new(rules());
    let row = EntryRow {
        uid: "00".into(),
        name: "api".into(),
        owner: "team".into(),
        document: "{}".into(),
        revision: Revision::NONE,
        issuance: 1,
        order: 1,
        created_at: Timestamp::from_unix_s(0),
        updated_at: Timestamp::from_unix_s(0),
    };
    let refusal = registry.load(&row).unwrap_err();
    assert!(refusal.reason == Reason::StoreCorrupt && refusal.what.contains("entry api"), "{refusal}");
    let refusal = registry.load(&EntryRow { uid: "0".repeat(32), ..row }).unwrap_err();
    assert_eq!(refusal.reason, Reason::StoreCorrupt);
}
