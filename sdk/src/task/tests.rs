mod calls;
mod edges;
mod feed;
mod inspecting;
mod tokens;
mod verifying;

use serde_json::{Value, json};

use super::*;
use crate::reason::Reason;
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp::from_unix_s(1_790_000_000);
const DEADLINE: Timestamp = Timestamp::from_unix_s(1_790_003_600);
const FILES: &str = "https://files.example.org/mcp";

fn grant(value: &Value) -> Grant {
    Grant::from_json(value.to_string().as_bytes()).unwrap_or_else(|error| panic!("{value}: {error}"))
}

fn refused(value: &Value) -> String {
    match Grant::from_json(value.to_string().as_bytes()) {
        Ok(_) => panic!("{value} was read"),
        Err(error) => error.to_string(),
    }
}

fn with_constraint(constraint: &Value) -> Value {
    let detail = json!({"type": "mcp_tool", "tool": "t", "constraints": {"a": constraint}});
    json!({"audience": FILES, "authorization_details": [detail]})
}

/// Whether one constraint is within another, through the whole grant.
fn within(child: &Value, parent: &Value) -> bool {
    grant(&with_constraint(child)).details_are_within(&grant(&with_constraint(parent)))
}

#[test]
fn what_is_no_grant_is_refused_and_the_place_is_named() {
    let cases = [
        (json!({}), "grant.audience"),
        (json!({"audience": "files"}), "grant.audience"),
        (json!({"audience": "https:///x"}), "grant.audience"),
        (json!({"audience": "https://a/#b"}), "grant.audience"),
        (json!({"audience": FILES, "scopes": []}), "grant.scopes"),
        (json!({"audience": FILES, "scope": ["a", "a"]}), "grant.scope.1"),
        (json!({"audience": FILES, "scope": ["a b"]}), "grant.scope.0"),
        (json!({"audience": FILES, "scope": "a"}), "grant.scope"),
        (json!({"audience": FILES, "delegable": [7]}), "grant.delegable.0"),
        (
            json!({"audience": FILES, "authorization_details": [{"type": "other"}]}),
            "grant.authorization_details.0.type",
        ),
        (
            json!({"audience": FILES, "authorization_details": [{"type": "mcp_tool"}]}),
            "grant.authorization_details.0.tool",
        ),
        (
            json!({"audience": FILES, "authorization_details": [{"type": "resource", "tool": "x"}]}),
            "grant.authorization_details.0.tool",
        ),
        (
            json!({"audience": FILES, "authorization_details": [{"type": "resource"}, {"type": "resource"}]}),
            "grant.authorization_details.1",
        ),
    ];
    for (value, at) in cases {
        let error = refused(&value);
        assert!(error.starts_with(&format!("{at}: ")), "{value}: {error}");
    }
    let twice = br#"{"audience": "https://a", "audience": "https://b"}"#;
    assert!(Grant::from_json(twice).is_err());
    assert!(Grant::from_json(&vec![b' '; 64 * 1024 + 1]).is_err());
}

#[test]
fn what_is_no_constraint_is_refused() {
    for constraint in [
        json!({}),
        json!({"exact": 1, "prefix": "a"}),
        json!({"regex": "a*"}),
        json!({"exact": 1.5}),
        json!({"exact": null}),
        json!({"exact": 9_007_199_254_740_992_i64}),
        json!({"exact": "x".repeat(513)}),
        json!({"one_of": [1, 1]}),
        json!({"one_of": (0..65).collect::<Vec<_>>()}),
        json!({"range": {}}),
        json!({"range": {"min": 2, "max": 1}}),
        json!({"range": {"min": 1, "step": 1}}),
        json!({"range": {"min": "1"}}),
        json!({"range": {"min": null, "max": 3}}),
        json!({"prefix": ""}),
        json!({"subpath": "srv"}),
        json!({"subpath": "/srv/"}),
        json!({"subpath": "/srv/../etc"}),
        json!({"subpath": "/srv//x"}),
        json!({"subpath": "/a\u{0}"}),
        json!({"cidr": "10.0.0.1/8"}),
        json!({"cidr": "10.0.0.0/33"}),
        json!({"cidr": "10.0.0.0/08"}),
        json!({"cidr": "10.0.0.0"}),
        json!({"cidr": "010.0.0.0/8"}),
        json!({"cidr": "2001:DB8::/32"}),
        json!({"cidr": "2001:db8::1/32"}),
        json!({"cidr": "::ffff:10.0.0.0/104"}),
    ] {
        let error = refused(&with_constraint(&constraint));
        assert!(error.starts_with("grant.authorization_details.0.constraints.a: "), "{constraint}: {error}");
    }
}

