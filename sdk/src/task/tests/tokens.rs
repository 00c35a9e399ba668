use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::{FILES, actor, grant};
use crate::json::Object;
use crate::jws::{JwsAlgorithm, Signer};
use crate::key::{KeyAlgorithm, PrivateKey};
use crate::task::*;
use crate::time::{Timestamp, Ttl};
use crate::x509::VerifiedPeer;
use crate::x509::fixture::{Domain, NOW, leaf};

const ISSUER: &str = "https://issuer.example.org/task";
const HOLDER: &str = "spiffe://example.org/writer";

/// An authorization server with one key, and a validator of its tokens.
struct World {
    key: PrivateKey,
    keys: TaskKeys,
}

impl World {
    fn new() -> Self {
        let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
        let keys = TaskKeys::new(ISSUER, [key.public_key().clone()]);
        Self { key, keys }
    }

    fn token(&self, claims: &Object) -> String {
        self.token_with_typ(claims, TYP)
    }

    fn token_with_typ(&self, claims: &Object, typ: &str) -> String {
        let signer = Signer::new(&self.key, JwsAlgorithm::Es256, typ).unwrap();
        signer.sign(Value::Object(claims.clone()).to_string().as_bytes()).unwrap()
    }

    fn validator(&self) -> Validator<'_> {
        Validator { audience: FILES, keys: &self.keys, sensitive: false }
    }

    /// What becomes of claims that are bound to the key `[7; 32]`, shown with its proof.
    fn verdict(&self, claims: &Object) -> Result<TaskCaller, TaskTokenError> {
        self.validator().verify(&self.token(claims), Shown::Proof([7; 32]), |_| Standing::Open, NOW)
    }
}

fn serial(n: i64) -> crate::serial::Serial {
    crate::serial::Serial::first_at(n)
}

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_unix_s(NOW.unix_s() + seconds)
}

/// The token of a child task: the planner, for a user of `corp`, has delegated to the writer.
fn claims() -> TaskClaims {
    TaskClaims {
        issuer: ISSUER.to_owned(),
        subject: Subject::User(User::new("corp", "spiffe://example.org/admin").unwrap()),
        chain: vec![actor("planner", 1), actor("writer", 2)],
        may_act: None,
        grant: grant(&json!({
            "audience": FILES, "scope": ["read", "list"], "delegable": [FILES],
            "authorization_details": [{
                "type": "mcp_tool", "tool": "read_file", "locations": [FILES], "actions": ["call"],
                "constraints": {"path": {"subpath": "/srv/reports"}},
            }],
        })),
        binding: Binding::Key([7; 32]),
        issued_at: NOW,
        expires_at: later(300),
        jti: serial(30),
        task: TaskLink {
            id: serial(20),
            root: serial(10),
            parent: Some(serial(10)),
            purpose: [1; 32],
            hop: 1,
            max_hops: 3,
        },
        parent_digest: Some([2; 32]),
        evidence: [3; 32],
        status: Some(StatusEntry { index: 5, uri: "https://issuer.example.org/status/1".to_owned() }),
    }
}

/// The token of a root task that an agent began for itself.
fn root() -> TaskClaims {
    TaskClaims {
        subject: "spiffe://example.org/planner".parse().unwrap(),
        chain: vec![actor("planner", 1)],
        task: TaskLink { id: serial(10), root: serial(10), parent: None, purpose: [1; 32], hop: 0, max_hops: 3 },
        parent_digest: None,
        status: None,
        ..claims()
    }
}

#[test]
fn a_good_token_is_believed_and_says_what_it_says() {
    let world = World::new();
    for made in [claims(), root(), TaskClaims { may_act: Some([HOLDER.parse().unwrap()].into()), ..claims() }] {
        assert_eq!(TaskClaims::parse(&made.to_json()).as_ref(), Some(&made));
        let caller = world.verdict(&made.to_json()).unwrap();
        assert_eq!((caller.claims(), Some(caller.holder())), (&made, made.holder()));
        assert_eq!((caller.subject(), caller.chain(), caller.grant()), (&made.subject, &*made.chain, &made.grant));
        let shown = format!("{caller:?}");
        assert!(shown.contains(caller.holder().spiffe_id.as_str()) && !shown.contains("eyJ"), "{shown}");
    }
    let child = claims().to_json();
    assert_eq!(child["sub"], "user:corp:spiffe%3A%2F%2Fexample.org%2Fadmin", "a user stays a user");
    assert_eq!(child["act"]["sub"], HOLDER);
    assert_eq!(child["act"]["act"]["sub"], "spiffe://example.org/planner");
    assert!(!root().to_json().contains_key("act"), "nobody acts for anybody");
}

