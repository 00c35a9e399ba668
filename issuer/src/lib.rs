//! The control plane of Mayfly: it attests nodes, mints SVIDs, and records everything before it is released.

// What people say who may have which identity.
pub mod registry;

// What signs, and for how long.
pub mod authority;

// What survives the process.
pub mod ledger;
pub mod store;
