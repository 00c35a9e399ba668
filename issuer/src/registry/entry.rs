//! Registration entries: who may have which identity (DESIGN 6).
//!
//! A million of them fit into memory, so an [`Entry`] is compact: what nearly every entry has stands in [`EntrySpec`],
//! what few have in one box behind [`EntrySpec::extra`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use mayfly_sdk::task::Detail;
use mayfly_sdk::{Reason, Refusal, Revision, Selector, SpiffeId, Timestamp, TrustDomain, Ttl};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::template::Template;
use super::uid::Uid;

/// A registration entry as the issuer serves it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Given by the issuer; a new one when a name is reused.
    pub uid: Uid,
    /// Whose file the entry stands in.
    pub owner: Arc<str>,
    /// Changes only when what is issued changes; then everything issued for the entry is minted anew.
    pub issuance: u64,
    /// Ascending in the order of creation.
    pub created_order: u64,
    /// When the entry was made.
    pub created_at: Timestamp,
    /// When the entry was last changed.
    pub updated_at: Timestamp,
    /// The change that wrote it last.
    pub revision: Revision,
    /// What its owner wrote.
    pub spec: EntrySpec,
}

impl Entry {
    /// Whether its workloads may validate tokens for this audience, and hear of their tasks.
    #[must_use]
    pub fn serves(&self, audience: &str) -> bool {
        let serves = &self.spec.extra().serves;
        matches!(&**serves, [only] if **only == *"*") || serves.iter().any(|served| **served == *audience)
    }

    /// The entry's name, of which there is one in the trust domain.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Whether the entry has ended at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.spec.expires_at.is_some_and(|at| at <= now)
    }

    /// The place among the identities of a workload, lower first, and no two entries have the same: priority, then age
    /// (WA-14).
    #[must_use]
    pub fn order(&self) -> u64 {
        const AGE_BITS: u32 = 56;
        let rank = u64::from(i8::MAX.abs_diff(self.spec.priority));
        (rank << AGE_BITS) | self.created_order.min((1 << AGE_BITS) - 1)
    }

    /// What its owner wrote, as canonical JSON: sorted keys, nothing that has its default.
    #[must_use]
    pub fn document(&self) -> String {
        self.spec.to_json()
    }
}

/// What the owner of an entry writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntrySpec {
    /// Unique in the trust domain.
    pub name: Arc<str>,
    /// The identity; may hold templates.
    pub spiffe_id: Template,
    /// Which nodes may serve the entry: any of these.
    pub node: Box<[NodeMatch]>,
    /// What a workload must have: all of these.
    pub selectors: Box<[Selector]>,
    /// Lifetime of X.509-SVIDs; absent: the issuer's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x509_ttl: Option<Ttl>,
    /// Lifetime of JWT-SVIDs; absent: the issuer's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt_ttl: Option<Ttl>,
    /// When the entry ends. Nothing is issued from then on, and nothing issued before lives longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Whether workloads share a key and SVID.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sharing: Sharing,
    /// The greater, the earlier among the identities of a workload; from -100 to 100.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i8,
    /// What few entries have.
    #[serde(flatten)]
    rare: Rare,
}

impl EntrySpec {
    /// A spec with the required fields.
    #[must_use]
    pub fn new(name: &str, spiffe_id: Template, node: Vec<NodeMatch>, selectors: Vec<Selector>) -> Self {
        Self {
            name: name.into(),
            spiffe_id,
            node: node.into(),
            selectors: selectors.into(),
            x509_ttl: None,
            jwt_ttl: None,
            expires_at: None,
            sharing: Sharing::Entry,
            priority: 0,
            rare: Rare(None),
        }
    }

    /// What few entries have; the defaults where this one has nothing of it.
    #[must_use]
    pub fn extra(&self) -> &Extra {
        self.rare.0.as_deref().unwrap_or(&NOTHING)
    }

    /// This spec with these extras.
    #[must_use]
    pub fn with_extra(mut self, extra: Extra) -> Self {
        self.rare = Rare::from(extra);
        self
    }

    /// Whether it is for callers without a node agent, and so for no node.
    #[must_use]
    pub fn is_agentless(&self) -> bool {
        self.node.iter().any(|node| matches!(node, NodeMatch::Agentless(_)))
    }

    /// The sharing in force: `task` forces one SVID for each instance (DESIGN 6).
    #[must_use]
    pub fn effective_sharing(&self) -> Sharing {
        if self.extra().task.is_some() { Sharing::Instance } else { self.sharing }
    }

