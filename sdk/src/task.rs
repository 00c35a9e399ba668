//! Tasks: what one may do, and what it may hand on (`docs/tasks.md`).
//!
//! ```text
//! JSON ──parse──> Grant ──attenuate(parent, wish, now)──> Link, or the first rule that failed
//! ```
//!
//! The issuer decides by these rules, and a validator that is shown a chain can decide by them again: they read neither
//! a clock nor a store. Whatever cannot be seen to be narrower is refused.

mod attenuation;
mod cache;
mod call;
mod caller;
mod claims;
mod constraint;
mod detail;
mod feed;
#[cfg(test)]
pub(crate) mod fixture;
mod grant;
mod network;
mod standings;
mod state;
mod subject;
mod token;
mod value;
mod verifier;
#[cfg(feature = "wire")]
mod wire;

pub use attenuation::{Actor, AttenuationError, Link, MAX_HOPS, Parent, Wish, attenuate};
pub use call::Call;
pub use caller::TaskCaller;
pub use claims::{Binding, StatusEntry, TaskClaims, TaskLink};
pub use constraint::{Constraint, Path, Range};
pub use detail::{Detail, Resource, Tool};
pub use feed::{Feed, FeedGap, TaskEvent, Update};
pub use grant::{Grant, GrantError, MAX_AUDIENCE};
pub use network::Network;
pub use standings::{NewsError, SILENCE, Standings};
pub use state::{TaskState, UnknownTaskState};
pub use subject::{Subject, SubjectError, User};
pub use token::{MAX_LIFE, MAX_TOKEN_BYTES, Shown, Standing, TYP, TaskKeys, TaskTokenError, Validator};
pub use value::ArgumentValue;
pub use verifier::{Decision, TaskVerifier, WhenStale};
#[cfg(feature = "wire")]
pub use wire::{UpdateParts, to_wire};

#[cfg(test)]
mod tests;
