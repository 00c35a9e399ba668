mod other_process;
mod raw;

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::*;
use other_process::OtherProcess;
use raw::{Client, Outcome, call, frame, literal};

const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A served socket.
struct Served {
    _directory: TempDir,
    path: PathBuf,
    _tasks: JoinSet<()>,
}

fn bind(limits: Limits) -> (TempDir, Listener) {
    let directory = tempfile::tempdir().unwrap();
    let listener = Listener::bind(directory.path().join("agent/api.sock"), limits).unwrap();
    (directory, listener)
}

fn serve(limits: Limits) -> Served {
    let (directory, listener) = bind(limits);
    let path = listener.path().to_owned();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (_, health) = tonic_health::server::health_reporter();
        configure(Server::builder()).add_service(health).serve_with_incoming(listener.incoming()).await.unwrap();
    });
    Served { _directory: directory, path, _tasks: tasks }
}

async fn still_serves(path: &Path) {
    assert_eq!(Client::connect(path).await.request(&call(b"")).await, Outcome::Answered, "others must not notice");
}

/// The connection ends, and nothing comes before that.
async fn ends_silently(mut stream: UnixStream) {
    let mut rest = Vec::new();
    drop(
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest))
            .await
            .expect("the connection stays open"),
    );
    assert_eq!(rest, b"");
}

/// Rows: WE-19.
#[tokio::test]
async fn a_path_as_authority_is_answered() {
    let served = serve(Limits::default());
    for authority in [
        "/a/b.sock",
        "a%2Fb.sock",
        "/run/mayfly/agent/api.sock",
        "run%2Fmayfly%2Fagent%2Fapi.sock",
        "localhost",
        "[::1]:80",
        "@",
    ] {
        let mut client = Client::connect(&served.path).await;
        let literal = literal(":authority", authority.as_bytes());
        assert_eq!(client.request(&call(&literal)).await, Outcome::Answered, "{authority}");
    }
    let mut client = Client::connect(&served.path).await;
    assert_eq!(client.request(&call(b"")).await, Outcome::Answered, "absent");
}

/// Rows: WE-19.
#[tokio::test]
async fn an_authority_that_is_remembered_is_answered_each_time() {
    let served = serve(Limits::default());
    let mut client = Client::connect(&served.path).await;
    // With incremental indexing (01, name index 1), Huffman-coded: `/a%2F`, of 6 + 5 + 6 + 5 + 7 bits, and padding.
    let first = [0x41, 0x84, 0b0110_0000, 0b0110_1010, 0b1000_1011, 0b0000_1111];
    assert_eq!(client.request(&call(&first)).await, Outcome::Answered);
    assert_eq!(client.request(&call(&[0xbe])).await, Outcome::Answered, "the same, by its index");
    assert_eq!(
        client.request(&call(&[0x7e, 0x02, b'/', b'b'])).await,
        Outcome::Answered,
        "another, its name by its index"
    );
    assert_eq!(client.request(&call(&[0xbf])).await, Outcome::Answered, "the first has moved on");
}

#[tokio::test]
async fn an_authority_cut_over_frames_and_reads_is_answered() {
    let served = serve(Limits::default());
    let block = call(&literal(":authority", b"/a/b.sock"));
    for cut in 1..block.len() {
        let mut client = Client::connect(&served.path).await;
        let stream = client.stream_id();
        let (first, rest) = block.split_at(cut);
        let octets = [frame(1, 0, stream, first), frame(9, 0, stream, &[]), frame(9, 4, stream, rest)].concat();
        for octet in octets {
            client.send(&[octet]).await;
        }
        assert_eq!(client.finish(stream).await, Outcome::Answered, "cut at {cut}");
    }
}

#[tokio::test]
async fn an_empty_authority_is_refused_on_its_stream_only() {
    let served = serve(Limits::default());
    let mut client = Client::connect(&served.path).await;
    assert_eq!(client.request(&call(&literal(":authority", b""))).await, Outcome::Reset(PROTOCOL_ERROR));
    assert_eq!(client.request(&call(&[0x81])).await, Outcome::Reset(PROTOCOL_ERROR));
    assert_eq!(client.request(&call(&literal(":authority", b"/a"))).await, Outcome::Answered);
}

