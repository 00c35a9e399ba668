//! JWT-SVIDs: tokens that name a workload (JWT-SVID).
//!
//! ```text
//! token ──jws::Unverified──> trust domain of `sub` ──its bundle's key──> jws::Verified ──claims, audience, now──> JwtSvid
//! ```
//!
//! The set of headers is closed (decision K8), `kid` may be missing (K7), `aud` is a string or a list (K6).

mod claims;

use std::fmt;

use serde_json::Value;

pub use claims::UnverifiedJwt;

use crate::bundle::JwtBundleSet;
use crate::claims::{self as shared, ClaimError};
use crate::id::{IdError, SpiffeId, TrustDomain};
use crate::json::Object;
use crate::jws::{self, JwsError};
use crate::reason::{Reason, Refusal};
use crate::time::{Timestamp, Ttl};

/// The `typ` of the JWT-SVIDs that Mayfly issues; `JOSE` and none at all are as good (JWT-SVID 2.3).
pub const TYP: &str = "JWT";
/// The most audiences that a token may have (row J-26).
pub const MAX_AUDIENCES: usize = 32;
/// The largest leeway that can be configured.
pub const MAX_LEEWAY: Ttl = Ttl::from_s(120);

const NEVER_ALLOWED_HEADERS: [&str; 6] = ["crit", "b64", "jwk", "jku", "x5u", "x5c"];

/// A JWT-SVID whose signature, times and audience were checked.
///
/// Its claims are statements of the trust domain of its subject, and of nobody else (SPIFFE-ID 4).
#[derive(Clone)]
pub struct JwtSvid {
    token: String,
    unverified: UnverifiedJwt,
}

/// What a validator calls itself: one non-empty string that must be among a token's audiences, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Audience(String);

/// How strictly tokens are read. The default is as strict as the standard, with 30 s of leeway.
#[derive(Debug, Clone)]
pub struct Options {
    leeway: Ttl,
    allow_extra_headers: bool,
    allow_root_subject: bool,
}