#[test]
fn each_constraint_is_within_what_is_wider_of_its_kind() {
    let pairs = [
        // (narrower, wider): within one way and not the other.
        (json!({"exact": 5}), json!({"one_of": [5, 6]})),
        (json!({"exact": 5}), json!({"range": {"min": 5}})),
        (json!({"exact": "/srv/a"}), json!({"subpath": "/srv"})),
        (json!({"exact": "/srv"}), json!({"subpath": "/srv"})),
        (json!({"exact": "10.1.2.3"}), json!({"cidr": "10.1.0.0/16"})),
        (json!({"exact": "abc"}), json!({"prefix": "ab"})),
        (json!({"one_of": []}), json!({"exact": 1})),
        (json!({"one_of": [1, 2]}), json!({"one_of": [1, 2, 3]})),
        (json!({"range": {"min": 1, "max": 9}}), json!({"range": {"min": 1, "max": 10}})),
        (json!({"range": {"min": 1, "max": 9}}), json!({"range": {"max": 9}})),
        (json!({"prefix": "abc"}), json!({"prefix": "ab"})),
        (json!({"subpath": "/srv/reports"}), json!({"subpath": "/srv"})),
        (json!({"subpath": "/srv"}), json!({"subpath": "/"})),
        (json!({"cidr": "10.1.0.0/16"}), json!({"cidr": "10.0.0.0/8"})),
        (json!({"cidr": "10.1.0.0/16"}), json!({"cidr": "0.0.0.0/0"})),
        (json!({"cidr": "2001:db8:1::/48"}), json!({"cidr": "2001:db8::/32"})),
    ];
    for (narrower, wider) in pairs {
        assert!(within(&narrower, &wider), "{narrower} in {wider}");
        assert!(within(&wider, &wider), "{wider} in itself");
        assert!(!within(&wider, &narrower), "{wider} in {narrower}");
    }
}

#[test]
fn what_only_looks_narrower_is_not() {
    for (child, parent) in [
        (json!({"exact": "1"}), json!({"exact": 1})),
        (json!({"exact": true}), json!({"exact": 1})),
        (json!({"exact": "/srv/../etc/passwd"}), json!({"subpath": "/srv"})),
        (json!({"exact": "/srv/"}), json!({"subpath": "/srv"})),
        (json!({"subpath": "/srv/reports2"}), json!({"subpath": "/srv/reports"})),
        (json!({"prefix": "/srv/reports/"}), json!({"subpath": "/srv/reports"})),
        (json!({"subpath": "/srv/reports"}), json!({"prefix": "/srv"})),
        (json!({"exact": "::ffff:10.1.2.3"}), json!({"cidr": "10.0.0.0/8"})),
        (json!({"exact": "::ffff:10.1.2.3"}), json!({"cidr": "::/0"})),
        (json!({"exact": "10.01.2.3"}), json!({"cidr": "10.0.0.0/8"})),
        (json!({"cidr": "10.0.0.0/8"}), json!({"cidr": "::/0"})),
        (json!({"range": {"min": 5, "max": 5}}), json!({"exact": 5})),
        (json!({"range": {"min": 5}}), json!({"range": {"min": 5, "max": 1_000_000}})),
    ] {
        assert!(!within(&child, &parent), "{child} in {parent}");
    }
}

