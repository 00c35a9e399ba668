//! Keys that sign tokens: one code for each `use`, and a type for each, so that no validator is handed the keys of another.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde_json::{Value, json};

use super::spiffe::{Ignored, keys_of};
use super::{BundleError, MAX_BUNDLE_BYTES, OfTrustDomain};
use crate::id::TrustDomain;
use crate::json::{self, Object};
use crate::jwk;
use crate::jws::JwsAlgorithm;
use crate::key::{KeyError, KeyType, PublicKey};

/// What keys in a bundle are for.
pub trait TokenUse: fmt::Debug + Clone + Copy + PartialEq + Eq + Send + Sync + 'static {
    /// The `use` of their entries.
    const USE: &'static str;
}

/// Keys that verify JWT-SVIDs (JWT-SVID 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfJwtSvids {}

/// Keys that verify WIT-SVIDs (WIT-SVID 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfWitSvids {}

impl TokenUse for OfJwtSvids {
    const USE: &'static str = "jwt-svid";
}

impl TokenUse for OfWitSvids {
    const USE: &'static str = "wit-svid";
}

/// A key that signs the JWT-SVIDs of one trust domain.
pub type JwtAuthority = TokenAuthority<OfJwtSvids>;
/// The keys that sign the JWT-SVIDs of one trust domain.
pub type JwtBundle = TokenBundle<OfJwtSvids>;
/// A key that signs the WIT-SVIDs of one trust domain.
pub type WitAuthority = TokenAuthority<OfWitSvids>;
/// The keys that sign the WIT-SVIDs of one trust domain; none where it does not issue any (WIT-SVID 6.2).
pub type WitBundle = TokenBundle<OfWitSvids>;

/// A key that signs the tokens of one use and trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenAuthority<U> {
    key_id: Arc<str>,
    public_key: PublicKey,
    algorithm: Option<JwsAlgorithm>,
    of: PhantomData<U>,
}

impl<U: TokenUse> TokenAuthority<U> {
    /// A key under its RFC 7638 thumbprint, as Mayfly publishes its own.
    ///
    /// # Errors
    /// [`KeyError::Unsupported`] for Ed25519, which the standards of tokens do not know.
    pub fn new(public_key: PublicKey) -> Result<Self, KeyError> {
        let key_id = jwk::thumbprint(&public_key);
        Self::with_key_id(public_key, &key_id)
    }

    /// A key under a `kid` of its publisher's choice.
    ///
    /// # Errors
    /// [`KeyError::Unsupported`] for Ed25519, [`KeyError::Malformed`] for an empty `kid`.
    pub fn with_key_id(public_key: PublicKey, key_id: &str) -> Result<Self, KeyError> {
        if public_key.key_type() == KeyType::Ed25519 {
            return Err(KeyError::Unsupported);
        }
        if key_id.is_empty() {
            return Err(KeyError::Malformed);
        }
        Ok(Self { key_id: key_id.into(), public_key, algorithm: None, of: PhantomData })
    }

    /// The `kid` that tokens name it by.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Whether it may have signed with this algorithm: the key fits, and so does the `alg` of its JWK if it has one.
    #[must_use]
    pub fn allows(&self, algorithm: JwsAlgorithm) -> bool {
        algorithm.fits(self.public_key.key_type()) && self.algorithm.is_none_or(|only| only == algorithm)
    }

    /// Its JWK: `kty` and the public numbers, `kid`, `use` (rows BD-15, BD-20).
    pub(super) fn to_jwk(&self) -> Object {
        let mut members = jwk::members(&self.public_key);
        members.insert("kid".into(), json!(&*self.key_id));
        members.insert("use".into(), json!(U::USE));
        members
    }

