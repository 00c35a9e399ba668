//! Calls with the passes of a task, to servers that look at token and certificate together.

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::axum::Router;
use ::axum::extract::{ConnectInfo, State};
use http::{HeaderMap, StatusCode};
use rustls::pki_types::CertificateDer;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::transport::Server;
use tower::service_fn;

use super::*;
use crate::client::{Pass, Presents, TaskChannel, TaskHttp};
use crate::guard::Listener;
use crate::task::{Binding, TaskClaims};
use crate::tls::{
    Acceptor, Authorizer, ClientAuth, Credentials, Incoming, Options, PeerInfo, ServerTls, Trust, certified_key,
};

const SERVER: &str = "spiffe://td/server";

/// A server that takes the tokens which it was told to take, each over connections of the certificate that it is bound to.
#[derive(Clone, Default)]
struct Doors(Arc<Behind>);

#[derive(Default)]
struct Behind {
    taken: Mutex<Vec<String>>,
    /// What is said to the agent at the first refusal, and so what it tells the client then.
    at_refusal: Mutex<Option<(Messages<wire::WatchResponse>, wire::WatchResponse)>>,
    refusals: AtomicUsize,
    unbound: AtomicUsize,
}

impl Doors {
    fn take(&self, token: &wire::TaskToken) {
        self.0.taken.lock().unwrap().push(token.token.clone());
    }

    fn lets_in(&self, headers: &HeaderMap, connection: &PeerInfo) -> bool {
        let token = headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap();
        let (_, claims) = crate::jws::insecure_parts(token).unwrap();
        let certificate = crate::task::fixture::thumbprint(connection.peer().unwrap().certificate());
        if TaskClaims::parse(&claims).unwrap().binding != Binding::Certificate(certificate) {
            self.0.unbound.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let known = self.0.taken.lock().unwrap().iter().any(|taken| taken == token);
        if !known {
            self.0.refusals.fetch_add(1, Ordering::Relaxed);
            if let Some((watch, message)) = self.0.at_refusal.lock().unwrap().take() {
                watch.send(Ok(message)).unwrap();
            }
        }
        known
    }

    fn seen(&self) -> (usize, usize) {
        (self.0.refusals.load(Ordering::Relaxed), self.0.unbound.load(Ordering::Relaxed))
    }
}

impl World {
    async fn listen(&self, options: &Options) -> (String, Incoming) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let own = signed(leaf(SERVER), &self.domain.intermediate);
        let chain = [&own.der, &self.domain.intermediate.der].map(|der| CertificateDer::from(der.clone()));
        let key = certified_key(chain.to_vec(), &own.private_key()).unwrap();
        let trust = Trust::fixed(self.domain.bundles.clone());
        let (credentials, clients) =
            (Credentials::from_fn(move || Some(Arc::clone(&key))), ClientAuth::Required(Authorizer::any()));
        let tls = ServerTls::new(credentials, trust, clients, &self.clock, options).unwrap();
        (address, Acceptor::new(listener, tls).incoming(CancellationToken::new()))
    }

    async fn http(&self, doors: &Doors, tasks: &mut JoinSet<()>) -> String {
        let (address, incoming) = self.listen(&Options::default().alpn(["http/1.1"])).await;
        let app = Router::new().fallback(answer).with_state(doors.clone());
        tasks.spawn(async move {
            let service = app.into_make_service_with_connect_info::<PeerInfo>();
            ::axum::serve(Listener::new(incoming), service).await.unwrap();
        });
        format!("https://{address}")
    }

    fn client(&self, task: &Task, server: &str) -> TaskHttp<crate::client::TaskPasses> {
        TaskHttp::by(task.passes(), Authorizer::exact(server.parse().unwrap()), self.clock.clone()).unwrap()
    }
}

async fn answer(
    State(doors): State<Doors>,
    ConnectInfo(connection): ConnectInfo<PeerInfo>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, String) {
    if body.starts_with("slow") {
        sleep(Duration::from_millis(300)).await;
    }
    if doors.lets_in(&headers, &connection) {
        (StatusCode::OK, body)
    } else {
        (StatusCode::UNAUTHORIZED, String::new())
    }
}