#[test]
fn every_claim_that_is_changed_is_missed() {
    let world = World::new();
    let good = claims().to_json();
    let other_digest = json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    let other_serial = json!("00000000000000000000000000000000");
    let cases: Vec<(&str, Value, TaskTokenError)> = vec![
        ("/iss", json!("https://other.example.org/task"), TaskTokenError::WrongIssuer),
        ("/iss", Value::Null, TaskTokenError::WrongIssuer),
        ("/aud", json!("https://other.example.org/"), TaskTokenError::BadClaims),
        ("/aud", json!([FILES]), TaskTokenError::BadClaims),
        ("/sub", Value::Null, TaskTokenError::BadClaims),
        ("/sub", json!("spiffe://example.org/admin"), TaskTokenError::BadClaims),
        ("/sub", json!("user:corp:spiffe://example.org/admin"), TaskTokenError::BadClaims),
        ("/sub", json!("user:corp:"), TaskTokenError::BadClaims),
        ("/sub", json!("user:corp:%61dmin"), TaskTokenError::BadClaims),
        ("/client_id", json!("spiffe://example.org/planner"), TaskTokenError::BadClaims),
        ("/act", Value::Null, TaskTokenError::BadClaims),
        ("/act/act", Value::Null, TaskTokenError::BadClaims),
        ("/act/sub", json!("spiffe://example.org/other"), TaskTokenError::BadClaims),
        ("/act/instance", json!("00000000000000000000000000000009"), TaskTokenError::BadClaims),
        ("/act/act", json!({"sub": HOLDER, "instance": "02020202020202020202020202020202"}), TaskTokenError::BadClaims),
        (
            "/act/act/act",
            json!({"sub": "spiffe://example.org/x", "instance": "03030303030303030303030303030303"}),
            TaskTokenError::BadClaims,
        ),
        ("/scope", json!("read list admin"), TaskTokenError::BadClaims),
        ("/scope", Value::Null, TaskTokenError::BadClaims),
        ("/scope", json!("read  list"), TaskTokenError::BadClaims),
        ("/authorization_details", Value::Null, TaskTokenError::BadClaims),
        ("/authorization_details/0/constraints", Value::Null, TaskTokenError::BadClaims),
        ("/authorization_details/0/constraints/path/subpath", json!("/srv"), TaskTokenError::BadClaims),
        ("/authorization_details/0/type", json!("unheard_of"), TaskTokenError::BadClaims),
        ("/cnf", json!({}), TaskTokenError::BadClaims),
        ("/cnf", Value::Null, TaskTokenError::BadClaims),
        ("/cnf/x5t#S256", other_digest.clone(), TaskTokenError::BadClaims),
        ("/cnf/jkt", other_digest.clone(), TaskTokenError::NotBound),
        ("/cnf", json!({"x5t#S256": other_digest}), TaskTokenError::NotBound),
        ("/iat", Value::Null, TaskTokenError::BadClaims),
        ("/iat", json!(NOW.unix_s() - 1), TaskTokenError::BadClaims),
        ("/nbf", Value::Null, TaskTokenError::BadClaims),
        ("/exp", Value::Null, TaskTokenError::BadClaims),
        ("/exp", json!("1790000300"), TaskTokenError::BadClaims),
        ("/exp", json!(NOW.unix_s()), TaskTokenError::BadClaims),
        ("/exp", json!(NOW.unix_s() + 901), TaskTokenError::BadClaims),
        ("/jti", Value::Null, TaskTokenError::BadClaims),
        ("/txn", other_serial.clone(), TaskTokenError::BadClaims),
        ("/att", Value::Null, TaskTokenError::BadClaims),
        ("/par", Value::Null, TaskTokenError::BadClaims),
        ("/par", json!(7), TaskTokenError::BadClaims),
        ("/may_act", json!("spiffe://example.org/x"), TaskTokenError::BadClaims),
        ("/status", json!({"status_list": {"idx": -1, "uri": "x"}}), TaskTokenError::BadClaims),
        ("/mayfly_task", Value::Null, TaskTokenError::BadClaims),
        ("/mayfly_task/root", other_serial.clone(), TaskTokenError::BadClaims),
        ("/mayfly_task/parent", Value::Null, TaskTokenError::BadClaims),
        ("/mayfly_task/hop", json!(0), TaskTokenError::BadClaims),
        ("/mayfly_task/hop", json!(2), TaskTokenError::BadClaims),
        ("/mayfly_task/hop", json!(257), TaskTokenError::BadClaims),
        ("/mayfly_task/max_hops", json!(0), TaskTokenError::BadClaims),
        ("/mayfly_task/instance", json!("00000000000000000000000000000009"), TaskTokenError::BadClaims),
        ("/mayfly_task/delegable", json!([FILES, "https://other.example.org/"]), TaskTokenError::BadClaims),
        ("/mayfly_task/digest", json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), TaskTokenError::BadClaims),
    ];
    for (at, value, expected) in cases {
        let changed = edited(&good, at, &value);
        assert_ne!(changed, good, "{at}");
        assert_eq!(world.verdict(&changed).map(|_| ()), Err(expected), "{at} = {value}");
    }
    let more = edited(&good, "/unheard_of", &json!(1));
    assert!(world.verdict(&more).is_ok(), "a claim that is not known says nothing");
    let as_root = edited(
        &root().to_json(),
        "/act",
        &json!({"sub": "spiffe://example.org/planner", "instance": actor("planner", 1).instance}),
    );
    assert_eq!(
        world.verdict(&as_root).map(|_| ()),
        Err(TaskTokenError::BadClaims),
        "an act where nobody acts for another"
    );
}

