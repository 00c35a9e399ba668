//! Calls that a service is asked for, held against the details of a grant.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;

fn caller(details: &Value) -> TaskCaller {
    let mut claims = fixture::claims(&"spiffe://td/agent".parse().unwrap(), b"", 1, NOW);
    claims.grant = grant(&json!({"audience": FILES, "authorization_details": details}));
    TaskCaller::of(Arc::new(claims)).unwrap()
}

/// Whether somebody with a grant of these details may do this.
fn allowed(details: &Value, call: &Call<'_>) -> bool {
    caller(details).require(call).is_ok()
}

#[test]
fn whatever_a_detail_limits_a_call_must_name() {
    let arguments = json!({"path": "/srv/a"});
    let tool = Call::tool("t", arguments.as_object().unwrap());
    let kinds = |call: Call<'_>, member: &str, limit: &Value| {
        let detail =
            if call.tool.is_some() { json!({"type": "mcp_tool", "tool": "t"}) } else { json!({"type": "resource"}) };
        let mut limited = detail.clone();
        limited[member] = limit.clone();
        assert!(allowed(&json!([detail]), &call), "{member}: what is not limited may be named or not");
        allowed(&json!([limited]), &call)
    };
    for call in [tool, Call::resource()] {
        let lists: [(&str, Call<'_>, Call<'_>); 3] = [
            ("locations", call.at("a"), call.at("c")),
            ("actions", call.action("a"), call.action("c")),
            ("datatypes", call.datatypes(&["a", "b"]), call.datatypes(&["a", "c"])),
        ];
        for (member, within, beyond) in lists {
            assert!(kinds(within, member, &json!(["a", "b"])), "{member}");
            assert!(!kinds(beyond, member, &json!(["a", "b"])), "{member}");
            assert!(!kinds(call, member, &json!(["a", "b"])), "{member} is not named");
            assert!(!kinds(within, member, &json!([])), "{member}: none at all");
            assert!(!kinds(call, member, &json!([])), "{member}: none at all");
        }
        assert!(kinds(call.identifier("a"), "identifier", &json!("a")));
        assert!(!kinds(call.identifier("b"), "identifier", &json!("a")));
        assert!(!kinds(call, "identifier", &json!("a")));
    }
    // One detail allows all of it, not two together; and each type is for itself.
    let two =
        json!([{"type": "resource", "actions": ["read"], "identifier": "a"}, {"type": "resource", "identifier": "b"}]);
    assert!(allowed(&two, &Call::resource().action("read").identifier("a")));
    assert!(!allowed(&two, &Call::resource().action("write").identifier("a")));
    assert!(!allowed(&json!([{"type": "resource"}]), &tool));
    assert!(!allowed(&json!([{"type": "mcp_tool", "tool": "t"}]), &Call::resource()));
    assert!(!allowed(&json!([]), &Call::resource()));
}

#[test]
fn what_is_limited_can_be_read() {
    let tool = json!({"type": "mcp_tool", "tool": "t", "locations": ["a"], "actions": ["call"], "datatypes": [], "identifier": "i", "constraints": {"n": {"exact": 1}}});
    let grant = grant(&json!({"audience": FILES, "authorization_details": [tool]}));
    let Some(Detail::Tool(tool)) = grant.details().first() else { panic!("no tool") };
    let at = tool.resource();
    assert_eq!(tool.name(), "t");
    assert_eq!(at.locations().map(|list| list.contains("a")), Some(true));
    assert_eq!(at.actions().map(|list| list.contains("call")), Some(true));
    assert_eq!((at.datatypes().map(BTreeSet::len), at.identifier()), (Some(0), Some("i")));
    assert_eq!(tool.constraints().keys().collect::<Vec<_>>(), ["n"]);
}

#[test]
fn a_call_of_a_tool_that_names_no_more_is_not_allowed_by_what_limits_more() {
    let arguments = json!({"path": "/srv/a"});
    let arguments = arguments.as_object().unwrap();
    let detail = json!({"type": "mcp_tool", "tool": "t", "locations": [FILES], "actions": ["call"]});
    assert_eq!(caller(&json!([detail])).require_tool("t", FILES, "call", arguments), Ok(()));
    for (member, limit) in [("identifier", json!("may")), ("datatypes", json!(["report"]))] {
        let mut limited = detail.clone();
        limited[member] = limit;
        let caller = caller(&json!([limited]));
        let refused = Err(TaskTokenError::InsufficientDetail);
        assert_eq!(caller.require_tool("t", FILES, "call", arguments), refused, "{member}");
        let call = Call::tool("t", arguments).at(FILES).action("call").identifier("may").datatypes(&["report"]);
        assert_eq!(caller.require(&call), Ok(()), "{member}");
    }
}
