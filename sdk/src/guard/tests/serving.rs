//! Through axum and tonic, over mTLS.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use ::axum::Router;
use ::axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::body::Body;
use tower::service_fn;

use super::*;
use crate::jwk;
use crate::jws::JwsAlgorithm;
use crate::key::{KeyAlgorithm, PrivateKey};
use crate::task::fixture::{claims, thumbprint};
use crate::task::{Binding, WhenStale};
use crate::time::ClockHand;
use crate::tls::{
    Acceptor, Authorizer, ClientAuth, ClientTls, Connector, Credentials, Options, PeerInfo, ServerTls, Trust,
    certified_key, connect,
};
use crate::x509::fixture::{Domain, Made, NOW, leaf, signed};

pub(super) const AGENT: &str = "spiffe://td/agent";
pub(super) const ORIGIN: &str = "https://files.example.org";

pub(super) struct World {
    domain: Domain,
    pub(super) authority: Authority,
    agent: FakeTasks,
    pub(super) clock: Clock,
    pub(super) hand: ClockHand,
    pub(super) feed: Messages<wire::Revocations>,
    pub(super) guard: Guard,
    tasks: JoinSet<()>,
}

impl World {
    pub(super) async fn new() -> Self {
        let (agent, authority) = (FakeTasks::start(), Authority::new());
        let (clock, hand) = Clock::manual(NOW);
        let (guard, feed) = guard(&agent, &authority, &clock).await;
        Self { domain: Domain::new(), authority, agent, clock, hand, feed, guard, tasks: JoinSet::new() }
    }

    pub(super) fn instance(&self, id: &str) -> Made {
        signed(leaf(id), &self.domain.intermediate)
    }

    fn credentials(&self, of: &Made) -> Credentials {
        let chain = [&of.der, &self.domain.intermediate.der].map(|der| CertificateDer::from(der.clone()));
        let key = certified_key(chain.to_vec(), &of.private_key()).unwrap();
        Credentials::from_fn(move || Some(Arc::clone(&key)))
    }

    fn client(&self, of: Option<&Made>, options: &Options) -> ClientTls {
        let credentials = of.map_or_else(Credentials::none, |of| self.credentials(of));
        let trust = Trust::fixed(self.domain.bundles.clone());
        ClientTls::new(credentials, trust, Authorizer::any(), &self.clock, options).unwrap()
    }

    async fn listen(&self, options: &Options) -> (String, crate::tls::Incoming) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (credentials, trust) =
            (self.credentials(&self.instance("spiffe://td/files")), Trust::fixed(self.domain.bundles.clone()));
        let clients = ClientAuth::Optional(Authorizer::any());
        let tls = ServerTls::new(credentials, trust, clients, &self.clock, options).unwrap();
        (address, Acceptor::new(listener, tls).incoming(CancellationToken::new()))
    }

    /// An axum service; its handlers say who calls.
    async fn axum(&mut self) -> String {
        let who = get(|caller: Caller, headers: http::HeaderMap| async move {
            let user = caller.user().map(|user| user.subject().to_owned());
            let seen = headers.contains_key("authorization");
            format!("{} {} {user:?} {seen}", caller.agent(), caller.task().id)
        });
        let write = get(|caller: Caller| async move { caller.require_scope("write").map(|()| "written") });
        let layer = self.guard.layer().scope(["read"]).resource_metadata("https://files.example.org/.well-known/x");
        let app = Router::new().route("/", who).route("/write", write).layer(layer);
        let app = app.route("/open", get(|| async {}));
        let origin = ORIGIN.parse().unwrap();
        let proved = get(|caller: Caller| async move { format!("{} proved", caller.agent()) });
        let proved = Router::new().route("/proved", proved).layer(self.guard.layer().dpop(origin, &self.clock));
        self.serve(app.merge(proved)).await
    }

    /// Serves this with axum, and says where.
    pub(super) async fn serve(&mut self, app: Router) -> String {
        let (address, incoming) = self.listen(&Options::default().alpn(["http/1.1"])).await;
        self.tasks.spawn(async move {
            let service = app.into_make_service_with_connect_info::<PeerInfo>();
            ::axum::serve(Listener::new(incoming), service).await.unwrap();
        });
        address
    }

    pub(super) fn token(&self, of: &Made, task: i64) -> String {
        self.authority.token(&claims(&AGENT.parse().unwrap(), &of.der, task, NOW))
    }

    /// A token of this holder for these scope tokens.
    pub(super) fn scoped(&self, of: &Made, scope: &[&str]) -> String {
        let mut claims = claims(&AGENT.parse().unwrap(), &of.der, 1, NOW);
        let grant = json!({"audience": AUDIENCE, "scope": scope});
        claims.grant = crate::task::Grant::from_json(grant.to_string().as_bytes()).unwrap();
        self.authority.token(&claims)
    }

    /// The status line and headers, and the body, of a request over a connection of this instance.
    pub(super) async fn get(&self, address: &str, path: &str, of: Option<&Made>, headers: &[String]) -> (u16, String) {
        let tls = self.client(of, &Options::default().alpn(["http/1.1"]));
        let mut connection = connect(TcpStream::connect(address).await.unwrap(), &tls).await.unwrap();
        let headers: String = headers.iter().flat_map(|header| [header.as_str(), "\r\n"]).collect();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.ok();
        (answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer:?}")), answer)
    }
}