/// A copy in which the member at a pointer is this value; without it where that is null.
fn edited(claims: &Object, pointer: &str, value: &Value) -> Object {
    let mut whole = Value::Object(claims.clone());
    let (above, name) = pointer.rsplit_once('/').unwrap();
    let above = whole.pointer_mut(above).and_then(Value::as_object_mut).unwrap();
    match value {
        Value::Null => above.remove(name),
        value => above.insert(name.to_owned(), value.clone()),
    };
    match whole {
        Value::Object(claims) => claims,
        _ => unreachable!("it was an object"),
    }
}

#[test]
fn the_header_and_the_key_are_those_of_a_task_token() {
    let world = World::new();
    let good = claims().to_json();
    let verdict =
        |token: &str| world.validator().verify(token, Shown::Proof([7; 32]), |_| Standing::Open, NOW).map(|_| ());
    for typ in ["JWT", "JOSE", "AT+JWT", "txntoken+jwt", "wit+jwt", ""] {
        assert_eq!(verdict(&world.token_with_typ(&good, typ)), Err(TaskTokenError::WrongType), "{typ}");
    }
    let other = World::new();
    assert_eq!(verdict(&other.token(&good)), Err(TaskTokenError::UnknownKey));
    let kid = crate::jwk::thumbprint(world.key.public_key());
    let forged = Signer::with_key_id(&other.key, JwsAlgorithm::Es256, TYP, &kid).unwrap();
    let forged = forged.sign(Value::Object(good.clone()).to_string().as_bytes()).unwrap();
    assert_eq!(verdict(&forged), Err(TaskTokenError::BadSignature));
    let token = world.token(&good);
    assert_eq!(verdict(&token), Ok(()));
    let (input, _) = token.rsplit_once('.').unwrap();
    assert_eq!(verdict(&format!("{input}.")), Err(TaskTokenError::BadSignature));
    for (at, _) in token.char_indices().filter(|(_, c)| *c != '.') {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert!(verdict(std::str::from_utf8(&changed).unwrap()).is_err(), "character {at}");
    }
    assert_eq!(verdict(&format!("{token} {token}")), Err(TaskTokenError::NotATaskToken));
    assert_eq!(verdict(&"a".repeat(MAX_TOKEN_BYTES + 1)), Err(TaskTokenError::NotATaskToken));
    // A header that says where its key is to be had from.
    let header = json!({"alg": "ES256", "kid": kid, "typ": TYP, "jku": "https://evil.example.org/"});
    let input = format!("{}.{}", encoded(&header), encoded(&Value::Object(good.clone())));
    assert_eq!(verdict(&format!("{input}.AAAA")), Err(TaskTokenError::NotATaskToken));
    let unsigned =
        format!("{}.{}.", encoded(&json!({"alg": "none", "kid": kid, "typ": TYP})), encoded(&Value::Object(good)));
    assert_eq!(verdict(&unsigned), Err(TaskTokenError::NotATaskToken));
}

