//! Proofs of possession that travel beside an OAuth token in the header `DPoP` (RFC 9449): for tokens that are bound to a key of the client's
//! own, where no certificate of its connection says who it is.
//!
//! ```text
//! DPoP: header { typ, alg, jwk } . { htm, htu, iat, jti, ath? } . signature by that key
//!            └──thumbprint──> what the token is bound to (`cnf.jkt`)
//! ```
//!
//! A proof is for one request, lives for a minute, and is good once. It is used up only once the token beside it is believed too: anybody can
//! make a key and proofs by it, and would otherwise fill the memory of those that were used.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde_json::Value;

use crate::claims;
use crate::json::Object;
use crate::jwk;
use crate::jws::{JwsAlgorithm, Unverified};
use crate::key::PublicKey;
use crate::time::{Clock, Timestamp, Ttl};
use crate::wit::{ProofError, SingleUse, TargetUri};

/// The header of a proof, and the scheme of a token that needs one.
pub const HEADER: &str = "dpop";
/// The `typ` of a proof.
pub const TYP: &str = "dpop+jwt";
/// With what proofs may be signed: what costs little to verify.
pub const ALGORITHMS: [JwsAlgorithm; 3] = [JwsAlgorithm::Es256, JwsAlgorithm::Es384, JwsAlgorithm::Es512];
/// The longest proof that is looked at, bytes.
const MAX_BYTES: usize = 4096;
/// How long a proof is good after it was made.
const LIFE: Ttl = Ttl::from_s(60);
/// By how much the clock of whoever made it may be ahead.
const LEEWAY: Ttl = Ttl::from_s(30);
/// Characters of a `jti`.
const ID_CHARS: std::ops::RangeInclusive<usize> = 8..=256;

/// Verifies proofs, and remembers them while they are good.
#[derive(Debug)]
pub struct DpopVerifier {
    clock: Clock,
    used: SingleUse,
}

/// A proof that holds, and is still to be used up.
#[derive(Debug)]
#[must_use = "a proof that is not used up can be shown again"]
pub struct HeldProof {
    key: PublicKey,
    id: String,
    until: Timestamp,
}

impl HeldProof {
    /// The SHA-256 thumbprint (RFC 7638) of the key.
    #[must_use]
    pub fn thumbprint(&self) -> [u8; 32] {
        jwk::thumbprint_sha256(&self.key)
    }
}

/// The request that a proof is to be for.
#[derive(Debug, Clone, Copy)]
pub struct DpopRequest<'a> {
    /// The method, as it was sent.
    pub method: &'a str,
    /// The URL by which clients call; never one made of what the client sent as `Host`.
    pub target: &'a TargetUri,
    /// The token beside it; none where one is asked for.
    pub token: Option<&'a str>,
}

impl DpopVerifier {
    /// By this clock; remembers at most so many proofs, and refuses more than that within two minutes. One key has at most a quarter of
    /// the room that is left in use (and 16 in any case); beyond that its proofs are refused, and nobody else's.
    #[must_use]
    pub fn new(clock: &Clock, most: usize) -> Self {
        Self { clock: clock.clone(), used: SingleUse::new(most) }
    }

    /// Whether a proof is for this request. Whoever then believes the token beside it [uses it up](Self::use_up).
    ///
    /// # Errors
    /// A [`ProofError`] for the first check of RFC 9449 4.3 that does not hold.
    pub fn verify(&self, proof: &str, request: &DpopRequest<'_>) -> Result<HeldProof, ProofError> {
        let now = self.clock.now();
        let (key, claims) = authentic(proof)?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        if text("htm") != Some(request.method) {
            return Err(ProofError::WrongAudience);
        }
        let target: TargetUri = text("htu").and_then(|htu| htu.parse().ok()).ok_or(ProofError::BadAudience)?;
        if target != *request.target {
            return Err(ProofError::WrongAudience);
        }
        let until = until(&claims, now)?;
        if text("ath").map(str::to_owned) != request.token.map(hash) {
            return Err(ProofError::WrongToken);
        }
        let id = text("jti").filter(|id| ID_CHARS.contains(&id.len())).ok_or(ProofError::BadId)?;
        Ok(HeldProof { id: id.to_owned(), key, until })
    }

