//! The control plane of Mayfly: it attests nodes, mints SVIDs, and records everything before it is released.
//!
//! ```text
//! node agent ──> api::node ──> attest ──┐                                   ┌──> registry (who may have what)
//!                    │                  ├──> mint: authorize, sign, record ─┼──> authority (what signs)
//!                    └─> sync <─────────┘            │                      └──> store, ledger (durable first)
//! a caller without a node agent ──> api::node ──> agentless (its token) ──> mint
//! operator ──> api::admin ──> directory (memory; edits are durable, then visible, then pushed)
//! stranger ──> web (the bundle, over HTTPS)
//! ```

// What an operator sets, and how the parts are put together.
pub mod config;
mod issuer;
mod restored;

// What people say who may have which identity.
pub mod registry;

// What signs.
pub mod authority;

// What survives the process.
pub mod ledger;
pub mod store;

// What is served from memory, and how changes reach nodes.
pub mod directory;
pub mod sync;

// From evidence to an enrolled node; from a request to a released credential.
pub mod agentless;
pub mod attest;
pub mod mint;
mod oidc;
pub mod policy;
pub mod task;
pub mod users;

// The edges.
pub mod api;
pub mod identity;
pub mod metrics;
pub mod web;

pub use config::Config;
pub use issuer::{RunError, run};
pub use restored::restored;