#[tokio::test]
async fn a_refused_call_is_repeated_once_with_the_newer_pair_and_its_body() {
    let world = World::new();
    let (doors, mut servers) = (Doors::default(), JoinSet::new());
    let url = world.http(&doors, &mut servers).await;
    let (task, watch) = world.task(world.token(&world.instance(), 300)).await;
    let http = world.client(&task, SERVER);
    // Nothing newer: the refusal is the answer.
    let refused = http.send(http.post(&url).body("x")).await.unwrap();
    assert_eq!((refused.status(), doors.seen()), (StatusCode::UNAUTHORIZED, (1, 0)));

    let newer = world.token(&world.instance(), 290);
    doors.take(&newer);
    *doors.0.at_refusal.lock().unwrap() = Some((watch.clone(), says("open", Some(newer))));
    let answer = http.send(http.post(&url).body("the body")).await.unwrap();
    assert_eq!((answer.status(), doors.seen()), (StatusCode::OK, (2, 0)));
    assert_eq!(answer.text().await.unwrap(), "the body");

    // A newer one that is refused as well is not followed by a third.
    doors.0.taken.lock().unwrap().clear();
    let other = world.token(&world.instance(), 280);
    *doors.0.at_refusal.lock().unwrap() = Some((watch, says("open", Some(other))));
    let refused = http.send(http.get(&url)).await.unwrap();
    assert_eq!((refused.status(), doors.seen()), (StatusCode::UNAUTHORIZED, (4, 0)));
}

