use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::token::{OfJwtSvids, OfWitSvids};
use super::{
    BundleError, JwtAuthority, JwtBundle, MAX_BUNDLE_BYTES, OfTrustDomain, TokenUse, WitAuthority, WitBundle,
    X509Bundle,
};
use crate::id::TrustDomain;
use crate::json::{self, Object};
use crate::jwk;
use crate::time::Ttl;
use crate::x509::Authority;

/// The `use` of a certificate that signs X.509-SVIDs (X509-SVID 6.1).
const X509_USE: &str = "x509-svid";

/// Everything that one trust domain publishes about itself (Bundle 4): anchors, token keys, how new it is and how often
/// to look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// What X.509-SVIDs are verified with.
    pub x509: X509Bundle,
    /// What JWT-SVIDs are verified with.
    pub jwt: JwtBundle,
    /// What WIT-SVIDs are verified with; empty where the trust domain does not issue any.
    pub wit: WitBundle,
    /// `spiffe_sequence`: grows with every change of the content.
    pub sequence: Option<u64>,
    /// `spiffe_refresh_hint`: how often to fetch it again. `None` where it is missing or 0; a consumer then takes 300 s.
    pub refresh_hint: Option<Ttl>,
}

/// Why one entry of a bundle was passed over. The others count all the same (rows BD-9 to BD-16, BD-19).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ignored {
    NotAnObject,
    OtherUse,
    NoKeyId,
    BadKey,
    NoCertificate,
    NotAnAuthority,
    /// Somebody published what signs. An alarm.
    Secret,
}

impl Ignored {
    pub(super) fn log(self, trust_domain: &TrustDomain) {
        let reason = match self {
            Self::NotAnObject => "not_an_object",
            Self::OtherUse => "other_use",
            Self::NoKeyId => "no_key_id",
            Self::BadKey => "bad_key",
            Self::NoCertificate => "no_certificate",
            Self::NotAnAuthority => "not_an_authority",
            Self::Secret => "secret_key",
        };
        match self {
            Self::Secret => tracing::error!(%trust_domain, reason, "a bundle publishes a secret key"),
            Self::OtherUse => tracing::debug!(%trust_domain, reason, "an entry of a bundle is passed over"),
            _ => tracing::warn!(%trust_domain, reason, "an entry of a bundle is passed over"),
        }
    }
}

enum Entry {
    X509(Authority),
    Jwt(JwtAuthority),
    Wit(WitAuthority),
}

impl Bundle {
    /// A bundle of nothing, under which nobody is believed.
    #[must_use]
    pub fn empty(trust_domain: TrustDomain) -> Self {
        let x509 = X509Bundle::new(trust_domain.clone(), Vec::new());
        Self::new(x509, JwtBundle::empty(trust_domain))
    }

    /// The two halves together, which are of one trust domain: the token keys of another one are left out.
    #[must_use]
    pub fn new(x509: X509Bundle, jwt: JwtBundle) -> Self {
        let same = x509.trust_domain() == jwt.trust_domain();
        let jwt = if same { jwt } else { JwtBundle::empty(x509.trust_domain().clone()) };
        let wit = WitBundle::empty(x509.trust_domain().clone());
        Self { x509, jwt, wit, sequence: None, refresh_hint: None }
    }

    /// The same with keys of WIT-SVIDs, for whoever publishes it; those of another trust domain are left out.
    ///
    /// # Errors
    /// [`BundleError::DuplicateKeyId`] if one of them has the `kid` of a key of JWT-SVIDs (WIT-SVID 6.1; row W-28).
    pub fn with_wit(self, wit: WitBundle) -> Result<Self, BundleError> {
        if wit.trust_domain() != self.trust_domain() {
            return Ok(self);
        }
        if wit.authorities().iter().any(|authority| self.jwt.find(authority.key_id()).is_some()) {
            return Err(BundleError::DuplicateKeyId);
        }
        Ok(Self { wit, ..self })
    }

    /// The same without keys of WIT-SVIDs, for those who refuse a whole bundle that has one.
    #[must_use]
    pub fn without_wit(self) -> Self {
        Self { wit: WitBundle::empty(self.trust_domain().clone()), ..self }
    }

