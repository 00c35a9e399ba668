//! The last that is allowed and the first that is not.

use std::sync::Arc;

use super::*;
use crate::revision::Revision;
use crate::task::fixture::{claims, serial};
use crate::time::Clock;

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("s{n}")).collect()
}

fn with_detail(detail: &Value) -> Value {
    json!({"audience": FILES, "authorization_details": [detail]})
}

#[test]
fn a_grant_of_exactly_the_greatest_size_is_read() {
    let audience = |bytes: usize| json!({"audience": format!("https://{}", "a".repeat(bytes - 8))});
    grant(&audience(512));
    assert!(refused(&audience(513)).starts_with("grant.audience: "));
    grant(&json!({"audience": FILES, "scope": texts(64)}));
    assert!(refused(&json!({"audience": FILES, "scope": texts(65)})).starts_with("grant.scope: "));
    let details = |count: usize| {
        let details: Vec<_> = texts(count).into_iter().map(|tool| json!({"type": "mcp_tool", "tool": tool})).collect();
        json!({"audience": FILES, "authorization_details": details})
    };
    grant(&details(32));
    assert!(refused(&details(33)).starts_with("grant.authorization_details: "));
    let limited = |count: usize| {
        let each: Value = texts(count).into_iter().map(|name| (name, json!({"exact": 1}))).collect();
        with_detail(&json!({"type": "mcp_tool", "tool": "t", "constraints": each}))
    };
    grant(&limited(32));
    assert!(refused(&limited(33)).ends_with("at most 32 arguments are limited"));
    grant(&with_constraint(&json!({"one_of": (0..64).collect::<Vec<_>>()})));
    for network in ["10.1.2.3/32", "2001:db8::1/128"] {
        grant(&with_constraint(&json!({"cidr": network})));
    }
    let mut padded = json!({"audience": FILES}).to_string().into_bytes();
    padded.resize(64 * 1024, b' ');
    Grant::from_json(&padded).unwrap();
}

#[test]
fn a_tool_is_named_plainly_and_has_no_other_members() {
    for (detail, at) in [
        (json!({"type": "mcp_tool", "tool": "read file"}), "tool"),
        (json!({"type": "mcp_tool", "tool": "t".repeat(129)}), "tool"),
        (json!({"type": "mcp_tool", "tool": "t", "more": 1}), "more"),
        (json!({"type": "mcp_tool", "tool": "t", "constraints": {"a.b": {"exact": 1}}}), "constraints.a.b"),
        (json!({"type": "mcp_tool", "tool": "t", "constraints": {"": {"exact": 1}}}), "constraints."),
    ] {
        let error = refused(&with_detail(&detail));
        assert!(error.starts_with(&format!("grant.authorization_details.0.{at}: ")), "{detail}: {error}");
    }
    grant(&with_detail(&json!({"type": "mcp_tool", "tool": "t".repeat(128)})));
}

#[test]
fn another_tool_and_another_identifier_are_not_within() {
    let within =
        |child: Value, parent: Value| grant(&with_detail(&child)).details_are_within(&grant(&with_detail(&parent)));
    let tool = |name: &str| json!({"type": "mcp_tool", "tool": name});
    assert!(within(tool("a"), tool("a")) && !within(tool("b"), tool("a")));
    let resource = |identifier: &str| json!({"type": "resource", "identifier": identifier});
    assert!(within(resource("x"), resource("x")) && !within(resource("y"), resource("x")));
    assert!(within(resource("x"), json!({"type": "resource"})) && !within(json!({"type": "resource"}), resource("x")));
}

#[test]
fn a_range_holds_both_of_its_ends_and_nothing_beyond() {
    let range = json!({"range": {"min": 5, "max": 10}});
    for (number, inside) in [(4, false), (5, true), (10, true), (11, false)] {
        assert_eq!(within(&json!({"exact": number}), &range), inside, "{number}");
        assert_eq!(within(&json!({"one_of": [7, number]}), &range), inside, "{number}");
    }
}

#[test]
fn a_user_has_the_name_that_one_provider_gave_it() {
    for (provider, subject) in [("", "a"), ("Idp", "a"), ("idp_1", "a"), ("idp", "")] {
        assert!(User::new(provider, subject).is_err(), "{provider:?} {subject:?}");
    }
    assert!(User::new(&"p".repeat(65), "a").is_err() && User::new("idp", &"s".repeat(256)).is_err());
    let user = User::new(&"p".repeat(64), &"s".repeat(255)).unwrap();
    assert_eq!((user.provider().len(), user.subject().len()), (64, 255));

    let subject: Subject = "user:my-idp:spiffe%3A%2F%2Ftd%2Fa".parse().unwrap();
    assert_eq!(subject, Subject::User(User::new("my-idp", "spiffe://td/a").unwrap()));
    assert_eq!(subject.to_string(), "user:my-idp:spiffe%3A%2F%2Ftd%2Fa");
    for broken in ["user:idp:%", "user:idp:%4", "user:idp:%zz", "user:idp", "user::a", "user:idp:"] {
        assert!(broken.parse::<Subject>().is_err(), "{broken}");
    }
    let mut claims = claims(&"spiffe://td/agent".parse().unwrap(), b"certificate", 1, NOW);
    claims.subject = subject;
    let caller = TaskCaller::of(Arc::new(claims)).unwrap();
    assert_eq!(caller.user().map(|user| (user.provider(), user.subject())), Some(("my-idp", "spiffe://td/a")));
}

#[test]
fn a_task_that_was_suspended_and_ended_is_forgotten_as_a_whole() {
    let (clock, hand) = Clock::manual(NOW);
    let mut standings = Standings::default();
    let event = |state, forget_at| TaskEvent { task: serial(1), state, forget_at };
    let update = |n, events: Vec<TaskEvent>| Update { whole: n == 1, at: Revision { epoch: 1, n }, events };
    standings.take(&update(1, vec![event(TaskState::Suspended, None)]), clock.now_ms(), &clock).unwrap();
    let until = NOW.saturating_add(crate::time::Ttl::from_s(60));
    standings.take(&update(2, vec![event(TaskState::Completed, Some(until))]), clock.now_ms(), &clock).unwrap();
    assert_eq!((standings.of(serial(1)), standings.is_empty()), (Standing::Ended, false));
    // Half a minute later, for clocks that differ.
    hand.advance(std::time::Duration::from_secs(91));
    standings.take(&update(2, Vec::new()), clock.now_ms(), &clock).unwrap();
    assert_eq!((standings.of(serial(1)), standings.is_empty()), (Standing::Open, true));
    // What ended twice is forgotten at the later of the two times.
    let later = until.saturating_add(crate::time::Ttl::from_s(600));
    standings.take(&update(3, vec![event(TaskState::Completed, Some(later))]), clock.now_ms(), &clock).unwrap();
    standings.take(&update(4, vec![event(TaskState::Completed, Some(until))]), clock.now_ms(), &clock).unwrap();
    assert_eq!(standings.of(serial(1)), Standing::Ended);
}
