use mayfly_sdk::Revision;

use super::*;
use crate::{
    registry::{EntriesFile, Rules},
    store::Committed,
};

const NOW: Timestamp = Timestamp::from_unix_s(1_800_000_000);

fn rules() -> Rules {
    Rules::new("td".parse().unwrap())
}

fn file(entries: &[&str]) -> Option<EntriesFile> {
    let entries: Vec<_> = entries.iter().map(|entry| format!("- {{{entry}}}\n")).collect();
    EntriesFile::parse(format!("owner: team\nentries:\n{}", entries.concat()).as_bytes(), &rules()).ok()
}

fn registry(entries: &[&str]) -> Registry {
    let mut registry = Registry::new(rules());
    let plan = registry.plan(file(entries).unwrap(), false, 0).unwrap();
    registry.apply(plan, Committed { revision: Revision { epoch: 1, n: 1 }, first_order: 1 }, NOW);
    registry
}

/// What a caller with these claims gets.
fn ask(registry: &Registry, issuer: &str, claims: &[&str], wanted: Option<&str>) -> Result<String, Reason> {
    let caller = AgentlessCaller {
        origin: format!("spiffe://td/mayfly/agentless/{issuer}").parse().unwrap(),
        issuer: issuer.into(),
        claims: claims.iter().map(|claim| claim.parse().unwrap()).collect(),
    };
    let wanted = wanted.map(|id| id.parse().unwrap());
    let request = AgentlessRequest { caller: &caller, spiffe_id: wanted.as_ref() };
    let given = registry.authorize_agentless(&request, NOW).map_err(|refusal| refusal.reason)?;
    Ok(given.spiffe_id.to_string())
}

const CI: &str =
    r#"name: b, spiffe_id: "spiffe://td/b", node: ["agentless:ci"], selectors: ["oidc:sub:x", "oidc:ref:main"]"#;
const SECOND: &str = r#"name: a, spiffe_id: "spiffe://td/a", node: ["agentless:ci"], selectors: ["oidc:sub:x"]"#;
const ENDED: &str = r#"name: e, spiffe_id: "spiffe://td/e", node: ["agentless:ci"], selectors: ["oidc:sub:e"], expires_at: '2020-01-01T00:00:00Z'"#;
const TEMPLATE: &str =
    r#"name: t, spiffe_id: "spiffe://td/t/{oidc.sub}", node: ["agentless:ci"], selectors: ["oidc:t:1"]"#;

#[test]
fn a_caller_gets_what_an_entry_for_its_provider_and_all_its_claims_gives() {
    let registry = registry(&[CI, SECOND, ENDED]);
    let both = ["oidc:sub:x", "oidc:ref:main"];
    assert_eq!(ask(&registry, "ci", &["oidc:sub:x"], None).unwrap(), "spiffe://td/a");
    assert_eq!(ask(&registry, "ci", &both, Some("spiffe://td/b")).unwrap(), "spiffe://td/b");
    assert_eq!(ask(&registry, "ci", &both, Some("spiffe://td/a")).unwrap(), "spiffe://td/a");
    assert!(ask(&registry, "ci", &both, Some("spiffe://td/c")).is_err());
    for (issuer, claims) in [("ci", &["oidc:sub:y"][..]), ("ci", &["oidc:sub:e"]), ("other", &both), ("ci", &[])] {
        assert_eq!(ask(&registry, issuer, claims, None), Err(Reason::NoIdentity), "{issuer} {claims:?}");
    }
}

#[test]
fn a_template_rests_on_claims() {
    let registry = registry(&[TEMPLATE]);
    let ask = |claims: &[&str]| ask(&registry, "ci", claims, None);
    assert_eq!(ask(&["oidc:t:1", "oidc:sub:x"]).unwrap(), "spiffe://td/t/x");
    assert!(ask(&["oidc:t:1"]).is_err() && ask(&["oidc:t:1", "oidc:sub:x", "oidc:sub:y"]).is_err());
    assert!(ask(&["oidc:t:1", "oidc:sub:a/b"]).is_err());
}

#[test]
fn an_entry_for_agentless_callers_is_for_no_node_and_asks_for_claims_only() {
    let nodes = |names: &[&str]| names.iter().map(|node| NodeMatch::Agentless((*node).into())).collect::<Vec<_>>();
    let claim = |text: &str| vec![text.parse::<Selector>().unwrap()];
    let key = |node: &[NodeMatch], selectors: &[Selector], uses_node| {
        check(node, selectors, uses_node).map_err(|(key, refusal)| (key, refusal.reason))
    };
    let good = claim("oidc:sub:x");
    assert_eq!(key(&nodes(&["a", "b"]), &good, false), Ok(()));
    let mut mixed = nodes(&["a"]);
    mixed.push(NodeMatch::Id("spiffe://td/mayfly/node/test/a".parse().unwrap()));
    assert_eq!(key(&mixed, &good, false), Err(("node", Reason::InvalidValue)));
    assert_eq!(key(&nodes(&["a"]), &claim("unix:uid:1"), false), Err(("selectors", Reason::InvalidValue)));
    assert_eq!(key(&nodes(&["a"]), &good, true), Err(("spiffe_id", Reason::InvalidValue)));
}
