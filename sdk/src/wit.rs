//! WIT-SVIDs: tokens that name a workload and its key, and are worth nothing without proof that one has that key
//! (WIT-SVID, incubating: spiffe/spiffe at 665a28f).
//!
//! ```text
//! a request's headers ──> one token, one proof                                   WitSvid (token and key) ──prove──> headers
//!   token ──jws──> trust domain of `sub` ──its bundle's key──> claims, now ──> the key in `cnf`
//!   proof ──jws──> that key ──> for this request and this token, now, and once ──> VerifiedCaller
//! ```
//!
//! - A token alone identifies nobody (WIT-SVID 4, 7.1), so that no function here verifies one alone.
//! - The proof is the Workload Proof Token of draft-ietf-wimse-wpt-02 (27 August 2026): [`PROOF_DRAFT`]. How it travels is
//!   a [`Carrier`], because drafts differ in that.
//! - The set of headers is open, unlike that of JWT-SVIDs: unknown ones are not looked at, `crit` is refused (row W-6).

mod error;
mod presentation;
mod proof;
mod single_use;
mod svid;
mod target;
mod token;
mod validator;

pub use error::{ProofError, WitError};
pub use presentation::{AUTHORIZATION, Carrier, IDENTITY_HEADER, PROOF_HEADER, TRANSACTION_HEADER};
pub use proof::{MAX_PROOF_LIFE, Proof, ProofRequest};
pub(crate) use single_use::SingleUse;
pub use svid::WitSvid;
pub use target::{Origin, TargetUri};
pub use token::UnverifiedWit;
pub use validator::{Validator, VerifiedCaller};

use crate::time::Ttl;

/// The `typ` of a WIT-SVID (WIT-SVID 2.2).
pub const TYP: &str = "wit+jwt";
/// The `typ` of a proof of possession.
pub const PROOF_TYP: &str = "wpt+jwt";
/// The revision of the proofs of possession that is implemented.
pub const PROOF_DRAFT: &str = "draft-ietf-wimse-wpt-02";
/// The largest leeway that can be configured (WIT-SVID 3.4: a couple of minutes).
pub const MAX_LEEWAY: Ttl = Ttl::from_s(120);

#[cfg(test)]
mod tests;
