use mayfly_sdk::Revision;

use super::*;
use crate::registry::EntriesFile;
use crate::store::Committed;

const NOW: Timestamp = Timestamp::from_unix_s(1_760_000_000);

fn registry(rules: Rules, entry: &str) -> Registry {
    let mut registry = Registry::new(rules);
    let text = format!("owner: team\nentries:\n- {{name: api, node: [a:zone:1], selectors: [unix:uid:1], {entry}}}");
    let file = EntriesFile::parse(text.as_bytes(), registry.rules()).unwrap_or_else(|problems| panic!("{problems}"));
    let plan = registry.plan(file, false, 0).unwrap();
    registry.apply(plan, Committed { revision: Revision { epoch: 1, n: 1 }, first_order: 1 }, NOW);
    registry
}

fn rules() -> Rules {
    Rules::new("example.org".parse().unwrap())
}

fn node(name: &str, zone: &str) -> NodeFacts {
    NodeFacts {
        spiffe_id: format!("spiffe://example.org/mayfly/node/test/{name}").parse().unwrap(),
        selectors: [format!("a:zone:{zone}").parse().unwrap()].into(),
    }
}

/// Asks for an X.509-SVID of the entry `api`.
fn ask(registry: &Registry, node: &NodeFacts, facts: &[&str], now: Timestamp) -> Result<Authorization, Refusal> {
    let facts = AssertedFacts::parse(facts).unwrap();
    registry.authorize(&request(registry, node, &facts, Wanted::X509), now)
}

fn request<'a>(
    registry: &Registry,
    node: &'a NodeFacts,
    facts: &'a AssertedFacts,
    wanted: Wanted<'a>,
) -> MintRequest<'a> {
    let entry = registry.by_name("api").unwrap();
    MintRequest { node, entry: entry.uid, issuance: entry.issuance, facts, wanted }
}

fn reason<T: std::fmt::Debug>(result: Result<T, Refusal>) -> Reason {
    result.unwrap_err().reason
}

#[test]
fn a_node_gets_what_its_entry_says() {
    let registry = registry(rules(), "spiffe_id: spiffe://example.org/api, dns_names: [api.org], claims: {a: 1}");
    let authorization = ask(&registry, &node("n", "1"), &[], NOW).unwrap();
    assert_eq!(authorization.spiffe_id.as_str(), "spiffe://example.org/api");
    assert_eq!(authorization.ttl, registry.rules().default_x509_ttl);
    assert_eq!(authorization.dns_names(), ["api.org".into()]);
    assert_eq!(authorization.claims()["a"], 1);
}

#[test]
fn another_node_another_entry_and_an_older_issuance_are_refused() {
    let registry = registry(rules(), "spiffe_id: spiffe://example.org/api");
    assert_eq!(reason(ask(&registry, &node("n", "2"), &[], NOW)), Reason::EntryNotForNode);
    let (node, facts) = (node("n", "1"), AssertedFacts::default());
    let right = request(&registry, &node, &facts, Wanted::X509);
    let unknown = MintRequest { entry: Uid::from_bytes([7; 16]), ..right };
    assert_eq!(reason(registry.authorize(&unknown, NOW)), Reason::UnknownEntry);
    let older = MintRequest { issuance: right.issuance - 1, ..right };
    assert_eq!(reason(registry.authorize(&older, NOW)), Reason::EntryChanged);
}

#[test]
fn nothing_lives_longer_than_its_entry() {
    let end = NOW.saturating_add(Ttl::from_s(100));
    let registry = registry(rules(), &format!("spiffe_id: spiffe://example.org/api, expires_at: '{end}'"));
    assert_eq!(ask(&registry, &node("n", "1"), &[], NOW).unwrap().ttl, Ttl::from_s(100));
    assert_eq!(reason(ask(&registry, &node("n", "1"), &[], end)), Reason::EntryExpired);
}

#[test]
fn a_lifetime_that_the_authorities_no_longer_allow_is_refused_and_not_cut() {
    let mut registry = registry(rules(), "spiffe_id: spiffe://example.org/api, x509_ttl: 2h");
    assert_eq!(ask(&registry, &node("n", "1"), &[], NOW).unwrap().ttl, Ttl::from_s(7200));
    registry.set_rules(Rules { longest_x509_ttl: Ttl::from_s(3600), ..rules() });
    assert_eq!(reason(ask(&registry, &node("n", "1"), &[], NOW)), Reason::InvalidTtl);
}

#[test]
fn wit_keys_of_a_short_life_limit_new_entries_and_take_no_x509_svid_from_those_that_there_are() {
    let mut registry = registry(rules(), "spiffe_id: spiffe://example.org/api, x509_ttl: 2h");
    registry.set_rules(Rules { longest_wit_ttl: Ttl::from_s(3600), ..rules() });
    let (node, facts) = (node("n", "1"), AssertedFacts::default());
    let ask = |wanted| registry.authorize(&request(&registry, &node, &facts, wanted), NOW);
    assert_eq!(ask(Wanted::X509).unwrap().ttl, Ttl::from_s(7200));
    assert_eq!(reason(ask(Wanted::Wit)), Reason::InvalidTtl);
}

