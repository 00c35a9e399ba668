//! Many clients at one listener.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::fixture::{CLIENT, Pair, chain_of};
use crate::tls::{Acceptor, Authorizer, ClientAuth, Connector, Incoming, TlsConnection};
use crate::x509::fixture::{Domain, leaf};

/// A listener for `pair`'s server, and its port.
async fn listen(pair: &Pair, handshakes: usize, stop: &CancellationToken) -> (Incoming, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = Acceptor::new(listener, pair.server_tls()).max_handshakes(handshakes);
    (acceptor.incoming(stop.clone()), port)
}

async fn dial(pair: &Pair, port: u16) -> TlsConnection {
    Connector::new(pair.client_tls()).dial("127.0.0.1", port).await.unwrap()
}

#[tokio::test]
async fn a_verified_client_comes_out_with_its_address_and_its_name() {
    let (pair, stop) = (Pair::new(), CancellationToken::new());
    let (mut incoming, port) = listen(&pair, 4, &stop).await;
    let (mut client, server) = tokio::join!(dial(&pair, port), incoming.accept());
    let mut server = server.unwrap();
    assert_eq!(server.info().peer().unwrap().spiffe_id().as_str(), CLIENT);
    assert!(server.info().address().unwrap().ip().is_loopback());
    server.write_all(b"hello").await.unwrap();
    server.flush().await.unwrap();
    client.read_exact(&mut [0; 5]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn clients_that_say_nothing_do_not_keep_others_out() {
    let (pair, stop) = (Pair::new(), CancellationToken::new());
    let (mut incoming, port) = listen(&pair, 2, &stop).await;
    let begin = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    // Four silent ones before it, two at a time: its turn comes after two evictions of 2 s each at the latest.
    let (_client, server) = tokio::join!(dial(&pair, port), incoming.accept());
    assert!(server.is_some());
    assert!(begin.elapsed() <= Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn no_more_handshakes_than_allowed_go_on_at_a_time_and_each_has_its_grace() {
    let (pair, stop) = (Pair::new(), CancellationToken::new());
    let (mut incoming, port) = listen(&pair, 1, &stop).await;
    let _silent = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let begin = Instant::now();
    let (_client, server) = tokio::join!(dial(&pair, port), incoming.accept());
    assert!(server.is_some());
    assert!((2..4).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_cut_after_ten_seconds() {
    let (pair, stop) = (Pair::new(), CancellationToken::new());
    let (_incoming, port) = listen(&pair, 4, &stop).await;
    let mut silent = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let begin = Instant::now();
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert_eq!(begin.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn a_handshake_that_fails_harms_nobody_else() {
    let (pair, stop) = (Pair::new(), CancellationToken::new());
    let (mut incoming, port) = listen(&pair, 4, &stop).await;
    let mut garbage = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let stranger = Pair::new();
    stranger.client.trust(&pair.domain.bundles);
    stranger.client.present(super::fixture::chain_of(&Domain::new(), leaf(CLIENT)));
    let mut refused = dial(&stranger, port).await;
    assert!(refused.read_u8().await.is_err());
    let (_client, server) = tokio::join!(dial(&pair, port), incoming.accept());
    assert!(server.is_some());
}

#[tokio::test]
async fn stopping_ends_the_stream_and_spares_what_it_handed_out() {
    let (pair, stop) = (Pair::new(), CancellationToken::new());
    let (mut incoming, port) = listen(&pair, 4, &stop).await;
    let (mut client, server) = tokio::join!(dial(&pair, port), incoming.accept());
    stop.cancel();
    assert!(timeout(Duration::from_secs(5), incoming.accept()).await.unwrap().is_none());
    let mut server = server.unwrap();
    client.write_all(b"hello").await.unwrap();
    client.flush().await.unwrap();
    server.read_exact(&mut [0; 5]).await.unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn clients_without_a_certificate_last_for_half_a_minute_and_give_way_to_each_other() {
    let (mut pair, stop) = (Pair::new(), CancellationToken::new());
    let known = Connector::new(pair.client_tls());
    pair.clients = ClientAuth::Optional(Authorizer::exact(CLIENT.parse().unwrap()));
    pair.client.presents.store(None);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = Acceptor::new(listener, pair.server_tls()).max_anonymous(2).max_connections(1);
    let mut incoming = acceptor.incoming(stop.clone());

    let (_first, accepted) = tokio::join!(dial(&pair, port), incoming.accept());
    let mut first = accepted.unwrap();
    assert!(first.info().peer().is_none());
    let (_second, accepted) = tokio::join!(dial(&pair, port), incoming.accept());
    let mut second = accepted.unwrap();
    let begin = Instant::now();
    let (_third, accepted) = tokio::join!(dial(&pair, port), async {
        // The oldest gives way; whoever serves it notices, and drops it.
        first.read(&mut [0; 1]).await.unwrap_err();
        drop(first);
        incoming.accept().await
    });
    let mut third = accepted.expect("the oldest gave way");
    assert!((2..=3).contains(&begin.elapsed().as_secs()), "after its grace: {:?}", begin.elapsed());

    // They keep nobody out who shows a certificate: he has a place, and a second one has none.
    pair.client.present(chain_of(&pair.domain, leaf(CLIENT)));
    let (client, server) = tokio::join!(known.dial("127.0.0.1", port), incoming.accept());
    let (_client, server) = (client.unwrap(), server.unwrap());
    assert!(server.info().peer().is_some());
    let mut excess = known.dial("127.0.0.1", port).await.unwrap();
    assert_eq!(excess.read(&mut [0; 1]).await.unwrap_or(0), 0, "there was one place");
    drop(server);
    let (client, server) = tokio::join!(known.dial("127.0.0.1", port), incoming.accept());
    assert!(client.is_ok() && server.is_some(), "the place is free again");

    second.read(&mut [0; 1]).await.unwrap_err();
    assert!(begin.elapsed() >= Duration::from_secs(29), "not before its time: {:?}", begin.elapsed());
    third.read(&mut [0; 1]).await.unwrap_err();
    third.read(&mut [0; 1]).await.expect_err("what has ended stays so");
    assert!(begin.elapsed() <= Duration::from_secs(35), "{:?}", begin.elapsed());
}
