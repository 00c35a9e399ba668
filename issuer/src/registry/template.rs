//! Templates of SPIFFE IDs: `spiffe://example.org/{node.aws.zone}/{unix.user}` (DESIGN 6).
//!
//! A placeholder fills one whole path segment, so that no fact can add or remove a level. The issuer renders; a node
//! only says what the workload facts are.

use std::fmt;

use mayfly_sdk::id::is_legal_segment;
use mayfly_sdk::{Reason, Refusal, Selector, SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};

use super::facts::{AssertedFacts, NodeFacts};

/// The most placeholders that one template may hold.
pub const MAX_PLACEHOLDERS: usize = 16;

/// A SPIFFE ID in which path segments may be placeholders.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Template {
    text: Box<str>,
    uses_node: bool,
    uses_workload: bool,
}

/// One placeholder of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placeholder<'a> {
    /// Whether the fact is about the node, attested by the issuer, or about the workload, asserted by the node.
    pub of: FactOf,
    /// The type of the fact, for example `unix`.
    pub kind: &'a str,
    /// The key of the fact, for example `user`.
    pub key: &'a str,
}

/// What a fact is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactOf {
    /// The node.
    Node,
    /// The workload.
    Workload,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// The text is neither a SPIFFE ID nor one with placeholders for whole segments.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let mut uses_node = false;
        let mut uses_workload = false;
        let mut placeholders = 0;
        // Each placeholder gives at least one byte: the shortest rendering must be a SPIFFE ID.
        let shortest = replace(text, |placeholder| {
            placeholders += 1;
            match placeholder.of {
                FactOf::Node => uses_node = true,
                FactOf::Workload => uses_workload = true,
            }
            Ok("x".to_owned())
        })?;
        if placeholders > MAX_PLACEHOLDERS {
            return Err(invalid(format!("a template holds at most {MAX_PLACEHOLDERS} placeholders")));
        }
        shortest.parse::<SpiffeId>()?;
        Ok(Self { text: text.into(), uses_node, uses_workload })
    }

    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it holds a placeholder for a fact about the node.
    #[must_use]
    pub fn uses_node(&self) -> bool {
        self.uses_node
    }

    /// Whether it holds a placeholder for a fact about the workload.
    #[must_use]
    pub fn uses_workload(&self) -> bool {
        self.uses_workload
    }

    /// The placeholders, in order.
    pub fn placeholders(&self) -> impl Iterator<Item = Placeholder<'_>> {
        self.text.split('/').filter_map(|segment| Placeholder::parse(segment).ok().flatten())
    }

    /// The path segments before the first placeholder, as a SPIFFE ID. Every rendering lies below it, or is it.
    #[must_use]
    pub fn fixed_prefix(&self) -> &str {
        self.text.find("/{").and_then(|end| self.text.get(..end)).unwrap_or(&self.text)
    }

    /// Whether some facts could make it this SPIFFE ID: segment by segment equal, a placeholder being any one segment.
    #[must_use]
    pub fn may_render(&self, id: &SpiffeId) -> bool {
        let (mut own, mut other) = (self.text.split('/'), id.as_str().split('/'));
        loop {
            match (own.next(), other.next()) {
                (None, None) => return true,
                (Some(own), Some(other)) if own == other || own.starts_with('{') => {}
                _ => return false,
            }
        }
    }

    /// Whether the template lies in this trust domain.
    #[must_use]
    pub fn is_member_of(&self, trust_domain: &TrustDomain) -> bool {
        self.fixed_prefix().parse::<SpiffeId>().is_ok_and(|id| id.is_member_of(trust_domain))
    }

    /// The template with its node facts filled in, as an agent sees it.
    ///
    /// # Errors
    /// A node fact is missing, has several values, or is not a legal segment; the refusal says which.
    pub fn render_node(&self, node: &NodeFacts) -> Result<String, Refusal> {
        if !self.uses_node {
            return Ok(self.text.as_ref().to_owned());
        }
        let text = replace(&self.text, |placeholder| match placeholder.of {
            FactOf::Node => placeholder.fill(&node.selectors),
            FactOf::Workload => Ok(placeholder.to_string()),
        })?;
        Self::parse(&text)?.refuse_reserved().map(|()| text)
    }

    /// The SPIFFE ID for these facts.
    ///
    /// # Errors
    /// A fact is missing, has several values or is not a legal segment; the result is too long, or reserved.
    pub fn render(&self, node: &NodeFacts, workload: &AssertedFacts) -> Result<SpiffeId, Refusal> {
        let id: SpiffeId = if self.uses_node || self.uses_workload {
            replace(&self.text, |placeholder| match placeholder.of {
                FactOf::Node => placeholder.fill(&node.selectors),
                FactOf::Workload => placeholder.fill(workload.as_slice()),
            })?
            .parse()?
        } else {
            self.text.parse()?
        };
        if id.is_reserved() {
            return Err(reserved(&id));
        }
        Ok(id)
    }

    /// The SPIFFE ID for a caller without a node, of whom the issuer itself has verified these claims.
    ///
    /// # Errors
    /// A claim is missing, has several values or is not a legal segment; the result is too long, or reserved; or the
    /// template rests on facts about a node.
    pub fn render_claims(&self, claims: &[Selector]) -> Result<SpiffeId, Refusal> {
        let id: SpiffeId = replace(&self.text, |placeholder| match placeholder.of {
            FactOf::Node => placeholder.fill(&[]),
            FactOf::Workload => placeholder.fill(claims),
        })?
        .parse()?;
        if id.is_reserved() {
            return Err(reserved(&id));
        }
        Ok(id)
    }

    /// # Errors
    /// The part before the first placeholder lies below `/mayfly`.
    pub(super) fn refuse_reserved(&self) -> Result<(), Refusal> {
        match self.fixed_prefix().parse::<SpiffeId>() {
            Ok(id) if id.is_reserved() => Err(reserved(&id)),
            _ => Ok(()),
        }
    }
}

