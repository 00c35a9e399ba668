//! Other people's TLS between SPIFFE IDs and the SDK's, each in both roles, while both ends' SVIDs rotate; and peers of another
//! trust domain, which are refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::explicit_write,
    clippy::disallowed_methods,
    reason = "a test root"
)]

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use mayfly_interop::tool;
use mayfly_rig::{Daemon, Rig, eventually, repository};
use mayfly_sdk::{
    Clock, Reason, Refusal, SpiffeId,
    client::{Source, X509Context},
    tls::{self, Authorizer, ClientAuth, ClientTls, Options, ServerTls, TlsConnection},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    task::JoinSet,
};

/// SVIDs of 6 s rotate every 3 s.
const SHORT: [(&str, &str); 2] = [("ttl.allow_short_ttl", "true"), ("ttl.x509", "\"6s\"")];
/// How long each direction is tried: three rotations of each end.
const SECONDS: u64 = 10;

#[test]
fn go_spiffe_is_a_peer_in_both_roles() {
    if let Some(workload) = tool(&["MAYFLY_TEST_GO_WORKLOAD", "target/test-env/go-workload"]) {
        both_roles(&[workload.to_str().unwrap()]);
    }
}

#[test]
fn py_spiffe_tls_is_a_peer_in_both_roles() {
    if let Some(python) = tool(&["MAYFLY_TEST_PYTHON", "target/test-env/venv/bin/python"]) {
        let script = repository().join("tests/interop/python/tls_peer.py");
        both_roles(&[python.to_str().unwrap(), script.to_str().unwrap()]);
    }
}

#[test]
fn the_spiffe_crate_is_a_peer_in_both_roles() {
    both_roles(&[env!("CARGO_BIN_EXE_spiffe-crate-tls")]);
}

/// A trust domain in which this test is `sdk` and the other program is `peer`.
fn rig(trust_domain: &str, command: &[&str]) -> Rig {
    let mut rig = Rig::new(&SHORT);
    trust_domain.clone_into(&mut rig.trust_domain);
    rig.start_issuer();
    rig.start_agent("a");
    let program = std::fs::canonicalize(command[0]).unwrap();
    let test = std::env::current_exe().unwrap();
    let by = |path: &std::path::Path| format!(", \"unix:path:{}\"", path.display());
    rig.apply(&(rig.entry("peer", &by(&program)) + &rig.entry("sdk", &by(&test))));
    rig
}

fn id(rig: &Rig, name: &str) -> SpiffeId {
    format!("spiffe://{}/{name}", rig.trust_domain).parse().unwrap()
}

fn peer(rig: &Rig, command: &[&str], args: &[&str]) -> Command {
    let mut peer = Command::new(command[0]);
    peer.args(&command[1..]).args(args).env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a")).stdin(Stdio::null());
    peer
}

/// The other program as a server, and where it listens.
fn serving(rig: &Rig, command: &[&str], clients: &SpiffeId) -> (Daemon, String) {
    let address = format!("{}:0", rig.ip());
    let args = ["tls-serve", &address, clients.as_str()];
    let mut server = Daemon::start(peer(rig, command, &args), rig.dir().join("peer.log"));
    let address = eventually("the peer listens", 60, || {
        assert!(server.is_running(), "{}", server.log());
        server.log().lines().next().map(str::to_owned)
    });
    (server, address)
}

/// What the other program says of its calls as a client.
fn calling(rig: &Rig, command: &[&str], address: &str, server: &SpiffeId, seconds: u64) -> Value {
    let args = ["tls-call", address, server.as_str(), &seconds.to_string()];
    let output = peer(rig, command, &args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn both_roles(command: &[&str]) {
    let (own, foreign) = (rig("test.example", command), rig("other.example", command));
    let runtime = Runtime::new().unwrap();
    let source = runtime.block_on(async {
        let source = Source::<X509Context>::start(own.endpoint("a").parse().unwrap());
        source.ready(Duration::from_secs(30)).await.unwrap();
        source
    });

    // The SDK serves.
    let (server, address) = runtime.block_on(serve(&source, id(&own, "peer")));
    let report = calling(&own, command, &address, &id(&own, "sdk"), SECONDS);
    assert!(report["served"].as_u64().unwrap() > 20, "{report}");
    assert!(report["certificates"].as_u64().unwrap() >= 3, "the server's SVID rotated: {report}");
    assert_eq!(report["failures"].as_array().unwrap().len(), 0, "{report}");
    // Who expects somebody else, or comes from elsewhere, gets nothing.
    for (rig, expected) in [(&own, id(&own, "another")), (&foreign, id(&own, "sdk"))] {
        let report = calling(rig, command, &address, &expected, 1);
        assert_eq!(report["served"], 0, "{report}");
        assert!(!report["failures"].as_array().unwrap().is_empty(), "{report}");
    }
    drop(server);

    // The SDK calls.
    let (_server, address) = serving(&own, command, &id(&own, "sdk"));
    let certificates = runtime.block_on(async {
        let (begun, mut certificates) = (Instant::now(), BTreeSet::new());
        while begun.elapsed() < Duration::from_secs(SECONDS) {
            certificates.insert(call(&source, &address, id(&own, "peer")).await.unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        certificates
    });
    assert!(certificates.len() >= 3, "the peer's SVID rotated: {}", certificates.len());
    let (_foreign_server, elsewhere) = serving(&foreign, command, &id(&own, "sdk"));
    let refused = |address: &str, expected| runtime.block_on(call(&source, address, expected)).unwrap_err().reason;
    assert_eq!(refused(&address, id(&own, "another")), Reason::UnauthorizedPeer);
    assert_eq!(refused(&elsewhere, id(&foreign, "peer")), Reason::UnknownTrustDomain);
    assert_eq!(refused(&elsewhere, id(&own, "peer")), Reason::UnknownTrustDomain);
    runtime.block_on(source.shutdown());
}

/// Answers those whom it is meant for, until it is dropped.
async fn serve(source: &Source<X509Context>, clients: SpiffeId) -> (JoinSet<()>, String) {
    let clients = ClientAuth::Required(Authorizer::exact(clients));
    let options = Options::default();
    let tls = ServerTls::new(source.credentials(), source.trust(), clients, &Clock::system(), &options).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut calls = JoinSet::new();
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let tls = tls.clone();
            calls.spawn(async move {
                let Ok(mut connection) = tls::accept(tcp, &tls).await else { return };
                if connection.read_exact(&mut [0; 4]).await.is_ok() {
                    connection.write_all(b"pong").await.ok();
                    connection.shutdown().await.ok();
                }
            });
        }
    });
    (tasks, address)
}

/// One call over a connection of its own; the serial number of the server's certificate.
async fn call(source: &Source<X509Context>, address: &str, server: SpiffeId) -> Result<Vec<u8>, Refusal> {
    let (clock, options) = (Clock::system(), Options::default());
    let tls = ClientTls::new(source.credentials(), source.trust(), Authorizer::exact(server), &clock, &options)?;
    let mut connection: TlsConnection = tls::connect(TcpStream::connect(address).await.unwrap(), &tls).await?;
    let serial = connection.info().peer().unwrap().serial().to_vec();
    let hung_up = |error: std::io::Error| Refusal::new(Reason::HandshakeFailed, error.to_string());
    connection.write_all(b"ping").await.map_err(hung_up)?;
    connection.read_exact(&mut [0; 4]).await.map_err(hung_up)?;
    Ok(serial)
}
