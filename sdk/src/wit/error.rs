use crate::claims::ClaimError;
use crate::id::IdError;
use crate::jws::JwsError;
use crate::key::KeyError;
use crate::reason::{Reason, Refusal};

/// Why a WIT-SVID, or whoever presents one, is not believed. Each variant is the caller's to mend, but for `NoBundle`,
/// which is the operator's, and those about settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WitError {
    /// The text is not a token, its algorithm is not allowed, or its signature does not hold.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// `typ` is not `wit+jwt` (WIT-SVID 2.2).
    #[error("the typ of the token is not wit+jwt")]
    WrongType,
    /// `kid` is missing or empty (WIT-SVID 2.1).
    #[error("the token does not name the key that signed it")]
    NoKeyId,
    /// There is a `crit`: an extension that must be understood, and none is (RFC 7515 4.1.11).
    #[error("the token demands an extension that is not understood")]
    Critical,
    /// `sub` is missing or not a string (WIT-SVID 3.1).
    #[error("the token has no subject")]
    NoSubject,
    /// `sub` is not a SPIFFE ID.
    #[error("the subject of the token is not a SPIFFE ID: {0}")]
    BadSubject(IdError),
    /// `sub` is the id of a trust domain and not of a workload.
    #[error("the subject of the token is a trust domain and not a workload")]
    RootSubject,
    /// There is an `aud`, whatever it holds (WIT-SVID 3.8).
    #[error("the token has an audience, which a WIT-SVID may not have")]
    HasAudience,
    /// `cnf` holds no `jwk` (WIT-SVID 3.2).
    #[error("the token is not bound to a key")]
    NoConfirmation,
    /// The `jwk` in `cnf` is not one public key with an algorithm of the nine that fits it.
    #[error("the token is not bound to a public key with an algorithm that fits it")]
    BadConfirmation,
    /// `exp` is missing (WIT-SVID 3.4).
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
    /// It lives longer than this validator allows (WIT-SVID 3.5).
    #[error("the token lives longer than is allowed here")]
    LivesTooLong,
    /// No bundle is known for the trust domain of the subject.
    #[error("no bundle is known for the trust domain of the subject")]
    NoBundle,
    /// The bundle has no key of WIT-SVIDs with the token's `kid`.
    #[error("the bundle of the trust domain has no such key of WIT-SVIDs")]
    NoAuthority,
    /// The private key is not that of the public key in `cnf`. Of one's own token only.
    #[error("the private key is not the one that the token is bound to")]
    KeyMismatch,
    /// The private key cannot be read. Of one's own token only.
    #[error("the private key of the token cannot be used: {0}")]
    Key(KeyError),
    /// Something about the proof of possession, or about how token and proof came.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// Why there is no proof of possession that holds for this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// There is no header `Workload-Identity-Token`, or there are two.
    #[error("the request does not have exactly one WIT-SVID")]
    NotOneToken,
    /// There is no proof, or there are two, in one place or in several.
    #[error("the request does not have exactly one proof of possession")]
    NotOneProof,
    /// `Authorization` holds what is no proof of possession.
    #[error("the request has credentials beside the WIT-SVID that are no proof of possession")]
    OtherCredentials,
    /// A WIT-SVID came in `Authorization`, as if it were a bearer token (WIT-SVID 5).
    #[error("a WIT-SVID is no bearer token")]
    BearerToken,
    /// A header that counts here is not ASCII text.
    #[error("a header of the request is not plain text")]
    NotText,
    /// The proof is not a token, its algorithm is not allowed, or its signature is not one by the key in `cnf`.
    #[error("the proof of possession does not hold: {0}")]
    Jws(JwsError),
    /// `typ` is not `wpt+jwt`.
    #[error("the typ of the proof is not wpt+jwt")]
    WrongType,
    /// There is a `crit`.
    #[error("the proof demands an extension that is not understood")]
    Critical,
    /// `alg` is not the one in `cnf.jwk.alg`.
    #[error("the proof was made with another algorithm than the token names")]
    WrongAlgorithm,
    /// The key that the proof shows is missing, is not one that is used here, or is secret.
    #[error("the proof shows no public key that is used here")]
    BadKey,
    /// `aud` is missing, or not one URI.
    #[error("the audience of the proof is not one URI")]
    BadAudience,
    /// The proof is for another request.
    #[error("the proof is for another request")]
    WrongAudience,
    /// `exp` is missing.
    #[error("the proof has no expiry")]
    NoExpiry,
    /// `exp` or `nbf` is not a number of seconds.
    #[error("a time of the proof is not a number of seconds")]
    BadTime,
    /// `exp` has passed.
    #[error("the proof has expired")]
    Expired,
    /// `nbf` lies ahead.
    #[error("the proof is not valid yet")]
    NotYetValid,
    /// `exp` lies further ahead than is allowed.
    #[error("the proof lives longer than is allowed here")]
    LivesTooLong,
    /// `jti` is missing, or not 16 to 256 characters: fewer do not hold 128 bits.
    #[error("the id of the proof is not 16 to 256 characters")]
    BadId,
    /// `wth` is not the hash of this token.
    #[error("the proof is for another token")]
    WrongToken,
    /// There is a transaction token and no `tth`, or the reverse, or they differ.
    #[error("the proof is not bound to the transaction token of the request")]
    TransactionNotBound,
    /// A token of the request that counts here is not in `oth`, or its hash differs, or it came twice.
    #[error("the proof is not bound to a token of the request that counts")]
    ContextNotBound,
    /// `oth` names a token that means nothing here, or is not an object of hashes.
    #[error("the proof is bound to a token that is not understood here")]
    ContextUnknown,
    /// The proof was used before.
    #[error("the proof was used before")]
    Used,
    /// As many proofs as are remembered are in use, or as many as one key may have of them: nobody could tell whether this one was
    /// used before. Come back when some have expired.
    #[error("more proofs are in use than are remembered, of all keys or of this one")]
    TooManyInUse,
    /// A leeway or lifetime above what can be configured. The operator's.
    #[error("the leeway is at most 120 seconds, and a proof lives for 1 to 600")]
    OutOfRange,
    /// A text is not the URI of a request over a secure channel: `https://`, host and path.
    #[error("a target is written as https://HOST[:PORT]/PATH")]
    BadTarget,
    /// A text is not the name of a header, or of one that has a meaning of its own here.
    #[error("this is not the name of a header that may hold a further token")]
    BadHeaderName,
    /// The kernel gave no random bytes.
    #[error("the kernel gave no random bytes")]
    NoRandomness,
}