impl<'a> Placeholder<'a> {
    /// The placeholder that a segment is, or `None` for a literal segment.
    fn parse(segment: &'a str) -> Result<Option<Self>, Refusal> {
        let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            if segment.contains(['{', '}']) {
                return Err(invalid(format!("a placeholder fills a whole path segment, and {segment:?} is not one")));
            }
            return Ok(None);
        };
        let (of, kind, key) = match *name.split('.').collect::<Vec<_>>() {
            ["node", kind, key] => (FactOf::Node, kind, key),
            [kind, key] if kind != "node" => (FactOf::Workload, kind, key),
            _ => {
                return Err(invalid(format!(
                    "a placeholder is written {{type.key}} or {{node.type.key}}, and {segment:?} is not"
                )));
            }
        };
        // The names of facts are those of selectors.
        if Selector::new(kind, key, "x").is_err() {
            return Err(invalid(format!("{segment:?} does not name a fact: type and key hold a-z 0-9 _ - only")));
        }
        Ok(Some(Self { of, kind, key }))
    }

    /// Whether a selector is about this fact.
    #[must_use]
    pub fn names(&self, selector: &Selector) -> bool {
        selector.kind() == self.kind && selector.key() == self.key
    }

    /// The one value of this fact among `facts`.
    fn fill(self, facts: &[Selector]) -> Result<String, Refusal> {
        let mut values = facts.iter().filter(|fact| self.names(fact));
        let whose = match self.of {
            FactOf::Node => "the node",
            FactOf::Workload => "the workload",
        };
        let Some(first) = values.next().map(Selector::value) else {
            return Err(Refusal::new(
                Reason::TemplateFactMissing,
                format!("the template needs {self}, which {whose} lacks"),
            ));
        };
        if values.any(|other| other.value() != first) {
            return Err(Refusal::new(
                Reason::TemplateFactAmbiguous,
                format!("the template needs {self}, of which {whose} has several values"),
            ));
        }
        if !is_legal_segment(first) {
            return Err(Refusal::new(
                Reason::TemplateFactIllegal,
                format!("the template needs {self}, whose value {first:?} is not a legal path segment"),
            ));
        }
        Ok(first.to_owned())
    }
}

impl fmt::Display for Placeholder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            FactOf::Node => write!(f, "{{node.{}.{}}}", self.kind, self.key),
            FactOf::Workload => write!(f, "{{{}.{}}}", self.kind, self.key),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

impl TryFrom<String> for Template {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        Self::parse(&text)
    }
}

impl From<Template> for String {
    fn from(template: Template) -> String {
        template.text.into()
    }
}

/// `text` with each placeholder replaced.
fn replace<'a>(
    text: &'a str,
    mut fill: impl FnMut(Placeholder<'a>) -> Result<String, Refusal>,
) -> Result<String, Refusal> {
    let mut filled = String::with_capacity(text.len());
    for (at, segment) in text.split('/').enumerate() {
        if at > 0 {
            filled.push('/');
        }
        match Placeholder::parse(segment)? {
            None => filled.push_str(segment),
            // The scheme and the trust domain are no path segments.
            Some(_) if at < 3 => return Err(invalid(format!("{segment:?} may not stand before the path"))),
            Some(placeholder) => filled.push_str(&fill(placeholder)?),
        }
    }
    Ok(filled)
}

fn reserved(id: &SpiffeId) -> Refusal {
    Refusal::new(Reason::ReservedSpiffeId, format!("{id} lies in Mayfly's own namespace"))
}

fn invalid(what: String) -> Refusal {
    Refusal::new(Reason::InvalidTemplate, what)
}

#[cfg(test)]
mod tests;
