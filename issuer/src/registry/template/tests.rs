use proptest::prelude::*;

use super::*;

fn node(selectors: &[&str]) -> NodeFacts {
    NodeFacts {
        spiffe_id: "spiffe://example.org/mayfly/node/join_token/a".parse().unwrap(),
        selectors: selectors.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

fn workload(facts: &[&str]) -> AssertedFacts {
    AssertedFacts::parse(facts).unwrap()
}

#[test]
fn placeholders_are_filled_from_the_node_and_from_the_workload() {
    let template = Template::parse("spiffe://example.org/{node.aws.zone}/u/{unix.user}").unwrap();
    let node = node(&["aws:zone:eu-1a", "aws:tag:x"]);
    assert_eq!(template.render_node(&node).unwrap(), "spiffe://example.org/eu-1a/u/{unix.user}");
    let id = template.render(&node, &workload(&["unix:user:alice"])).unwrap();
    assert_eq!(id.as_str(), "spiffe://example.org/eu-1a/u/alice");
    assert!(template.uses_node() && template.uses_workload());
    assert_eq!(template.fixed_prefix(), "spiffe://example.org");
}

#[test]
fn a_fact_that_cannot_stand_there_is_named() {
    let template = Template::parse("spiffe://example.org/u/{unix.user}").unwrap();
    for (facts, reason) in [
        (&["unix:uid:1000"][..], Reason::TemplateFactMissing),
        (&["unix:user:alice", "unix:user:bob"], Reason::TemplateFactAmbiguous),
        (&["unix:user:a/b"], Reason::TemplateFactIllegal),
        (&["unix:user:.."], Reason::TemplateFactIllegal),
        (&["unix:user:a b"], Reason::TemplateFactIllegal),
        (&["unix:user:ä"], Reason::TemplateFactIllegal),
    ] {
        let refusal = template.render(&node(&[]), &workload(facts)).unwrap_err();
        assert_eq!(refusal.reason, reason, "{facts:?}");
        assert!(refusal.what.contains("{unix.user}"), "{}", refusal.what);
    }
}

#[test]
fn what_a_workload_is_said_to_be_never_fills_a_placeholder_of_the_node() {
    let template = Template::parse("spiffe://example.org/{node.aws.zone}").unwrap();
    let refusal = template.render(&node(&[]), &workload(&["aws:zone:eu-1a"])).unwrap_err();
    assert_eq!(refusal.reason, Reason::TemplateFactMissing);
    let template = Template::parse("spiffe://example.org/{aws.zone}").unwrap();
    assert!(template.render(&node(&["aws:zone:eu-1a"]), &workload(&[])).is_err());
}

#[test]
fn a_rendering_is_neither_reserved_nor_too_long() {
    let template = Template::parse("spiffe://example.org/{node.a.b}/{c.d}").unwrap();
    let refusal = template.render(&node(&["a:b:mayfly"]), &workload(&["c:d:node"])).unwrap_err();
    assert_eq!(refusal.reason, Reason::ReservedSpiffeId);
    assert_eq!(template.render_node(&node(&["a:b:mayfly"])).unwrap_err().reason, Reason::ReservedSpiffeId);
    let room = 2048 - "spiffe://example.org/x/".len();
    let fits = format!("c:d:{}", "a".repeat(room));
    let too_long = format!("c:d:{}", "a".repeat(room + 1));
    assert!(template.render(&node(&["a:b:x"]), &workload(&[&fits])).is_ok());
    assert_eq!(
        template.render(&node(&["a:b:x"]), &workload(&[&too_long])).unwrap_err().reason,
        Reason::InvalidSpiffeId
    );
}

#[test]
fn a_placeholder_is_a_whole_segment_of_the_path() {
    for bad in [
        "spiffe://example.org/a-{unix.user}",
        "spiffe://example.org/{unix.user}-a",
        "spiffe://example.org/{unix.user}{unix.uid}",
        "spiffe://example.org/{unix}",
        "spiffe://example.org/{unix.user.name}",
        "spiffe://example.org/{node.user}",
        "spiffe://example.org/{node.a.b.c}",
        "spiffe://example.org/{}",
        "spiffe://example.org/{Unix.user}",
        "spiffe://example.org/{unix.user",
        "spiffe://{unix.user}/a",
        "spiffe:{unix.user}//a",
        "spiffe://{node.a.b}",
        "{unix.user}",
    ] {
        let refusal = Template::parse(bad).unwrap_err();
        assert_eq!(refusal.reason, Reason::InvalidTemplate, "{bad}");
    }
    assert_eq!(Template::parse("spiffe://example.org/{a.b}/").unwrap_err().reason, Reason::InvalidSpiffeId);
    let many = format!("spiffe://example.org{}", "/{a.b}".repeat(MAX_PLACEHOLDERS + 1));
    assert_eq!(Template::parse(&many).unwrap_err().reason, Reason::InvalidTemplate);
}

proptest! {
    #[test]
    fn no_fact_adds_or_removes_a_level(value in "\\PC{1,40}") {
        let template = Template::parse("spiffe://example.org/a/{x.y}/b").unwrap();
        if let Ok(fact) = Selector::new("x", "y", &value)
            && let Ok(id) = template.render(&node(&[]), &AssertedFacts::from(vec![fact]))
        {
            prop_assert_eq!(id.segments().collect::<Vec<_>>(), ["a", &*value, "b"]);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(spiffe://example.org)?[/{}.a-zé]{0,24}") {
        if let Ok(template) = Template::parse(&text) {
            prop_assert_eq!(template.to_string(), text);
        }
    }
}
