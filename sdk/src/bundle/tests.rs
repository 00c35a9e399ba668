use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::id::TrustDomain;
use crate::key::{KeyAlgorithm, PrivateKey};
use crate::time::Ttl;
use crate::x509::fixture::{Made, ca, leaf, self_signed};
use crate::{jwk, pem};

fn td() -> TrustDomain {
    "td".parse().unwrap()
}

fn read(document: &Value) -> Result<Bundle, BundleError> {
    Bundle::from_spiffe_json(td(), document.to_string().as_bytes())
}

/// How many anchors and token keys come out of these entries.
fn counts(entries: &[Value]) -> (usize, usize) {
    let bundle = read(&json!({ "keys": entries })).unwrap();
    (bundle.x509.authorities().len(), bundle.jwt.authorities().len())
}

fn x509_entry(made: &Made) -> Value {
    let mut entry = jwk::members(made.private_key().public_key());
    entry.extend([("use".into(), json!("x509-svid")), ("x5c".into(), json!([STANDARD.encode(&made.der)]))]);
    Value::Object(entry)
}

fn jwt_entry(kid: &str) -> Value {
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let mut entry = jwk::members(key.public_key());
    entry.extend([("use".into(), json!("jwt-svid")), ("kid".into(), json!(kid))]);
    Value::Object(entry)
}

/// An entry with one member changed, or removed where the value is null.
fn with(entry: &Value, name: &str, value: Value) -> Value {
    let mut entry = entry.clone();
    let members = entry.as_object_mut().unwrap();
    match value {
        Value::Null => drop(members.remove(name)),
        value => drop(members.insert(name.into(), value)),
    }
    entry
}

/// With blanks behind it, so that it has so many bytes.
fn padded(document: &str, bytes: usize) -> String {
    document.to_owned() + &" ".repeat(bytes - document.len())
}

fn full() -> (Bundle, Made) {
    let root = self_signed(ca("root"));
    let key = PrivateKey::generate(KeyAlgorithm::EcP384).unwrap();
    let x509 = X509Bundle::new(td(), vec![X509Authority::from_der(&root.der).unwrap()]);
    let jwt = JwtBundle::new(td(), vec![JwtAuthority::new(key.public_key().clone()).unwrap()]).unwrap();
    let bundle = Bundle::new(x509, jwt);
    (Bundle { sequence: Some(u64::MAX), refresh_hint: Some(Ttl::from_s(300)), ..bundle }, root)
}

#[test]
fn a_bundle_is_read_back_from_its_document() {
    let (bundle, _) = full();
    assert_eq!(Bundle::from_spiffe_json(td(), bundle.to_spiffe_json().as_bytes()), Ok(bundle));
}

/// Rows: BD-1, BD-6, BD-11, BD-15, BD-20, X-29.
#[test]
fn the_document_has_the_members_that_the_standard_names_and_no_others() {
    // rows: BD-1, BD-6, BD-11, BD-15, BD-20, X-29
    let (bundle, root) = full();
    let document: Value = serde_json::from_str(&bundle.to_spiffe_json()).unwrap();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&document), ["keys", "spiffe_refresh_hint", "spiffe_sequence"]);
    assert!(document["spiffe_refresh_hint"].is_u64() && document["spiffe_sequence"] == json!(u64::MAX));
    let [x509, jwt] = document["keys"].as_array().unwrap().as_slice() else { panic!("two keys") };
    assert_eq!(names(x509), ["crv", "kty", "use", "x", "x5c", "y"]);
    assert_eq!(x509["x5c"], json!([STANDARD.encode(&root.der)]));
    assert_eq!(jwk::public_key(x509.as_object().unwrap()).unwrap(), *root.private_key().public_key());
    assert_eq!(names(jwt), ["crv", "kid", "kty", "use", "x", "y"]);
    assert_eq!(jwt["kid"], jwk::thumbprint(bundle.jwt.authorities()[0].public_key()));

    let empty: Value = serde_json::from_str(&Bundle::empty(td()).to_spiffe_json()).unwrap();
    assert_eq!(empty, json!({ "keys": [] }));
}

