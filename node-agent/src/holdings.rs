//! What the agent holds of the registry: the entries of this node, the bundles, and what is denied, at one revision.

mod entry;

pub use self::entry::Entry;