/// A proof by this key for a request with this token (RFC 9449).
pub(super) fn proof(key: &PrivateKey, url: &str, id: &str, token: &str) -> String {
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let hash = URL_SAFE_NO_PAD.encode(thumbprint(token.as_bytes()));
    let header = part(json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk::members(key.public_key())}));
    let claims = part(json!({"htm": "GET", "htu": url, "iat": NOW.unix_s(), "jti": id, "ath": hash}));
    let input = format!("{header}.{claims}");
    let signature = key.sign(JwsAlgorithm::Es256.signature(), input.as_bytes()).unwrap();
    format!("dpop: {input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_key_needs_a_proof_by_that_key_for_each_request() {
    let mut world = World::new().await;
    let address = world.axum().await;
    let (key, thief) =
        (PrivateKey::generate(KeyAlgorithm::EcP256).unwrap(), PrivateKey::generate(KeyAlgorithm::EcP256).unwrap());
    let agent = world.instance(AGENT);
    let token = {
        let mut claims = claims(&AGENT.parse().unwrap(), &agent.der, 1, NOW);
        claims.binding = Binding::Key(jwk::thumbprint_sha256(key.public_key()));
        world.authority.token(&claims)
    };
    let of_certificate = world.token(&agent, 2);
    let url = format!("{ORIGIN}/proved");
    let with = |token: &str, proofs: &[String]| [&[format!("authorization: DPoP {token}")], proofs].concat();
    let good = proof(&key, &url, "the-first-proof", &token);
    let (status, answer) = world.get(&address, "/proved", None, &with(&token, std::slice::from_ref(&good))).await;
    assert!(status == 200 && answer.ends_with(&format!("{AGENT} proved")), "{answer}");

    // Beside a token of which nothing is known a proof is not used up.
    let kept = [proof(&key, &url, "not-used-up", &token)];
    world.hand.advance(Duration::from_secs(31));
    assert_eq!(world.get(&address, "/proved", None, &with(&token, &kept)).await.0, 503);
    world.feed.send(Ok(beat(0))).unwrap();
    until(&world.guard, |status| status.updates == 2).await;
    assert_eq!(world.get(&address, "/proved", None, &with(&token, &kept)).await.0, 200);

    let fresh = |by: &PrivateKey, url: &str, id: &str| proof(by, url, id, &token);
    for (headers, of, reason) in [
        // Seen before; of another key; for another path; two of them; none.
        (with(&token, std::slice::from_ref(&good)), None, "proof_used"),
        (with(&token, &[fresh(&thief, &url, "by-the-thief")]), None, "task_token_not_bound"),
        (with(&token, &[fresh(&key, &format!("{ORIGIN}/write"), "elsewhere")]), None, "proof_invalid"),
        (with(&token, &[fresh(&key, &url, "one-of-two-1"), fresh(&key, &url, "one-of-two-2")]), None, "proof_invalid"),
        (with(&token, &[]), None, "proof_invalid"),
        // As a bearer token it is worth nothing, and neither is a certificate's token with a proof.
        (bearer(&token).to_vec(), Some(&agent), "task_token_not_bound"),
        (
            with(&of_certificate, &[proof(&key, &url, "for-the-other", &of_certificate)]),
            Some(&agent),
            "task_token_not_bound",
        ),
    ] {
        let (status, answer) = world.get(&address, "/proved", of, &headers).await;
        assert!(status == 401 && answer.contains(&format!("mayfly-reason: {reason}")), "{reason}: {answer}");
        assert!(
            answer.contains("www-authenticate: DPoP ") && answer.contains("algs=\"ES256 ES384 ES512\""),
            "{answer}"
        );
    }
    // A route that did not ask for it takes no proofs.
    let elsewhere = fresh(&key, &format!("{ORIGIN}/"), "not-here-either");
    let (status, answer) = world.get(&address, "/", None, &with(&token, &[elsewhere])).await;
    assert!(status == 401 && answer.contains("mayfly-reason: unauthenticated"), "{answer}");
    assert!(!answer.contains("DPoP"), "{answer}");
}