    /// Uses a proof up: of any number of calls with one proof, one succeeds.
    ///
    /// # Errors
    /// [`ProofError::Used`], [`ProofError::TooManyInUse`].
    pub fn use_up(&self, proof: HeldProof) -> Result<(), ProofError> {
        let HeldProof { key, id, until } = proof;
        self.used.note(&key, &id, until, self.clock.now())
    }
}

/// The key of a proof, and what it says under that key.
fn authentic(proof: &str) -> Result<(PublicKey, Object), ProofError> {
    if proof.len() > MAX_BYTES {
        return Err(ProofError::NotOneProof);
    }
    let parsed = Unverified::parse(proof).map_err(ProofError::Jws)?;
    let header = parsed.header();
    if header.get("typ").and_then(Value::as_str) != Some(TYP) {
        return Err(ProofError::WrongType);
    }
    if header.contains_key("crit") {
        return Err(ProofError::Critical);
    }
    let shown = header.get("jwk").and_then(Value::as_object).filter(|jwk| !jwk::is_secret(jwk));
    let key = shown.and_then(|jwk| jwk::public_key(jwk).ok()).ok_or(ProofError::BadKey)?;
    if !ALGORITHMS.contains(&parsed.algorithm()) || JwsAlgorithm::for_key(key.key_type()) != Some(parsed.algorithm()) {
        return Err(ProofError::WrongAlgorithm);
    }
    let claims = parsed.verify(&key).and_then(|verified| verified.claims()).map_err(ProofError::Jws)?;
    Ok((key, claims))
}

/// When a proof is good no more.
fn until(claims: &Object, now: Timestamp) -> Result<Timestamp, ProofError> {
    let made_at = claims::time(claims, "iat").ok().flatten().ok_or(ProofError::BadTime)?;
    if made_at > now.saturating_add(LEEWAY) {
        return Err(ProofError::NotYetValid);
    }
    let until = made_at.saturating_add(LIFE).saturating_add(LEEWAY);
    if now >= until { Err(ProofError::Expired) } else { Ok(until) }
}

