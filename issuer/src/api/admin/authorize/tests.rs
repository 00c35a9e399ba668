use mayfly_sdk::Revision;

use super::*;
use crate::{
    registry::{EntriesFile, Rules},
    store::Committed,
};

const NOW: Timestamp = Timestamp::from_unix_s(1_800_000_000);
const NOW_MS: i64 = 1_800_000_000_000;

fn local(uid: u32) -> Caller {
    Caller::Local(LocalCaller::new(uid, 1000))
}

fn id(path: &str) -> SpiffeId {
    format!("spiffe://td{path}").parse().unwrap()
}

fn file(owner: &str, entries: &[String]) -> EntriesFile {
    let document = format!("owner: {owner}\nentries:\n{}", entries.concat());
    EntriesFile::parse(document.as_bytes(), &Rules::new("td".parse().unwrap())).unwrap_or_else(|e| panic!("{e}"))
}

/// An entry of this name and path, with further lines.
fn entry(name: &str, path: &str, more: &str) -> String {
    format!(
        "- name: {name}\n  spiffe_id: \"spiffe://td{path}\"\n  node: [\"node:attestor:join_token\"]\n  selectors: [\"unix:uid:1\"]\n{more}"
    )
}

fn admin(grants: &str) -> String {
    format!("  admin: [{grants}]\n")
}

/// What the local socket wrote.
fn registry(files: &[(&str, Vec<String>)]) -> Registry {
    let mut registry = Registry::new(Rules::new("td".parse().unwrap()));
    for (n, (owner, entries)) in (1..).zip(files) {
        let plan = registry.plan(file(owner, entries), false, NOW_MS).unwrap();
        let first_order = u64::try_from(registry.len()).unwrap() + 1;
        registry.apply(plan, Committed { revision: Revision { epoch: 1, n }, first_order }, NOW);
    }
    registry
}

fn call(registry: &Registry, method: &str, caller: &SpiffeId) -> Result<Authorized, Refusal> {
    let caller = Caller::Remote(caller.clone());
    authorize(&format!("/mayfly.admin.v1.AdminService/{method}"), Some(&caller), registry, NOW)
}

/// Whether a remote caller may apply this file, pruning what it does not name.
fn applies(registry: &Registry, caller: &str, owner: &str, entries: &[String]) -> Result<(), Refusal> {
    let authorized = call(registry, "ApplyEntries", &id(caller))?;
    authorized.demand(registry, NOW, Object::EntriesOf(owner))?;
    let plan = registry.plan(file(owner, entries), true, NOW_MS).unwrap_or_else(|problems| panic!("{problems}"));
    authorized.demand_plan(registry, NOW, &plan)
}

const TEAM: &str = r#"{verbs: ["entry:*", admin], id_prefix: "spiffe://td/team", owner: team}"#;

