//! What is known about a node and its workloads, and by whose word.
//!
//! The two are different types, so that nothing which a node merely asserts is taken for what the issuer attested.

use std::sync::Arc;

use mayfly_sdk::{Reason, Refusal, Selector, SpiffeId};

/// The most facts that a node may send about one workload.
pub const MAX_ASSERTED_FACTS: usize = 64;

/// What the issuer itself attested about a node. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// The node's SPIFFE ID.
    pub spiffe_id: SpiffeId,
    /// The node's selectors.
    pub selectors: Arc<[Selector]>,
}

/// What a node says about one of its workloads. Nobody but the node vouches for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AssertedFacts(Vec<Selector>);

impl AssertedFacts {
    /// Reads facts as a node sends them.
    ///
    /// # Errors
    /// More than [`MAX_ASSERTED_FACTS`], or a text that is not a selector.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, Refusal> {
        if texts.len() > MAX_ASSERTED_FACTS {
            return Err(Refusal::new(
                Reason::InvalidArgument,
                format!("a node may send at most {MAX_ASSERTED_FACTS} facts about a workload"),
            ));
        }
        texts.iter().map(|text| Ok(text.as_ref().parse::<Selector>()?)).collect::<Result<_, Refusal>>().map(Self)
    }

    /// The facts.
    #[must_use]
    pub fn as_slice(&self) -> &[Selector] {
        &self.0
    }
}

impl From<Vec<Selector>> for AssertedFacts {
    fn from(facts: Vec<Selector>) -> Self {
        Self(facts)
    }
}