/// Rows: BD-2, BD-3, BD-21.
#[test]
fn keys_must_be_there_and_may_be_none() {
    // rows: BD-2, BD-3, BD-21
    for document in [json!({}), json!({ "keys": null }), json!({ "keys": {} }), json!({ "keys": "x" })] {
        assert_eq!(read(&document), Err(BundleError::NoKeys), "{document}");
    }
    assert_eq!(read(&json!({ "keys": [] })), Ok(Bundle::empty(td())));
    let unusable = json!({ "keys": [with(&jwt_entry("k"), "use", json!("other")), 1, null, "x", []] });
    assert_eq!(read(&unusable), Ok(Bundle::empty(td())));
    for text in ["", "[]", "{", "{\"keys\":[],\"keys\":[]}", "null"] {
        assert_eq!(Bundle::from_spiffe_json(td(), text.as_bytes()), Err(BundleError::NotJson), "{text}");
    }
    let longest = padded("{\"keys\":[]}", MAX_BUNDLE_BYTES);
    assert_eq!(Bundle::from_spiffe_json(td(), longest.as_bytes()), Ok(Bundle::empty(td())));
    assert_eq!(JwtBundle::from_jwks(td(), longest.as_bytes()), Ok(JwtBundle::empty(td())));
    assert_eq!(JwtBundle::from_jwks(td(), format!("{longest} ").as_bytes()), Err(BundleError::TooLong));
    let long = format!("{{\"keys\":[]{}}}", " ".repeat(MAX_BUNDLE_BYTES));
    assert_eq!(Bundle::from_spiffe_json(td(), long.as_bytes()), Err(BundleError::TooLong));
}

/// Rows: BD-5, BD-6, BD-8.
#[test]
fn sequence_and_hint_are_integers() {
    // rows: BD-5, BD-6, BD-8
    let sequence = |value: Value| read(&json!({ "keys": [], "spiffe_sequence": value })).map(|bundle| bundle.sequence);
    assert_eq!(sequence(json!(9_007_199_254_740_993_u64)), Ok(Some(9_007_199_254_740_993)));
    assert_eq!(sequence(json!(u64::MAX)), Ok(Some(u64::MAX)));
    for bad in [json!(-1), json!(1.5), json!("1"), json!(null)] {
        assert_eq!(sequence(bad.clone()), Err(BundleError::BadSequence), "{bad}");
    }
    let too_large = br#"{"keys":[],"spiffe_sequence":18446744073709551616}"#;
    assert_eq!(Bundle::from_spiffe_json(td(), too_large), Err(BundleError::BadSequence));

    let hint =
        |value: Value| read(&json!({ "keys": [], "spiffe_refresh_hint": value })).map(|bundle| bundle.refresh_hint);
    assert_eq!(hint(json!(300)), Ok(Some(Ttl::from_s(300))));
    assert_eq!(hint(json!(0)), Ok(None));
    assert_eq!(hint(json!(u64::MAX)), Ok(Some(Ttl::from_s(u32::MAX))));
    for bad in [json!("300"), json!(300.5), json!(-1), json!(null)] {
        assert_eq!(hint(bad.clone()), Err(BundleError::BadRefreshHint), "{bad}");
    }
    let unknown = read(&json!({ "keys": [], "refresh_hint": "x", "other": [{}] })).unwrap();
    assert_eq!((unknown.sequence, unknown.refresh_hint), (None, None));
}

