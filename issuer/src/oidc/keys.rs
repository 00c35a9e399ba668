use std::collections::HashMap;

use mayfly_sdk::{
    PublicKey,
    json::object,
    jwk,
    jws::{JwsAlgorithm, Object},
    key::KeyType,
};
use serde_json::Value;

/// The most keys of one provider.
const MAX_KEYS: usize = 64;
/// The most bits of an RSA key.
const MAX_RSA_BITS: u32 = 4096;
/// The longest key id, bytes.
const MAX_KEY_ID: usize = 512;

/// One public key of an identity provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProviderKey {
    pub(crate) public: PublicKey,
    /// The one algorithm that it is for, where the provider says so.
    pub(crate) algorithm: Option<JwsAlgorithm>,
}

/// The keys of an identity provider, by their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProviderKeys(HashMap<String, ProviderKey>);

impl ProviderKeys {
    /// Reads a JWK Set. Keys that are not for signatures, or of a kind that is not accepted, are left out.
    ///
    /// # Errors
    /// In words: it is no JWK Set, too large, two of its keys have one id, one of them is secret, or none is of use.
    pub(crate) fn parse(document: &[u8]) -> Result<Self, String> {
        let document = object(document).map_err(|error| error.to_string())?;
        let Some(Value::Array(all)) = document.get("keys") else { return Err("it has no list of keys".to_owned()) };
        if all.len() > MAX_KEYS {
            return Err(format!("it has more than {MAX_KEYS} keys"));
        }
        let mut keys = HashMap::new();
        for key in all {
            let Value::Object(members) = key else { return Err("a key is not an object".to_owned()) };
            if jwk::is_secret(members) {
                return Err("it holds a secret key: whoever can read it can sign".to_owned());
            }
            let Some((id, key)) = read(members) else { continue };
            if keys.insert(id.to_owned(), key).is_some() {
                return Err("two of its keys have one id".to_owned());
            }
        }
        if keys.is_empty() {
            return Err("it has no key for signatures: ECDSA P-256 or P-384, or RSA from 2048 to 4096 bits".to_owned());
        }
        Ok(Self(keys))
    }

    pub(crate) fn get(&self, id: &str) -> Option<&ProviderKey> {
        self.0.get(id)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

fn read(members: &Object) -> Option<(&str, ProviderKey)> {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let id = text("kid").filter(|id| !id.is_empty() && id.len() <= MAX_KEY_ID)?;
    if members.contains_key("use") && text("use") != Some("sig") {
        return None;
    }
    // A key that names an algorithm which is not accepted is for nothing here.
    let algorithm = match members.get("alg") {
        None => None,
        Some(name) => Some(super::config::read_algorithm(name.as_str()?)?),
    };
    let public = jwk::public_key(members).ok()?;
    let is_accepted = match public.key_type() {
        KeyType::EcP256 | KeyType::EcP384 => true,
        KeyType::Rsa => public.bits() <= MAX_RSA_BITS,
        _ => false,
    };
    is_accepted.then_some((id, ProviderKey { public, algorithm }))
}
