//! Whether to believe a task token: cheap checks before dear ones, and everything about the token before anything about the call.
//!
//! ```text
//! token ──size, header──> issuer, kid ──its key──> signature ──> times, audience ──> binding, holder, chain ──> standing ──> TaskCaller
//! ```

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::caller::TaskCaller;
use super::claims::{Binding, TaskClaims};
use crate::json::{self, Object};
use crate::jwk;
use crate::jws::{JwsAlgorithm, Unverified, Verified};
use crate::key::{PublicKey, ReadyKey};
use crate::reason::{Reason, Refusal};
use crate::time::{Timestamp, Ttl};
use crate::x509::VerifiedPeer;

/// The `typ` of a task token (RFC 9068 2.1). A JWT-SVID may not have it, and no task key is one for JWT-SVIDs.
pub const TYP: &str = "at+jwt";
/// The longest token that is read, bytes; none is issued beyond half of it.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// The longest life of a token.
pub const MAX_LIFE: Ttl = Ttl::from_s(900);

/// How far clocks may differ for `nbf` and `iat`.
const LEEWAY: Ttl = Ttl::from_s(30);
/// How far they may differ for `exp`.
const EXPIRY_LEEWAY: Ttl = Ttl::from_s(10);
/// The largest key set that is read, bytes, and the most keys in it.
const MAX_JWKS_BYTES: usize = 64 * 1024;
const MAX_KEYS: usize = 32;

/// The keys of one authorization server.
#[derive(Clone)]
pub struct TaskKeys {
    issuer: String,
    keys: HashMap<String, TaskKey>,
}

/// One key, ready for the one algorithm that its kind has in tokens of tasks.
#[derive(Clone)]
struct TaskKey {
    key: PublicKey,
    ready: Arc<ReadyKey>,
}

/// What a validator calls itself and how strict it is.
#[derive(Debug, Clone, Copy)]
pub struct Validator<'a> {
    /// Its resource URI: the token's one audience, byte for byte.
    pub audience: &'a str,
    /// Whose tokens it takes.
    pub keys: &'a TaskKeys,
    /// Whether a token is to be refused the moment it ends, whatever the clocks.
    pub sensitive: bool,
}

/// What whoever presents a token has proved by other means.
#[derive(Debug, Clone, Copy)]
pub enum Shown<'a> {
    /// The peer of the TLS connection that the token came over.
    Peer(&'a VerifiedPeer),
    /// The RFC 7638 thumbprint of a key whose proof for this very call was checked (RFC 9449).
    Proof([u8; 32]),
}

/// How a task stands, as far as the validator knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Open.
    Open,
    /// To be refused for now.
    Suspended,
    /// To be refused for good.
    Ended,
    /// Not known, or not known recently enough, and the validator does not take that risk.
    Unknown,
}