    /// Bytes of its JSON.
    #[must_use]
    pub fn count_bytes(&self) -> usize {
        let mut count = Count(0);
        // As in `to_json`: nothing here fails to serialize.
        serde_json::to_writer(&mut count, self).map_or(usize::MAX, |()| count.0)
    }

    /// Canonical JSON: sorted keys, nothing that has its default.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Only maps with keys that are not text fail to serialize, and there is none here.
        let value = serde_json::to_value(self).map(|mut value| {
            value.sort_all_objects();
            value.to_string()
        });
        value.unwrap_or_default()
    }
}

/// Counts what is written to it.
struct Count(usize);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The fields that few entries have.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Extra {
    /// Tells a workload which of its identities is for what; at most 1,024 bytes (WA-12).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Box<str>>,
    /// DNS SANs.
    #[serde(skip_serializing_if = "is_default")]
    pub dns_names: Box<[Box<str>]>,
    /// The audiences that JWT-SVIDs may have; empty: any.
    #[serde(skip_serializing_if = "is_default")]
    pub jwt_audiences: Box<[Box<str>]>,
    /// Trust domains whose bundles the workload gets.
    #[serde(skip_serializing_if = "is_default")]
    pub federates_with: Box<[TrustDomain]>,
    /// Static extra claims of JWT-SVIDs.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub claims: serde_json::Map<String, serde_json::Value>,
    /// What the workload may administrate with its X.509-SVID. Counts only where the SPIFFE ID holds no placeholder.
    #[serde(skip_serializing_if = "is_default")]
    pub admin: Box<[AdminGrant]>,
    /// What task tokens the workload may ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<Box<TaskGrant>>,
    /// The resource URIs whose tokens the workload may validate.
    #[serde(skip_serializing_if = "is_default")]
    pub serves: Box<[Box<str>]>,
    /// For each workload fact of the template (`type.key`), the values it may have; absent: any.
    #[serde(skip_serializing_if = "is_default")]
    pub allowed_values: BTreeMap<Box<str>, Box<[Box<str>]>>,
    /// The owner accepts that a node alone says what the template's workload facts are.
    #[serde(skip_serializing_if = "is_default")]
    pub node_asserted: NodeAsserted,
    /// How much of the entry one node may use.
    #[serde(skip_serializing_if = "is_default")]
    pub quotas: Quotas,
    /// Abilities that an agent must have to serve the entry.
    #[serde(skip_serializing_if = "is_default")]
    pub required_features: Box<[Box<str>]>,
    /// For people; no effect on anything issued.
    #[serde(skip_serializing_if = "is_default")]
    pub labels: BTreeMap<Box<str>, Box<str>>,
}

static NOTHING: LazyLock<Extra> = LazyLock::new(Extra::default);

/// The extras, boxed only where there are any.
#[derive(Debug, Clone, PartialEq, Default)]
struct Rare(Option<Box<Extra>>);

impl From<Extra> for Rare {
    fn from(extra: Extra) -> Self {
        Self((extra != *NOTHING).then(|| Box::new(extra)))
    }
}

impl Serialize for Rare {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_deref().unwrap_or(&NOTHING).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Rare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Extra::deserialize(deserializer).map(Self::from)
    }
}

/// One alternative of `node`. Written as a SPIFFE ID, a selector, a list of selectors, or `agentless:<issuer name>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "NodeText", try_from = "NodeText")]
pub enum NodeMatch {
    /// The node with this SPIFFE ID.
    Id(SpiffeId),
    /// Every node that has all of these; never empty.
    Selectors(Box<[Selector]>),
    /// No node: a caller without one, with a token of the identity provider of this name. A kind of its own, so that no node
    /// ever serves such an entry, whatever its selectors are.
    Agentless(Box<str>),
}

impl NodeMatch {
    /// Reads what stands for one alternative as plain text: a SPIFFE ID, one selector, or `agentless:<issuer name>`.
    ///
    /// # Errors
    /// The refusal of the SPIFFE ID, selector or name that the text is not.
    pub fn from_text(text: &str) -> Result<Self, Refusal> {
        if let Some(name) = text.strip_prefix("agentless:") {
            // The names of issuers are those of facts.
            if Selector::new("agentless", name, "x").is_err() {
                let what = format!("{name:?} is no name of an issuer: 1 to 64 of the characters a-z 0-9 _ -");
                return Err(Refusal::new(Reason::InvalidValue, what));
            }
            return Ok(Self::Agentless(name.into()));
        }
        if text.starts_with("spiffe:") {
            return Ok(Self::Id(text.parse::<SpiffeId>()?));
        }
        Ok(Self::Selectors([text.parse::<Selector>()?].into()))
    }
}

