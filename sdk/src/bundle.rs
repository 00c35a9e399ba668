//! Trust bundles: what a trust domain's SVIDs are verified with (SPIFFE Trust Domain and Bundle).
//!
//! A bundle is always of one trust domain, bundles of two are never merged (Federation 4.2), an X.509 bundle cannot be
//! asked about tokens, nor the keys of one kind of token about the other: the types keep all of them apart. A bundle carries no name, so whoever reads one says whose it is.
//!
//! ```text
//! SPIFFE bundle (JSON) ──> Bundle ──┬──> X509Bundle ──> X509BundleSet ──> x509::verify
//! Workload API, DER ────────────────┤
//! Workload API, JWK Set ────────────┼──> JwtBundle ───> JwtBundleSet ───> jwt::verify
//!                                   └──> WitBundle ───> WitBundleSet ───> wit::Validator
//! ```

mod map;
mod set;
mod spiffe;
mod token;
mod x509;

pub use map::{BundleMap, MAX_BUNDLE_MAP_BYTES};
pub use set::{BundleSet, JwtBundleSet, OfTrustDomain, WitBundleSet, X509BundleSet};
pub use spiffe::Bundle;
pub use token::{
    JwtAuthority, JwtBundle, OfJwtSvids, OfWitSvids, TokenAuthority, TokenBundle, TokenUse, WitAuthority, WitBundle,
};
pub use x509::X509Bundle;

pub use crate::x509::Authority as X509Authority;

use crate::reason::{Reason, Refusal};

/// The longest bundle that is read, in bytes.
pub const MAX_BUNDLE_BYTES: usize = 4 * 1024 * 1024;

/// Why a bundle cannot be read. The operator's to mend, or that of the trust domain that published it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Longer than [`MAX_BUNDLE_BYTES`], or a map longer than [`MAX_BUNDLE_MAP_BYTES`].
    #[error("the bundle is too long")]
    TooLong,
    /// Not a JSON object with each member once.
    #[error("the bundle is not a JSON object with each member once")]
    NotJson,
    /// `keys` is missing or not a list (row BD-2).
    #[error("the bundle has no list of keys")]
    NoKeys,
    /// `spiffe_sequence` is not an integer of 64 bits without sign (row BD-5).
    #[error("the sequence of the bundle is not an integer from 0 to 2^64 - 1")]
    BadSequence,
    /// `spiffe_refresh_hint` is not an integer of seconds (row BD-6).
    #[error("the refresh hint of the bundle is not an integer of seconds")]
    BadRefreshHint,
    /// Two keys of one use have one `kid` (row BD-18), or two keys that were to be published (row W-28).
    #[error("two keys of the bundle have one key id")]
    DuplicateKeyId,
    /// The DER is not a series of certificates.
    #[error("the bundle is not a series of DER certificates")]
    NotCertificates,
    /// A member of a bundle map is not named after a trust domain (row BM-4).
    #[error("the bundle map holds a name that is not a trust domain")]
    BadTrustDomain,
    /// `trust_domains` is missing or not an object.
    #[error("the bundle map has no trust domains")]
    NoTrustDomains,
}

impl From<BundleError> for Refusal {
    fn from(error: BundleError) -> Self {
        Refusal::new(Reason::BundleInvalid, error.to_string())
    }
}

#[cfg(test)]
mod tests;