/// Why a token, or a call under it, is refused. Each is the first check that failed, in the order of the variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum TaskTokenError {
    /// Longer than [`MAX_TOKEN_BYTES`], or not one token in compact serialization with the header of a task token.
    #[error("not a task token")]
    NotATaskToken,
    /// Its `typ` is not [`TYP`]: another kind of token.
    #[error("the token is of another type than at+jwt")]
    WrongType,
    /// Of an issuer that the validator does not know.
    #[error("the token is of another issuer")]
    WrongIssuer,
    /// Its `kid` is not one of the issuer's: fetch the keys again, at most every 30 s.
    #[error("the issuer has no such key")]
    UnknownKey,
    /// The signature does not hold.
    #[error("the signature of the token does not hold")]
    BadSignature,
    /// A claim is missing, malformed, or contradicts another one.
    #[error("the claims of the token are not those of a task token, or contradict each other")]
    BadClaims,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` lies ahead.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// For another resource.
    #[error("the token is for another audience")]
    WrongAudience,
    /// The certificate of the connection, or the key of the proof, is not the one that the token is bound to.
    #[error("the token is bound to another key than the one that was shown")]
    NotBound,
    /// The peer is another workload than the holder of the token.
    #[error("the token belongs to another workload than the peer")]
    NotTheHolder,
    /// The task is suspended.
    #[error("the task is suspended")]
    Suspended,
    /// The task has ended.
    #[error("the task has ended")]
    Ended,
    /// It cannot be known whether the task is open.
    #[error("it is not known whether the task is open")]
    StandingUnknown,
    /// The call needs a scope token that the grant lacks.
    #[error("the grant lacks a scope that this call needs")]
    InsufficientScope,
    /// No detail of the grant allows the call.
    #[error("no detail of the grant allows this call")]
    InsufficientDetail,
}

impl TaskTokenError {
    /// The stable reason code of this error.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::NotATaskToken | Self::WrongType | Self::BadClaims => Reason::TaskTokenInvalid,
            Self::WrongIssuer | Self::UnknownKey | Self::BadSignature => Reason::TaskTokenUntrusted,
            Self::Expired => Reason::Expired,
            Self::NotYetValid => Reason::NotYetValid,
            Self::WrongAudience => Reason::WrongAudience,
            Self::NotBound | Self::NotTheHolder => Reason::TaskTokenNotBound,
            Self::Suspended => Reason::TaskSuspended,
            Self::Ended => Reason::TaskEnded,
            Self::StandingUnknown => Reason::TaskStandingUnknown,
            Self::InsufficientScope | Self::InsufficientDetail => Reason::InsufficientGrant,
        }
    }

    /// The name of the check that failed, for records of decisions. Each has one, and it never changes.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        match self {
            Self::NotATaskToken => "form",
            Self::WrongType => "type",
            Self::WrongIssuer => "issuer",
            Self::UnknownKey => "key",
            Self::BadSignature => "signature",
            Self::BadClaims => "claims",
            Self::Expired => "expiry",
            Self::NotYetValid => "not_before",
            Self::WrongAudience => "audience",
            Self::NotBound => "binding",
            Self::NotTheHolder => "holder",
            Self::Suspended => "suspended",
            Self::Ended => "ended",
            Self::StandingUnknown => "standing",
            Self::InsufficientScope => "scope",
            Self::InsufficientDetail => "detail",
        }
    }

    /// The `error` of the `WWW-Authenticate` challenge (RFC 6750 3.1).
    #[must_use]
    pub fn oauth_error(self) -> &'static str {
        match self {
            Self::NotATaskToken => "invalid_request",
            Self::InsufficientScope | Self::InsufficientDetail => "insufficient_scope",
            _ => "invalid_token",
        }
    }
}

impl From<TaskTokenError> for Refusal {
    fn from(error: TaskTokenError) -> Self {
        Refusal::new(error.reason(), error.to_string())
    }
}

impl TaskKeys {
    /// The keys of the authorization server that calls itself `issuer`, each under its RFC 7638 thumbprint.
    #[must_use]
    pub fn new(issuer: impl Into<String>, keys: impl IntoIterator<Item = PublicKey>) -> Self {
        let keys = keys.into_iter().filter_map(|key| Some((jwk::thumbprint(&key), TaskKey::new(key)?))).collect();
        Self { issuer: issuer.into(), keys }
    }

    /// Reads a JWK set (RFC 7517 5), of at most 64 KiB. Keys for another use than `sig` and of unknown types are passed over.
    ///
    /// # Errors
    /// [`Reason::InvalidArgument`] if it is none, holds a private key, or more than 32 keys.
    pub fn from_jwks(issuer: impl Into<String>, jwks: &[u8]) -> Result<Self, Refusal> {
        let wrong = |what: &str| Refusal::new(Reason::InvalidArgument, what);
        let set = (jwks.len() <= MAX_JWKS_BYTES).then(|| json::object(jwks).ok()).flatten();
        let set = set.ok_or_else(|| wrong("not a JWK set of at most 64 KiB"))?;
        let list = set.get("keys").and_then(Value::as_array).filter(|list| list.len() <= MAX_KEYS);
        let mut keys = HashMap::new();
        for jwk in list.ok_or_else(|| wrong("the JWK set has no list of at most 32 keys"))? {
            let jwk = jwk.as_object().ok_or_else(|| wrong("a key of the JWK set is not an object"))?;
            if jwk::is_secret(jwk) {
                return Err(wrong("the JWK set holds a private key"));
            }
            let use_ = jwk.get("use").and_then(Value::as_str);
            if let (Some("sig"), Some(kid), Ok(key)) =
                (use_, jwk.get("kid").and_then(Value::as_str), jwk::public_key(jwk))
            {
                keys.extend(TaskKey::new(key).map(|key| (kid.to_owned(), key)));
            }
        }
        Ok(Self { issuer: issuer.into(), keys })
    }

    /// What the authorization server calls itself.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What a token of these keys says, for whoever does not stand behind its audience: the issuer, of a parent's token. Its
    /// holder, its audience and the standing of its task are not looked at.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn read(&self, token: &str, now: Timestamp) -> Result<TaskClaims, TaskTokenError> {
        let claims = self.authentic(token)?;
        check_times(&claims, false, now)?;
        Ok(claims)
    }

    /// Whether whoever has `others` has all of these too.
    pub(super) fn are_among(&self, others: &Self) -> bool {
        let same = |(kid, key): (&String, &TaskKey)| others.keys.get(kid).is_some_and(|other| other.key == key.key);
        self.issuer == others.issuer && self.keys.iter().all(same)
    }

    /// The checks that always come out alike: everything about a token but its times.
    pub(super) fn authentic(&self, token: &str) -> Result<TaskClaims, TaskTokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TaskTokenError::NotATaskToken);
        }
        let parsed = Unverified::parse(token).ok().ok_or(TaskTokenError::NotATaskToken)?;
        check_header(parsed.header())?;
        let verified = self.verify(parsed)?;
        let claims = verified.claims().ok().ok_or(TaskTokenError::NotATaskToken)?;
        if !self.issued(&claims) {
            return Err(TaskTokenError::WrongIssuer);
        }
        let claims = TaskClaims::parse(&claims).ok_or(TaskTokenError::BadClaims)?;
        let life = claims.expires_at.seconds_since(claims.issued_at);
        if (1..=i64::from(MAX_LIFE.as_s())).contains(&life) { Ok(claims) } else { Err(TaskTokenError::BadClaims) }
    }

    fn verify<'a>(&self, token: Unverified<'a>) -> Result<Verified<'a>, TaskTokenError> {
        let failed = |token: &Unverified<'_>, error| match token.insecure_claims() {
            // Unverified, and read for one purpose: to say that the token is of another issuer, if that is why.
            Ok(claims) if !self.issued(&claims) => TaskTokenError::WrongIssuer,
            Ok(_) => error,
            Err(_) => TaskTokenError::NotATaskToken,
        };
        let Some(key) = token.key_id().and_then(|kid| self.keys.get(kid)) else {
            return Err(failed(&token, TaskTokenError::UnknownKey));
        };
        token.verify_ready(&key.ready, |token| failed(token, TaskTokenError::BadSignature))
    }

    fn issued(&self, claims: &Object) -> bool {
        claims.get("iss").and_then(Value::as_str) == Some(self.issuer.as_str())
    }
}

impl TaskKey {
    /// None for a kind of key with which no token of a task is signed.
    fn new(key: PublicKey) -> Option<Self> {
        let algorithm = JwsAlgorithm::for_key(key.key_type())?.signature();
        let ready = Arc::new(ReadyKey::new(&key, algorithm)?);
        Some(Self { key, ready })
    }
}

impl PartialEq for TaskKeys {
    fn eq(&self, other: &Self) -> bool {
        self.keys.len() == other.keys.len() && self.are_among(other)
    }
}

impl Eq for TaskKeys {}

impl fmt::Debug for TaskKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskKeys({}, {:?})", self.issuer, self.keys.keys())
    }
}

impl Validator<'_> {
    /// Decides whether to believe a token from whoever has shown this, and who calls then. `standing` is asked last, about
    /// claims that hold.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn verify(
        &self,
        token: &str,
        shown: Shown<'_>,
        standing: impl FnOnce(&TaskClaims) -> Standing,
        now: Timestamp,
    ) -> Result<TaskCaller, TaskTokenError> {
        let claims = Arc::new(self.keys.authentic(token)?);
        self.judge(&claims, shown, standing, now)
    }

    /// The rest of [`Validator::verify`], for claims that these keys signed: what depends on the moment and on the presenter.
    pub(super) fn judge(
        &self,
        claims: &Arc<TaskClaims>,
        shown: Shown<'_>,
        standing: impl FnOnce(&TaskClaims) -> Standing,
        now: Timestamp,
    ) -> Result<TaskCaller, TaskTokenError> {
        self.believe(claims, now)?;
        let caller = TaskCaller::of(Arc::clone(claims)).ok_or(TaskTokenError::BadClaims)?;
        match (claims.binding, shown) {
            (Binding::Certificate(thumbprint), Shown::Peer(peer)) => {
                if digest(&SHA256, peer.certificate()).as_ref() != thumbprint {
                    return Err(TaskTokenError::NotBound);
                }
                if *peer.spiffe_id() != caller.holder().spiffe_id {
                    return Err(TaskTokenError::NotTheHolder);
                }
            }
            (Binding::Key(bound), Shown::Proof(proved)) if bound == proved => {}
            _ => return Err(TaskTokenError::NotBound),
        }
        standing(claims).require()?;
        Ok(caller)
    }

    /// As [`Validator::verify`], for whoever did not see the presenter: with the certificate that a service says it saw, or
    /// with nothing, and then the token may be in anybody's hands. So it gives claims, and nobody to act for.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn inspect(
        &self,
        token: &str,
        certificate: Option<&[u8]>,
        standing: impl FnOnce(&TaskClaims) -> Standing,
        now: Timestamp,
    ) -> Result<TaskClaims, TaskTokenError> {
        let claims = self.keys.authentic(token)?;
        self.believe(&claims, now)?;
        if let Some(certificate) = certificate {
            match claims.binding {
                Binding::Certificate(thumbprint) if digest(&SHA256, certificate).as_ref() == thumbprint => {}
                _ => return Err(TaskTokenError::NotBound),
            }
        }
        standing(&claims).require()?;
        Ok(claims)
    }

    /// The checks that need neither a peer nor the task's standing.
    pub(super) fn believe(&self, claims: &TaskClaims, now: Timestamp) -> Result<(), TaskTokenError> {
        check_times(claims, self.sensitive, now)?;
        if claims.grant.audience() == self.audience { Ok(()) } else { Err(TaskTokenError::WrongAudience) }
    }
}

impl Standing {
    pub(super) fn require(self) -> Result<(), TaskTokenError> {
        match self {
            Self::Open => Ok(()),
            Self::Suspended => Err(TaskTokenError::Suspended),
            Self::Ended => Err(TaskTokenError::Ended),
            Self::Unknown => Err(TaskTokenError::StandingUnknown),
        }
    }
}

/// Exactly `alg`, `kid` and `typ`: whatever else a header has changes what a signature means or where its key comes from.
fn check_header(header: &Object) -> Result<(), TaskTokenError> {
    if header.get("typ").and_then(Value::as_str) != Some(TYP) {
        return Err(TaskTokenError::WrongType);
    }
    let known = header.len() == 3 && header.contains_key("alg") && header.contains_key("kid");
    if known { Ok(()) } else { Err(TaskTokenError::NotATaskToken) }
}

/// Whether the token is good at this moment, clocks that differ a little allowed for unless it is `sensitive`.
fn check_times(claims: &TaskClaims, sensitive: bool, now: Timestamp) -> Result<(), TaskTokenError> {
    let leeway = |allowed| if sensitive { Ttl::from_s(0) } else { allowed };
    if now >= claims.expires_at.saturating_add(leeway(EXPIRY_LEEWAY)) {
        return Err(TaskTokenError::Expired);
    }
    if claims.issued_at > now.saturating_add(leeway(LEEWAY)) {
        return Err(TaskTokenError::NotYetValid);
    }
    Ok(())
}