/// How an alternative is written.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum NodeText {
    One(String),
    All(Vec<Selector>),
}

impl From<NodeMatch> for NodeText {
    fn from(node: NodeMatch) -> Self {
        match node {
            NodeMatch::Id(id) => Self::One(id.to_string()),
            NodeMatch::Selectors(selectors) => Self::All(selectors.into()),
            NodeMatch::Agentless(name) => Self::One(format!("agentless:{name}")),
        }
    }
}

impl TryFrom<NodeText> for NodeMatch {
    type Error = Refusal;

    fn try_from(text: NodeText) -> Result<Self, Refusal> {
        match text {
            NodeText::One(text) => Self::from_text(&text),
            NodeText::All(selectors) => Ok(Self::Selectors(selectors.into())),
        }
    }
}

/// Whether the workloads of an entry on a node share one key and SVID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// One key and SVID for all workloads of the entry on a node.
    #[default]
    Entry,
    /// One for each instance.
    Instance,
}

/// Whether a template may rest on what a node alone says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeAsserted {
    /// Only with a `{node.*}` segment or a list of allowed values.
    #[default]
    Refuse,
    /// The owner accepts it.
    Accept,
}

/// How much of an entry one node may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Quotas {
    /// Distinct SPIFFE IDs that the template may give on one node at a time; absent: only the node's own quota counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renderings: Option<u32>,
}

/// One grant of administration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminGrant {
    /// What may be done, for example `entry:*` or `node:list`.
    pub verbs: Box<[Box<str>]>,
    /// Only for SPIFFE IDs at or below this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_prefix: Option<SpiffeId>,
    /// Only for what this owner owns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Box<str>>,
}

/// What task tokens a workload may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskGrant {
    /// Resource URIs, or `*` alone.
    pub audiences: Box<[Box<str>]>,
    /// Scopes, or `*` alone.
    pub scopes: Box<[Box<str>]>,
    /// Details that a task may have.
    #[serde(default, skip_serializing_if = "is_default")]
    pub authorization_details: AllowedDetails,
    /// Audiences that a delegated task may have.
    #[serde(default, skip_serializing_if = "is_default")]
    pub delegable: Box<[Box<str>]>,
    /// How often a task may be delegated on; absent: the default of the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_hops: Option<u8>,
    /// The longest deadline of a task; absent: the default of the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Ttl>,
    /// On behalf of whose users; none: of nobody's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub users: Box<[UsersOf]>,
}

/// Users on whose behalf a workload may begin tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsersOf {
    /// The provider, as the issuer's configuration names it.
    pub provider: Box<str>,
    /// The clients whose tokens count beside those that name the workload itself; `*` alone: any, and those that name none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clients: Box<[Box<str>]>,
}

/// The authorization details that an entry allows: any, or those that are within one of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<serde_json::Value>", try_from = "Vec<serde_json::Value>")]
pub enum AllowedDetails {
    /// `["*"]`.
    Any,
    /// None where the list is empty.
    Within(BTreeSet<Detail>),
}

impl AllowedDetails {
    /// Whether each of these is allowed.
    #[must_use]
    pub fn allow(&self, asked: &BTreeSet<Detail>) -> bool {
        match self {
            Self::Any => true,
            Self::Within(limits) => asked.iter().all(|detail| limits.iter().any(|limit| detail.is_within(limit))),
        }
    }
}

impl Default for AllowedDetails {
    fn default() -> Self {
        Self::Within(BTreeSet::new())
    }
}

impl From<AllowedDetails> for Vec<serde_json::Value> {
    fn from(allowed: AllowedDetails) -> Self {
        match allowed {
            AllowedDetails::Any => vec!["*".into()],
            AllowedDetails::Within(limits) => limits.iter().map(Detail::to_json).collect(),
        }
    }
}

impl TryFrom<Vec<serde_json::Value>> for AllowedDetails {
    type Error = Refusal;

    fn try_from(list: Vec<serde_json::Value>) -> Result<Self, Refusal> {
        if let [only] = list.as_slice()
            && only == "*"
        {
            return Ok(Self::Any);
        }
        Ok(Self::Within(Detail::list(&list.into())?))
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