#[tokio::test]
async fn a_client_that_does_not_greet_is_cut() {
    let served = serve(Limits { handshake: Duration::from_millis(200), ..Limits::default() });
    let mut greeted = Client::connect(&served.path).await;
    let mut slow = UnixStream::connect(&served.path).await.unwrap();
    slow.write_all(b"PRI * HTTP/2.0\r\n\r\nSM").await.unwrap();
    let mut rest = Vec::new();
    drop(
        tokio::time::timeout(Duration::from_secs(10), slow.read_to_end(&mut rest))
            .await
            .expect("the slow client is cut"),
    );
    assert_eq!(greeted.request(&call(b"")).await, Outcome::Answered, "who has greeted may take his time");
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_at_once() {
    let served = serve(Limits { connections_per_uid: 2, ..Limits::default() });
    let (mut first, mut second) = (Client::connect(&served.path).await, Client::connect(&served.path).await);
    assert_eq!(first.request(&call(b"")).await, Outcome::Answered);
    assert_eq!(second.request(&call(b"")).await, Outcome::Answered);
    ends_silently(UnixStream::connect(&served.path).await.unwrap()).await;
    assert_eq!(first.request(&call(b"")).await, Outcome::Answered);
    drop(second);
    for _ in 0..500 {
        if Client::connect(&served.path).await.request(&call(b"")).await == Outcome::Answered {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the place of a closed connection is not given to another");
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let served = serve(Limits::default());
    let mut client = Client::connect(&served.path).await;
    let mut octets = Vec::new();
    for _ in 0..2000 {
        let stream = client.stream_id();
        octets.extend(frame(1, 4, stream, &call(b"")));
        octets.extend(frame(3, 0, stream, &[0, 0, 0, 8]));
    }
    client.send(&octets).await;
    let stream = client.stream_id();
    let outcome = client.outcome(stream).await;
    assert!(matches!(outcome, Outcome::GoAway(ENHANCE_YOUR_CALM) | Outcome::Closed), "{outcome:?}");
    still_serves(&served.path).await;
}

#[tokio::test]
async fn a_flood_of_continuations_ends_the_connection() {
    let served = serve(Limits::default());
    let mut client = Client::connect(&served.path).await;
    client.send(&frame(1, 0, 1, &call(b""))).await;
    for _ in 0..1000 {
        client.send(&frame(9, 0, 1, &literal("x", b"y"))).await;
    }
    let outcome = client.outcome(1).await;
    assert!(matches!(outcome, Outcome::GoAway(ENHANCE_YOUR_CALM) | Outcome::Closed), "{outcome:?}");
    still_serves(&served.path).await;
}

#[tokio::test]
async fn too_many_header_fields_are_refused() {
    let served = serve(Limits::default());
    let mut client = Client::connect(&served.path).await;
    let mut block = call(b"");
    for n in 0..70 {
        block.extend(literal(&format!("x-{n}"), &[b'y'; 220]));
    }
    assert_eq!(
        client.request(&block[..16_000]).await,
        Outcome::GoAway(PROTOCOL_ERROR),
        "cut in a field: no header block"
    );
    let mut client = Client::connect(&served.path).await;
    let stream = client.stream_id();
    let (first, rest) = block.split_at(16_000);
    client.send(&[frame(1, 0, stream, first), frame(9, 4, stream, rest)].concat()).await;
    let outcome = client.outcome(stream).await;
    assert!(matches!(outcome, Outcome::Refused | Outcome::Reset(_)), "{outcome:?}");
    still_serves(&served.path).await;
}

#[tokio::test]
async fn noise_ends_its_own_connection_only() {
    let served = serve(Limits::default());
    let mut noisy = UnixStream::connect(&served.path).await.unwrap();
    noisy.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    drop(tokio::time::timeout(Duration::from_secs(10), noisy.read_to_end(&mut rest)).await.expect("noise is cut"));
    still_serves(&served.path).await;
}

/// Rows: WE-18.
#[tokio::test]
async fn the_caller_is_the_process_that_connected() {
    let (_directory, listener) = bind(Limits::default());
    let mut other = OtherProcess::connect(listener.path());
    let mut incoming = listener.incoming();
    let Ok(connection) = incoming.next().await.unwrap();
    let peer = connection.connect_info();
    // This process holds the socket too, as a forked child would; the caller is still the one that made it.
    let _held = other.connection();
    assert_eq!(u32::try_from(peer.process().pid()).unwrap(), other.child.id());
    assert_eq!((peer.uid(), peer.gid()), (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
}

#[tokio::test]
async fn a_socket_handed_on_works_while_its_maker_lives_and_ends_with_it() {
    let served = serve(Limits::default());
    let mut other = OtherProcess::connect(&served.path);
    let mut client = Client::greet(other.connection()).await;
    assert_eq!(client.request(&call(b"")).await, Outcome::Answered);
    // A zombie: nobody has waited for it yet.
    other.exit();
    let end = tokio::time::timeout(Duration::from_secs(10), client.outcome(99)).await;
    assert_eq!(end.expect("the connection outlives its process"), Outcome::Closed);
}

/// Rows: WE-18.
#[tokio::test]
async fn a_process_that_runs_another_program_gets_nothing_more() {
    let served = serve(Limits::default());
    let mut other = OtherProcess::connect(&served.path);
    let mut client = Client::greet(other.connection()).await;
    assert_eq!(client.request(&call(b"")).await, Outcome::Answered);
    other.exec();
    assert_eq!(client.request(&call(b"")).await, Outcome::Closed);
}

/// Rows: WE-18.
#[tokio::test]
async fn a_process_that_ended_before_it_was_accepted_is_closed() {
    let (_directory, listener) = bind(Limits::default());
    let mut other = OtherProcess::connect(listener.path());
    let held = other.connection();
    other.exit();
    other.child.wait().unwrap();
    let _other = OtherProcess::connect(listener.path());
    let mut incoming = listener.incoming();
    let Ok(next) = incoming.next().await.unwrap();
    assert_ne!(u32::try_from(next.connect_info().process().pid()).unwrap(), other.child.id());
    ends_silently(held).await;
}

#[test]
fn a_connection_is_small() {
    assert!(size_of::<Connection>() <= 512, "{}", size_of::<Connection>());
}