/// Rows: J-11.
#[test]
fn audiences_are_those_of_the_entry() {
    let jwt = |registry: &Registry, audiences: &[&str]| {
        let audiences: Vec<String> = audiences.iter().map(ToString::to_string).collect();
        let (node, facts) = (node("n", "1"), AssertedFacts::default());
        registry.authorize(&request(registry, &node, &facts, Wanted::Jwt { audiences: &audiences }), NOW)
    };
    let open = registry(rules(), "spiffe_id: spiffe://example.org/api, jwt_ttl: 10m");
    assert_eq!(jwt(&open, &["anything"]).unwrap().ttl, Ttl::from_s(600));
    assert_eq!(reason(jwt(&open, &[])), Reason::InvalidArgument);
    assert_eq!(reason(jwt(&open, &[""])), Reason::InvalidArgument);
    assert_eq!(reason(jwt(&open, &["a"; 17])), Reason::InvalidArgument);
    let closed = registry(rules(), "spiffe_id: spiffe://example.org/api, jwt_audiences: [a, b]");
    assert!(jwt(&closed, &["b", "a"]).is_ok());
    assert_eq!(reason(jwt(&closed, &["a", "c"])), Reason::AudienceNotAllowed);
}

/// Rows: J-23.
#[test]
fn tokens_live_for_five_minutes_where_nobody_says_otherwise() {
    let rules = crate::Config { trust_domain: "example.org".into(), ..crate::Config::default() }.rules().unwrap();
    let registry = registry(rules, "spiffe_id: spiffe://example.org/api");
    let (node, facts) = (node("n", "1"), AssertedFacts::default());
    let wanted = Wanted::Jwt { audiences: &["one".to_owned()] };
    assert_eq!(registry.authorize(&request(&registry, &node, &facts, wanted), NOW).unwrap().ttl, Ttl::from_s(300));
}

#[test]
fn what_a_node_says_must_be_allowed() {
    let id = "spiffe_id: 'spiffe://example.org/u/{unix.user}'";
    let listed = registry(rules(), &format!("{id}, allowed_values: {{unix.user: [alice, bob]}}"));
    let n = node("n", "1");
    assert_eq!(ask(&listed, &n, &["unix:user:bob"], NOW).unwrap().spiffe_id.path(), "/u/bob");
    assert_eq!(reason(ask(&listed, &n, &["unix:user:root"], NOW)), Reason::TemplateFactRefused);
    assert_eq!(reason(ask(&listed, &n, &["unix:uid:1"], NOW)), Reason::TemplateFactMissing);
    assert_eq!(reason(ask(&listed, &n, &["unix:user:bob", "unix:user:alice"], NOW)), Reason::TemplateFactAmbiguous);
    // The entry's own selector demands uid 1: a node that says otherwise contradicts itself.
    let demanded = registry(rules(), "spiffe_id: 'spiffe://example.org/u/{unix.uid}'");
    assert_eq!(ask(&demanded, &n, &["unix:uid:1"], NOW).unwrap().spiffe_id.path(), "/u/1");
    assert_eq!(reason(ask(&demanded, &n, &["unix:uid:2"], NOW)), Reason::TemplateFactRefused);
}

#[test]
fn a_node_cannot_make_up_names_without_end() {
    let rules = Rules { renderings_per_node: 3, ..rules() };
    let id = "spiffe_id: 'spiffe://example.org/u/{unix.user}', node_asserted: accept";
    let registry = registry(rules.clone(), id);
    let n = node("n", "1");
    let user = |name: &str| format!("unix:user:{name}");
    for name in ["a", "b", "c", "a"] {
        ask(&registry, &n, &[&user(name)], NOW).unwrap();
    }
    assert_eq!(reason(ask(&registry, &n, &[&user("d")], NOW)), Reason::RenderingQuota);
    assert!(ask(&registry, &node("other", "1"), &[&user("d")], NOW).is_ok());
    // `b` and `c` have ended by then; `a` was asked for again.
    let later = NOW.saturating_add(Ttl::from_s(10));
    ask(&registry, &n, &[&user("a")], later).unwrap();
    let end = NOW.saturating_add(rules.default_x509_ttl);
    assert!(ask(&registry, &n, &[&user("d")], end).is_ok());
    assert!(ask(&registry, &n, &[&user("e")], end).is_ok());
    assert_eq!(reason(ask(&registry, &n, &[&user("f")], end)), Reason::RenderingQuota);
    registry.forget_node(&n.spiffe_id);
    assert!(ask(&registry, &n, &[&user("f")], end).is_ok());
}

#[test]
fn an_entry_may_have_a_quota_of_its_own() {
    let id = "spiffe_id: 'spiffe://example.org/u/{unix.user}', node_asserted: accept, quotas: {renderings: 1}";
    let registry = registry(rules(), id);
    let n = node("n", "1");
    assert!(ask(&registry, &n, &["unix:user:a"], NOW).is_ok());
    assert_eq!(reason(ask(&registry, &n, &["unix:user:b"], NOW)), Reason::RenderingQuota);
}
