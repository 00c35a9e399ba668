use std::sync::Arc;

use super::entry::{Entry, EntrySpec};

/// What became of one entry. Both absent: nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EntryChange {
    /// The entry as it was.
    pub before: Option<Arc<Entry>>,
    /// The entry as it is.
    pub after: Option<Arc<Entry>>,
}

/// One field of an entry, as a diff sees it.
struct Field {
    name: &'static str,
    /// Whether a change of it changes what is issued.
    reissues: bool,
    same: fn(&EntrySpec, &EntrySpec) -> bool,
}

macro_rules! field {
    ($name:ident, $reissues:expr) => {
        Field { name: stringify!($name), reissues: $reissues, same: |a, b| a.$name == b.$name }
    };
    (extra $name:ident, $reissues:expr) => {
        Field { name: stringify!($name), reissues: $reissues, same: |a, b| a.extra().$name == b.extra().$name }
    };
}

/// Every field but the name. Who may have an identity is not what is issued: `node`, `selectors` and the features move
/// the entry to other workloads without signing anything again.
const FIELDS: &[Field] = &[
    field!(spiffe_id, true),
    field!(node, false),
    field!(selectors, false),
    field!(x509_ttl, true),
    field!(jwt_ttl, true),
    field!(expires_at, false),
    field!(sharing, true),
    field!(priority, false),
    field!(extra hint, false),
    field!(extra dns_names, true),
    field!(extra jwt_audiences, true),
    field!(extra federates_with, false),
    field!(extra claims, true),
    field!(extra admin, false),
    field!(extra task, false),
    field!(extra serves, false),
    field!(extra allowed_values, true),
    field!(extra node_asserted, true),
    field!(extra quotas, false),
    field!(extra required_features, false),
    field!(extra labels, false),
];

/// The names of the fields that differ, and whether what is issued changes.
pub(super) fn differences(before: &EntrySpec, after: &EntrySpec) -> (Vec<&'static str>, bool) {
    let differing: Vec<&Field> = FIELDS.iter().filter(|field| !(field.same)(before, after)).collect();
    (differing.iter().map(|field| field.name).collect(), differing.iter().any(|field| field.reissues))
}
