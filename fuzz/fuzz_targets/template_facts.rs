//! Templates filled with what a node says about its workloads: whatever it says, the result is one legal SPIFFE ID that the template could give.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_issuer::registry::{AssertedFacts, NodeFacts, Template};
use mayfly_sdk::Selector;

// The template in the first line; then facts, those of the node behind a `!`.
fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let Some(Ok(template)) = lines.next().map(Template::parse) else { return };
    let (node, workload): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with('!'));
    let Ok(workload) = AssertedFacts::parse(&workload) else { return };
    let selectors: Vec<Selector> = node.iter().filter_map(|line| line[1..].parse().ok()).collect();
    let spiffe_id = "spiffe://td/mayfly/node/join_token/a".parse().expect("a SPIFFE ID");
    let facts = NodeFacts { spiffe_id, selectors: selectors.into() };
    if let Ok(partly) = template.render_node(&facts) {
        assert!(!Template::parse(&partly).expect("a template again").uses_node());
    }
    if let Ok(id) = template.render(&facts, &workload) {
        assert!(template.may_render(&id) && !id.is_reserved());
        assert_eq!(id.segments().count(), template.as_str().split('/').count() - 3);
    }
});