fn team() -> Registry {
    registry(&[
        (
            "ops",
            vec![
                entry("lead", "/ops/lead", &admin(TEAM)),
                entry("chief", "/team/chief", &admin(r#"{verbs: ["*:*"]}"#)),
                entry(
                    "templated",
                    "/rendered/{unix.user}",
                    &format!("  node_asserted: accept\n{}", admin(r#"{verbs: ["*:*"]}"#)),
                ),
                entry(
                    "ended",
                    "/ops/ended",
                    &format!("  expires_at: 2020-01-01T00:00:00Z\n{}", admin(r#"{verbs: ["*:*"]}"#)),
                ),
            ],
        ),
        ("team", vec![entry("web", "/team/web", "")]),
        ("other", vec![entry("shop", "/teamx/shop", "")]),
    ])
}

const LEAD: &str = "/ops/lead";

#[test]
fn root_and_the_issuers_own_user_may_and_nobody_else() {
    let registry = registry(&[]);
    let path = "/mayfly.admin.v1.AdminService/ApplyEntries";
    let ask = |caller: Option<Caller>| authorize(path, caller.as_ref(), &registry, NOW);
    assert_eq!(&**ask(Some(local(0))).unwrap().actor(), "uid:0");
    assert_eq!(ask(Some(local(1000))).unwrap().verb(), "entry:apply");
    assert_eq!(ask(Some(local(1001))).unwrap_err().reason, Reason::PermissionDenied);
    assert!(ask(None).is_err());
}

#[test]
fn a_method_without_a_verb_is_for_nobody() {
    for path in ["", "/", "/mayfly.admin.v1.AdminService/", "/mayfly.admin.v1.AdminService/Nope", "/other/ApplyEntries"]
    {
        assert!(authorize(path, Some(&local(0)), &registry(&[]), NOW).is_err(), "{path}");
    }
}

#[test]
fn every_method_of_the_service_has_a_verb() {
    let set = <prost_types::FileDescriptorSet as prost::Message>::decode(mayfly_proto::DESCRIPTORS).unwrap();
    let file = set.file.iter().find(|file| file.package() == "mayfly.admin.v1").unwrap();
    let methods: Vec<_> = file.service[0].method.iter().map(|method| method.name().to_owned()).collect();
    for method in &methods {
        assert!(VERBS.iter().any(|(name, ..)| name == method), "{method}");
    }
    assert_eq!(methods.len(), VERBS.len());
}

#[test]
fn a_remote_caller_without_a_live_literal_grant_may_nothing() {
    let registry = team();
    for (method, ..) in VERBS {
        for caller in ["/team/web", "/rendered/root", "/ops/ended", "/ops", "/ops/lead/x", "/mayfly/node/join_token/a"]
        {
            assert!(call(&registry, method, &id(caller)).is_err(), "{caller} {method}");
        }
        let foreign = "spiffe://other/ops/lead".parse().unwrap();
        assert!(call(&registry, method, &foreign).is_err(), "{method}");
        assert!(call(&registry, method, &id("/team/chief")).is_ok(), "{method}");
    }
}

#[test]
fn a_limited_grant_reaches_nothing_that_has_no_limits() {
    let wide = r#"{verbs: ["*:*"], id_prefix: "spiffe://td/team"}, {verbs: ["*:*"], owner: team}"#;
    let registry = registry(&[("ops", vec![entry("lead", LEAD, &admin(wide))])]);
    for (method, _, reach) in VERBS {
        assert_eq!(call(&registry, method, &id(LEAD)).is_ok(), reach != Reach::Everything, "{method}");
    }
    let list = call(&registry, "ListNodes", &id(LEAD)).unwrap();
    let node = id("/mayfly/node/join_token/a");
    assert!(!list.may(&registry, NOW, Object::Node(&node)));
    assert_eq!(list.demand(&registry, NOW, Object::Node(&node)).unwrap_err().reason, Reason::PermissionDenied);
    assert_eq!(list.remote(), Some(&id(LEAD)));
}

#[test]
fn a_grant_of_one_verb_gives_that_one_only() {
    let registry = registry(&[("ops", vec![entry("lead", LEAD, &admin(r#"{verbs: ["entry:list"]}"#))])]);
    for (method, verb, _) in VERBS {
        assert_eq!(call(&registry, method, &id(LEAD)).is_ok(), verb == "entry:list", "{method}");
    }
    // Without any, nobody connects.
    assert!(!Grants::of(&registry, &id(LEAD), NOW).is_empty());
    assert!(Grants::of(&registry, &id("/ops/other"), NOW).is_empty());
}

#[test]
fn entries_are_applied_within_prefix_and_owner_only() {
    let registry = team();
    applies(&registry, LEAD, "team", &[entry("web", "/team/web", ""), entry("new", "/team/new", "")]).unwrap();
    applies(
        &registry,
        LEAD,
        "team",
        &[entry("web", "/team/web", ""), entry("user", "/team/u/{unix.user}", "  node_asserted: accept\n")],
    )
    .unwrap();
    for (owner, path) in [
        ("team", "/teamx/new"),
        ("team", "/ops/new"),
        ("team", "/tea"),
        ("team", "/{unix.user}/new"),
        ("other", "/team/new"),
        ("ops", "/team/new"),
    ] {
        let more = if path.contains('{') { "  node_asserted: accept\n" } else { "" };
        let refused = applies(&registry, LEAD, owner, &[entry("new", path, more)]).unwrap_err();
        assert_eq!(refused.reason, Reason::PermissionDenied, "{owner} {path}");
    }
}

#[test]
fn an_entry_is_neither_moved_out_of_the_prefix_nor_into_it() {
    let mut files = vec![("team", vec![entry("web", "/team/web", ""), entry("out", "/elsewhere", "")])];
    files.push(("ops", vec![entry("lead", LEAD, &admin(TEAM))]));
    let registry = registry(&files);
    let (web, out) = (entry("web", "/team/web", ""), entry("out", "/elsewhere", ""));
    applies(&registry, LEAD, "team", &[web.clone(), out.clone()]).unwrap();
    assert!(applies(&registry, LEAD, "team", &[entry("web", "/elsewhere", ""), out.clone()]).is_err());
    assert!(applies(&registry, LEAD, "team", &[web.clone(), entry("out", "/team/out", "")]).is_err());
    assert!(applies(&registry, LEAD, "team", &[web]).is_err(), "what is out of the prefix is not pruned");
}

#[test]
fn nobody_grants_what_he_lacks() {
    let registry = team();
    let grants = |grant: &str| {
        applies(&registry, LEAD, "team", &[entry("web", "/team/web", ""), entry("sub", "/team/sub", &admin(grant))])
    };
    grants(r#"{verbs: ["entry:list"], id_prefix: "spiffe://td/team/a", owner: team}"#).unwrap();
    grants(r#"{verbs: ["entry:*"], id_prefix: "spiffe://td/team", owner: team}"#).unwrap();
    for more in [
        r#"{verbs: ["entry:*"]}"#,
        r#"{verbs: ["entry:*"], owner: team}"#,
        r#"{verbs: ["entry:*"], id_prefix: "spiffe://td/team"}"#,
        r#"{verbs: ["entry:*"], id_prefix: "spiffe://td/team", owner: other}"#,
        r#"{verbs: ["entry:*"], id_prefix: "spiffe://td/teamx", owner: team}"#,
        r#"{verbs: ["entry:*"], id_prefix: "spiffe://td", owner: team}"#,
        r#"{verbs: ["node:list"], id_prefix: "spiffe://td/team", owner: team}"#,
        r#"{verbs: ["*:list"], id_prefix: "spiffe://td/team", owner: team}"#,
        r#"{verbs: ["*:*"], id_prefix: "spiffe://td/team", owner: team}"#,
        r#"{verbs: [admin], id_prefix: "spiffe://td/team", owner: team}"#,
        r#"{verbs: ["entry:list", "authority:list"], id_prefix: "spiffe://td/team", owner: team}"#,
    ] {
        assert_eq!(grants(more).unwrap_err().reason, Reason::PermissionDenied, "{more}");
    }
}

#[test]
fn only_the_local_socket_grants_authority_and_admin_even_to_those_who_have_them() {
    let registry = registry(&[("ops", vec![entry("chief", "/chief", &admin(r#"{verbs: ["*:*", admin]}"#))])]);
    let chief = entry("chief", "/chief", &admin(r#"{verbs: ["*:*", admin]}"#));
    let grants =
        |grant: &str| applies(&registry, "/chief", "ops", &[chief.clone(), entry("sub", "/sub", &admin(grant))]);
    grants(r#"{verbs: ["entry:*", "node:*"]}"#).unwrap();
    for verbs in ["authority:*", "authority:list", "*:list", "*:*", "admin"] {
        assert!(grants(&format!(r#"{{verbs: ["{verbs}"]}}"#)).is_err(), "{verbs}");
    }
}

#[test]
fn granting_takes_the_verb_admin() {
    let registry = registry(&[("ops", vec![entry("lead", LEAD, &admin(r#"{verbs: ["entry:*"]}"#))])]);
    let lead = entry("lead", LEAD, &admin(r#"{verbs: ["entry:*"]}"#));
    applies(&registry, LEAD, "ops", &[lead.clone(), entry("web", "/web", "")]).unwrap();
    let granted = entry("web", "/web", &admin(r#"{verbs: ["entry:list"]}"#));
    assert!(applies(&registry, LEAD, "ops", &[lead, granted]).is_err());
}

#[test]
fn an_administrators_identity_is_not_taken_by_an_entry_of_somebody_with_less() {
    let registry = team();
    let web = entry("web", "/team/web", "");
    for path in ["/team/chief", "/team/{unix.user}"] {
        let more = if path.contains('{') { "  node_asserted: accept\n" } else { "" };
        let refused = applies(&registry, LEAD, "team", &[web.clone(), entry("mask", path, more)]).unwrap_err();
        assert!(refused.what.contains("administrator"), "{refused:?}");
    }
    // Nor by changing who receives it.
    let registry = self::registry(&[
        ("ops", vec![entry("lead", LEAD, &admin(TEAM))]),
        ("team", vec![entry("chief", "/team/chief", &admin(r#"{verbs: ["*:*"]}"#))]),
    ]);
    let changed = entry("chief", "/team/chief", "").replace("unix:uid:1", "unix:uid:2");
    assert!(applies(&registry, LEAD, "team", &[changed]).is_err());
}

#[test]
fn a_grant_that_was_taken_away_counts_for_nothing_in_calls_that_were_let_in_before() {
    let mut registry = team();
    let authorized = call(&registry, "ListEntries", &id("/team/chief")).unwrap();
    assert!(authorized.may(&registry, NOW, Object::EntriesOf("other")));
    let uid = registry.by_name("chief").unwrap().uid;
    registry.remove(uid);
    assert!(!authorized.may(&registry, NOW, Object::EntriesOf("other")));
    assert!(call(&registry, "ListEntries", &id("/team/chief")).is_err());
}
