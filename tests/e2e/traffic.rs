//! Two workloads that never stop calling each other, while everything under them stops and starts.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use mayfly_rig::Rig;
use mayfly_sdk::{
    Clock,
    client::{Endpoint, Source, X509Context},
    tls::{self, Authorizer, ClientAuth, ClientTls, Options, ServerTls, TlsConnection},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Between two calls of a workload.
const EVERY: Duration = Duration::from_millis(20);
/// What is left of a 20 s SVID just before the earliest moment at which it is renewed.
const RENEWED_WITH: std::ops::Range<Duration> = Duration::from_secs(11)..Duration::from_millis(11_400);
/// Certificates count whole seconds, and an issuer takes its time to start on a machine that does other things too.
const MARGIN: Duration = Duration::from_millis(1500);
/// A kept connection is replaced this long before it ends.
const BEFORE_END: Duration = Duration::from_secs(2);

#[test]
fn workloads_do_not_notice_that_the_issuer_stops_and_the_agent_restarts() {
    let mut rig = Rig::new(&[("ttl.allow_short_ttl", "true"), ("ttl.x509", "\"20s\"")]);
    rig.start_issuer();
    let callers = Callers::start(&mut rig);
    let traffic = &callers.traffic;

    let rounds = if crate::full() { 14 } else { 2 };
    for round in 0..rounds {
        // Renewed from 45 % of their life on: just before that the issuer goes away, for nine tenths of what is left then.
        let window = mayfly_rig::eventually("an SVID is about to be renewed", 60, || {
            let left = traffic.soonest_end();
            (RENEWED_WITH.start..RENEWED_WITH.end).contains(&left).then_some(left)
        });
        let away = Instant::now();
        rig.stop_issuer();
        if round % 2 == 0 {
            rig.stop_agent("a");
            rig.launch_agent("a");
        }
        std::thread::sleep(window.mul_f64(0.9).saturating_sub(MARGIN + away.elapsed()));
        rig.launch_issuer();
    }
    let renewals = traffic.renewals.load(Ordering::Relaxed);
    traffic
        .until("both SVIDs are renewed again", 30, |traffic| traffic.renewals.load(Ordering::Relaxed) >= renewals + 2);
    callers.end_without_a_failed_call(&rig);
}

#[test]
fn workloads_do_not_notice_a_new_root_although_the_pushes_to_one_are_late() {
    let mut rig = Rig::new(&[("ttl.allow_short_ttl", "true"), ("ttl.x509", "\"40s\"")]);
    rig.start_issuer();
    let callers = Callers::start(&mut rig);
    let traffic = &callers.traffic;
    let good = || traffic.good.load(Ordering::Relaxed);
    let go_on = |what: &str| {
        let before = good();
        traffic.until(what, 20, |_| good() >= before + 100);
    };
    let renewed = |name: usize, by: &str| {
        let of = Arc::clone(&traffic.ends.lock().unwrap()[name]);
        let before = *of.lock().unwrap();
        mayfly_rig::eventually(by, 60, || (*of.lock().unwrap() > before + Duration::from_secs(5)).then_some(()));
    };

    // The next root is published, and the push to b is late.
    rig.signal_agent("b", nix::sys::signal::Signal::SIGSTOP);
    let prepared = rig.json(&["authority", "prepare", "x509_root"]);
    let id = prepared["authority"]["id"].as_str().unwrap().to_owned();
    let waited_for = |rig: &Rig| {
        let all = rig.json(&["authority", "list"]);
        let root = all["items"].as_array().unwrap().iter().find(|it| it["id"] == *id).unwrap();
        root["waiting_for"].as_array().map_or_else(String::new, |nodes| format!("{nodes:?}"))
    };
    mayfly_rig::eventually("only b is waited for", 20, || {
        let nodes = waited_for(&rig);
        (nodes.contains("/join_token/b") && !nodes.contains("/join_token/a")).then_some(())
    });
    let early = rig.run(&["authority", "activate", &id]);
    assert!(!early.status.success(), "b does not know the root yet, and it signs");
    go_on("calls go on while one knows of the next root and one does not");
    rig.signal_agent("b", nix::sys::signal::Signal::SIGCONT);
    mayfly_rig::eventually("both know the next root", 60, || {
        (!waited_for(&rig).contains("/join_token/")).then_some(())
    });

    // The pushes to b are late again: a is renewed by the new root, and b hears nothing of that.
    renewed(1, "b's SVID is fresh");
    rig.signal_agent("b", nix::sys::signal::Signal::SIGSTOP);
    let activated = rig.run(&["authority", "activate", "--force", &id]);
    assert!(activated.status.success(), "{}", String::from_utf8_lossy(&activated.stderr));
    renewed(0, "a's SVID is renewed by the new root");
    assert_eq!(callers.root_of("a"), id, "a's SVID leads to the new root");
    assert_ne!(callers.root_of("b"), id, "b's does not yet");
    go_on("calls go on between the old root and the new");
    rig.signal_agent("b", nix::sys::signal::Signal::SIGCONT);
    renewed(1, "b's SVID is renewed too");
    assert_eq!(callers.root_of("b"), id, "b's SVID leads to the new root too");
    go_on("calls go on with the new root");
    callers.end_without_a_failed_call(&rig);
}

/// Two workloads, `a` and `b`, on a node each, that call each other.
struct Callers {
    runtime: tokio::runtime::Runtime,
    running: tokio::task::JoinHandle<()>,
    traffic: Traffic,
}

impl Callers {
    /// Starts them, with an agent each.
    fn start(rig: &mut Rig) -> Self {
        for name in ["a", "b"] {
            rig.start_agent(name);
            let td = &rig.trust_domain;
            rig.apply(&format!(
                "  - name: {name}\n    spiffe_id: spiffe://{td}/{name}\n    node: [spiffe://{td}/mayfly/node/join_token/{name}]\n    selectors: [\"unix:uid:{}\"]\n",
                nix::unistd::getuid()
            ));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let traffic = Traffic::default();
        let endpoints = [rig.endpoint("a"), rig.endpoint("b")];
        let running = runtime.spawn(run(endpoints, rig.trust_domain.clone(), traffic.clone()));
        traffic.until("both workloads call", 20, |traffic| traffic.good.load(Ordering::Relaxed) > 20);
        Self { runtime, running, traffic }
    }

    /// The key id (hex) of the root that a workload's newest SVID leads to.
    fn root_of(&self, name: &str) -> String {
        self.traffic.roots.lock().unwrap().get(name).cloned().unwrap_or_default()
    }

    fn end_without_a_failed_call(self, rig: &Rig) {
        let traffic = self.traffic;
        traffic.ended.store(true, Ordering::Relaxed);
        self.runtime.block_on(self.running).unwrap();
        let (good, failed) = (traffic.good.load(Ordering::Relaxed), traffic.failed.load(Ordering::Relaxed));
        eprintln!("{good} calls, {failed} failed, {} renewals", traffic.renewals.load(Ordering::Relaxed));
        assert_eq!(failed, 0, "of {} calls; agent a:\n{}", good + failed, rig.agent_log("a"));
        assert!(good > 1000, "only {good} calls were made");
    }
}

/// What both workloads count.
#[derive(Clone, Default)]
struct Traffic {
    good: Arc<AtomicU32>,
    failed: Arc<AtomicU32>,
    renewals: Arc<AtomicU32>,
    ended: Arc<AtomicBool>,
    /// When the SVID of either workload ends.
    ends: Arc<Mutex<Vec<End>>>,
    /// The key id of the root above the SVID of each.
    roots: Arc<Mutex<BTreeMap<String, String>>>,
}

type End = Arc<Mutex<tokio::time::Instant>>;

impl Traffic {
    fn until(&self, what: &str, seconds: u64, reached: impl Fn(&Self) -> bool) {
        mayfly_rig::eventually(what, seconds, || reached(self).then_some(()));
    }

    /// How long the SVID lives that ends first.
    fn soonest_end(&self) -> Duration {
        let ends = self.ends.lock().unwrap();
        let left = |end: &End| end.lock().unwrap().saturating_duration_since(tokio::time::Instant::now());
        ends.iter().map(left).min().unwrap_or_default()
    }

    fn count(&self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => self.good.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                eprintln!("a call failed: {error} ({:?})", error.kind());
                self.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

async fn run(endpoints: [String; 2], trust_domain: String, traffic: Traffic) {
    let id = |name: &str| format!("spiffe://{trust_domain}/{name}").parse::<mayfly_sdk::SpiffeId>().unwrap();
    let [a, b] = endpoints.map(|endpoint| Source::<X509Context>::start(endpoint.parse::<Endpoint>().unwrap()));
    for source in [&a, &b] {
        source.ready(Duration::from_secs(20)).await.unwrap();
    }
    let clock = Clock::system();
    let mut tasks = JoinSet::new();
    for (own, peer, peer_id) in [(&a, &b, id("b")), (&b, &a, id("a"))] {
        let own_id = own.current().unwrap().default_svid().spiffe_id().clone();
        let name = own_id.path().trim_start_matches('/').to_owned();
        let clients = ClientAuth::Required(Authorizer::exact(own_id));
        let server = ServerTls::new(peer.credentials(), peer.trust(), clients, &clock, &Options::default()).unwrap();
        let authorizer = Authorizer::exact(peer_id);
        let client = ClientTls::new(own.credentials(), own.trust(), authorizer, &clock, &Options::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tasks.spawn(serve(listener, server));
        // The server closes a connection when the client's certificate expires, and only the client knows that one's.
        let own_end = Arc::new(Mutex::new(end_of(&own.current().unwrap())));
        traffic.ends.lock().unwrap().push(Arc::clone(&own_end));
        tasks.spawn(call(address, client, Arc::clone(&own_end), traffic.clone()));
        let (mut changes, traffic) = (own.changes(), traffic.clone());
        tasks.spawn(async move {
            let mut last = Vec::new();
            while let Some(change) = changes.next().await {
                let context = change.unwrap();
                *own_end.lock().unwrap() = end_of(&context);
                traffic.roots.lock().unwrap().insert(name.clone(), root_above(&context));
                let serial = context.default_svid().serial().to_vec();
                if !last.is_empty() && last != serial {
                    traffic.renewals.fetch_add(1, Ordering::Relaxed);
                }
                last = serial;
            }
        });
    }
    while !traffic.ended.load(Ordering::Relaxed) {
        tokio::time::sleep(EVERY).await;
    }
    tasks.shutdown().await;
    a.shutdown().await;
    b.shutdown().await;
}

fn end_of(context: &X509Context) -> tokio::time::Instant {
    let left = context.default_svid().validity().remaining(Clock::system().now());
    tokio::time::Instant::now() + Duration::from_secs(left.as_s().into())
}

/// Who signed the intermediate, by the key id that it names (RFC 5280 4.2.1.1), hex.
fn root_above(context: &X509Context) -> String {
    let intermediate = context.default_svid().chain().last().unwrap().clone();
    let (_, certificate) = x509_parser::parse_x509_certificate(&intermediate).unwrap();
    let extensions = certificate.iter_extensions().map(x509_parser::extensions::X509Extension::parsed_extension);
    let mut named = extensions.filter_map(|extension| match extension {
        x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) => Some(id.key_identifier.as_ref()?.0),
        _ => None,
    });
    hex::encode(named.next().expect("an intermediate names its root's key"))
}

async fn serve(listener: TcpListener, tls: ServerTls) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let tls = tls.clone();
        connections.spawn(async move {
            let Ok(mut connection) = tls::accept(stream, &tls).await else { return };
            let mut said = [0; 4];
            while connection.read_exact(&mut said).await.is_ok() && connection.write_all(&said).await.is_ok() {}
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Every second call on a new connection, the others on one that is kept while it lasts.
async fn call(address: std::net::SocketAddr, tls: ClientTls, own_end: End, traffic: Traffic) {
    let mut kept: Option<(TlsConnection, tokio::time::Instant)> = None;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for n in 0_u64.. {
        ticks.tick().await;
        if traffic.ended.load(Ordering::Relaxed) {
            return;
        }
        if n % 2 == 0 {
            traffic.count(async { ping(&mut connect(address, &tls).await?).await }.await);
            continue;
        }
        let outcome = async {
            let soon = tokio::time::Instant::now() + BEFORE_END;
            let (mut connection, end) = if let Some(kept) = kept.take().filter(|(_, end)| *end > soon) {
                kept
            } else {
                let own_end = *own_end.lock().unwrap();
                let connection = connect(address, &tls).await?;
                let end = connection.ends_at().map_or(own_end, |peers| peers.min(own_end));
                (connection, end)
            };
            ping(&mut connection).await?;
            kept = Some((connection, end));
            Ok(())
        };
        traffic.count(outcome.await);
    }
}

async fn connect(address: std::net::SocketAddr, tls: &ClientTls) -> io::Result<TlsConnection> {
    tls::connect(TcpStream::connect(address).await?, tls).await.map_err(io::Error::other)
}

async fn ping(connection: &mut TlsConnection) -> io::Result<()> {
    let mut answer = [0; 4];
    connection.write_all(b"ping").await?;
    connection.read_exact(&mut answer).await?;
    if &answer == b"ping" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}
