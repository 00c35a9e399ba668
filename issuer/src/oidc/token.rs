use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use mayfly_sdk::{
    Reason, Refusal,
    json::StrictObject,
    jwk,
    jws::{JwsAlgorithm, Object, Unverified},
    key::KeyType,
};
use serde_json::Value;

use super::keys::ProviderKey;
use crate::{ledger::Digest, mint::sha256};

/// The longest token that is read, bytes.
pub(crate) const MAX_BYTES: usize = 16 * 1024;
/// The longest key id, bytes.
const MAX_KEY_ID: usize = 512;

/// The `typ` of a token that says no more than that it is one.
pub(crate) const JWT: &str = "jwt";

/// A token whose form was checked, and nothing else.
#[derive(Debug)]
pub(crate) struct Presented<'a> {
    token: &'a str,
    unverified: Unverified<'a>,
    key_id: String,
}

/// What a token says, once its signature was found to hold.
#[derive(Debug)]
pub(crate) struct Claims {
    pub(crate) all: Object,
    /// SHA-256 of what was signed: another token of the same content has it too, whatever its signature looks like.
    pub(crate) signed_sha256: Digest,
}

impl<'a> Presented<'a> {
    /// Reads a token whose `typ` is one of these; one that has none may be of any. No cryptography.
    ///
    /// # Errors
    /// [`Reason::TokenInvalid`].
    pub(crate) fn read(token: &'a str, types: &[&str]) -> Result<Self, Refusal> {
        if token.len() > MAX_BYTES {
            return Err(invalid("the token is longer than 16 KiB"));
        }
        let unverified = Unverified::parse(token).map_err(|error| invalid(error.to_string()))?;
        let header = unverified.header();
        // Whatever an extension asks for, it is not done here (RFC 7515 4.1.11).
        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(invalid("the header of the token asks for an extension that is not supported"));
        }
        // `application/` may be left out (RFC 7515 4.1.9).
        let is_wanted = |typ: &Value| {
            let typ = typ.as_str().unwrap_or_default().to_ascii_lowercase();
            types.contains(&typ.strip_prefix("application/").unwrap_or(&typ))
        };
        if !header.get("typ").is_none_or(is_wanted) {
            return Err(invalid(format!("the token is of another type (typ) than {}", types.join(", "))));
        }
        let key_id = unverified.key_id().filter(|id| !id.is_empty() && id.len() <= MAX_KEY_ID);
        let key_id = key_id.ok_or_else(|| invalid("the token does not name its key (kid)"))?.to_owned();
        Ok(Self { token, unverified, key_id })
    }

    /// The issuer that the token claims: good for choosing whose keys to check it with.
    pub(crate) fn claimed_issuer(&self) -> Result<String, Refusal> {
        let claims = self.unverified.insecure_claims().map_err(|error| invalid(error.to_string()))?;
        let issuer = claims.get("iss").and_then(Value::as_str);
        issuer.map(str::to_owned).ok_or_else(|| invalid("the token does not name its issuer"))
    }

    pub(crate) fn algorithm(&self) -> JwsAlgorithm {
        self.unverified.algorithm()
    }

    pub(crate) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Checks the signature, by the key's own kind of algorithm and no other. Times and audience are checked by our own clock,
    /// elsewhere.
    ///
    /// # Errors
    /// [`Reason::TokenUntrusted`].
    pub(crate) fn verify(self, key: &ProviderKey) -> Result<Claims, Refusal> {
        let untrusted = |what: &str| Refusal::new(Reason::TokenUntrusted, what);
        let algorithm = self.algorithm();
        let fits = algorithm.fits(key.public.key_type()) && key.algorithm.is_none_or(|only| only == algorithm);
        let algorithm = foreign(algorithm).filter(|_| fits);
        let algorithm = algorithm.ok_or_else(|| untrusted("the token's algorithm is not that of the key it names"))?;
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        let decoded = jsonwebtoken::decode::<StrictObject>(self.token, &decoding_key(key)?, &validation);
        let decoded = decoded.map_err(|_error| untrusted("the signature of the token does not hold"))?;
        let signed = self.token.rsplit_once('.').map_or(self.token, |(signed, _)| signed);
        Ok(Claims { all: decoded.claims.0, signed_sha256: sha256(&[signed.as_bytes()]) })
    }
}

/// The key in the verifier's form.
fn decoding_key(key: &ProviderKey) -> Result<DecodingKey, Refusal> {
    let members = jwk::members(&key.public);
    let number = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default();
    let made = match key.public.key_type() {
        KeyType::Rsa => DecodingKey::from_rsa_components(number("n"), number("e")),
        _ => DecodingKey::from_ec_components(number("x"), number("y")),
    };
    made.map_err(|error| Refusal::new(Reason::Internal, format!("a key cannot be used: {error}")))
}

fn foreign(algorithm: JwsAlgorithm) -> Option<Algorithm> {
    Some(match algorithm {
        JwsAlgorithm::Rs256 => Algorithm::RS256,
        JwsAlgorithm::Rs384 => Algorithm::RS384,
        JwsAlgorithm::Rs512 => Algorithm::RS512,
        JwsAlgorithm::Ps256 => Algorithm::PS256,
        JwsAlgorithm::Ps384 => Algorithm::PS384,
        JwsAlgorithm::Ps512 => Algorithm::PS512,
        JwsAlgorithm::Es256 => Algorithm::ES256,
        JwsAlgorithm::Es384 => Algorithm::ES384,
        JwsAlgorithm::Es512 => return None,
    })
}

fn invalid(what: impl Into<String>) -> Refusal {
    Refusal::new(Reason::TokenInvalid, what)
}