/// Rows: BD-9, BD-10, BD-12, BD-13, BD-14, BD-16, BD-19.
#[test]
fn one_entry_that_cannot_be_used_leaves_the_others() {
    let root = self_signed(ca("root"));
    let (x509, jwt) = (x509_entry(&root), jwt_entry("k"));
    assert_eq!(counts(&[x509.clone(), jwt.clone()]), (1, 1));
    let ignored = |entry: Value| assert_eq!(counts(&[x509.clone(), entry.clone(), jwt.clone()]), (1, 1), "{entry}");
    let other = jwt_entry("other");
    assert_eq!(counts(&[jwt.clone(), other.clone()]), (0, 2));
    // rows: BD-9
    ignored(with(&other, "kty", json!("ZZ")));
    ignored(with(&other, "kty", Value::Null));
    // rows: BD-10, decision K3
    for of in [Value::Null, json!("sig"), json!("JWT-SVID"), json!("wit-svid"), json!(1)] {
        ignored(with(&other, "use", of));
    }
    // rows: BD-16
    for kid in [Value::Null, json!(""), json!(1)] {
        ignored(with(&other, "kid", kid));
    }
    // rows: BD-19
    ignored(with(&other, "d", json!("AA")));
    ignored(with(&with(&other, "kty", json!("oct")), "k", json!("AA")));
    // Keys that are none.
    ignored(with(&other, "x", json!("AA")));
    ignored(with(&other, "alg", json!("EdDSA")));

    let second = self_signed(ca("second"));
    let other = x509_entry(&second);
    assert_eq!(counts(&[x509.clone(), other.clone()]), (2, 0));
    let pem = pem::certificate(&second.der);
    // rows: BD-12, BD-13
    for x5c in
        [Value::Null, json!([]), json!("x"), json!([1]), json!(["!"]), json!([STANDARD.encode(b"x")]), json!([pem])]
    {
        ignored(with(&other, "x5c", x5c));
    }
    let der = (0..100).map(|_| self_signed(ca("third")).der).find(|der| URL_SAFE.encode(der) != STANDARD.encode(der));
    ignored(with(&other, "x5c", json!([URL_SAFE.encode(der.unwrap())])));
    ignored(with(&other, "d", json!("AA")));
    ignored(with(&other, "kty", json!("ZZ")));
    // rows: BD-14
    let not_ca = self_signed(leaf("spiffe://td/a"));
    ignored(x509_entry(&not_ca));
}

/// Rows: BD-12.
#[test]
fn the_first_certificate_counts_and_a_key_id_beside_it_does_not_hurt() {
    // rows: BD-12
    let (root, second) = (self_signed(ca("root")), self_signed(ca("second")));
    let two = json!([STANDARD.encode(&root.der), STANDARD.encode(&second.der)]);
    let entry = with(&with(&x509_entry(&root), "x5c", two), "kid", json!("k"));
    let bundle = read(&json!({ "keys": [entry] })).unwrap();
    assert_eq!(bundle.x509.authorities(), [X509Authority::from_der(&root.der).unwrap()]);
}

/// Rows: BD-18.
#[test]
fn two_token_keys_of_one_name_make_the_bundle_ambiguous() {
    // rows: BD-18
    assert_eq!(read(&json!({ "keys": [jwt_entry("k"), jwt_entry("k")] })), Err(BundleError::DuplicateKeyId));
    let other_use = with(&jwt_entry("k"), "use", json!("wit-svid"));
    assert_eq!(counts(&[jwt_entry("k"), other_use]), (0, 1));
    let set = json!({ "keys": [jwt_entry("k"), jwt_entry("k")] }).to_string();
    assert_eq!(JwtBundle::from_jwks(td(), set.as_bytes()), Err(BundleError::DuplicateKeyId));
}

/// Rows: J-20.
#[test]
fn the_workload_api_form_of_token_keys_may_lack_a_use() {
    // Decision K9; rows: J-20
    let jwks = |entries: &[Value]| {
        let set = json!({ "keys": entries }).to_string();
        JwtBundle::from_jwks(td(), set.as_bytes()).map(|bundle| bundle.authorities().len())
    };
    let entry = jwt_entry("k");
    assert_eq!(jwks(std::slice::from_ref(&entry)), Ok(1));
    assert_eq!(jwks(&[with(&entry, "use", Value::Null)]), Ok(1));
    for of in [json!("wit-svid"), json!("x509-svid"), json!("sig"), json!("JWT-SVID"), json!(1)] {
        assert_eq!(jwks(&[with(&entry, "use", of.clone())]), Ok(0), "{of}");
    }
    assert_eq!(jwks(&[]), Ok(0));
    assert_eq!(JwtBundle::from_jwks(td(), b"{}"), Err(BundleError::NoKeys));
    assert_eq!(JwtBundle::from_jwks(td(), b""), Err(BundleError::NotJson));
    assert_eq!(JwtBundle::from_jwks(td(), &vec![b' '; MAX_BUNDLE_BYTES + 1]), Err(BundleError::TooLong));

    let (bundle, _) = full();
    let text = bundle.jwt.to_jwks();
    assert_eq!(JwtBundle::from_jwks(td(), text.as_bytes()), Ok(bundle.jwt));
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document.as_object().unwrap().keys().collect::<Vec<_>>(), ["keys"]);
    assert_eq!(document["keys"][0]["use"], "jwt-svid");
}