    pub(super) fn from_jwk(entry: &Object) -> Result<Self, Ignored> {
        if jwk::is_secret(entry) {
            return Err(Ignored::Secret);
        }
        let key_id = entry.get("kid").and_then(Value::as_str).filter(|id| !id.is_empty()).ok_or(Ignored::NoKeyId)?;
        let algorithm = match entry.get("alg") {
            None => None,
            Some(name) => Some(name.as_str().and_then(|name| name.parse().ok()).ok_or(Ignored::BadKey)?),
        };
        let public_key = jwk::public_key(entry).ok().ok_or(Ignored::BadKey)?;
        let authority = Self::with_key_id(public_key, key_id).ok().ok_or(Ignored::BadKey)?;
        Ok(Self { algorithm, ..authority })
    }
}

/// The keys that sign the tokens of one use and trust domain. Cheap to clone. Empty means that no such token is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBundle<U> {
    trust_domain: TrustDomain,
    authorities: Arc<[TokenAuthority<U>]>,
}

impl<U: TokenUse> TokenBundle<U> {
    /// A bundle of these keys.
    ///
    /// # Errors
    /// [`BundleError::DuplicateKeyId`].
    pub fn new(trust_domain: TrustDomain, authorities: Vec<TokenAuthority<U>>) -> Result<Self, BundleError> {
        let mut ids = HashSet::with_capacity(authorities.len());
        if !authorities.iter().all(|authority| ids.insert(authority.key_id())) {
            return Err(BundleError::DuplicateKeyId);
        }
        Ok(Self { trust_domain, authorities: authorities.into() })
    }

    /// A bundle without keys.
    #[must_use]
    pub fn empty(trust_domain: TrustDomain) -> Self {
        Self { trust_domain, authorities: Arc::new([]) }
    }

    /// Reads the form of the Workload API, a JWK Set whose entries may lack `use` (decision K9). Entries of another use,
    /// without `kid`, or with a key that cannot be used are passed over and logged.
    ///
    /// # Errors
    /// [`BundleError::TooLong`], `NotJson`, `NoKeys` or `DuplicateKeyId`.
    pub fn from_jwks(trust_domain: TrustDomain, jwks: &[u8]) -> Result<Self, BundleError> {
        if jwks.len() > MAX_BUNDLE_BYTES {
            return Err(BundleError::TooLong);
        }
        let document = json::object(jwks).ok().ok_or(BundleError::NotJson)?;
        let mut authorities = Vec::new();
        for entry in keys_of(&document)? {
            match Self::read_entry(entry) {
                Ok(authority) => authorities.push(authority),
                Err(why) => why.log(&trust_domain),
            }
        }
        Self::new(trust_domain, authorities)
    }

    fn read_entry(entry: &Value) -> Result<TokenAuthority<U>, Ignored> {
        let entry = entry.as_object().ok_or(Ignored::NotAnObject)?;
        match entry.get("use") {
            None => TokenAuthority::from_jwk(entry),
            Some(Value::String(of)) if of == U::USE => TokenAuthority::from_jwk(entry),
            Some(_) => Err(Ignored::OtherUse),
        }
    }

    /// The form of the Workload API: a JWK Set with `use` and `kid` and without `spiffe_` members (rows WA-45, WA-65).
    #[must_use]
    pub fn to_jwks(&self) -> String {
        let keys: Vec<_> = self.authorities.iter().map(TokenAuthority::to_jwk).collect();
        json::canonical(Object::from_iter([("keys".to_owned(), keys.into_iter().map(Value::Object).collect())]))
    }

    /// Whether it has no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.authorities.is_empty()
    }

    /// Its keys.
    #[must_use]
    pub fn authorities(&self) -> &[TokenAuthority<U>] {
        &self.authorities
    }

    /// The key with exactly this `kid`.
    #[must_use]
    pub fn find(&self, key_id: &str) -> Option<&TokenAuthority<U>> {
        self.authorities.iter().find(|authority| authority.key_id() == key_id)
    }
}

impl<U> OfTrustDomain for TokenBundle<U> {
    fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }
}
