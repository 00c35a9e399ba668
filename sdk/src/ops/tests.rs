use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::*;

struct Served {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
    tasks: JoinSet<io::Result<()>>,
}

async fn serve() -> Served {
    let mut registry = Registry::default();
    let counter: Counter = Counter::default();
    counter.inc();
    registry.register("mints", "SVIDs minted", counter);
    let ready = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&ready);
    let ops = Ops::bind("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
    let address = ops.address();
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(ops.run(
        Arc::new(registry),
        move || {
            if asked.load(Ordering::SeqCst) {
                Readiness::ready("in_sync", "serving")
            } else {
                Readiness::not_ready("issuer_unreachable", "no issuer answers; check `issuers`")
            }
        },
        stop.clone(),
    ));
    Served { address, ready, stop, tasks }
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn readiness_follows_the_daemon_and_says_why_not() {
    let served = serve().await;
    let answer = get(served.address, "/ready").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(
        answer.ends_with(
            "{\"ready\":false,\"state\":\"issuer_unreachable\",\"message\":\"no issuer answers; check `issuers`\"}\n"
        ),
        "{answer}"
    );
    served.ready.store(true, Ordering::SeqCst);
    assert!(get(served.address, "/ready").await.starts_with("HTTP/1.1 200"));
    assert!(get(served.address, "/live").await.starts_with("HTTP/1.1 200"));
    assert!(get(served.address, "/nothing").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn metrics_are_openmetrics_text() {
    let served = serve().await;
    let answer = get(served.address, "/metrics").await;
    assert!(answer.contains("mints_total 1") && answer.ends_with("# EOF\n"), "{answer}");
}

#[tokio::test]
async fn an_address_that_others_reach_is_refused_unless_allowed() {
    let all = "0.0.0.0:0".parse().unwrap();
    assert!(matches!(Ops::bind(all, false).await, Err(OpsError::NotLoopback(_))));
    assert!(Ops::bind(all, true).await.is_ok());
}

#[tokio::test]
async fn a_port_in_use_says_which_and_what_to_do() {
    let served = serve().await;
    let error = Ops::bind(served.address, false).await.unwrap_err().to_string();
    assert!(error.contains(&served.address.to_string()) && error.contains("use a free port"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn silent_clients_hold_the_listener_for_seconds_only() {
    let served = serve().await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(served.address).await.unwrap());
    }
    // Time is paused: it moves on only once everything waits, so this answer came after the silent ones were cut.
    assert!(get(served.address, "/live").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn stopping_ends_the_listener() {
    let mut served = serve().await;
    served.stop.cancel();
    assert!(served.tasks.join_next().await.unwrap().unwrap().is_ok());
}