#[test]
fn ed25519_signs_no_tokens_and_may_sign_certificates() {
    let key = PrivateKey::generate(KeyAlgorithm::Ed25519).unwrap();
    assert!(JwtAuthority::new(key.public_key().clone()).is_err());
    let token_key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    assert!(JwtAuthority::with_key_id(token_key.public_key().clone(), "").is_err());
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let der = ca("root").self_signed(&pair).unwrap().der().to_vec();
    let x509 = X509Bundle::new(td(), vec![X509Authority::from_der(&der).unwrap()]);
    let bundle = Bundle::new(x509, JwtBundle::empty(td()));
    let document: Value = serde_json::from_str(&bundle.to_spiffe_json()).unwrap();
    assert_eq!((&document["keys"][0]["kty"], &document["keys"][0]["crv"]), (&json!("OKP"), &json!("Ed25519")));
    assert_eq!(read(&document), Ok(bundle));
}

/// Rows: WA-23.
#[test]
fn the_workload_api_form_of_anchors_is_der_after_der() {
    let (a, b) = (self_signed(ca("a")), self_signed(ca("b")));
    let both = [&a.der[..], &b.der].concat();
    let bundle = X509Bundle::from_der(td(), &both).unwrap();
    assert_eq!((bundle.authorities().len(), bundle.to_der()), (2, both.clone()));
    assert_eq!(pem::read_certificates(bundle.to_pem().as_bytes()).unwrap().len(), 2);
    assert!(X509Bundle::from_der(td(), &[]).unwrap().is_empty());
    assert_eq!(X509Bundle::from_der(td(), &[&a.der[..], &a.der].concat()).unwrap().authorities().len(), 1);
    for bad in [&both[..both.len() - 1], &[&both[..], &[0]].concat(), b"x", pem::certificate(&a.der).as_bytes()] {
        assert_eq!(X509Bundle::from_der(td(), bad), Err(BundleError::NotCertificates));
    }
    assert_eq!(X509Bundle::from_der(td(), &vec![0; MAX_BUNDLE_BYTES + 1]), Err(BundleError::TooLong));
}

fn wit_bundle(trust_domain: &str, keys: &[(&PrivateKey, &str)]) -> WitBundle {
    let authority =
        |(key, kid): &(&PrivateKey, &str)| WitAuthority::with_key_id(key.public_key().clone(), kid).unwrap();
    WitBundle::new(trust_domain.parse().unwrap(), keys.iter().map(authority).collect()).unwrap()
}

/// Rows: W-28, BD-15, BD-17, BD-20.
#[test]
fn keys_of_wit_svids_are_published_under_names_that_nothing_else_in_the_bundle_has() {
    let (bundle, _) = full();
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let all = bundle.clone().with_wit(wit_bundle("td", &[(&key, "w")])).unwrap();
    let document: Value = serde_json::from_str(&all.to_spiffe_json()).unwrap();
    let entry = document["keys"].as_array().unwrap().iter().find(|entry| entry["use"] == "wit-svid").unwrap();
    let names: Vec<_> = entry.as_object().unwrap().keys().collect();
    assert_eq!(names, ["crv", "kid", "kty", "use", "x", "y"]);
    assert_eq!(entry["kid"], "w");
    assert_eq!(Bundle::from_spiffe_json(td(), document.to_string().as_bytes()), Ok(all.clone()));
    assert_eq!(all.without_wit(), bundle);

    let taken = bundle.jwt.authorities()[0].key_id().to_owned();
    let collision = bundle.clone().with_wit(wit_bundle("td", &[(&key, &taken)]));
    assert_eq!(collision, Err(BundleError::DuplicateKeyId));
    assert_eq!(bundle.clone().with_wit(wit_bundle("other", &[(&key, "w")])), Ok(bundle));
    let two = json!({ "keys": [with(&jwt_entry("k"), "use", json!("wit-svid")), with(&jwt_entry("k"), "use", json!("wit-svid"))] });
    assert_eq!(read(&two), Err(BundleError::DuplicateKeyId));
}