#[tokio::test]
async fn no_call_is_refused_while_token_and_certificate_are_swapped_under_load() {
    let world = World::new();
    let (doors, mut servers) = (Doors::default(), JoinSet::new());
    let url = world.http(&doors, &mut servers).await;
    let token = world.token(&world.instance(), 300);
    doors.take(&token);
    let (task, watch) = world.task(token).await;
    let http = Arc::new(world.client(&task, SERVER));
    let mut calls = JoinSet::new();
    for n in 0..8 {
        let (http, url) = (Arc::clone(&http), url.clone());
        calls.spawn(async move {
            let body = if n == 0 { "slow" } else { "quick" };
            for _ in 0..if n == 0 { 4 } else { 60 } {
                assert_eq!(http.send(http.post(&url).body(body)).await.unwrap().status(), StatusCode::OK);
                tokio::task::yield_now().await;
            }
        });
    }
    // A new token for the same certificate, then a new certificate, over and over.
    for life_s in 100..110 {
        let of = world.instance();
        for life_s in [life_s, life_s + 50] {
            let token = world.token(&of, life_s);
            doors.take(&token);
            watch.send(Ok(says("open", Some(token)))).unwrap();
            sleep(Duration::from_millis(30)).await;
        }
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    assert_eq!(doors.seen(), (0, 0));
}

/// Always the same token, which is good over any connection.
struct Unbound(Arc<Pass>);

impl Presents for Unbound {
    async fn present(&self) -> Result<Arc<Pass>, Refusal> {
        Ok(Arc::clone(&self.0))
    }

    async fn after(&self, _refused: &Pass) -> Option<Arc<Pass>> {
        None
    }
}

#[tokio::test]
async fn a_connection_for_unbound_tokens_does_not_outlive_what_is_trusted_for_long() {
    let world = World::new();
    let (address, incoming) = world.listen(&Options::default().alpn(["http/1.1"])).await;
    let mut servers = JoinSet::new();
    servers.spawn(async move {
        let service = Router::new().fallback(|| async {}).into_make_service_with_connect_info::<PeerInfo>();
        ::axum::serve(Listener::new(incoming), service).await.unwrap();
    });
    let url = format!("https://{address}");
    let own = world.instance();
    let chain = [&own.der, &world.domain.intermediate.der].map(|der| CertificateDer::from(der.clone()));
    let key = certified_key(chain.to_vec(), &own.private_key()).unwrap();
    let trusted = Arc::new(arc_swap::ArcSwap::from_pointee(world.domain.bundles.clone()));
    let tls = crate::tls::ClientTls::new(
        Credentials::from_fn(move || Some(Arc::clone(&key))),
        Trust::following(Arc::clone(&trusted)),
        Authorizer::exact(SERVER.parse().unwrap()),
        &world.clock,
        &Options::default().alpn(["http/1.1"]),
    )
    .unwrap();
    let token = crate::client::BearerToken::new("a-token".to_owned(), NOW, NOW.saturating_add(Ttl::from_s(3600)));
    let (clock, hand) = Clock::manual(NOW);
    let http = TaskHttp::over_by(Unbound(Arc::new(Pass::unbound(token))), tls, clock).unwrap();
    let call = async || http.send(http.get(&url)).await.map(|answer| answer.status());
    assert_eq!(call().await.unwrap(), StatusCode::OK);
    // Nobody is trusted any more, and the connection is there still.
    trusted.store(Arc::new(crate::bundle::X509BundleSet::new()));
    hand.advance(Duration::from_secs(299));
    assert_eq!(call().await.unwrap(), StatusCode::OK);
    hand.advance(Duration::from_secs(1));
    assert!(call().await.is_err());
}

#[tokio::test]
async fn the_token_is_sent_to_nobody_but_the_server_it_is_meant_for() {
    let world = World::new();
    let (doors, mut servers) = (Doors::default(), JoinSet::new());
    let url = world.http(&doors, &mut servers).await;
    let (task, _watch) = world.task(world.token(&world.instance(), 300)).await;
    let http = world.client(&task, "spiffe://td/another");
    assert!(http.send(http.get(&url)).await.is_err());
    assert!(http.send(http.get(url.replace("https", "http"))).await.is_err());
    assert!(http.get(&url).send().await.is_err(), "a builder's own send presents nothing and trusts nobody");
    assert_eq!(doors.seen(), (0, 0));
}

#[tokio::test]
async fn a_refused_grpc_call_is_repeated_with_what_was_sent_unless_that_was_too_much() {
    let world = World::new();
    let (address, incoming) = world.listen(&Options::grpc()).await;
    let doors = Doors::default();
    let behind = doors.clone();
    let handler = service_fn(move |request: http::Request<Body>| {
        let doors = behind.clone();
        async move {
            let connection = request.extensions().get::<PeerInfo>().unwrap().clone();
            let headers = request.headers().clone();
            let mut body = request.into_body();
            let mut bytes = 0;
            while let Some(Ok(frame)) =
                std::future::poll_fn(|cx| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), cx)).await
            {
                bytes += frame.data_ref().map_or(0, tokio_util::bytes::Bytes::len);
            }
            let status = if doors.lets_in(&headers, &connection) {
                tonic::Status::ok(bytes.to_string())
            } else {
                tonic::Status::unauthenticated("no")
            };
            Ok::<_, Infallible>(status.into_http::<Body>())
        }
    });
    let mut servers = JoinSet::new();
    servers.spawn(async move { Server::builder().serve_with_incoming(handler, incoming).await.unwrap() });
    let (task, watch) = world.task(world.token(&world.instance(), 300)).await;
    let server = Authorizer::exact(SERVER.parse().unwrap());
    let channel = TaskChannel::by(task.passes(), server, &format!("http://{address}"), world.clock.clone()).unwrap();
    let call = async |bytes: usize| {
        let frames = tokio_stream::iter(vec![Ok::<_, tonic::Status>(http_body::Frame::data(vec![7; bytes].into()))]);
        let request =
            http::Request::post("/S/M").header("content-type", "application/grpc").body(Body::new(Stream(frames)));
        let answer = tower::ServiceExt::oneshot(channel.clone(), request.unwrap()).await.unwrap();
        let status = tonic::Status::from_header_map(answer.headers()).unwrap();
        (status.code(), status.message().to_owned())
    };
    let newer = |life_s: u32| {
        let newer = world.token(&world.instance(), life_s);
        doors.0.taken.lock().unwrap().clear();
        doors.take(&newer);
        *doors.0.at_refusal.lock().unwrap() = Some((watch.clone(), says("open", Some(newer))));
    };
    newer(290);
    assert_eq!(call(60_000).await, (tonic::Code::Ok, "60000".to_owned()));
    assert_eq!(doors.seen(), (1, 0));
    newer(280);
    assert_eq!(call(70_000).await.0, tonic::Code::Unauthenticated);
    assert_eq!(doors.seen(), (2, 0));
    assert_eq!(call(70_000).await, (tonic::Code::Ok, "70000".to_owned()), "the newer token is used from then on");
}

/// A body of these frames.
struct Stream<S>(S);

impl<S: tokio_stream::Stream<Item = Result<http_body::Frame<tokio_util::bytes::Bytes>, tonic::Status>> + Unpin>
    http_body::Body for Stream<S>
{
    type Data = tokio_util::bytes::Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, tonic::Status>>> {
        std::pin::Pin::new(&mut self.get_mut().0).poll_next(cx)
    }
}