/// What is presented, over whose connection; the status, the code, and the error of the challenge.
type Case<'a> = (&'a [String], Option<&'a Made>, u16, &'a str, &'a str);

pub(super) fn bearer(token: &str) -> [String; 1] {
    [format!("authorization: Bearer {token}")]
}

#[tokio::test]
async fn an_axum_handler_knows_its_caller_and_never_sees_the_token() {
    let mut world = World::new().await;
    let address = world.axum().await;
    let agent = world.instance(AGENT);
    let token = world.token(&agent, 1);
    let (status, answer) = world.get(&address, "/", Some(&agent), &bearer(&token)).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer.ends_with(&format!("{AGENT} {} None false", serial(1))), "{answer}");
    let (status, _) = world.get(&address, "/", Some(&agent), &[format!("authorization: bEARER  {token}")]).await;
    assert_eq!(status, 200);
    assert_eq!(world.get(&address, "/open", None, &[]).await.0, 200);
}

#[tokio::test]
async fn each_refusal_is_answered_as_rfc_6750_says() {
    let mut world = World::new().await;
    let address = world.axum().await;
    let (agent, twin, other) = (world.instance(AGENT), world.instance(AGENT), world.instance("spiffe://td/other"));
    let (token, foreign) =
        (world.token(&agent, 1), Authority::new().token(&claims(&AGENT.parse().unwrap(), &agent.der, 1, NOW)));
    let elsewhere = {
        let mut claims = claims(&AGENT.parse().unwrap(), &agent.der, 1, NOW);
        claims.grant =
            crate::task::Grant::from_json(br#"{"audience": "https://files.example.org/mcp/", "scope": ["read"]}"#)
                .unwrap();
        world.authority.token(&claims)
    };
    let both = [bearer(&token), bearer(&token)].concat();
    let basic = ["authorization: Basic eDp5".to_owned()];
    let cases: [Case<'_>; 9] = [
        (&[], Some(&agent), 401, "unauthenticated", ""),
        (&basic, Some(&agent), 401, "unauthenticated", ""),
        (&both, Some(&agent), 400, "task_token_invalid", "invalid_request"),
        (&bearer("x.y.z"), Some(&agent), 400, "task_token_invalid", "invalid_request"),
        (&bearer(&foreign), Some(&agent), 401, "task_token_untrusted", "invalid_token"),
        (&bearer(&elsewhere), Some(&agent), 401, "wrong_audience", "invalid_token"),
        (&bearer(&token), Some(&twin), 401, "task_token_not_bound", "invalid_token"),
        (&bearer(&token), Some(&other), 401, "task_token_not_bound", "invalid_token"),
        (&bearer(&token), None, 401, "task_token_not_bound", "invalid_token"),
    ];
    for (headers, of, status, code, error) in cases {
        let (got, answer) = world.get(&address, "/", of, headers).await;
        assert_eq!(got, status, "{answer}");
        assert!(answer.contains(&format!("mayfly-reason: {code}\r\n")), "{answer}");
        let challenge = answer.lines().find_map(|line| line.strip_prefix("www-authenticate: ")).unwrap();
        assert!(challenge.starts_with("Bearer "), "{challenge}");
        assert!(
            challenge.contains("scope=\"read\", resource_metadata=\"https://files.example.org/.well-known/x\""),
            "{challenge}"
        );
        assert_eq!(challenge.contains("error="), !error.is_empty(), "{challenge}");
        assert!(challenge.contains(error), "{challenge}");
        assert!(!answer.contains(&token), "{answer}");
    }
    let without_scope = world.scoped(&agent, &["write"]);
    let (status, answer) = world.get(&address, "/", Some(&agent), &bearer(&without_scope)).await;
    assert_eq!(status, 403, "{answer}");
    assert!(answer.contains("error=\"insufficient_scope\"") && answer.contains("scope=\"read\""), "{answer}");
    let (status, answer) = world.get(&address, "/write", Some(&agent), &bearer(&token)).await;
    assert_eq!(status, 403, "{answer}");
    assert!(answer.contains("error=\"insufficient_scope\""), "{answer}");
    assert!(answer.contains("scope=\"write\""), "{answer}");
}

#[tokio::test]
async fn a_task_that_ended_is_refused_on_an_open_connection_and_a_stale_guard_says_it_is_not_the_tokens_fault() {
    let mut world = World::new().await;
    let address = world.axum().await;
    let agent = world.instance(AGENT);
    let (first, second) = (world.token(&agent, 1), world.token(&agent, 2));
    assert_eq!(world.get(&address, "/", Some(&agent), &bearer(&first)).await.0, 200);
    world.feed.send(Ok(ended(1, 1))).unwrap();
    until(&world.guard, |status| status.updates == 2).await;
    let (status, answer) = world.get(&address, "/", Some(&agent), &bearer(&first)).await;
    assert_eq!(status, 401);
    assert!(answer.contains("mayfly-reason: task_ended"), "{answer}");
    assert_eq!(world.get(&address, "/", Some(&agent), &bearer(&second)).await.0, 200);
    world.hand.advance(Duration::from_secs(31));
    let (status, answer) = world.get(&address, "/", Some(&agent), &bearer(&second)).await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer.contains("retry-after: 1") && !answer.contains("www-authenticate"), "{answer}");
    world.feed.send(Ok(beat(1))).unwrap();
    until(&world.guard, |status| status.updates == 3).await;
    assert_eq!(world.get(&address, "/", Some(&agent), &bearer(&second)).await.0, 200);
}