#[test]
fn a_detail_is_within_one_detail_and_not_within_two_together() {
    let grant = |details: Value| grant(&json!({"audience": FILES, "authorization_details": details}));
    let resource = |locations: Value, actions: Value| {
        let mut detail = json!({"type": "resource"});
        for (name, value) in [("locations", locations), ("actions", actions)] {
            if !value.is_null() {
                detail[name] = value;
            }
        }
        detail
    };
    let read = resource(json!(["a"]), json!(["read"]));
    let both = grant(json!([read, resource(json!(["b"]), json!(["write"]))]));
    assert!(grant(json!([read])).details_are_within(&both));
    assert!(grant(json!([resource(json!([]), json!(["read"]))])).details_are_within(&both));
    assert!(!grant(json!([resource(json!(["a"]), json!(["write"]))])).details_are_within(&both), "one of each");
    assert!(!grant(json!([resource(json!(["a"]), Value::Null)])).details_are_within(&both), "absent is not limited");
    assert!(!grant(json!([read])).details_are_within(&grant(json!([]))), "no detail allows none");
    assert!(grant(json!([])).details_are_within(&grant(json!([]))));
    assert!(grant(json!([read])).details_are_within(&grant(json!([resource(Value::Null, Value::Null)]))));
    let none = grant(json!([resource(json!([]), json!([]))]));
    assert!(!grant(json!([read])).details_are_within(&none), "an empty list allows nothing");
    let tool = json!({"type": "mcp_tool", "tool": "t"});
    assert!(!grant(json!([tool])).details_are_within(&grant(json!([{"type": "resource"}]))));
    let limited = json!({"type": "mcp_tool", "tool": "t", "constraints": {"a": {"exact": 1}}});
    assert!(grant(json!([limited])).details_are_within(&grant(json!([tool]))));
    assert!(
        !grant(json!([tool])).details_are_within(&grant(json!([limited]))),
        "an absent constraint where there is one"
    );
}

#[test]
fn order_says_nothing_and_the_digest_is_pinned() {
    let one = json!({"audience": FILES, "scope": ["b", "a"], "delegable": [FILES, "https://m/"], "authorization_details": [
        {"type": "mcp_tool", "tool": "t", "actions": ["y", "x"], "constraints": {"b": {"one_of": [2, 1]}, "a": {"range": {"max": 9}}}},
        {"type": "resource", "identifier": "i", "locations": []}]});
    let other = json!({"authorization_details": [
        {"locations": [], "identifier": "i", "type": "resource"},
        {"constraints": {"a": {"range": {"max": 9}}, "b": {"one_of": [1, 2]}}, "actions": ["x", "y"], "tool": "t", "type": "mcp_tool"}],
        "delegable": ["https://m/", FILES], "scope": ["a", "b"], "audience": FILES});
    let (one, other) = (grant(&one), grant(&other));
    assert_eq!(one, other);
    assert_eq!(one.digest(), other.digest());
    assert_eq!(grant(&Value::Object(one.to_json())), one);
    let text = concat!(
        r#"{"audience":"https://files.example.org/mcp","authorization_details":["#,
        r#"{"actions":["x","y"],"constraints":{"a":{"range":{"max":9}},"b":{"one_of":[1,2]}},"tool":"t","type":"mcp_tool"},"#,
        r#"{"identifier":"i","locations":[],"type":"resource"}],"#,
        r#""delegable":["https://files.example.org/mcp","https://m/"],"scope":["a","b"]}"#
    );
    assert_eq!(Value::Object(one.to_json()).to_string(), text);
}

#[test]
fn calls_are_held_against_the_arguments_that_are_limited() {
    let limited = json!({"type": "mcp_tool", "tool": "t", "constraints": {"path": {"subpath": "/srv"}, "n": {"range": {"max": 3}}}});
    let grant = grant(&json!({"audience": FILES, "authorization_details": [limited]}));
    let Some(Detail::Tool(tool)) = grant.details().first() else { panic!("no tool") };
    let admits = |arguments: Value| tool.admits(arguments.as_object().unwrap());
    assert!(admits(json!({"path": "/srv/a", "n": 3, "other": [1]})));
    assert!(!admits(json!({"path": "/srv/a"})), "what is limited must be there");
    assert!(!admits(json!({"path": "/srv/../a", "n": 3})));
    assert!(!admits(json!({"path": ["/srv/a"], "n": 3})));
    assert!(!admits(json!({"path": "/srv/a", "n": 2.5})));
}

struct Family {
    parent: Grant,
    child: Grant,
    chain: Vec<Actor>,
    caller: Actor,
}

fn actor(path: &str, instance: u8) -> Actor {
    Actor {
        spiffe_id: format!("spiffe://example.org/{path}").parse().unwrap(),
        instance: [instance; 16].as_slice().try_into().unwrap(),
    }
}