/// How a proof names a token: SHA-256 of its text, base64url.
fn hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::key::{KeyAlgorithm, PrivateKey};

    const URL: &str = "https://issuer.example.org/task/token";

    fn signed(key: &PrivateKey, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", part(header), part(claims));
        let signature = key.sign(JwsAlgorithm::Es256.signature(), input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    struct World {
        key: PrivateKey,
        verifier: DpopVerifier,
        now: i64,
    }

    impl World {
        fn new() -> Self {
            let now = 1_790_000_000;
            let (clock, _) = Clock::manual(Timestamp::from_unix_s(now));
            Self {
                key: PrivateKey::generate(KeyAlgorithm::EcP256).unwrap(),
                verifier: DpopVerifier::new(&clock, 100),
                now,
            }
        }

        fn header(&self) -> Value {
            json!({"typ": TYP, "alg": "ES256", "jwk": jwk::members(self.key.public_key())})
        }

        fn claims(&self) -> Value {
            json!({"htm": "POST", "htu": URL, "iat": self.now, "jti": "0123456789abcdef"})
        }

        fn verify(&self, proof: &str, token: Option<&str>) -> Result<[u8; 32], ProofError> {
            let target = URL.parse().unwrap();
            let proof = self.verifier.verify(proof, &DpopRequest { method: "POST", target: &target, token })?;
            let thumbprint = proof.thumbprint();
            self.verifier.use_up(proof).map(|()| thumbprint)
        }
    }

    #[test]
    fn a_proof_shows_its_key_for_one_request_once() {
        let world = World::new();
        let proof = signed(&world.key, &world.header(), &world.claims());
        let thumbprint = jwk::thumbprint(world.key.public_key());
        assert_eq!(world.verify(&proof, None).map(|found| URL_SAFE_NO_PAD.encode(found)), Ok(thumbprint));
        assert_eq!(world.verify(&proof, None), Err(ProofError::Used));
        // For a token, it is for that token.
        let mut claims = world.claims();
        claims["jti"] = json!("another-proof-id");
        claims["ath"] = json!(hash("a token"));
        let bound = signed(&world.key, &world.header(), &claims);
        assert_eq!(world.verify(&bound, None), Err(ProofError::WrongToken));
        assert_eq!(world.verify(&bound, Some("another token")), Err(ProofError::WrongToken));
        world.verify(&bound, Some("a token")).unwrap();
        // Query and fragment of the URL do not count.
        claims["jti"] = json!("a-third-proof-id");
        claims["htu"] = json!(format!("{URL}?x=1#y"));
        world.verify(&signed(&world.key, &world.header(), &claims), Some("a token")).unwrap();
    }

    #[test]
    fn what_is_no_proof_for_this_request_is_refused_by_the_first_check() {
        let world = World::new();
        let other = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
        let edited = |at: &str, value: Value| {
            let (mut header, mut claims) = (world.header(), world.claims());
            let (part, name) = at.split_once('/').unwrap();
            let object = if part == "header" { &mut header } else { &mut claims }.as_object_mut().unwrap();
            if value.is_null() {
                drop(object.remove(name));
            } else {
                drop(object.insert(name.to_owned(), value));
            }
            world.verify(&signed(&world.key, &header, &claims), None).unwrap_err()
        };
        for (at, value, error) in [
            ("header/typ", json!("JWT"), ProofError::WrongType),
            ("header/crit", json!(["x"]), ProofError::Critical),
            ("header/jwk", Value::Null, ProofError::BadKey),
            ("header/jwk", json!({"kty": "oct", "k": "c2VjcmV0"}), ProofError::BadKey),
            ("header/alg", json!("ES384"), ProofError::WrongAlgorithm),
            ("claims/htm", json!("post"), ProofError::WrongAudience),
            ("claims/htm", Value::Null, ProofError::WrongAudience),
            ("claims/htu", json!("https://issuer.example.org/task/revoke"), ProofError::WrongAudience),
            ("claims/htu", json!("http://issuer.example.org/task/token"), ProofError::BadAudience),
            ("claims/htu", Value::Null, ProofError::BadAudience),
            ("claims/iat", Value::Null, ProofError::BadTime),
            ("claims/iat", json!(world.now + 31), ProofError::NotYetValid),
            ("claims/iat", json!(world.now - 90), ProofError::Expired),
            ("claims/jti", Value::Null, ProofError::BadId),
            ("claims/jti", json!("short"), ProofError::BadId),
            ("claims/ath", json!(hash("x")), ProofError::WrongToken),
        ] {
            assert_eq!(edited(at, value.clone()), error, "{at} {value}");
        }
        let forged = json!({"typ": TYP, "alg": "ES256", "jwk": jwk::members(other.public_key())});
        let forged = signed(&world.key, &forged, &world.claims());
        assert!(matches!(world.verify(&forged, None), Err(ProofError::Jws(_))));
        let mut at = world.claims();
        for (id, iat) in [("the-last-moment", world.now - 89), ("the-first-moment", world.now + 30)] {
            (at["jti"], at["iat"]) = (json!(id), json!(iat));
            world.verify(&signed(&world.key, &world.header(), &at), None).unwrap();
        }
        // None of them used the id up.
        world.verify(&signed(&world.key, &world.header(), &world.claims()), None).unwrap();
    }

    #[test]
    fn when_as_many_are_in_use_as_are_remembered_further_ones_are_refused() {
        let world = World::new();
        let world = World { verifier: DpopVerifier::new(&world.verifier.clock, 1), ..world };
        let proof = |id: &str| {
            let mut claims = world.claims();
            claims["jti"] = json!(id);
            signed(&world.key, &world.header(), &claims)
        };
        // What is only looked at is not remembered: anybody can make proofs.
        let target = URL.parse().unwrap();
        for id in ["looked-at-1", "looked-at-2"] {
            let call = DpopRequest { method: "POST", target: &target, token: None };
            world.verifier.verify(&proof(id), &call).map(drop).unwrap();
        }
        world.verify(&proof("first-proof"), None).unwrap();
        assert_eq!(world.verify(&proof("second-proof"), None), Err(ProofError::TooManyInUse));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_answered(proof in "\\PC{0,200}") {
            prop_assert!(World::new().verify(&proof, None).is_err());
        }
    }
}
