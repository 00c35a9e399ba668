use super::*;
use crate::registry::{NodeAsserted, NodeMatch, Sharing};

fn rules() -> Rules {
    Rules::new("example.org".parse().unwrap())
}

fn parse(text: &str) -> Result<EntriesFile, Problems> {
    EntriesFile::parse(text.as_bytes(), &rules())
}

/// The problems of a file with one entry that has these lines besides what is required.
fn problems_of(lines: &str) -> Vec<(String, Reason)> {
    let text = format!("owner: team\nentries:\n- name: api\n  node: [a:b:c]\n  selectors: [unix:uid:1]\n{lines}");
    let text =
        if lines.contains("spiffe_id") { text } else { format!("{text}\n  spiffe_id: spiffe://example.org/api") };
    match parse(&text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.as_slice().iter().map(|p| (p.field.clone(), p.reason)).collect(),
    }
}

const FULL: &str = r#"
owner: team/payments
entries:
- name: payments/api
  spiffe_id: spiffe://example.org/{node.aws.zone}/{unix.user}
  node:
  - spiffe://example.org/mayfly/node/join_token/n1
  - aws:account:123
  - [aws:account:456, aws:tag:env:prod]
  selectors: [unix:user:pay, unix:path:/usr/bin/pay]
  x509_ttl: 15m
  jwt_ttl: 300
  jwt_audiences: [ledger]
  dns_names: [pay.example.org, "*.pay.example.org"]
  hint: external
  federates_with: [partner.org]
  admin: [{verbs: ["entry:*"], id_prefix: spiffe://example.org/pay, owner: team/payments}]
  downstream: false
  claims: {team: pay, nested: {list: [1, 2.5, null, true]}}
  task: {audiences: [https://tools.example.org/mcp], scopes: [read], delegable: ["*"], max_hops: 2, deadline: 30m, users: [{provider: corp, clients: [portal]}, {provider: partner}]}
  serves: [https://pay.example.org]
  sharing: instance
  instance: process
  priority: 10
  allowed_values: {unix.user: [pay, pay2]}
  node_asserted: refuse
  quotas: {renderings: 5}
  required_features: [instances]
  expires_at: 2030-01-01T00:00:00Z
  labels: {cost-center: "42"}
"#;

#[test]
fn an_entry_has_at_most_a_mebibyte() {
    let list = |items: usize, bytes: usize| {
        let items: Vec<_> = (0..items).map(|item| format!("https://{item:03}.{}", "x".repeat(bytes - 12))).collect();
        format!("[{}]", items.join(", "))
    };
    let lines = |more: usize| format!("  jwt_audiences: {}\n  serves: {}\n", list(256, 2000), list(256, 2000 + more));
    assert_eq!(problems_of(&lines(0)), []);
    assert_eq!(problems_of(&lines(48)), []);
    let labels: Vec<_> = (0..40).map(|label| format!("l{label}: {}", "y".repeat(1000))).collect();
    let labels = format!("  labels: {{{}}}\n", labels.join(", "));
    assert_eq!(problems_of(&(lines(48) + &labels)), [(String::new(), Reason::InvalidValue)]);
}

#[test]
fn every_key_of_an_entry_is_read() {
    let file = parse(FULL).unwrap();
    assert_eq!(&*file.owner, "team/payments");
    let [spec] = file.entries.as_slice() else { panic!("one entry") };
    let extra = spec.extra();
    assert_eq!(&*spec.name, "payments/api");
    assert_eq!(spec.node.len(), 3);
    assert!(matches!(&spec.node[2], NodeMatch::Selectors(all) if all.len() == 2));
    assert_eq!(spec.x509_ttl.unwrap().as_s(), 900);
    assert_eq!(spec.jwt_ttl.unwrap().as_s(), 300);
    assert_eq!((spec.sharing, spec.priority), (Sharing::Instance, 10));
    assert_eq!(extra.hint.as_deref(), Some("external"));
    assert_eq!(extra.claims["nested"]["list"][1], 2.5);
    assert_eq!(extra.task.as_ref().unwrap().max_hops, Some(2));
    let users = extra.task.as_ref().unwrap().users.iter().map(|of| (&*of.provider, of.clients.len()));
    assert_eq!(users.collect::<Vec<_>>(), [("corp", 1), ("partner", 0)]);
    assert_eq!(extra.admin[0].verbs[0], "entry:*".into());
    assert_eq!(extra.quotas.renderings, Some(5));
    assert_eq!(extra.node_asserted, NodeAsserted::Refuse);
    assert_eq!(extra.allowed_values["unix.user"].len(), 2);
    assert_eq!(spec.expires_at.unwrap().to_string(), "2030-01-01T00:00:00Z");
    for key in entry::KEYS {
        assert!(FULL.contains(&format!(" {key}:")), "{key} is not in the test");
    }
}

#[test]
fn what_is_stored_is_the_form_that_is_read() {
    let file = parse(FULL).unwrap();
    let stored = file.entries[0].to_json();
    assert_eq!(serde_json::from_str::<EntrySpec>(&stored).unwrap(), file.entries[0]);
    let json = format!(r#"{{"owner": "team/payments", "entries": [{stored}]}}"#);
    assert_eq!(parse(&json).unwrap(), file);
}

#[test]
fn every_problem_of_a_file_is_reported_at_once() {
    let text = "
ownr: team
entries:
- name: a
  spiffe_id: spiffe://other.org/a
  node: [spiffe://example.org/not-a-node, unix]
  selectors: []
  x509_ttl: 10s
  selektors: [unix:uid:1]
- spiffe_id: spiffe://example.org/mayfly/x
  node: []
  selectors: [unix:uid:1, unix:uid:1]
  hint: 7
- name: b
  name: b
  spiffe_id:
- just text
";
    let problems = parse(text).unwrap_err();
    let found: Vec<String> =
        problems.as_slice().iter().map(|p| format!("{}|{}|{}", p.entry, p.field, p.reason)).collect();
    assert_eq!(
        found,
        [
            "|ownr|unknown_key",
            "|owner|missing_key",
            "a|selektors|unknown_key",
            "a|spiffe_id|invalid_value",
            "a|node[0]|invalid_value",
            "a|node[1]|invalid_selector",
            "a|selectors|invalid_value",
            "a|x509_ttl|invalid_ttl",
            "entries[1]|name|missing_key",
            "entries[1]|spiffe_id|reserved_spiffe_id",
            "entries[1]|node|invalid_value",
            "entries[1]|selectors[1]|invalid_value",
            "entries[1]|hint|invalid_value",
            "b|name|invalid_value",
            "b|spiffe_id|missing_key",
            "b|node|missing_key",
            "b|selectors|missing_key",
            "entries[3]||invalid_value",
        ]
    );
    let text = problems.to_string();
    assert!(
        text.contains("a: selektors: there is no key selektors; write selectors, which is the nearest known key"),
        "{text}"
    );
    assert!(text.contains("hint: a number stands where text belongs; quote it"), "{text}");
    assert_eq!(Refusal::from(problems).reason, Reason::EntriesInvalid);
}

/// Rows: X-5, WA-12.
#[test]
fn each_rule_refuses_what_it_is_for() {
    let long_hint = format!("  hint: {}", "h".repeat(1025));
    let long_id = format!("  spiffe_id: spiffe://example.org/{}", "a".repeat(2048));
    let many_selectors =
        format!("  quotas: {{}}\n  node: [[{}]]", (0..65).map(|n| format!("a:b:{n}")).collect::<Vec<_>>().join(","));
    let big_claims = format!("  claims: {{big: {}}}", "c".repeat(2048));
    for (lines, field, reason) in [
        ("  x509_ttl: 59s", "x509_ttl", Reason::InvalidTtl),
        ("  x509_ttl: 7h", "x509_ttl", Reason::InvalidTtl),
        ("  x509_ttl: soon", "x509_ttl", Reason::InvalidTtl),
        ("  jwt_ttl: -5", "jwt_ttl", Reason::InvalidTtl),
        ("  jwt_ttl: 1.5", "jwt_ttl", Reason::InvalidTtl),
        ("  jwt_ttl: [1]", "jwt_ttl", Reason::InvalidValue),
        ("  spiffe_id: spiffe://example.org", "spiffe_id", Reason::InvalidValue),
        ("  spiffe_id: spiffe://example.org/mayfly", "spiffe_id", Reason::ReservedSpiffeId),
        ("  spiffe_id: spiffe://example.org/mayfly/{a.b}", "spiffe_id", Reason::ReservedSpiffeId),
        ("  spiffe_id: spiffe://example.org/a/", "spiffe_id", Reason::InvalidSpiffeId),
        ("  spiffe_id: http://example.org/a", "spiffe_id", Reason::InvalidSpiffeId),
        ("  spiffe_id: spiffe://example.org/{unix.user}", "spiffe_id", Reason::NodeAssertedFact),
        (&long_id, "spiffe_id", Reason::InvalidSpiffeId),
        (&long_hint, "hint", Reason::InvalidValue),
        (&big_claims, "claims", Reason::InvalidValue),
        ("  claims: {sub: me}", "claims.sub", Reason::InvalidValue),
        ("  claims: {mayfly_task: 1}", "claims.mayfly_task", Reason::InvalidValue),
        ("  claims: {x: 1, x: 2}", "claims.x", Reason::InvalidValue),
        ("  claims: [x]", "claims", Reason::InvalidValue),
        ("  dns_names: [a_b.example.org]", "dns_names[0]", Reason::InvalidValue),
        ("  dns_names: ['a.*.org']", "dns_names[0]", Reason::InvalidValue),
        ("  dns_names: [10.0.0.1]", "dns_names[0]", Reason::InvalidValue),
        ("  dns_names: [-a.org]", "dns_names[0]", Reason::InvalidValue),
        ("  federates_with: [example.org]", "federates_with[0]", Reason::InvalidValue),
        ("  federates_with: [UPPER]", "federates_with[0]", Reason::InvalidTrustDomain),
        ("  expires_at: tomorrow", "expires_at", Reason::InvalidArgument),
        ("  priority: 101", "priority", Reason::InvalidValue),
        ("  sharing: both", "sharing", Reason::InvalidValue),
        ("  downstream: true", "downstream", Reason::NotSupportedYet),
        ("  downstream: maybe", "downstream", Reason::InvalidValue),
        ("  instance: cgroup", "instance", Reason::NotSupportedYet),
        ("  serves: ['*']", "serves[0]", Reason::InvalidValue),
        ("  serves: ['not a uri']", "serves[0]", Reason::InvalidValue),
        ("  serves: ['https://a/#x']", "serves[0]", Reason::InvalidValue),
        ("  task: {scopes: [a]}", "task.audiences", Reason::MissingKey),
        ("  task: {audiences: []}", "task.audiences", Reason::InvalidValue),
        ("  task: {audiences: ['*'], deadline: 9h}", "task.deadline", Reason::InvalidValue),
        ("  task: {audiences: ['*'], hops: 2}", "task.hops", Reason::UnknownKey),
        ("  task: {audiences: ['*'], users: corp}", "task.users", Reason::InvalidValue),
        ("  task: {audiences: ['*'], users: [{clients: [a]}]}", "task.users[0].provider", Reason::MissingKey),
        ("  task: {audiences: ['*'], users: [{provider: 'C:'}]}", "task.users[0].provider", Reason::InvalidValue),
        (
            "  task: {audiences: ['*'], users: [{provider: a}, {provider: a}]}",
            "task.users[1].provider",
            Reason::InvalidValue,
        ),
        (
            "  task: {audiences: ['*'], users: [{provider: a, clients: ['']}]}",
            "task.users[0].clients[0]",
            Reason::InvalidValue,
        ),
        ("  task: {audiences: ['*']}\n  sharing: entry", "sharing", Reason::InvalidValue),
        ("  admin: [{owner: me}]", "admin[0].verbs", Reason::MissingKey),
        ("  admin: [{verbs: [all]}]", "admin[0].verbs[0]", Reason::InvalidValue),
        ("  admin: {verbs: [all]}", "admin", Reason::InvalidValue),
        ("  allowed_values: {unix.user: [a]}", "allowed_values.unix.user", Reason::InvalidValue),
        ("  quotas: {renderings: 0}", "quotas.renderings", Reason::InvalidValue),
        ("  labels: {a: 1}", "labels.a", Reason::InvalidValue),
        ("  labels: {'': x}", "labels.", Reason::InvalidValue),
        ("  required_features: [A]", "required_features[0]", Reason::InvalidValue),
        ("  hint:", "hint", Reason::MissingKey),
    ] {
        assert_eq!(problems_of(lines), [(field.to_owned(), reason)], "{lines}");
    }
    // The key `node` stands there twice; the set is too large besides.
    assert_eq!(problems_of(&many_selectors)[0].0, "node");
    let at_the_limit = format!("  hint: {}\n  priority: -100\n  x509_ttl: 6h\n  jwt_ttl: 60", "h".repeat(1024));
    assert_eq!(problems_of(&at_the_limit), []);
}

/// Rows: ID-1, ID-2, ID-3, ID-4, ID-7, ID-9, ID-11, ID-13, ID-14, ID-15, ID-16, ID-19.
#[test]
fn nobody_registers_what_is_no_spiffe_id() {
    let of = |id: &str| problems_of(&format!("  spiffe_id: {}", serde_json::to_string(id).unwrap()));
    let at_the_limit = format!("spiffe://example.org/{}", "a".repeat(2048 - 21));
    for good in ["spiffe://example.org/...", "spiffe://example.org/A-b_c.9/.a", &at_the_limit] {
        assert_eq!(of(good), [], "{good}");
    }
    let long_domain = format!("spiffe://{}/a", "a".repeat(256));
    for bad in [
        "http://example.org/a",
        "spiffe:/example.org/a",
        "spiffe://",
        "spiffe:///a",
        "spiffe://example.org/a?",
        "spiffe://example.org/a#x",
        "spiffe://u@example.org/a",
        "spiffe://example.org:443/a",
        "spiffe://Example.org/a",
        "spiffe://ex%61mple.org/a",
        "spiffe://[::1]/a",
        &long_domain,
        &format!("{at_the_limit}a"),
        "spiffe://example.org/a%41",
        "spiffe://example.org/a!b",
        "spiffe://example.org/ä",
        "spiffe://example.org//a",
        "spiffe://example.org/a//b",
        "spiffe://example.org/.",
        "spiffe://example.org/a/../b",
        "spiffe://example.org/",
        "spiffe://example.org/a/",
        "spiffe://example.org/a\n",
        "spiffe://example.org/a b",
        " spiffe://example.org/a",
        "spiffe://example.org/a\0",
    ] {
        let problems = of(bad);
        assert!(matches!(problems.as_slice(), [(field, _)] if field == "spiffe_id"), "{bad:?}: {problems:?}");
    }
}

#[test]
fn a_workload_fact_needs_more_than_the_word_of_a_node() {
    let id = "  spiffe_id: spiffe://example.org/u/{unix.user}";
    assert_eq!(problems_of(&format!("{id}\n  node_asserted: accept")), []);
    assert_eq!(problems_of(&format!("{id}\n  allowed_values: {{unix.user: [alice]}}")), []);
    assert_eq!(problems_of("  spiffe_id: spiffe://example.org/{node.aws.zone}/{unix.user}"), []);
    // A selector that fixes the fact is a list of one.
    assert_eq!(problems_of("  spiffe_id: spiffe://example.org/u/{unix.uid}"), []);
    let refused = problems_of(&format!("{id}\n  allowed_values: {{unix.user: [a/b]}}"));
    assert_eq!(refused, [("allowed_values.unix.user[0]".to_owned(), Reason::InvalidValue)]);
}

#[test]
fn short_lifetimes_and_serving_any_audience_are_a_matter_of_the_rules() {
    let rules =
        Rules { allow_short_ttl: true, allow_serves_any: true, longest_x509_ttl: "1h".parse().unwrap(), ..rules() };
    let entry = |extra: &str| {
        format!(
            "owner: a\nentries:\n- {{name: b, spiffe_id: spiffe://example.org/b, node: [a:b:c], selectors: [a:b:c], {extra}}}"
        )
    };
    assert!(EntriesFile::parse(entry("x509_ttl: 5s, serves: ['*']").as_bytes(), &rules).is_ok());
    let problems = EntriesFile::parse(entry("x509_ttl: 61m").as_bytes(), &rules).unwrap_err();
    assert!(problems.to_string().contains("1h1m is longer than 1h"), "{problems}");
}

#[test]
fn names_are_there_once_and_are_no_uids() {
    let entry = |name: &str| {
        format!("- {{name: {name}, spiffe_id: spiffe://example.org/b, node: [a:b:c], selectors: [a:b:c]}}\n")
    };
    let twice = format!("owner: a\nentries:\n{}{}", entry("x"), entry("x"));
    assert!(parse(&twice).unwrap_err().to_string().contains("entries[0] and entries[1] have the same name"));
    for bad in ["0123456789abcdef0123456789abcdef", "'a b'", "-a", "''", "ä"] {
        assert!(parse(&format!("owner: a\nentries:\n{}", entry(bad))).is_err(), "{bad}");
    }
}

#[test]
fn task_forces_a_svid_for_each_instance() {
    let text = "owner: a\nentries:\n- {name: b, spiffe_id: spiffe://example.org/b, node: [a:b:c], selectors: [a:b:c], task: {audiences: ['*']}}";
    assert_eq!(parse(text).unwrap().entries[0].sharing, Sharing::Instance);
}

#[test]
fn a_document_that_is_no_document_says_where() {
    for (text, says) in [
        ("", "nothing stands where a map"),
        ("[]", "a list stands where a map"),
        ("owner: [", "is not YAML"),
        ("owner: a\n\tentries: []", "line 2"),
        ("{\"owner\": \"a\", ", "is not JSON"),
        ("{\"owner\": \"a\", \"entries\": []} x", "trailing characters"),
        ("owner: a\nentries: []\n---\nowner: b", "more than one document"),
        ("owner: !secret a\nentries: []", "without tags"),
        ("owner: .nan\nentries: []", "not finite"),
        ("owner: *a\nentries: []", "unknown anchor"),
        ("1: a", "there is no key 1"),
    ] {
        let problems = parse(text).unwrap_err().to_string();
        assert!(problems.contains(says), "{text:?}: {problems}");
    }
    assert!(EntriesFile::parse(b"owner: \xff", &rules()).unwrap_err().to_string().contains("not UTF-8 from byte 7 on"));
}

#[test]
fn an_empty_list_is_a_file() {
    assert_eq!(parse("owner: a\nentries: []").unwrap().entries, []);
}

#[test]
fn hostile_documents_end_early() {
    use std::fmt::Write as _;
    let mut laughs = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
    for (name, before) in ('b'..='i').zip('a'..) {
        writeln!(laughs, "{name}: &{name} [{}]", vec![format!("*{before}"); 9].join(", ")).unwrap();
    }
    assert!(parse(&laughs).unwrap_err().to_string().contains("aliases"), "{}", parse(&laughs).unwrap_err());
    let texts = format!("a: &a {}\nb: [{}]", "x".repeat(10_000), vec!["*a"; 10_000].join(","));
    assert!(parse(&texts).unwrap_err().to_string().contains("aliases"));
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        let deep = format!("x: {}{}", open.repeat(40), close.repeat(40));
        assert!(parse(&deep).unwrap_err().to_string().contains("levels deep"), "{open}");
        let unclosed = format!("x: {}", open.repeat(1_000_000));
        assert!(parse(&unclosed).is_err());
    }
    let json = format!("{{\"x\": {}{}}}", "[".repeat(40), "]".repeat(40));
    assert!(parse(&json).unwrap_err().to_string().contains("levels deep"));
    assert!(parse(&format!("x: [{}]", "a,".repeat(4_000_000))).unwrap_err().to_string().contains("too many nodes"));
    assert!(parse(&" ".repeat(MAX_DOCUMENT_BYTES + 1)).unwrap_err().to_string().contains("at most"));
}

#[test]
fn an_anchor_reaches_within_one_entry() {
    let entry = |name, node, selectors| {
        format!("- {{name: {name}, spiffe_id: spiffe://example.org/a, node: {node}, selectors: {selectors}}}\n")
    };
    let within = format!("owner: a\nentries:\n{}", entry("a", "&node [a:b:c]", "*node"));
    assert_eq!(parse(&within).unwrap().entries.len(), 1);
    let across = format!("{within}{}", entry("b", "*node", "[a:b:c]"));
    let problems = parse(&across).unwrap_err().to_string();
    assert!(
        problems.starts_with("entries[1]: the entry that begins on line 4 is not YAML: unknown anchor"),
        "{problems}"
    );
}

#[test]
fn every_entry_that_is_no_yaml_is_named() {
    let text = "# all\nowner: a\nentries:\n\n  - name: [\n  # more\n  -\n    name: b\n  - 'x\nlabels: 1\n";
    let problems = parse(text).unwrap_err();
    let places: Vec<_> = problems.as_slice().iter().map(|problem| problem.entry.as_str()).collect();
    assert_eq!(places, ["entries[0]", "entries[2]"], "{problems}");
    assert!(problems.to_string().contains("begins on line 9"), "{problems}");
}

#[test]
fn a_flood_of_problems_and_of_text_is_bounded() {
    let many = format!("owner: a\nentries:\n{}", "- {}\n".repeat(10_000));
    let problems = parse(&many).unwrap_err();
    assert_eq!(problems.as_slice().len(), 100);
    assert!(problems.unlisted() > 10_000);
    let keys = format!("owner: a\nentries:\n- {{{}}}", "k: 1, ".repeat(200_000));
    assert!(parse(&keys).unwrap_err().unlisted() > 199_900);
    let long = format!("owner: '{}'\nentries: []\n{}: 1", "ä".repeat(1_000_000), "k".repeat(1_000_000));
    assert!(parse(&long).unwrap_err().to_string().len() < 5_000);
}

#[test]
fn the_fuzz_target_takes_anything() {
    for document in [&b""[..], b"\xff", FULL.as_bytes(), b"{", b"owner: a\nentries: []"] {
        fuzz_entries_document(document);
    }
}

#[test]
fn the_sample_lists_every_key_and_is_read() {
    let sample = include_str!("../../../../deploy/entries.yaml");
    let file = parse(sample).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(file.entries.len(), 2);
    for key in entry::KEYS {
        assert!(
            sample.contains(&format!("  {key}:")) || sample.contains(&format!("- {key}:")),
            "{key} is not in the sample"
        );
    }
}
