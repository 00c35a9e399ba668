//! What changes under a running configuration, and what ends a running connection.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use super::fixture::{CLIENT, End, Pair, SERVER, chain_of, meet};
use crate::bundle::X509BundleSet;
use crate::reason::{Reason, Refusal};
use crate::time::Clock;
use crate::tls::{Authorizer, ClientAuth, Credentials};
use crate::x509::X509Svid;
use crate::x509::fixture::{Domain, NOW, at, bundle, ca, leaf, signed};

#[tokio::test]
async fn svids_and_bundles_rotate_on_both_sides_without_a_restart() {
    let pair = Pair::new();
    let (client, server) = (pair.client_tls(), pair.server_tls());
    meet(&client, &server).await.well();
    let next = Domain::new();
    // The successor's root is published first, then it signs, then the old one goes.
    let both: X509BundleSet = bundle("td", &[&pair.domain.root, &next.root]).into();
    pair.client.trust(&both);
    pair.server.trust(&both);
    meet(&client, &server).await.well();
    pair.server.present(chain_of(&next, leaf(SERVER)));
    meet(&client, &server).await.well();
    pair.client.present(chain_of(&next, leaf(CLIENT)));
    meet(&client, &server).await.well();
    pair.client.trust(&next.bundles);
    pair.server.trust(&next.bundles);
    meet(&client, &server).await.well();
    // Whoever still comes with the old root is refused by the same configuration.
    pair.client.present(chain_of(&pair.domain, leaf(CLIENT)));
    assert_eq!(meet(&client, &server).await.refused_by_server(), Reason::X509SvidUntrusted);
    pair.client.present(chain_of(&next, leaf(CLIENT)));
    pair.server.present(chain_of(&pair.domain, leaf(SERVER)));
    assert_eq!(meet(&client, &server).await.refused_by_client(), Reason::X509SvidUntrusted);
}

#[tokio::test]
async fn an_svid_is_presented_anew_when_it_changed_and_parsed_once() {
    let domain = Domain::new();
    let svid = || {
        let leaf = signed(leaf(CLIENT), &domain.intermediate);
        let chain = [&leaf.der, &domain.intermediate.der].map(|der| der.clone().into()).to_vec();
        X509Svid::new(chain, leaf.private_key()).unwrap()
    };
    let current = std::sync::Arc::new(arc_swap::ArcSwap::from_pointee(svid()));
    let reader = std::sync::Arc::clone(&current);
    let credentials = Credentials::from_svids(move || Some(reader.load().as_ref().clone()));
    let first = credentials.current().unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &credentials.current().unwrap()));
    current.store(std::sync::Arc::new(svid()));
    assert_ne!(credentials.current().unwrap().cert, first.cert);
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_when_a_certificate_of_the_peers_path_expires() {
    for expiring_server in [true, false] {
        let mut pair = Pair::new();
        pair.clock = Clock::anchored_to_tokio(NOW);
        let (id, end) = if expiring_server { (SERVER, &pair.server) } else { (CLIENT, &pair.client) };
        let mut short = leaf(id);
        short.not_after = at(20);
        end.present(chain_of(&pair.domain, short));
        let begin = Instant::now();
        let (client, server) = pair.meet().await.well();
        let (mut short, mut long) = if expiring_server { (server, client) } else { (client, server) };
        // Traffic goes on to the last second, and a read that waits is woken at the end of it.
        tokio::time::sleep(Duration::from_secs(20)).await;
        short.write_all(b"still here").await.unwrap();
        short.flush().await.unwrap();
        long.read_exact(&mut [0; 10]).await.unwrap();
        let error = timeout(Duration::from_mins(1), long.read_u8()).await.expect("woken").unwrap_err();
        assert_eq!(begin.elapsed().as_secs(), 21);
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        assert_eq!(error.get_ref().unwrap().downcast_ref::<Refusal>().unwrap().reason, Reason::Expired);
        assert!(long.write_u8(0).await.is_err() && long.info().close().is_cancelled());
        // The other certificate lasts longer, but the connection is gone.
        drop(long);
        assert!(short.read_u8().await.is_err());
    }
}

#[tokio::test]
async fn a_connection_ends_at_once_when_it_is_told_to() {
    let pair = Pair::new();
    let (mut client, server) = pair.meet().await.well();
    let close = server.info().close().clone();
    let (mut read, mut write) = tokio::io::split(server);
    let waiting = async { timeout(Duration::from_secs(5), read.read_u8()).await.expect("woken").unwrap_err() };
    let (error, ()) = tokio::join!(waiting, async {
        tokio::task::yield_now().await;
        close.cancel();
    });
    assert_eq!(error.get_ref().unwrap().downcast_ref::<Refusal>().unwrap().reason, Reason::ConnectionClosed);
    assert!(write.write_u8(0).await.is_err());
    drop((read, write));
    assert!(client.read_u8().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_life_of_a_connection_is_bounded_by_the_whole_path() {
    let mut intermediate = ca("intermediate");
    intermediate.not_after = at(100);
    let domain = Domain::of("td", ca("root"), intermediate);
    let mut pair = Pair::new();
    pair.client.trust(&domain.bundles);
    pair.clients = ClientAuth::Optional(Authorizer::any());
    pair.client.presents.store(None);
    let (client, server) = pair.meet_as(&End::in_domain(&domain, SERVER)).await.well();
    assert_eq!(client.info().peer().unwrap().validity().not_after().seconds_since(NOW), 3600);
    assert_eq!(client.ends_at().unwrap() - Instant::now(), Duration::from_secs(101));
    assert_eq!(server.ends_at(), None);
}