#[tokio::test]
async fn a_service_that_stays_open_when_stale_goes_on() {
    let mut world = World::new().await;
    let feed = world.agent.feed();
    feed.send(Ok(whole(&world.authority, 0))).unwrap();
    let verifier = TaskVerifier::new(AUDIENCE, &world.clock).when_stale(WhenStale::OpenUntilExpiry);
    world.guard = Guard::start(world.agent.endpoint(), verifier);
    world.guard.ready(Duration::from_secs(20)).await.unwrap();
    let address = world.axum().await;
    let agent = world.instance(AGENT);
    let token = world.token(&agent, 1);
    world.hand.advance(Duration::from_secs(31));
    assert_eq!(world.get(&address, "/", Some(&agent), &bearer(&token)).await.0, 200);
    world.hand.advance(Duration::from_secs(279));
    assert_eq!(world.get(&address, "/", Some(&agent), &bearer(&token)).await.0, 401);
}

#[tokio::test]
async fn over_grpc_the_refusal_is_a_status() {
    let mut world = World::new().await;
    let (address, incoming) = world.listen(&Options::grpc()).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let handler = service_fn(move |request: http::Request<Body>| {
        let caller = request.extensions().get::<Caller>().unwrap().clone();
        log.lock().unwrap().push(caller.agent().to_string());
        let status = caller.require_scope("write").map_or_else(tonic::Status::from, |()| tonic::Status::ok("written"));
        std::future::ready(Ok::<_, Infallible>(status.into_http::<Body>()))
    });
    let layer = world.guard.layer().scope(["read"]);
    world.tasks.spawn(async move {
        tonic::transport::Server::builder().layer(layer).serve_with_incoming(handler, incoming).await.unwrap();
    });
    let agent = world.instance(AGENT);
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let tls = world.client(Some(&agent), &Options::grpc());
    let mut channel = channel.connect_with_connector(Connector::new(tls)).await.unwrap();
    let mut call = async |token: Option<&str>| {
        let mut request = http::Request::post("http://files/S/M").header("content-type", "application/grpc+proto");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let channel = tower::ServiceExt::ready(&mut channel).await.unwrap();
        let answer = tower::Service::call(channel, request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        let status = tonic::Status::from_header_map(answer.headers()).unwrap();
        (
            status.code(),
            status.metadata().get("mayfly-reason").and_then(|code| code.to_str().ok()).unwrap_or("").to_owned(),
        )
    };
    let token = world.token(&agent, 1);
    assert_eq!(call(None).await, (tonic::Code::Unauthenticated, "unauthenticated".to_owned()));
    assert_eq!(call(Some("x.y.z")).await, (tonic::Code::Unauthenticated, "task_token_invalid".to_owned()));
    assert!(seen.lock().unwrap().is_empty());
    assert_eq!(call(Some(&token)).await, (tonic::Code::PermissionDenied, "insufficient_grant".to_owned()));
    assert_eq!(seen.lock().unwrap().as_slice(), [AGENT]);
    world.hand.advance(Duration::from_secs(31));
    assert_eq!(call(Some(&token)).await, (tonic::Code::Unavailable, "task_standing_unknown".to_owned()));
}

/// What one thread has logged: the test that has it runs on that thread alone, and others at the same time.
#[derive(Clone)]
struct Log(std::thread::ThreadId, Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if std::thread::current().id() == self.0 {
            self.1.lock().unwrap().extend(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn each_decision_leaves_a_record_that_names_token_and_task_and_holds_neither_token_nor_key() {
    let log = Log(std::thread::current().id(), Arc::default());
    let writer = log.clone();
    // For the process: one for a thread races with what other threads tell tracing about the same places.
    tracing_subscriber::fmt().json().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).init();
    let mut world = World::new().await;
    let address = world.axum().await;
    let (agent, twin) = (world.instance(AGENT), world.instance(AGENT));
    let token = world.token(&agent, 1);
    for (path, of, headers) in [
        ("/", &agent, &bearer(&token)[..]),
        ("/", &twin, &bearer(&token)),
        ("/write", &agent, &bearer(&token)),
        ("/", &agent, &[]),
    ] {
        world.get(&address, path, Some(of), headers).await;
    }
    let log = String::from_utf8(log.1.lock().unwrap().clone()).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let decisions: Vec<Value> = lines.filter(|line| line["target"] == "mayfly::decision").collect();
    let verdicts: Vec<_> = decisions.iter().map(|line| (&line["fields"]["allowed"], &line["fields"]["rule"])).collect();
    let (yes, no) = (&json!(true), &json!(false));
    let expected = [(yes, ""), (no, "binding"), (yes, ""), (no, "scope"), (no, "no_token")];
    assert_eq!(verdicts.len(), expected.len(), "{decisions:#?}");
    for (verdict, expected) in verdicts.iter().zip(expected) {
        assert_eq!((verdict.0, verdict.1.as_str().unwrap()), expected, "{decisions:#?}");
    }
    for line in decisions.iter().take(4) {
        let fields = &line["fields"];
        assert_eq!((&fields["jti"], &fields["task"]), (&json!(serial(1_000_001)), &json!(serial(1))), "{line}");
        assert_eq!(
            (&fields["txn"], &fields["agent"], &fields["audience"]),
            (&json!(serial(1)), &json!(AGENT), &json!(AUDIENCE))
        );
    }
    let signature = token.rsplit_once('.').unwrap().1;
    assert!(!log.contains(signature), "the token is in the log");
}
