use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::bundle::{JwtAuthority, JwtBundle};
use crate::jws::{JwsAlgorithm, Signer};
use crate::key::{KeyAlgorithm, PrivateKey};

const NOW: Timestamp = Timestamp::from_unix_s(1_760_000_000);

/// A trust domain `td` with one key.
struct Domain {
    key: PrivateKey,
    bundles: JwtBundleSet,
}

impl Domain {
    fn new() -> Self {
        Self::named("td", KeyAlgorithm::EcP256)
    }

    fn named(name: &str, kind: KeyAlgorithm) -> Self {
        let key = PrivateKey::generate(kind).unwrap();
        let authority = JwtAuthority::with_key_id(key.public_key().clone(), "k1").unwrap();
        let bundle = JwtBundle::new(name.parse().unwrap(), vec![authority]).unwrap();
        Self { key, bundles: bundle.into() }
    }

    /// A token with any header and claims whatever, rightly signed.
    fn token(&self, header: &str, claims: &str) -> String {
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let algorithm = JwsAlgorithm::for_key(self.key.public_key().key_type()).unwrap().signature();
        let signature = self.key.sign(algorithm, input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn verify_with(&self, token: &str, options: &Options) -> Result<JwtSvid, JwtError> {
        verify(token, &self.bundles, &"us".parse().unwrap(), NOW, options)
    }

    fn verify(&self, token: &str) -> Result<JwtSvid, JwtError> {
        self.verify_with(token, &Options::default())
    }

    fn with_header(&self, header: &str) -> Result<JwtSvid, JwtError> {
        self.verify(&self.token(header, &claims().to_string()))
    }

    fn with_claim(&self, name: &str, value: Option<Value>) -> Result<JwtSvid, JwtError> {
        let mut claims = claims();
        match value {
            Some(value) => claims[name] = value,
            None => drop(claims.as_object_mut().unwrap().remove(name)),
        }
        self.verify(&self.token(HEADER, &claims.to_string()))
    }
}

const HEADER: &str = r#"{"alg":"ES256","kid":"k1","typ":"JWT"}"#;

fn claims() -> Value {
    json!({ "sub": "spiffe://td/a", "aud": ["us", "them"], "exp": NOW.unix_s() + 300, "iat": NOW.unix_s(), "x": 1 })
}

/// Rows: ID-22, J-22, J-24.
#[test]
fn a_good_token_is_believed_and_says_what_it_says() {
    let domain = Domain::new();
    let svid = domain.with_header(HEADER).unwrap();
    assert_eq!(svid.spiffe_id().as_str(), "spiffe://td/a");
    assert_eq!(svid.trust_domain().as_str(), "td");
    assert_eq!(svid.audience(), ["us", "them"]);
    assert_eq!(svid.expires_at().unix_s(), NOW.unix_s() + 300);
    assert_eq!(svid.issued_at(), Some(NOW));
    assert_eq!(svid.claims()["x"], 1);
    // rows: J-22
    assert!(domain.verify(svid.expose_token()).is_ok());
    // rows: J-24
    assert_eq!(bearer(svid.expose_token()), format!("Bearer {}", svid.expose_token()));
    let signature = svid.expose_token().rsplit_once('.').unwrap().1;
    assert!(!format!("{svid:?} {:?}", jws::Unverified::parse(svid.expose_token())).contains(signature));
}

#[test]
fn tokens_of_the_issuers_signer_are_believed() {
    let domain = Domain::new();
    let signer = Signer::with_key_id(&domain.key, JwsAlgorithm::Es256, TYP, "k1").unwrap();
    assert!(domain.verify(&signer.sign(claims().to_string().as_bytes()).unwrap()).is_ok());
}

/// Rows: J-5.
#[test]
fn all_nine_algorithms_are_believed() {
    // rows: J-5
    for (kind, algorithms) in [
        (KeyAlgorithm::EcP256, vec![JwsAlgorithm::Es256]),
        (KeyAlgorithm::EcP384, vec![JwsAlgorithm::Es384]),
        (KeyAlgorithm::EcP521, vec![JwsAlgorithm::Es512]),
        (KeyAlgorithm::Rsa2048, JwsAlgorithm::ALL[..6].to_vec()),
    ] {
        let domain = Domain::named("td", kind);
        for algorithm in algorithms {
            let signer = Signer::with_key_id(&domain.key, algorithm, TYP, "k1").unwrap();
            let token = signer.sign(claims().to_string().as_bytes()).unwrap();
            assert!(domain.verify(&token).is_ok(), "{algorithm}");
        }
    }
}

/// Rows: J-3.
#[test]
fn extra_headers_are_refused_and_some_of_them_always() {
    let domain = Domain::new();
    let lenient = Options::default().allow_extra_headers();
    // rows: J-3
    for (header, relaxable) in [
        (r#""cty":"JWT""#, true),
        (r#""x5t":"AA""#, true),
        (r#""crit":["exp"]"#, false),
        (r#""b64":true"#, false),
        (r#""jwk":{}"#, false),
        (r#""jku":"https://x""#, false),
        (r#""x5u":"https://x""#, false),
        (r#""x5c":[]"#, false),
    ] {
        let token = domain.token(&format!(r#"{{"alg":"ES256","kid":"k1",{header}}}"#), &claims().to_string());
        assert_eq!(domain.verify(&token).unwrap_err(), JwtError::ExtraHeader, "{header}");
        assert_eq!(domain.verify_with(&token, &lenient).is_ok(), relaxable, "{header}");
    }
}

/// Rows: J-7.
#[test]
fn typ_is_absent_or_jwt_or_jose() {
    // rows: J-7
    let domain = Domain::new();
    for typ in ["", r#","typ":"JWT""#, r#","typ":"JOSE""#] {
        assert!(domain.with_header(&format!(r#"{{"alg":"ES256","kid":"k1"{typ}}}"#)).is_ok(), "{typ}");
    }
    for typ in [r#""jwt""#, r#""at+jwt""#, r#""wit+jwt""#, r#""""#, "null", "1", r#"["JWT"]"#] {
        let refused = domain.with_header(&format!(r#"{{"alg":"ES256","kid":"k1","typ":{typ}}}"#)).unwrap_err();
        assert_eq!(refused, JwtError::WrongType, "{typ}");
    }
}

/// Rows: J-9.
#[test]
fn the_subject_is_the_spiffe_id_of_a_workload() {
    // rows: J-9
    let domain = Domain::new();
    assert!(domain.with_claim("sub", Some(json!("spiffe://td/b"))).is_ok());
    for (sub, error) in [
        (None, JwtError::NoSubject),
        (Some(json!("")), JwtError::NoSubject),
        (Some(json!(1)), JwtError::NoSubject),
        (Some(json!(null)), JwtError::NoSubject),
        (Some(json!(["spiffe://td/a"])), JwtError::NoSubject),
        (Some(json!("alice")), JwtError::BadSubject(IdError::WrongScheme)),
        (Some(json!("spiffe://TD/a")), JwtError::BadSubject(IdError::BadTrustDomainChar)),
        (Some(json!("spiffe://td/a/")), JwtError::BadSubject(IdError::TrailingSlash)),
        (Some(json!("spiffe://td")), JwtError::RootSubject),
    ] {
        assert_eq!(domain.with_claim("sub", sub.clone()).unwrap_err(), error, "{sub:?}");
    }
    let mut root = claims();
    root["sub"] = json!("spiffe://td");
    let token = domain.token(HEADER, &root.to_string());
    assert!(domain.verify_with(&token, &Options::default().allow_root_subject()).is_ok());
}

/// Rows: ID-10.
#[test]
fn a_long_subject_comes_through() {
    // rows: ID-10
    let domain = Domain::new();
    let longest = format!("spiffe://td/{}", "a".repeat(2036));
    let svid = domain.with_claim("sub", Some(json!(longest))).unwrap();
    assert_eq!(svid.spiffe_id().as_str(), longest);
}

/// Rows: J-12, J-13, J-26.
#[test]
fn the_audience_is_exactly_ours() {
    // rows: J-12
    let domain = Domain::new();
    for good in [json!(["us"]), json!("us"), json!(["them", "us"]), json!(["us", "us"])] {
        assert!(domain.with_claim("aud", Some(good.clone())).is_ok(), "{good}");
    }
    for bad in [json!(["Us"]), json!("them"), json!(["us "]), json!(["u", "s"])] {
        assert_eq!(domain.with_claim("aud", Some(bad.clone())).unwrap_err(), JwtError::WrongAudience, "{bad}");
    }
    let crowd: Vec<_> = (0..33).map(|n| if n == 0 { "us".to_owned() } else { n.to_string() }).collect();
    // rows: J-26
    assert!(domain.with_claim("aud", Some(json!(crowd[..32]))).is_ok());
    for bad in
        [json!([]), json!([1]), json!({}), json!(null), json!(""), json!(["us", ""]), json!(["us", 1]), json!(crowd)]
    {
        assert_eq!(domain.with_claim("aud", Some(bad.clone())).unwrap_err(), JwtError::BadAudience, "{bad}");
    }
    assert_eq!(domain.with_claim("aud", None).unwrap_err(), JwtError::BadAudience);
    // rows: J-13
    assert_eq!(Audience::new("").unwrap_err(), JwtError::EmptyAudience);
}

/// Rows: J-14, J-15, J-16, J-17.
#[test]
fn times_are_checked_with_a_small_leeway() {
    let domain = Domain::new();
    let now = NOW.unix_s();
    // rows: J-14
    for bad in [json!("1"), json!(null), json!([]), json!(-1), json!(-1.5), json!(1e300), json!(true)] {
        assert_eq!(domain.with_claim("exp", Some(bad.clone())).unwrap_err(), JwtError::BadTime, "{bad}");
    }
    assert_eq!(domain.with_claim("exp", None).unwrap_err(), JwtError::NoExpiry);
    assert!(domain.with_claim("exp", Some(json!(now + 1))).is_ok());
    assert!(domain.with_claim("exp", Some(json!(1e10))).is_ok());
    // rows: J-15
    assert!(domain.with_claim("exp", Some(json!(now - 29))).is_ok());
    assert_eq!(domain.with_claim("exp", Some(json!(now - 30))).unwrap_err(), JwtError::Expired);
    assert_eq!(domain.with_claim("exp", Some(json!(0))).unwrap_err(), JwtError::Expired);
    let strict = Options::default().with_leeway(Ttl::ZERO).unwrap();
    let mut at_its_end = claims();
    at_its_end["exp"] = json!(now);
    let token = domain.token(HEADER, &at_its_end.to_string());
    assert_eq!(domain.verify_with(&token, &strict).unwrap_err(), JwtError::Expired);
    assert_eq!(Options::default().with_leeway(Ttl::from_s(121)).unwrap_err(), JwtError::LeewayTooLong);
    assert!(Options::default().with_leeway(MAX_LEEWAY).is_ok());
    // rows: J-16
    assert!(domain.with_claim("nbf", Some(json!(now + 30))).is_ok());
    assert_eq!(domain.with_claim("nbf", Some(json!(now + 31))).unwrap_err(), JwtError::NotYetValid);
    assert_eq!(domain.with_claim("nbf", Some(json!("x"))).unwrap_err(), JwtError::BadTime);
    // rows: J-17
    assert!(domain.with_claim("iat", Some(json!(now + 1000))).is_ok());
    assert!(domain.with_claim("iat", None).is_ok());
}

/// Rows: J-18.
#[test]
fn only_the_bundle_of_the_subjects_trust_domain_counts() {
    // rows: J-18
    let (a, b) = (Domain::named("a", KeyAlgorithm::EcP256), Domain::named("b", KeyAlgorithm::EcP256));
    let both: JwtBundleSet = a.bundles.iter().chain(b.bundles.iter()).cloned().collect();
    let token = |signer: &Domain, sub: &str| {
        let mut claims = claims();
        claims["sub"] = json!(sub);
        signer.token(HEADER, &claims.to_string())
    };
    let check = |token: &str, bundles: &JwtBundleSet| {
        verify(token, bundles, &"us".parse().unwrap(), NOW, &Options::default()).map(|_| ())
    };
    assert_eq!(check(&token(&b, "spiffe://b/x"), &both), Ok(()));
    assert_eq!(check(&token(&a, "spiffe://b/x"), &both), Err(JwsError::BadSignature.into()));
    assert_eq!(check(&token(&b, "spiffe://a/x"), &both), Err(JwsError::BadSignature.into()));
    assert_eq!(check(&token(&b, "spiffe://b/x"), &a.bundles), Err(JwtError::NoBundle));
    let empty = JwtBundle::empty("b".parse().unwrap()).into();
    assert_eq!(check(&token(&b, "spiffe://b/x"), &empty), Err(JwtError::NoAuthority));
}

/// Rows: J-6, J-19.
#[test]
fn a_named_key_is_the_only_one_tried_and_an_unnamed_one_is_looked_for() {
    let domain = Domain::new();
    assert!(domain.with_header(r#"{"alg":"ES256","kid":"k1"}"#).is_ok());
    // rows: J-19
    for kid in ["k2", "K1", ""] {
        let refused = domain.with_header(&format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#)).unwrap_err();
        assert_eq!(refused, JwtError::NoAuthority, "{kid}");
    }
    // Decision K7.
    assert!(domain.with_header(r#"{"alg":"ES256"}"#).is_ok());
    let stranger = Domain::new().token(r#"{"alg":"ES256"}"#, &claims().to_string());
    assert_eq!(domain.verify(&stranger).unwrap_err(), JwsError::BadSignature.into());
    let other = PrivateKey::generate(KeyAlgorithm::EcP384).unwrap();
    let authorities = [
        JwtAuthority::with_key_id(other.public_key().clone(), "k0").unwrap(),
        JwtAuthority::with_key_id(domain.key.public_key().clone(), "k1").unwrap(),
    ];
    let bundle = JwtBundle::new("td".parse().unwrap(), authorities.to_vec()).unwrap();
    let domain = Domain { bundles: bundle.into(), ..domain };
    assert!(domain.with_header(r#"{"alg":"ES256"}"#).is_ok());
    assert_eq!(domain.with_header(r#"{"alg":"RS256"}"#).unwrap_err(), JwtError::NoAuthority);
    // rows: J-6
    assert_eq!(domain.with_header(r#"{"alg":"ES256","kid":"k0"}"#).unwrap_err(), JwsError::BadSignature.into());
}

/// Rows: J-6.
#[test]
fn the_alg_of_a_jwk_binds() {
    // rows: J-6
    let domain = Domain::named("td", KeyAlgorithm::Rsa2048);
    let bundle = |alg: &str| {
        let mut jwk = crate::jwk::members(domain.key.public_key());
        jwk.extend([("kid".into(), json!("k1")), ("use".into(), json!("jwt-svid")), ("alg".into(), json!(alg))]);
        let set = json!({ "keys": [jwk] }).to_string();
        JwtBundleSet::from(JwtBundle::from_jwks("td".parse().unwrap(), set.as_bytes()).unwrap())
    };
    let token = domain.token(r#"{"alg":"RS256","kid":"k1"}"#, &claims().to_string());
    let check = |alg| verify(&token, &bundle(alg), &"us".parse().unwrap(), NOW, &Options::default()).map(|_| ());
    assert_eq!(check("RS256"), Ok(()));
    assert_eq!(check("PS256"), Err(JwsError::BadSignature.into()));
}

/// Rows: J-21.
#[test]
fn duplicate_claims_are_refused() {
    // rows: J-21
    let domain = Domain::new();
    let good = claims().to_string();
    let twice = good.replacen('{', r#"{"sub":"spiffe://td/b","#, 1);
    assert!(domain.verify(&domain.token(HEADER, &good)).is_ok());
    assert_eq!(domain.verify(&domain.token(HEADER, &twice)).unwrap_err(), JwsError::BadPayload.into());
}

#[test]
fn unverified_claims_are_for_the_holder_and_keep_the_rules_of_form() {
    let domain = Domain::new();
    let token = domain.token(HEADER, &claims().to_string());
    let held = insecure_claims(&token).unwrap();
    assert_eq!((held.spiffe_id().as_str(), held.audience().len()), ("spiffe://td/a", 2));
    assert_eq!(held.expires_at().unix_s(), NOW.unix_s() + 300);
    assert_eq!((held.not_before(), held.claims().len()), (None, 5));
    assert!(insecure_claims(&domain.token(r#"{"alg":"none"}"#, &claims().to_string())).is_err());
    assert!(insecure_claims("x").is_err());
}

proptest! {
    #[test]
    fn no_claims_make_the_reader_panic(
        sub in "spiffe://td/[a-z]{1,5}|\\PC{0,20}", aud in prop::collection::vec("\\PC{0,5}", 0..4), exp in any::<f64>(),
    ) {
        let domain = Domain::new();
        let claims = json!({ "sub": sub, "aud": aud, "exp": exp });
        if let Ok(svid) = domain.verify(&domain.token(HEADER, &claims.to_string())) {
            prop_assert_eq!(svid.spiffe_id().as_str(), sub);
            prop_assert!(aud.contains(&"us".to_owned()) && exp > 1.0e9);
        }
    }
}

#[test]
fn each_refusal_has_the_reason_that_says_whose_move_it_is() {
    for (error, reason) in [
        (JwtError::Jws(JwsError::BadSignature), Reason::JwtSvidUntrusted),
        (JwtError::NoAuthority, Reason::JwtSvidUntrusted),
        (JwtError::WrongAudience, Reason::WrongAudience),
        (JwtError::Expired, Reason::Expired),
        (JwtError::NotYetValid, Reason::NotYetValid),
        (JwtError::NoBundle, Reason::UnknownTrustDomain),
        (JwtError::EmptyAudience, Reason::InvalidArgument),
        (JwtError::LeewayTooLong, Reason::InvalidArgument),
        (JwtError::ExtraHeader, Reason::JwtSvidInvalid),
        (JwtError::Jws(JwsError::NotCompact), Reason::JwtSvidInvalid),
    ] {
        assert_eq!((error.reason(), Refusal::from(error).reason), (reason, reason), "{error}");
    }
}

#[test]
fn what_is_read_without_a_check_has_the_form_of_a_jwt_svid_all_the_same() {
    let domain = Domain::new();
    let read = |header: &str| insecure_claims(&domain.token(header, &claims().to_string()));
    assert_eq!(read(HEADER).unwrap().spiffe_id().as_str(), "spiffe://td/a");
    assert_eq!(read(r#"{"alg":"ES256","kid":"k1","jku":"x"}"#).unwrap_err(), JwtError::ExtraHeader);
    assert_eq!(read(r#"{"alg":"ES256","kid":"k1","typ":"wit+jwt"}"#).unwrap_err(), JwtError::WrongType);
}