    /// Whose bundle it is.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        self.x509.trust_domain()
    }

    /// Reads the SPIFFE form, in which every entry has a `use` (Bundle 4.2.2). Entries that cannot be used are passed
    /// over and logged; unknown members are not looked at.
    ///
    /// # Errors
    /// A [`BundleError`] if the document as a whole cannot be relied on.
    pub fn from_spiffe_json(trust_domain: TrustDomain, document: &[u8]) -> Result<Self, BundleError> {
        if document.len() > MAX_BUNDLE_BYTES {
            return Err(BundleError::TooLong);
        }
        Self::from_object(trust_domain, &json::object(document).ok().ok_or(BundleError::NotJson)?)
    }

    pub(super) fn from_object(trust_domain: TrustDomain, document: &Object) -> Result<Self, BundleError> {
        let (mut x509, mut jwt, mut wit) = (Vec::new(), Vec::new(), Vec::new());
        for entry in keys_of(document)? {
            match read_entry(entry) {
                Ok(Entry::X509(authority)) => x509.push(authority),
                Ok(Entry::Jwt(authority)) => jwt.push(authority),
                Ok(Entry::Wit(authority)) => wit.push(authority),
                Err(why) => why.log(&trust_domain),
            }
        }
        let jwt = JwtBundle::new(trust_domain.clone(), jwt)?;
        // A `kid` that a key of the other use has as well is the publisher's mistake (W-28), and means nothing here: nobody
        // looks for a key without knowing for which kind of token.
        let wit = WitBundle::new(trust_domain.clone(), wit)?;
        let bundle = Self::new(X509Bundle::new(trust_domain, x509), jwt);
        Ok(Self { wit, sequence: sequence(document)?, refresh_hint: refresh_hint(document)?, ..bundle })
    }

    /// The SPIFFE form (rows BD-1, BD-11, BD-15, BD-20).
    #[must_use]
    pub fn to_spiffe_json(&self) -> String {
        json::canonical(self.to_object())
    }

    pub(super) fn to_object(&self) -> Object {
        let x509 = self.x509.authorities().iter().map(x509_jwk);
        let jwt = self.jwt.authorities().iter().map(JwtAuthority::to_jwk);
        let mut document = Object::new();
        let wit = self.wit.authorities().iter().map(WitAuthority::to_jwk);
        document.insert("keys".into(), x509.chain(jwt).chain(wit).map(Value::Object).collect());
        if let Some(sequence) = self.sequence {
            document.insert("spiffe_sequence".into(), json!(sequence));
        }
        if let Some(hint) = self.refresh_hint {
            document.insert("spiffe_refresh_hint".into(), json!(hint.as_s()));
        }
        document
    }
}

/// The entries of a JWK Set. `keys` must be there, and may be empty: everything is revoked then (row BD-2).
pub(super) fn keys_of(document: &Object) -> Result<&Vec<Value>, BundleError> {
    document.get("keys").and_then(Value::as_array).ok_or(BundleError::NoKeys)
}

fn read_entry(entry: &Value) -> Result<Entry, Ignored> {
    let entry = entry.as_object().ok_or(Ignored::NotAnObject)?;
    match entry.get("use").and_then(Value::as_str) {
        Some(X509_USE) => x509_entry(entry).map(Entry::X509),
        Some(OfJwtSvids::USE) => JwtAuthority::from_jwk(entry).map(Entry::Jwt),
        Some(OfWitSvids::USE) => WitAuthority::from_jwk(entry).map(Entry::Wit),
        _ => Err(Ignored::OtherUse),
    }
}

/// The certificate counts, not the numbers beside it; only the first of several (row BD-12).
fn x509_entry(entry: &Object) -> Result<Authority, Ignored> {
    if jwk::is_secret(entry) {
        return Err(Ignored::Secret);
    }
    if !matches!(entry.get("kty").and_then(Value::as_str), Some("EC" | "RSA" | "OKP")) {
        return Err(Ignored::BadKey);
    }
    let chain = entry.get("x5c").and_then(Value::as_array).and_then(|chain| chain.first());
    let der =
        chain.and_then(Value::as_str).and_then(|text| STANDARD.decode(text).ok()).ok_or(Ignored::NoCertificate)?;
    let authority = Authority::from_der(&der).ok().ok_or(Ignored::NotAnAuthority)?;
    if authority.is_ca() { Ok(authority) } else { Err(Ignored::NotAnAuthority) }
}

fn x509_jwk(authority: &Authority) -> Object {
    let mut members = jwk::members(authority.public_key());
    members.insert("use".into(), json!(X509_USE));
    members.insert("x5c".into(), json!([STANDARD.encode(authority.der())]));
    members
}

fn sequence(document: &Object) -> Result<Option<u64>, BundleError> {
    match document.get("spiffe_sequence") {
        None => Ok(None),
        Some(number) => number.as_u64().map(Some).ok_or(BundleError::BadSequence),
    }
}

/// Missing and zero are the same: no hint. An absurdly long one counts as the longest that there is.
fn refresh_hint(document: &Object) -> Result<Option<Ttl>, BundleError> {
    let Some(number) = document.get("spiffe_refresh_hint") else { return Ok(None) };
    let seconds = number.as_u64().ok_or(BundleError::BadRefreshHint)?;
    let hint = Ttl::from_s(u32::try_from(seconds).unwrap_or(u32::MAX));
    Ok(Some(hint).filter(|hint| !hint.is_zero()))
}
