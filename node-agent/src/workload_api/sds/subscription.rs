//! What a proxy wants, and what it says of what it was sent.

use std::collections::BTreeSet;

use mayfly_proto::sds as wire;
use mayfly_sdk::{Reason, Refusal};
use prost::Message as _;

use super::SECRET_TYPE;

/// Names that one stream may ask for.
const MOST_NAMES: usize = 128;
/// The longest name, bytes: a SPIFFE ID of the greatest length (SPIFFE-ID 2.3).
const LONGEST_NAME: usize = 2048;
/// How much of a proxy's own words goes into the log, characters.
const MOST_WORDS: usize = 300;
/// Asks for everything.
const EVERYTHING: &str = "*";
/// The metadata by which an Envoy declines SPIFFE validators, as in configurations written for SPIRE.
const NO_SPIFFE_VALIDATOR: &str = "disable_spiffe_cert_validation";

/// One request, of either form.
#[derive(Debug)]
pub(super) struct Asked {
    node: Option<wire::Node>,
    type_url: String,
    nonce: String,
    rejected: Option<String>,
    change: Change,
}

/// Which names a request is about.
#[derive(Debug)]
enum Change {
    /// These and no others.
    Whole(Vec<String>),
    /// More, and fewer.
    Delta { more: Vec<String>, fewer: Vec<String> },
}

/// What a request has changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing: it was an answer to what was sent, or out of date.
    Nothing,
    /// What is wanted. The names in it are to be sent even if the proxy has them.
    Wanted(Vec<String>),
}

/// What a proxy wants at this moment.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    begun: bool,
    everything: bool,
    names: BTreeSet<String>,
    /// The proxy cannot use SPIFFE validators.
    pub(super) plain_trust: bool,
}

impl Subscription {
    /// Whether there was a request yet.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// The names that are wanted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether a name is wanted.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.everything || self.names.contains(name)
    }

    /// Takes a request. `last_nonce`: of what was sent last; empty before.
    ///
    /// # Errors
    /// [`Reason::InvalidArgument`]: it asks for another type, or for too much.
    pub(super) fn take(&mut self, asked: Asked, last_nonce: &str) -> Result<Outcome, Refusal> {
        if !matches!(asked.type_url.as_str(), "" | SECRET_TYPE) {
            return Err(invalid(format!("the type is not {SECRET_TYPE}")));
        }
        let first = !std::mem::replace(&mut self.begun, true);
        if let Some(node) = asked.node.filter(|_| first) {
            self.plain_trust = declines_spiffe_validators(&node);
        }
        if let Some(words) = asked.rejected {
            let words: String = words.chars().take(MOST_WORDS).collect();
            tracing::warn!(proxy_says = ?words, "a proxy has rejected secrets");
        }
        let outcome = match asked.change {
            // A request that answers an older message than the last is out of date as a whole; the proxy will answer the last one too.
            Change::Whole(_) if !first && !asked.nonce.is_empty() && asked.nonce != last_nonce => Outcome::Nothing,
            Change::Whole(names) => self.replace(names, first)?,
            Change::Delta { more, fewer } => self.alter(more, &fewer, first)?,
        };
        if self.names.len() > MOST_NAMES {
            return Err(invalid(format!("more than {MOST_NAMES} names on one stream")));
        }
        Ok(outcome)
    }

    fn replace(&mut self, names: Vec<String>, first: bool) -> Result<Outcome, Refusal> {
        let names = checked(names)?;
        if names.is_empty() && (first || (self.everything && self.names.is_empty())) {
            self.everything = true;
            return Ok(if first { Outcome::Wanted(Vec::new()) } else { Outcome::Nothing });
        }
        let everything = names.contains(EVERYTHING);
        if !first && names == self.names && everything == self.everything {
            return Ok(Outcome::Nothing);
        }
        (self.everything, self.names) = (everything, names);
        self.names.remove(EVERYTHING);
        Ok(Outcome::Wanted(Vec::new()))
    }

    fn alter(&mut self, more: Vec<String>, fewer: &[String], first: bool) -> Result<Outcome, Refusal> {
        if more.is_empty() && fewer.is_empty() {
            self.everything |= first;
            return Ok(if first { Outcome::Wanted(Vec::new()) } else { Outcome::Nothing });
        }
        let mut more = checked(more)?;
        for name in fewer {
            self.names.remove(name);
            self.everything &= name != EVERYTHING;
        }
        self.everything |= more.remove(EVERYTHING);
        self.names.extend(more.iter().cloned());
        Ok(Outcome::Wanted(more.into_iter().collect()))
    }
}

/// What the fuzzer calls: requests on one stream, each a byte for its form, two for its length, and its message.
///
/// # Panics
/// If more is wanted than one stream may want, or a name that none may have.
#[doc(hidden)]
pub fn fuzz_secret_requests(mut stream: &[u8]) {
    let mut subscription = Subscription::default();
    while let Some(([form, high, low], rest)) = stream.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (message, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        stream = rest;
        let asked = match form & 1 {
            0 => wire::DiscoveryRequest::decode(message).map(Asked::from),
            _ => wire::DeltaDiscoveryRequest::decode(message).map(Asked::from),
        };
        let Ok(asked) = asked else { continue };
        if subscription.take(asked, "1").is_err() {
            return;
        }
        assert!(subscription.has_begun() && subscription.names().count() <= MOST_NAMES, "too many names");
        let legal = |name: &str| !name.is_empty() && name.len() <= LONGEST_NAME && name != EVERYTHING;
        assert!(subscription.names().all(|name| legal(name) && subscription.wants(name)), "an impossible name");
    }
}

fn checked(names: Vec<String>) -> Result<BTreeSet<String>, Refusal> {
    if names.iter().any(|name| name.is_empty() || name.len() > LONGEST_NAME) {
        return Err(invalid(format!("a name is empty or longer than {LONGEST_NAME} bytes")));
    }
    Ok(names.into_iter().collect())
}

fn invalid(what: String) -> Refusal {
    Refusal::new(Reason::InvalidArgument, what)
}

fn declines_spiffe_validators(node: &wire::Node) -> bool {
    use prost_types::value::Kind;
    let said = node.metadata.as_ref().and_then(|metadata| metadata.fields.get(NO_SPIFFE_VALIDATOR)?.kind.as_ref());
    match said {
        Some(Kind::BoolValue(declines)) => *declines,
        Some(Kind::StringValue(text)) => text == "true",
        _ => false,
    }
}

impl From<wire::DiscoveryRequest> for Asked {
    fn from(request: wire::DiscoveryRequest) -> Self {
        Self {
            node: request.node,
            type_url: request.type_url,
            nonce: request.response_nonce,
            rejected: request.error_detail.map(|status| status.message),
            change: Change::Whole(request.resource_names),
        }
    }
}

impl From<wire::DeltaDiscoveryRequest> for Asked {
    fn from(request: wire::DeltaDiscoveryRequest) -> Self {
        // `initial_resource_versions` is passed over: after a reconnection the proxy gets everything once more.
        Self {
            node: request.node,
            type_url: request.type_url,
            nonce: request.response_nonce,
            rejected: request.error_detail.map(|status| status.message),
            change: Change::Delta { more: request.resource_names_subscribe, fewer: request.resource_names_unsubscribe },
        }
    }
}
