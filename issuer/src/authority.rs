//! Authorities: the signing keys of a trust domain, what they may sign, and how one follows another.
//!
//! ```text
//! store ──rows──> Keyring (slots: typestates) ──due(now, acknowledgements)──> Step
//!   ^                                                                           │
//!   └── Change: slots, bundle, records <── Draft <── Rotation (the one owner) <─┘   <── prepare, activate, taint, revoke
//!                                                      │ durable, then visible
//!                                                      v
//!                    Authorities: sign_x509(LeafPlan), sign_jwt(JwtPlan), sign_wit(WitPlan), bundle, denied
//! ```
//!
//! - Kinds: the X.509 root (sealed in the store), this process's intermediate (its key in memory only), JWT keys, and WIT
//!   keys where they are on. A further kind is an `impl Kind`.
//! - What becomes visible together is one change of the store; memory follows it. So there is nothing to repair after a
//!   crash: what is stored is a valid state, and [`Keyring::due`] says what comes next.
//! - A key from retiring on is erased; tainted ones stay in the bundle until they are revoked or have nothing valid left.

// What a key is.
mod error;
mod key;
mod kind;
mod slot;

// Kinds, and what they sign.
mod certificate;
mod der;
mod leaf;
mod notice;
mod task;
mod token;
mod wit;

// Where keys are kept.
mod row;
mod wrapping;

// How one follows another.
mod bundle;
mod draft;
mod due;
mod keeper;
mod keyring;
mod rotation;
mod schedule;
mod settling;
mod workshop;

// What others hold.
mod authorities;

#[cfg(test)]
mod tests;

pub use authorities::{Authorities, Changed, Snapshot};
pub use bundle::OwnBundle;
pub use certificate::{Birth, RootIssuer, X509Root};
pub use due::{Acknowledgements, Agenda, Moment, Step};
pub use error::AuthorityError;
pub use keeper::SlotStore;
pub use key::KeyHandle;
pub use keyring::{Keyring, Roster, View};
pub use kind::{AuthorityId, Kind, subject_key_id};
pub use leaf::{LeafPlan, LeafSigner, SignedX509, X509Intermediate};
pub use notice::{Notice, SecurityEvent, StatusList, Transaction};
pub use rotation::{Place, Rotation, Stored, open};
pub use schedule::{Problem, Settings};
pub use slot::{Active, Facts, Prepared, Retired, Retiring, Revoked, Slot, Tainted, state};
pub use task::{SignedTask, Task, TaskPlan};
pub use token::{Jwt, JwtPlan, SignedJwt, TokenSigner};
pub use wit::{SignedWit, Wit, WitPlan};
pub use wrapping::{WrappingKey, WrappingKeyId};
