use std::fmt;
use std::sync::Arc;

use super::token::issued;
use super::{PROOF_TYP, Proof, ProofError, ProofRequest, UnverifiedWit, WitError};
use crate::bundle::WitBundleSet;
use crate::id::SpiffeId;
use crate::json;
use crate::jwk;
use crate::jws::Signer;
use crate::key::{KeyError, PrivateKey};
use crate::time::Timestamp;

/// A WIT-SVID of one's own: the token, and the key that it is bound to. Cheap to clone.
///
/// Making one checks the form of the token and that the key is the one in `cnf`, not that anybody would believe it.
#[derive(Clone)]
pub struct WitSvid(Arc<Inner>);

struct Inner {
    token: String,
    wit: UnverifiedWit,
    key: PrivateKey,
    signer: Signer,
}

impl WitSvid {
    /// An SVID of this token and this key.
    ///
    /// # Errors
    /// A [`WitError`] about the form of the token, or [`WitError::KeyMismatch`].
    pub fn new(token: &str, key: PrivateKey) -> Result<Self, WitError> {
        let wit = UnverifiedWit::read(token)?;
        if wit.bound_key() != key.public_key() {
            return Err(WitError::KeyMismatch);
        }
        let signer = Signer::without_key_id(&key, wit.proof_algorithm(), PROOF_TYP).map_err(WitError::Key)?;
        Ok(Self(Arc::new(Inner { token: token.to_owned(), wit, key, signer })))
    }

    /// Reads the form of the Workload API: the token, and the private key as the text of a JWK.
    ///
    /// # Errors
    /// As [`WitSvid::new`]; [`WitError::Key`] if the key cannot be read, or is a public one.
    pub fn from_jwk(token: &str, jwk: &str) -> Result<Self, WitError> {
        let jwk = json::object(jwk.as_bytes()).map_err(|_not_an_object| WitError::Key(KeyError::Malformed))?;
        Self::new(token, jwk::private_key(&jwk).map_err(WitError::Key)?)
    }

    /// Checks that the token was signed by its trust domain: for the holder, who has the key.
    ///
    /// # Errors
    /// A [`WitError`] about key or signature; [`WitError::Expired`] or [`WitError::NotYetValid`], without leeway.
    pub fn check_issued(&self, bundles: &WitBundleSet, now: Timestamp) -> Result<(), WitError> {
        let wit = issued(&self.0.token, bundles)?;
        if now >= wit.expires_at() {
            return Err(WitError::Expired);
        }
        if wit.not_before().is_some_and(|at| at > now) { Err(WitError::NotYetValid) } else { Ok(()) }
    }

    /// Proves possession of the key for one request.
    ///
    /// # Errors
    /// [`WitError::Expired`]: a key is not used beyond its token's end. [`ProofError::NoRandomness`].
    pub fn prove(&self, request: &ProofRequest<'_>, now: Timestamp) -> Result<Proof, WitError> {
        if now >= self.expires_at() {
            return Err(WitError::Expired);
        }
        let claims = request.claims(self.token(), self.expires_at(), now)?;
        Proof::sign(&self.0.signer, self.token(), &claims).map_err(|error: ProofError| error.into())
    }

    /// Whom it names.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        self.0.wit.spiffe_id()
    }

    /// From when on it is not valid.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.0.wit.expires_at()
    }

    /// What it says; nobody verified it here.
    #[must_use]
    pub fn claims(&self) -> &UnverifiedWit {
        &self.0.wit
    }

    /// The token. It is no secret, and of no use without the key.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.0.token
    }

    /// The key that it is bound to.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.0.key
    }
}

impl fmt::Debug for WitSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WitSvid({} until {})", self.spiffe_id(), self.expires_at())
    }
}