impl Family {
    fn new() -> Self {
        let parent =
            json!({"audience": FILES, "scope": ["read", "list"], "delegable": [FILES, "https://mail.example.org/"]});
        let child = json!({"audience": "https://mail.example.org/", "scope": ["read"], "delegable": [FILES]});
        Self {
            parent: grant(&parent),
            child: grant(&child),
            chain: vec![actor("planner", 1), actor("writer", 2)],
            caller: actor("sender", 3),
        }
    }

    fn judge<'a>(&'a self, change: impl FnOnce(&mut Parent<'a>, &mut Wish<'a>)) -> Result<Link, Reason> {
        let mut parent = Parent {
            grant: &self.parent,
            deadline: DEADLINE,
            state: TaskState::Open,
            hop: 1,
            max_hops: 3,
            chain: &self.chain,
            may_act: None,
        };
        let mut wish = Wish { grant: &self.child, deadline: DEADLINE, max_hops: None, caller: &self.caller };
        change(&mut parent, &mut wish);
        attenuate(&parent, &wish, NOW).map_err(AttenuationError::reason)
    }
}

#[test]
fn each_rule_has_a_last_step_that_is_legal_and_a_first_that_is_not() {
    let family = Family::new();
    assert_eq!(family.judge(|_, _| ()), Ok(Link { hop: 2, max_hops: 3 }));
    let later = DEADLINE.saturating_add(crate::time::Ttl::from_s(1));
    assert_eq!(family.judge(|_, wish| wish.deadline = later), Err(Reason::DeadlineExceedsParent));
    for state in TaskState::ALL {
        let expected =
            if state == TaskState::Open { Ok(Link { hop: 2, max_hops: 3 }) } else { Err(Reason::ParentNotOpen) };
        assert_eq!(family.judge(|parent, _| parent.state = state), expected, "{state}");
    }
    assert_eq!(family.judge(|parent, wish| (parent.deadline, wish.deadline) = (NOW, NOW)), Err(Reason::ParentNotOpen));
    assert_eq!(family.judge(|parent, _| parent.hop = 2).unwrap().hop, 3);
    assert_eq!(family.judge(|parent, _| parent.hop = 3), Err(Reason::TooDeep));
    assert_eq!(family.judge(|parent, _| (parent.hop, parent.max_hops) = (255, 255)), Err(Reason::TooDeep));
    assert_eq!(family.judge(|_, wish| wish.max_hops = Some(3)), Ok(Link { hop: 2, max_hops: 3 }));
    for asked in [2, 1, 0] {
        assert_eq!(family.judge(|_, wish| wish.max_hops = Some(asked)), Ok(Link { hop: 2, max_hops: 2 }), "{asked}");
    }
    assert_eq!(family.judge(|_, wish| wish.max_hops = Some(4)), Err(Reason::HopsExceedParent));
    let (me, nobody, twin) = ([family.caller.spiffe_id.clone()].into(), [].into(), actor("planner", 9));
    assert!(family.judge(|parent, _| parent.may_act = Some(&me)).is_ok());
    assert_eq!(family.judge(|parent, _| parent.may_act = Some(&nobody)), Err(Reason::ActorNotAllowed));
    assert_eq!(family.judge(|_, wish| wish.caller = &family.chain[0]), Err(Reason::ActorRepeated));
    assert!(family.judge(|_, wish| wish.caller = &twin).is_ok(), "another instance of the same program");
    for (change, reason) in [
        (json!({"audience": FILES, "scope": ["write"]}), Reason::ScopeExceedsParent),
        (json!({"audience": FILES, "authorization_details": [{"type": "resource"}]}), Reason::DetailExceedsParent),
        (json!({"audience": "https://other.example.org/"}), Reason::AudienceNotDelegable),
        (json!({"audience": FILES, "delegable": ["https://other.example.org/"]}), Reason::AudienceNotDelegable),
    ] {
        let wider = grant(&change);
        assert_eq!(family.judge(|_, wish| wish.grant = &wider), Err(reason), "{change}");
    }
}

#[test]
fn states_are_read_back() {
    for state in TaskState::ALL {
        assert_eq!(state.as_str().parse(), Ok(state));
    }
    assert!("done".parse::<TaskState>().is_err());
}