fn encoded(value: &Value) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn times_have_their_leeway_and_none_where_it_is_sensitive() {
    let world = World::new();
    let token = world.token(&claims().to_json());
    let at = |seconds, sensitive| {
        let validator = Validator { sensitive, ..world.validator() };
        validator.verify(&token, Shown::Proof([7; 32]), |_| Standing::Open, later(seconds)).map(|_| ())
    };
    assert_eq!((at(309, false), at(310, false)), (Ok(()), Err(TaskTokenError::Expired)));
    assert_eq!((at(299, true), at(300, true)), (Ok(()), Err(TaskTokenError::Expired)));
    assert_eq!((at(-30, false), at(-31, false)), (Ok(()), Err(TaskTokenError::NotYetValid)));
    assert_eq!((at(0, true), at(-1, true)), (Ok(()), Err(TaskTokenError::NotYetValid)));
    assert_eq!(MAX_LIFE, Ttl::from_s(900));
}

#[test]
fn another_audience_is_refused_byte_for_byte() {
    let world = World::new();
    let token = world.token(&claims().to_json());
    for audience in ["https://files.example.org/mcp/", "https://files.example.org/", "HTTPS://files.example.org/mcp"] {
        let validator = Validator { audience, ..world.validator() };
        let verdict = validator.verify(&token, Shown::Proof([7; 32]), |_| Standing::Open, NOW);
        assert_eq!(verdict.map(|_| ()), Err(TaskTokenError::WrongAudience), "{audience}");
    }
}

fn peer(id: &str) -> VerifiedPeer {
    Domain::new().verdict(leaf(id)).unwrap()
}

fn bound_to(peer: &VerifiedPeer, chain: Vec<Actor>) -> Object {
    let thumbprint = digest(&SHA256, peer.certificate()).as_ref().try_into().unwrap();
    TaskClaims { binding: Binding::Certificate(thumbprint), chain, ..claims() }.to_json()
}

#[test]
fn only_the_holder_over_its_own_connection_may_show_a_token() {
    let world = World::new();
    let chain = |id: &str| {
        vec![actor("planner", 1), Actor { spiffe_id: id.parse().unwrap(), instance: actor("x", 2).instance }]
    };
    let (own, twin) = (peer("spiffe://td/writer"), peer("spiffe://td/writer"));
    let token = world.token(&bound_to(&own, chain("spiffe://td/writer")));
    let show = |shown| world.validator().verify(&token, shown, |_| Standing::Open, NOW).map(|_| ());
    assert_eq!(show(Shown::Peer(&own)), Ok(()));
    assert_eq!(show(Shown::Peer(&twin)), Err(TaskTokenError::NotBound), "another instance of the same SPIFFE ID");
    assert_eq!(show(Shown::Proof([7; 32])), Err(TaskTokenError::NotBound), "a proof in place of the connection");
    // The issuer would not issue this: bound to the certificate of one workload, held by another.
    let token = world.token(&bound_to(&own, chain("spiffe://td/other")));
    let verdict = world.validator().verify(&token, Shown::Peer(&own), |_| Standing::Open, NOW);
    assert_eq!(verdict.map(|_| ()), Err(TaskTokenError::NotTheHolder));
    let token = world.token(&claims().to_json());
    let show = |shown| world.validator().verify(&token, shown, |_| Standing::Open, NOW).map(|_| ());
    assert_eq!(show(Shown::Proof([8; 32])), Err(TaskTokenError::NotBound), "another key");
    assert_eq!(show(Shown::Peer(&own)), Err(TaskTokenError::NotBound), "a connection in place of the proof");
}