/// Rows: W-29, WA-44, WA-65, WA-66.
#[test]
fn each_kind_of_token_has_keys_of_its_own_in_every_form() {
    let (jwt, wit) = (jwt_entry("k"), with(&jwt_entry("w"), "use", json!("wit-svid")));
    let bundle = read(&json!({ "keys": [jwt, wit] })).unwrap();
    let ids = |jwks: &str| {
        let document: Value = serde_json::from_str(jwks).unwrap();
        assert_eq!(document.as_object().unwrap().keys().collect::<Vec<_>>(), ["keys"]);
        let entries = document["keys"].as_array().unwrap().clone();
        entries.iter().map(|entry| (entry["kid"].clone(), entry["use"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(ids(&bundle.jwt.to_jwks()), [(json!("k"), json!("jwt-svid"))]);
    assert_eq!(ids(&bundle.wit.to_jwks()), [(json!("w"), json!("wit-svid"))]);
    let jwks = |entries: &[Value]| {
        let set = json!({ "keys": entries }).to_string();
        WitBundle::from_jwks(td(), set.as_bytes()).map(|bundle| bundle.authorities().len())
    };
    assert_eq!(jwks(&[wit.clone(), with(&wit, "use", Value::Null)]), Err(BundleError::DuplicateKeyId));
    assert_eq!(jwks(&[with(&wit, "use", Value::Null)]), Ok(1));
    for ignored in
        [jwt, with(&wit, "use", json!("WIT-SVID")), with(&wit, "kid", Value::Null), with(&wit, "d", json!("A"))]
    {
        assert_eq!(jwks(std::slice::from_ref(&ignored)), Ok(0), "{ignored}");
    }
    assert_eq!(WitBundle::from_jwks(td(), b"{}"), Err(BundleError::NoKeys));
}

/// Rows: X-22.
#[test]
fn halves_of_two_trust_domains_do_not_become_one_bundle() {
    let (bundle, _) = full();
    let other = JwtBundle::new("other".parse().unwrap(), bundle.jwt.authorities().to_vec()).unwrap();
    assert!(Bundle::new(bundle.x509.clone(), other).jwt.authorities().is_empty());
    assert_eq!(Bundle::new(bundle.x509.clone(), bundle.jwt.clone()).jwt, bundle.jwt);
}

#[test]
fn a_set_keeps_one_bundle_for_each_trust_domain() {
    let (bundle, _) = full();
    let mut set = X509BundleSet::from(bundle.x509.clone());
    set.insert(X509Bundle::new("other".parse().unwrap(), Vec::new()));
    assert_eq!((set.len(), set.get(&td())), (2, Some(&bundle.x509)));
    assert_eq!(set.insert(X509Bundle::new(td(), Vec::new())), Some(bundle.x509));
    assert!(set.get(&td()).unwrap().is_empty());
    assert!(set.remove(&td()).is_some() && set.get(&td()).is_none() && !set.is_empty());
    assert_eq!(set.iter().map(|bundle| bundle.trust_domain().as_str()).collect::<Vec<_>>(), ["other"]);
}

/// Rows: BM-1, BM-2, BM-3, BM-4.
#[test]
fn a_map_is_read_whole_or_not_at_all() {
    let (bundle, _) = full();
    let mut map = BundleMap::default();
    // rows: BM-1
    assert_eq!(map.to_json(), r#"{"trust_domains":{}}"#);
    assert_eq!(BundleMap::from_json(map.to_json().as_bytes()), Ok(map.clone()));
    map.insert(bundle.clone());
    map.insert(Bundle::empty("other.example".parse().unwrap()));
    let text = map.to_json();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["trust_domains"]["td"]["spiffe_sequence"], json!(u64::MAX));
    // rows: BM-3
    assert!(!text.contains("spiffe_refresh_hint"));
    let read = BundleMap::from_json(text.as_bytes()).unwrap();
    assert_eq!(read.get(&td()), Some(&Bundle { refresh_hint: None, ..bundle }));
    assert_eq!(read.iter().count(), 2);
    let hinted = r#"{"trust_domains":{"td":{"keys":[],"spiffe_refresh_hint":60}}}"#;
    assert_eq!(BundleMap::from_json(hinted.as_bytes()).unwrap().get(&td()).unwrap().refresh_hint, None);

    for (text, error) in [
        // rows: BM-2
        (r#"{"trust_domains":{"td":{"keys":[]},"td":{"keys":[]}}}"#, BundleError::NotJson),
        // rows: BM-4
        (r#"{"trust_domains":{"TD":{"keys":[]}}}"#, BundleError::BadTrustDomain),
        (r#"{"trust_domains":{"spiffe://td":{"keys":[]}}}"#, BundleError::BadTrustDomain),
        (r#"{"trust_domains":{"":{"keys":[]}}}"#, BundleError::BadTrustDomain),
        (r#"{"trust_domains":{"a":{"keys":[]},"b":{}}}"#, BundleError::NoKeys),
        (r#"{"trust_domains":{"a":1}}"#, BundleError::NotJson),
        (r#"{"trust_domains":[]}"#, BundleError::NoTrustDomains),
        ("{}", BundleError::NoTrustDomains),
        ("", BundleError::NotJson),
    ] {
        assert_eq!(BundleMap::from_json(text.as_bytes()), Err(error), "{text}");
    }
    assert_eq!(BundleMap::from_json(&vec![b' '; MAX_BUNDLE_MAP_BYTES + 1]), Err(BundleError::TooLong));
}

proptest! {
    #[test]
    fn no_document_makes_the_readers_panic(
        text in r#"\{"(keys|trust_domains)":(\[\{"(kty|use|kid)":"(EC|RSA|x509-svid|jwt-svid|wit-svid)"\}\]|\{"td":\{"keys":\[\]\}\})\}|\PC*"#,
    ) {
        if let Ok(bundle) = Bundle::from_spiffe_json(td(), text.as_bytes()) {
            prop_assert_eq!(Bundle::from_spiffe_json(td(), bundle.to_spiffe_json().as_bytes()), Ok(bundle));
        }
        if let Ok(bundle) = JwtBundle::from_jwks(td(), text.as_bytes()) {
            prop_assert_eq!(JwtBundle::from_jwks(td(), bundle.to_jwks().as_bytes()), Ok(bundle));
        }
        if let Ok(bundle) = WitBundle::from_jwks(td(), text.as_bytes()) {
            prop_assert_eq!(WitBundle::from_jwks(td(), bundle.to_jwks().as_bytes()), Ok(bundle));
        }
        if let Ok(map) = BundleMap::from_json(text.as_bytes()) {
            prop_assert_eq!(BundleMap::from_json(map.to_json().as_bytes()), Ok(map));
        }
    }
}

#[test]
fn what_is_too_long_is_not_read_and_what_is_just_not_is() {
    let longest = padded("{\"trust_domains\":{}}", MAX_BUNDLE_MAP_BYTES);
    assert!(BundleMap::from_json(longest.as_bytes()).is_ok());
    assert_eq!(BundleMap::from_json(format!("{longest} ").as_bytes()).unwrap_err(), BundleError::TooLong);
    let read = |bytes: usize| X509Bundle::from_der(td(), &vec![0; bytes]).unwrap_err();
    assert_eq!(
        (read(MAX_BUNDLE_BYTES), read(MAX_BUNDLE_BYTES + 1)),
        (BundleError::NotCertificates, BundleError::TooLong)
    );
}

#[test]
fn emptiness_is_told_as_it_is() {
    let (bundle, _) = full();
    assert!(!bundle.x509.is_empty() && X509Bundle::new(td(), Vec::new()).is_empty());
    assert!(!bundle.jwt.is_empty() && JwtBundle::empty(td()).is_empty());
    assert!(X509BundleSet::default().is_empty() && !X509BundleSet::from(bundle.x509).is_empty());
}