impl WitError {
    /// The stable reason code of this error.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Jws(JwsError::BadSignature) | Self::NoAuthority => Reason::WitSvidUntrusted,
            Self::Expired => Reason::Expired,
            Self::NotYetValid => Reason::NotYetValid,
            Self::NoBundle => Reason::UnknownTrustDomain,
            Self::Key(error) => error.reason(),
            Self::Proof(error) => error.reason(),
            _ => Reason::WitSvidInvalid,
        }
    }
}

impl ProofError {
    /// The stable reason code of this error.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Used => Reason::ProofUsed,
            Self::TooManyInUse => Reason::Overloaded,
            Self::OutOfRange | Self::BadTarget | Self::BadHeaderName => Reason::InvalidArgument,
            Self::NoRandomness => Reason::RandomnessUnavailable,
            _ => Reason::ProofInvalid,
        }
    }
}

impl From<ClaimError> for WitError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::NoSubject => Self::NoSubject,
            ClaimError::BadSubject(why) => Self::BadSubject(why),
            ClaimError::BadTime => Self::BadTime,
        }
    }
}

impl From<WitError> for Refusal {
    fn from(error: WitError) -> Self {
        Refusal::new(error.reason(), error.to_string())
    }
}

impl From<ProofError> for Refusal {
    fn from(error: ProofError) -> Self {
        Refusal::new(error.reason(), error.to_string())
    }
}
