//! Every connection has a handshake of its own, in which the peer is verified; and what it exports is its own.

use std::sync::Arc;

use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio_rustls::LazyConfigAcceptor;

use super::fixture::{Pair, meet};
use crate::tls::{config::provider, connect};

/// A server that offers to resume, as other people's do: a client of ours does not take it up, and does not say whom it wants.
#[tokio::test]
async fn no_session_is_resumed_with_a_server_that_offers_it() {
    let pair = Pair::new();
    let presented = pair.server.presents.load_full().unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::clone(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(presented)));
    assert!(config.send_tls13_tickets > 0);
    let (config, client) = (Arc::new(config), pair.client_tls());
    for _ in 0..3 {
        let (near, far) = duplex(64 * 1024);
        let served = async {
            let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), far).await.unwrap();
            assert_eq!(hello.client_hello().server_name(), None);
            let mut stream = hello.into_stream(Arc::clone(&config)).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.flush().await.unwrap();
            stream
        };
        let asked = async {
            let mut connection = connect(near, &client).await.unwrap();
            // With these come the tickets.
            connection.read_exact(&mut [0; 5]).await.unwrap();
            connection
        };
        let (stream, _connection) = tokio::join!(served, asked);
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn both_ends_of_a_connection_have_one_exporter_and_no_other_connection_has_it() {
    let pair = Pair::new();
    let (client, server) = (pair.client_tls(), pair.server_tls());
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (client, server) = meet(&client, &server).await.well();
        let binding = *client.info().binding().unwrap();
        assert_eq!(server.info().binding(), Some(&binding));
        assert!(!seen.contains(&binding) && binding != [0; 32]);
        seen.push(binding);
    }
}