#[test]
fn the_standing_of_the_task_is_asked_last_and_decides() {
    let world = World::new();
    let token = world.token(&claims().to_json());
    for (standing, expected) in [
        (Standing::Suspended, TaskTokenError::Suspended),
        (Standing::Ended, TaskTokenError::Ended),
        (Standing::Unknown, TaskTokenError::StandingUnknown),
    ] {
        let asked = |claims: &TaskClaims| {
            assert_eq!(claims.task.id, serial(20));
            standing
        };
        let verdict = world.validator().verify(&token, Shown::Proof([7; 32]), asked, NOW);
        assert_eq!(verdict.map(|_| ()), Err(expected));
    }
    let never = |_: &TaskClaims| panic!("asked about a token that does not hold");
    assert!(world.validator().verify(&token, Shown::Proof([8; 32]), never, NOW).is_err());
}

#[test]
fn a_call_is_held_against_the_grant() {
    let caller = World::new().verdict(&claims().to_json()).unwrap();
    assert_eq!(caller.require_scope("read"), Ok(()));
    assert_eq!(caller.require_scope("write"), Err(TaskTokenError::InsufficientScope));
    let tool = |name: &str, location: &str, action: &str, path: &str| {
        caller.require_tool(name, location, action, json!({"path": path}).as_object().unwrap()).is_ok()
    };
    assert!(tool("read_file", FILES, "call", "/srv/reports/may"));
    assert!(!tool("write_file", FILES, "call", "/srv/reports/may"));
    assert!(!tool("read_file", "https://other.example.org/", "call", "/srv/reports/may"));
    assert!(!tool("read_file", FILES, "describe", "/srv/reports/may"));
    assert!(!tool("read_file", FILES, "call", "/srv/reports/../keys"));
    assert_eq!(TaskTokenError::InsufficientDetail.oauth_error(), "insufficient_scope");
}

#[test]
fn a_task_token_is_no_jwt_svid() {
    let world = World::new();
    let claims = edited(&root().to_json(), "/sub", &json!("spiffe://example.org/planner"));
    let authority = crate::bundle::JwtAuthority::new(world.key.public_key().clone()).unwrap();
    let bundle = crate::JwtBundle::new("example.org".parse().unwrap(), vec![authority]).unwrap();
    let bundles: crate::JwtBundleSet = [bundle].into_iter().collect();
    let audience = crate::jwt::Audience::new(FILES).unwrap();
    let verdict = crate::jwt::verify(&world.token(&claims), &bundles, &audience, NOW, &crate::jwt::Options::default());
    assert_eq!(verdict.unwrap_err(), crate::jwt::JwtError::WrongType);
}

#[test]
fn keys_come_from_a_published_set_and_private_ones_are_refused() {
    let world = World::new();
    let mut jwk = crate::jwk::members(world.key.public_key());
    jwk.insert("kid".to_owned(), crate::jwk::thumbprint(world.key.public_key()).into());
    jwk.insert("use".to_owned(), "sig".into());
    let set = |jwk: &Object| {
        TaskKeys::from_jwks(
            ISSUER,
            json!({"keys": [jwk, {"kty": "oct-like", "use": "sig", "kid": "x"}]}).to_string().as_bytes(),
        )
    };
    let token = world.token(&claims().to_json());
    let verdict = |keys: &TaskKeys| {
        let validator = Validator { keys, ..world.validator() };
        validator.verify(&token, Shown::Proof([7; 32]), |_| Standing::Open, NOW).map(|_| ())
    };
    assert_eq!(verdict(&set(&jwk).unwrap()), Ok(()));
    let for_svids = edited(&jwk, "/use", &json!("jwt-svid"));
    assert_eq!(
        verdict(&set(&for_svids).unwrap()),
        Err(TaskTokenError::UnknownKey),
        "a key for JWT-SVIDs is no task key"
    );
    assert!(set(&edited(&jwk, "/d", &json!("AAAA"))).is_err());
    assert!(TaskKeys::from_jwks(ISSUER, b"{}").is_err());
    assert!(TaskKeys::from_jwks(ISSUER, json!({"keys": vec![jwk; 33]}).to_string().as_bytes()).is_err());
}