/// Why a token is not believed. Each variant is the caller's to mend, but for `NoBundle`, which is the operator's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtError {
    /// The text is not a token, its algorithm is not allowed, or its signature does not hold.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// A header other than `alg`, `kid` and `typ` (JWT-SVID 2).
    #[error("the token has a header that a JWT-SVID may not have")]
    ExtraHeader,
    /// `typ` is there and neither `JWT` nor `JOSE` (JWT-SVID 2.3).
    #[error("the typ of the token is neither JWT nor JOSE")]
    WrongType,
    /// `sub` is missing or not a string (JWT-SVID 3.1).
    #[error("the token has no subject")]
    NoSubject,
    /// `sub` is not a SPIFFE ID.
    #[error("the subject of the token is not a SPIFFE ID: {0}")]
    BadSubject(IdError),
    /// `sub` is the id of a trust domain and not of a workload.
    #[error("the subject of the token is a trust domain and not a workload")]
    RootSubject,
    /// `aud` is missing, empty, or not one to 32 non-empty strings (JWT-SVID 3.2).
    #[error("the audience of the token is not one to 32 texts")]
    BadAudience,
    /// The validator's own name is not among the audiences.
    #[error("the token is for another audience")]
    WrongAudience,
    /// A validator without a name of its own (row J-13).
    #[error("an audience may not be empty")]
    EmptyAudience,
    /// `exp` is missing (JWT-SVID 3.3).
    #[error("the token has no expiry")]
    NoExpiry,
    /// `exp`, `nbf` or `iat` is not a number of seconds.
    #[error("a time of the token is not a number of seconds")]
    BadTime,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` lies ahead.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// No bundle is known for the trust domain of the subject.
    #[error("no bundle is known for the trust domain of the subject")]
    NoBundle,
    /// The bundle has no key with the token's `kid`, or none that fits its algorithm.
    #[error("the bundle of the trust domain has no such key")]
    NoAuthority,
    /// A leeway above [`MAX_LEEWAY`].
    #[error("the leeway is at most 120 seconds")]
    LeewayTooLong,
}

impl JwtError {
    /// The stable reason code of this error.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Jws(JwsError::BadSignature) | Self::NoAuthority => Reason::JwtSvidUntrusted,
            Self::WrongAudience => Reason::WrongAudience,
            Self::Expired => Reason::Expired,
            Self::NotYetValid => Reason::NotYetValid,
            Self::NoBundle => Reason::UnknownTrustDomain,
            Self::EmptyAudience | Self::LeewayTooLong => Reason::InvalidArgument,
            _ => Reason::JwtSvidInvalid,
        }
    }
}

impl From<ClaimError> for JwtError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::NoSubject => Self::NoSubject,
            ClaimError::BadSubject(why) => Self::BadSubject(why),
            ClaimError::BadTime => Self::BadTime,
        }
    }
}

impl From<JwtError> for Refusal {
    fn from(error: JwtError) -> Self {
        Refusal::new(error.reason(), error.to_string())
    }
}

/// Checks a token against the bundle of its subject's own trust domain (rows J-1 to J-26).
///
/// # Errors
/// A [`JwtError`] for the first check that does not hold. Which came first says nothing about the others.
pub fn verify(
    token: &str,
    bundles: &JwtBundleSet,
    audience: &Audience,
    now: Timestamp,
    options: &Options,
) -> Result<JwtSvid, JwtError> {
    let parsed = jws::Unverified::parse(token)?;
    options.check_header(parsed.header())?;
    // Unverified, and read for one purpose: to know whose keys to ask.
    let trust_domain = shared::subject(&parsed.insecure_claims()?)?.trust_domain().clone();
    let verified = verify_signature(parsed, &trust_domain, bundles)?;

    let claims = UnverifiedJwt::from_claims(verified.claims()?)?;
    if claims.spiffe_id().is_root() && !options.allow_root_subject {
        return Err(JwtError::RootSubject);
    }
    if !claims.audience().iter().any(|one| one == audience.as_str()) {
        return Err(JwtError::WrongAudience);
    }
    if now >= claims.expires_at().saturating_add(options.leeway) {
        return Err(JwtError::Expired);
    }
    if claims.not_before().is_some_and(|at| at > now.saturating_add(options.leeway)) {
        return Err(JwtError::NotYetValid);
    }
    Ok(JwtSvid { token: token.to_owned(), unverified: claims })
}

/// Reads the claims of a token that is not checked: for its holder, who got it from the Workload API and must know when
/// to renew it. Whoever is shown a token calls [`verify`].
///
/// # Errors
/// A [`JwtError`] about the form of the token.
pub fn insecure_claims(token: &str) -> Result<UnverifiedJwt, JwtError> {
    let parsed = jws::Unverified::parse(token)?;
    Options::default().check_header(parsed.header())?;
    UnverifiedJwt::from_claims(parsed.insecure_claims()?)
}

fn verify_signature<'a>(
    token: jws::Unverified<'a>,
    trust_domain: &TrustDomain,
    bundles: &JwtBundleSet,
) -> Result<jws::Verified<'a>, JwtError> {
    let bundle = bundles.get(trust_domain).ok_or(JwtError::NoBundle)?;
    let algorithm = token.algorithm();
    let fits = |authority: &&crate::bundle::JwtAuthority| authority.allows(algorithm);
    if let Some(key_id) = token.key_id() {
        // No other key is tried: a token that names its key is that key's or nobody's (row J-19).
        let authority = bundle.find(key_id).ok_or(JwtError::NoAuthority)?;
        if !fits(&authority) {
            return Err(JwsError::BadSignature.into());
        }
        return Ok(token.verify(authority.public_key())?);
    }
    let mut keys = bundle.authorities().iter().filter(fits).map(crate::bundle::JwtAuthority::public_key).peekable();
    if keys.peek().is_none() {
        return Err(JwtError::NoAuthority);
    }
    Ok(token.verify_with_any(keys.take(MAX_KEYS_TRIED))?)
}

/// How many keys are tried for a token without `kid`. More would let a token cost what it likes.
const MAX_KEYS_TRIED: usize = 16;

impl JwtSvid {
    /// Who it names.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        self.unverified.spiffe_id()
    }

    /// The trust domain that says all this, and for which alone the claims mean anything (row ID-22).
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        self.spiffe_id().trust_domain()
    }

    /// All its audiences, in the order of the token.
    #[must_use]
    pub fn audience(&self) -> &[String] {
        self.unverified.audience()
    }

    /// From when on it is not valid.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.unverified.expires_at()
    }

    /// When it was issued, if it says so.
    #[must_use]
    pub fn issued_at(&self) -> Option<Timestamp> {
        self.unverified.issued_at()
    }

    /// All its claims. They are statements of [`JwtSvid::trust_domain`].
    #[must_use]
    pub fn claims(&self) -> &Object {
        self.unverified.claims()
    }

    /// The token itself. A bearer credential: whoever has it is its subject.
    #[must_use]
    pub fn expose_token(&self) -> &str {
        &self.token
    }
}

// A token is a credential: what is shown of it must not be one.
impl fmt::Debug for JwtSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwtSvid({} for {:?} until {})", self.spiffe_id(), self.audience(), self.expires_at())
    }
}

/// The value of an HTTP `Authorization` header, or of the gRPC metadata `authorization`, that shows a token
/// (JWT-SVID 5.2, 5.3).
#[must_use]
pub fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

impl Audience {
    /// What a validator calls itself.
    ///
    /// # Errors
    /// [`JwtError::EmptyAudience`].
    pub fn new(name: impl Into<String>) -> Result<Self, JwtError> {
        let name = name.into();
        if name.is_empty() { Err(JwtError::EmptyAudience) } else { Ok(Self(name)) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Audience {
    type Err = JwtError;

    fn from_str(name: &str) -> Result<Self, JwtError> {
        Self::new(name)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { leeway: Ttl::from_s(30), allow_extra_headers: false, allow_root_subject: false }
    }
}

impl Options {
    /// How far the clocks of issuer and validator may differ; counts for `exp` and `nbf` alike.
    ///
    /// # Errors
    /// [`JwtError::LeewayTooLong`] above 120 s.
    pub fn with_leeway(self, leeway: Ttl) -> Result<Self, JwtError> {
        if leeway > MAX_LEEWAY {
            return Err(JwtError::LeewayTooLong);
        }
        Ok(Self { leeway, ..self })
    }

    /// Accepts headers beyond `alg`, `kid` and `typ`, against JWT-SVID 2, for issuers that add some. `crit`, `b64`,
    /// `jwk`, `jku`, `x5u` and `x5c` stay refused: they change what a signature means or where its key comes from.
    #[must_use]
    pub fn allow_extra_headers(self) -> Self {
        Self { allow_extra_headers: true, ..self }
    }

    /// Accepts the id of a trust domain as a subject, as go-spiffe does.
    #[must_use]
    pub fn allow_root_subject(self) -> Self {
        Self { allow_root_subject: true, ..self }
    }

    fn check_header(&self, header: &Object) -> Result<(), JwtError> {
        let extra = |name: &str| !matches!(name, "alg" | "kid" | "typ");
        let refused = |name: &str| !self.allow_extra_headers || NEVER_ALLOWED_HEADERS.contains(&name);
        if header.keys().any(|name| extra(name) && refused(name)) {
            return Err(JwtError::ExtraHeader);
        }
        match header.get("typ").map(Value::as_str) {
            None | Some(Some("JWT" | "JOSE")) => Ok(()),
            Some(_) => Err(JwtError::WrongType),
        }
    }
}

#[cfg(test)]
mod tests;
