use mayfly_proto::node::MintAgentlessRequest;
use mayfly_rig::Rig;
use mayfly_sdk::{Clock, KeyAlgorithm, Reason, SignatureAlgorithm, x509::CertificateRequest};
use serde_json::{Map, Value, json};

use super::provider::{IdentityProvider, encode};
use super::{ask, configure, entry, issuer, request, verdict};
use crate::attestation::stranger::{Stranger, key};

type Claims = Map<String, Value>;

#[expect(clippy::unnecessary_wraps, reason = "what a verdict is compared with")]
fn deploy() -> Result<String, Reason> {
    Ok("spiffe://test.example/deploy".to_owned())
}

fn set(name: &str, value: Value) -> impl FnOnce(&mut Claims) {
    move |claims| drop(claims.insert(name.to_owned(), value))
}

fn without(name: &str) -> impl FnOnce(&mut Claims) {
    move |claims| drop(claims.remove(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_provider_did_not_sign_gets_nothing() {
    let provider = IdentityProvider::new("ci");
    let rig = issuer(&provider);
    let rsa = IdentityProvider::with_key("rsa", "rsa-1", KeyAlgorithm::Rsa2048);
    let good = provider.token();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();

    // No signature, in every spelling of it.
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let unsigned = encode(json!({ "alg": alg, "kid": provider.key_id }).to_string().as_bytes());
        for signature in ["", signature] {
            let token = format!("{unsigned}.{payload}.{signature}");
            assert_eq!(verdict(&rig, &token).await, Err(Reason::TokenInvalid), "alg {alg:?}");
        }
    }
    // The public key as the secret of a symmetric algorithm.
    for (alg, algorithm) in [("HS256", ring::hmac::HMAC_SHA256), ("HS512", ring::hmac::HMAC_SHA512)] {
        let jwk = Value::Object(provider.jwk()).to_string();
        for secret in [provider.key.public_key().spki(), jwk.as_bytes(), b""] {
            let input = format!("{}.{payload}", encode(json!({ "alg": alg, "kid": "key-1" }).to_string().as_bytes()));
            let tag = ring::hmac::sign(&ring::hmac::Key::new(algorithm, secret), input.as_bytes());
            let token = format!("{input}.{}", encode(tag.as_ref()));
            assert_eq!(verdict(&rig, &token).await, Err(Reason::TokenInvalid), "{alg}");
        }
    }
    // An algorithm of another kind of key, or one that is not allowed.
    for (alg, reason) in [
        ("RS256", Reason::TokenUntrusted),
        ("ES384", Reason::TokenUntrusted),
        ("ES512", Reason::TokenInvalid),
        ("RS512", Reason::TokenInvalid),
    ] {
        let token = provider.token_headed(|header| header["alg"] = alg.into());
        assert_eq!(verdict(&rig, &token).await, Err(reason), "{alg}");
    }
    // Another key under the same id; the same with a key that the token brings along.
    let theirs = IdentityProvider::new("ci");
    assert_eq!(verdict(&rig, &theirs.token()).await, Err(Reason::TokenUntrusted));
    let token = theirs.token_headed(|header| {
        header["jwk"] = Value::Object(theirs.jwk());
        header["jku"] = "https://theirs.example/keys".into();
    });
    assert_eq!(verdict(&rig, &token).await, Err(Reason::TokenUntrusted));
    // A key id that the provider does not have, or none.
    assert_eq!(
        verdict(&rig, &provider.token_headed(|it| it["kid"] = "key-2".into())).await,
        Err(Reason::TokenUntrusted)
    );
    assert_eq!(verdict(&rig, &provider.token_headed(|it| it["kid"] = Value::Null)).await, Err(Reason::TokenInvalid));
    // Claims that were changed after signing, and a signature that was.
    let changed = encode(Value::Object(provider.claims()).to_string().as_bytes());
    assert_eq!(verdict(&rig, &format!("{header}.{changed}.{signature}")).await, Err(Reason::TokenUntrusted));
    let zeros = encode(&[0; 64]);
    assert_eq!(verdict(&rig, &format!("{signed}.{zeros}")).await, Err(Reason::TokenUntrusted));
    let short = encode(&[1; 63]);
    assert_eq!(verdict(&rig, &format!("{signed}.{short}")).await, Err(Reason::TokenUntrusted));
    // Headers that ask for something that is not done.
    for (name, value) in [("crit", json!(["b64"])), ("b64", json!(false)), ("typ", json!("at+jwt")), ("typ", json!(7))]
    {
        let token = provider.token_headed(|header| header[name] = value);
        assert_eq!(verdict(&rig, &token).await, Err(Reason::TokenInvalid), "{name}");
    }
    // A provider that nobody configured, and one that says it is another.
    assert_eq!(verdict(&rig, &rsa.token()).await, Err(Reason::IdentityProviderUnknown));
    assert_eq!(
        verdict(&rig, &rsa.token_with(set("iss", provider.issuer.clone().into()))).await,
        Err(Reason::TokenUntrusted)
    );
    // No token at all.
    for junk in ["", ".", "..", "a.b.c", "{}", &"a".repeat(20_000)] {
        assert_eq!(verdict(&rig, junk).await, Err(Reason::TokenInvalid), "{}", junk.len());
    }
    assert_eq!(verdict(&rig, &good).await, deploy(), "none of this has used it up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_somebody_else_or_for_another_time_gets_nothing() {
    let provider = IdentityProvider::new("ci");
    let rig = issuer(&provider);
    let now = Clock::system().now().unix_s();
    for audience in [json!("test.example"), json!(["test.example"]), json!("spiffe://test.example")] {
        assert_eq!(verdict(&rig, &provider.token_with(set("aud", audience))).await, deploy());
    }
    let others = [
        json!("other.example"),
        json!("TEST.example"),
        json!("test.example/"),
        json!("https://test.example"),
        json!(["test.example", "other.example"]),
        json!(["test.example", "test.example"]),
        json!([]),
        json!(""),
        json!({ "test.example": 1 }),
        Value::Null,
    ];
    for audience in others {
        let token = provider.token_with(set("aud", audience.clone()));
        assert_eq!(verdict(&rig, &token).await, Err(Reason::WrongAudience), "{audience}");
    }
    assert_eq!(verdict(&rig, &provider.token_with(without("aud"))).await, Err(Reason::WrongAudience));

    for (claim, value, reason) in [
        ("exp", json!(now - 60), Reason::Expired),
        ("exp", json!(0), Reason::Expired),
        ("exp", json!(-1), Reason::TokenInvalid),
        ("exp", json!(now + 3 * 3600), Reason::TokenInvalid),
        ("exp", json!(u64::MAX), Reason::TokenInvalid),
        ("exp", json!(1e300), Reason::TokenInvalid),
        ("exp", json!(format!("{}", now + 300)), Reason::TokenInvalid),
        ("exp", Value::Null, Reason::TokenInvalid),
        ("nbf", json!(now + 120), Reason::NotYetValid),
        ("iat", json!(now + 120), Reason::NotYetValid),
        ("nbf", json!("soon"), Reason::TokenInvalid),
        ("sub", json!(""), Reason::TokenInvalid),
        ("sub", json!(7), Reason::TokenInvalid),
        ("jti", json!(""), Reason::TokenInvalid),
        ("jti", json!(7), Reason::TokenInvalid),
        ("jti", json!("x".repeat(2000)), Reason::TokenInvalid),
        ("iss", json!("https://ci.example/"), Reason::IdentityProviderUnknown),
        ("iss", json!(["https://ci.example"]), Reason::TokenInvalid),
    ] {
        let token = provider.token_with(set(claim, value.clone()));
        assert_eq!(verdict(&rig, &token).await, Err(reason), "{claim}: {value}");
    }
    for claim in ["exp", "sub", "jti", "iss"] {
        assert_eq!(verdict(&rig, &provider.token_with(without(claim))).await, Err(Reason::TokenInvalid), "{claim}");
    }
    // Two readers must not see two documents.
    let twice = Value::Object(provider.claims()).to_string().replacen('{', "{\"repository\":\"other\",", 1);
    assert!(verdict(&rig, &provider.sign(&provider.header(), &twice)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_for_one_identity_also_for_many_at_once_and_across_restarts() {
    let (provider, other) = (IdentityProvider::new("ci"), IdentityProvider::new("other"));
    let mut rig = Rig::new(&[]);
    configure(&mut rig, "ci", &provider);
    configure(&mut rig, "other", &other);
    rig.start_issuer();
    rig.apply(
        &(entry("deploy", "oidc:repository:shop")
            + &entry("theirs", "oidc:repository:shop").replace("agentless:ci", "agentless:other")),
    );

    let token = provider.token();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let (mut stranger, request) = (Stranger::dial(&rig).await, request(&token));
        callers.spawn(async move { stranger.client.mint_agentless(request).await.is_ok() });
    }
    let won = callers.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1, "of 24 callers with one token");
    assert_eq!(verdict(&rig, &token).await, Err(Reason::TokenUsed));

    // Its id is what is used up: another token with the same one is the same token.
    let same = |provider: &IdentityProvider, id: &str| provider.token_with(set("jti", id.into()));
    assert_eq!(verdict(&rig, &same(&provider, "one")).await, deploy());
    assert_eq!(verdict(&rig, &same(&provider, "one")).await, Err(Reason::TokenUsed));
    // Another provider may have the same id.
    assert_eq!(verdict(&rig, &same(&other, "one")).await, Ok("spiffe://test.example/theirs".to_owned()));

    rig.stop_issuer();
    rig.start_issuer();
    assert_eq!(verdict(&rig, &token).await, Err(Reason::TokenUsed));
    let last = provider.token();
    assert_eq!(verdict(&rig, &last).await, deploy());
    rig.kill_issuer();
    rig.start_issuer();
    assert_eq!(verdict(&rig, &last).await, Err(Reason::TokenUsed), "after a kill in the middle of everything");
    assert_eq!(verdict(&rig, &provider.token()).await, deploy());
}

/// Rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_gives_nothing_but_its_key_and_only_if_that_key_signed_it() {
    let provider = IdentityProvider::new("ci");
    let rig = issuer(&provider);
    let token = provider.token();
    let with = |csr: Vec<u8>| MintAgentlessRequest { csr: csr.into(), ..request(&token) };
    let reason = async |csr: Vec<u8>| ask(&rig, with(csr)).await.map(|_| ()).unwrap_err().reason;

    let (ours, theirs) = (key(), key());
    let csr = CertificateRequest::sign(&ours).unwrap();
    let at = csr.windows(91).position(|bytes| bytes == ours.public_key().spki()).unwrap();
    let mut swapped = csr.clone();
    swapped[at..at + 91].copy_from_slice(theirs.public_key().spki());
    assert_eq!(reason(swapped).await, Reason::RequestInvalid, "the key of another in it");
    let mut changed = csr.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(reason(changed).await, Reason::RequestInvalid, "a signature that does not hold");
    assert_eq!(reason([&csr[..], b"x"].concat()).await, Reason::RequestInvalid);
    assert_eq!(reason(Vec::new()).await, Reason::RequestInvalid);
    assert_eq!(reason(vec![0x30; 9000]).await, Reason::RequestInvalid);
    for (bits, expected) in [("1024", Reason::KeyWeak), ("8192", Reason::RequestInvalid)] {
        let huge = openssl(&rig, &["-newkey", &format!("rsa:{bits}")]);
        assert_eq!(reason(huge).await, expected, "RSA with {bits} bits");
    }
    assert_eq!(
        reason(openssl(&rig, &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"])).await,
        Reason::KeyUnsupported
    );

    // Names that it asks for are not given.
    let names =
        ["-subj", "/CN=root", "-addext", "subjectAltName=URI:spiffe://test.example/admin,DNS:admin.test.example"];
    let wishes = openssl(&rig, &[&["-newkey", "rsa:2048"], &names[..]].concat());
    let svid = ask(&rig, with(wishes)).await.unwrap().svid.unwrap();
    let certificate = mayfly_sdk::x509::Certificate::parse(&svid.leaf).unwrap();
    assert_eq!(certificate.uri_names().collect::<Vec<_>>(), ["spiffe://test.example/deploy"]);
    assert_eq!(certificate.dns_names().count(), 0);
    assert!(!String::from_utf8_lossy(&svid.leaf).contains("admin"));
}

/// A request that another program made.
fn openssl(rig: &Rig, args: &[&str]) -> Vec<u8> {
    let out = rig.dir().join("request.der");
    let key = rig.dir().join("request.key");
    let made = std::process::Command::new("openssl")
        .args(["req", "-new", "-nodes", "-outform", "DER", "-out", out.to_str().unwrap(), "-keyout"])
        .arg(key)
        .args(if args.contains(&"-subj") { &[][..] } else { &["-subj", "/"] })
        .args(args)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::read(out).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_never_has_two_identities() {
    let provider = IdentityProvider::new("ci");
    let rig = issuer(&provider);
    rig.apply(&entry("other", "oidc:repository:other"));
    let csr = CertificateRequest::sign(&key()).unwrap();
    let with = |token: &str| MintAgentlessRequest { csr: csr.clone().into(), ..request(token) };
    assert!(ask(&rig, with(&provider.token())).await.is_ok());
    assert!(ask(&rig, with(&provider.token())).await.is_ok(), "the same identity again");
    let other = provider.token_with(set("repository", "other".into()));
    assert_eq!(ask(&rig, with(&other)).await.unwrap_err().reason, Reason::KeyInUse);
    assert_eq!(verdict(&rig, &other).await, Ok("spiffe://test.example/other".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_are_no_selectors_match_nothing_and_harm_nobody() {
    let provider = IdentityProvider::new("ci");
    let rig = issuer(&provider);
    let template =
        entry("by-name", "oidc:kind:named").replace("test.example/by-name", "test.example/by-name/{oidc.name}");
    rig.apply(&(entry("colon", "oidc:a:b:c") + &template));
    let odd = |claims: &mut Claims| {
        for (name, value) in [
            ("control", json!("a\nb")),
            ("nul", json!("a\u{0}b")),
            ("empty", json!("")),
            ("", json!("nameless")),
            ("Upper", json!("case")),
            ("https://example/claim", json!("url")),
            ("a:b", json!("c")),
            ("long", json!("x".repeat(5000))),
            ("deep", json!({ "repository": "other" })),
            ("mixed", json!([null, 1.5, {}, [], "ok"])),
            ("float", json!(1.5)),
            ("unicode", json!("\u{202e}\u{1f980}")),
        ] {
            claims.insert(name.to_owned(), value);
        }
    };
    assert_eq!(verdict(&rig, &provider.token_with(odd)).await, deploy());
    // A name with a colon is no way to spell another claim.
    let colon = |claims: &mut Claims| {
        claims.remove("repository");
        claims.insert("a:b".to_owned(), "c".into());
    };
    assert_eq!(verdict(&rig, &provider.token_with(colon)).await, Err(Reason::NoIdentity));
    let value = |claims: &mut Claims| {
        claims.remove("repository");
        claims.insert("a".to_owned(), "b:c".into());
    };
    assert_eq!(verdict(&rig, &provider.token_with(value)).await, Ok("spiffe://test.example/colon".to_owned()));

    // A value fills one segment of a path, or none.
    for (name, reason) in [
        (json!("a/b"), Reason::TemplateFactIllegal),
        (json!(".."), Reason::TemplateFactIllegal),
        (json!("a b"), Reason::TemplateFactIllegal),
        (json!(["a", "b"]), Reason::TemplateFactAmbiguous),
        (json!({}), Reason::TemplateFactMissing),
    ] {
        let token = provider.token_with(|claims| {
            claims.insert("kind".to_owned(), "named".into());
            claims.remove("repository");
            claims.insert("name".to_owned(), name.clone());
        });
        assert_eq!(verdict(&rig, &token).await, Err(reason), "{name}");
    }
    // More claims than anybody needs.
    let many = provider.token_with(|claims| claims.extend((0..300).map(|n| (format!("c{n}"), json!("v")))));
    assert_eq!(verdict(&rig, &many).await, Err(Reason::TokenInvalid));
    assert_eq!(verdict(&rig, &provider.token()).await, deploy());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_not_read() {
    let provider = IdentityProvider::new("ci");
    let rig = issuer(&provider);
    let padded = |bytes: usize| provider.token_with(set("padding", "x".repeat(bytes).into()));
    assert_eq!(verdict(&rig, &padded(10_000)).await, deploy());
    assert_eq!(verdict(&rig, &padded(16_000)).await, Err(Reason::TokenInvalid));
    for bytes in [70_000, 3_500_000] {
        let refusal = ask(&rig, request(&"a".repeat(bytes))).await.unwrap_err();
        assert!(refusal.what.contains("64 KiB"), "{bytes}: {}", refusal.what);
    }
    assert_eq!(verdict(&rig, &provider.token()).await, deploy());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_for_agentless_callers_is_for_nobody_else() {
    let (provider, other) = (IdentityProvider::new("ci"), IdentityProvider::new("other"));
    let mut rig = Rig::new(&[]);
    configure(&mut rig, "ci", &provider);
    configure(&mut rig, "other", &other);
    rig.start_issuer();
    rig.apply(&entry("deploy", "oidc:repository:shop"));
    assert_eq!(verdict(&rig, &other.token()).await, Err(Reason::NoIdentity), "another provider with the same claims");
    let ended = entry("deploy", "oidc:repository:shop") + "    expires_at: 2020-01-01T00:00:00Z\n";
    assert_eq!(verdict(&rig, &provider.token()).await, deploy());
    rig.apply(&ended);
    assert_eq!(verdict(&rig, &provider.token()).await, Err(Reason::NoIdentity));

    // Files that mix the two, or ask for what no token says.
    for (what, document) in [
        (
            "not for both",
            entry("a", "oidc:a:b").replace("[\"agentless:ci\"]", "[\"agentless:ci\", \"node:attestor:join_token\"]"),
        ),
        ("claims only", entry("a", "unix:uid:0")),
        ("no node whose facts", entry("{node.a.b}", "oidc:a:b").replace("name: {node.a.b}", "name: a")),
        ("no name of an issuer", entry("a", "oidc:a:b").replace("agentless:ci", "agentless:a:b")),
    ] {
        let document = format!("owner: test\nentries:\n{document}");
        let applied = rig.run_with(&["entry", "apply", "-f", "-"], document.as_bytes());
        let told = String::from_utf8_lossy(&applied.stderr).into_owned();
        assert!(!applied.status.success() && told.contains(what), "{what}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_without_providers_does_not_have_the_call() {
    let provider = IdentityProvider::new("ci");
    let mut rig = Rig::new(&[]);
    rig.start_issuer();
    assert_eq!(verdict(&rig, &provider.token()).await, Err(Reason::Unimplemented));
    let mut wrong = request(&provider.token());
    wrong.trust_domain = "other.example".into();
    assert_eq!(ask(&rig, wrong).await.unwrap_err().reason, Reason::Unimplemented);
}

/// The signature of ECDSA can be spelt in two ways for one token; its id is the same.
#[tokio::test(flavor = "multi_thread")]
async fn another_spelling_of_a_token_without_an_id_is_the_same_token() {
    let provider = IdentityProvider::new("ci");
    let mut rig = Rig::new(&[]);
    configure(&mut rig, "ci", &provider);
    rig.set("agentless.ci.require_jti", "false");
    rig.start_issuer();
    rig.apply(&entry("deploy", "oidc:repository:shop"));
    let token = provider.token_with(without("jti"));
    let (signed, _) = token.rsplit_once('.').unwrap();
    let again = provider.key.sign(SignatureAlgorithm::EcP256Sha256Fixed, signed.as_bytes()).unwrap();
    let again = format!("{signed}.{}", encode(&again));
    assert_ne!(again, token);
    assert_eq!(verdict(&rig, &token).await, deploy());
    for token in [&token, &again] {
        assert_eq!(verdict(&rig, token).await, Err(Reason::TokenUsed));
    }
    // An id that looks like such a digest is another id.
    let digest = ring::digest::digest(&ring::digest::SHA256, signed.as_bytes());
    let id = crate::attestation::hex(digest.as_ref());
    assert_eq!(verdict(&rig, &provider.token_with(set("jti", id.into()))).await, deploy());
}
