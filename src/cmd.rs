//! The verbs, one noun a file.

pub(crate) mod agent;
pub(crate) mod authority;
pub(crate) mod bundle;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod entry;
pub(crate) mod health;
pub(crate) mod issuer;
pub(crate) mod join_token;
pub(crate) mod ledger;
pub(crate) mod node;
pub(crate) mod policy;
pub(crate) mod svid;
pub(crate) mod task;
pub(crate) mod token;
