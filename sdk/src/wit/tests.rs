mod bounds;
mod proofs;
mod requests;
mod tokens;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::*;
use crate::bundle::{WitAuthority, WitBundle, WitBundleSet};
use crate::jwk;
use crate::jws::{JwsAlgorithm, Signer};
use crate::key::{KeyAlgorithm, PrivateKey};
use crate::time::{Timestamp, Ttl};

const NOW: Timestamp = Timestamp::from_unix_s(1_760_000_000);
const URL: &str = "https://db.example.org/rows";
const TOKEN_HEADER: &str = r#"{"alg":"ES256","kid":"k1","typ":"wit+jwt"}"#;
const WPT_HEADER: &str = r#"{"alg":"ES256","typ":"wpt+jwt"}"#;

/// A trust domain `td` with one key, and a workload `spiffe://td/a` with another.
struct World {
    authority: PrivateKey,
    bundles: WitBundleSet,
    workload: PrivateKey,
    validator: Validator,
}

fn later(seconds: i64) -> i64 {
    NOW.unix_s() + seconds
}

fn hash(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

/// A token of any header and claims whatever, signed by this key with the algorithm of its type.
fn signed(key: &PrivateKey, header: &str, claims: &str) -> String {
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let algorithm = JwsAlgorithm::for_key(key.public_key().key_type()).unwrap().signature();
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(key.sign(algorithm, input.as_bytes()).unwrap()))
}

/// An object with one member changed, or removed where there is no value.
fn with(mut object: Value, name: &str, value: Option<Value>) -> Value {
    match value {
        Some(value) => object[name] = value,
        None => drop(object.as_object_mut().unwrap().remove(name)),
    }
    object
}

impl World {
    fn new() -> Self {
        Self::of(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256)
    }

    fn of(authority: KeyAlgorithm, workload: KeyAlgorithm) -> Self {
        let authority = PrivateKey::generate(authority).unwrap();
        let public = WitAuthority::with_key_id(authority.public_key().clone(), "k1").unwrap();
        let bundles = WitBundle::new("td".parse().unwrap(), vec![public]).unwrap().into();
        let workload = PrivateKey::generate(workload).unwrap();
        Self { authority, bundles, workload, validator: Validator::default() }
    }

    fn confirmation(&self) -> Value {
        let mut members = jwk::members(self.workload.public_key());
        let algorithm = JwsAlgorithm::for_key(self.workload.public_key().key_type()).unwrap();
        members.insert("alg".into(), json!(algorithm.name()));
        json!({ "jwk": members })
    }

    fn claims(&self) -> Value {
        json!({ "sub": "spiffe://td/a", "exp": later(900), "iat": NOW.unix_s(), "cnf": self.confirmation() })
    }

    fn token(&self) -> String {
        signed(&self.authority, TOKEN_HEADER, &self.claims().to_string())
    }

    fn proof_claims(token: &str) -> Value {
        json!({ "aud": URL, "exp": later(60), "jti": "0123456789abcdef0123", "wth": hash(token) })
    }

    fn proof(&self, token: &str) -> String {
        signed(&self.workload, WPT_HEADER, &Self::proof_claims(token).to_string())
    }

    /// A request with these headers.
    fn request(&self, headers: &[(&str, &str)]) -> Result<VerifiedCaller, WitError> {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        self.validator.verify(headers, &[URL.parse().unwrap()], &self.bundles, NOW)
    }

    /// A request with this token and this proof.
    fn both(&self, token: &str, proof: &str) -> Result<VerifiedCaller, WitError> {
        self.request(&[(IDENTITY_HEADER, token), (AUTHORIZATION, &format!("WPT {proof}"))])
    }

    /// A request with this token and a good proof for it.
    fn shown(&self, token: &str) -> Result<VerifiedCaller, WitError> {
        self.both(token, &self.proof(token))
    }

    fn with_header(&self, header: &str) -> Result<VerifiedCaller, WitError> {
        self.shown(&signed(&self.authority, header, &self.claims().to_string()))
    }

    fn with_claim(&self, name: &str, value: Option<Value>) -> Result<VerifiedCaller, WitError> {
        self.shown(&signed(&self.authority, TOKEN_HEADER, &with(self.claims(), name, value).to_string()))
    }

    fn with_proof_claim(&self, name: &str, value: Option<Value>) -> Result<VerifiedCaller, WitError> {
        let token = self.token();
        let claims = with(Self::proof_claims(&token), name, value);
        self.both(&token, &signed(&self.workload, WPT_HEADER, &claims.to_string()))
    }

    fn svid(&self) -> WitSvid {
        WitSvid::new(&self.token(), self.workload.clone()).unwrap()
    }
}

/// Rows: W-7, W-20, W-23, W-25, W-30, W-31.
#[test]
fn a_token_with_a_proof_says_who_calls() {
    let world = World::new();
    let token = signed(&world.authority, TOKEN_HEADER, &with(world.claims(), "team", Some(json!("blue"))).to_string());
    let caller = world.shown(&token).unwrap();
    assert_eq!((caller.spiffe_id().as_str(), caller.trust_domain().as_str()), ("spiffe://td/a", "td"));
    assert_eq!((caller.expires_at().unix_s(), caller.key()), (later(900), world.workload.public_key()));
    assert_eq!((&caller.claims()["team"], caller.proof_id()), (&json!("blue"), "0123456789abcdef0123"));
    // The same token without a proof, or with that of another key, is nobody's.
    assert_eq!(world.request(&[(IDENTITY_HEADER, &token)]).unwrap_err(), ProofError::NotOneProof.into());
    let thief = World::new().proof(&token);
    assert_eq!(world.both(&token, &thief).unwrap_err(), ProofError::Jws(crate::jws::JwsError::BadSignature).into());
    let signature = token.rsplit_once('.').unwrap().1;
    assert!(!format!("{caller:?} {:?}", world.svid()).contains(signature));
}
