//! tonic on both ends.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::transport::{Channel, Endpoint, Server};
use tower::{Service as _, ServiceExt as _, service_fn};

use super::fixture::{CLIENT, Pair};
use crate::tls::{Acceptor, Connector, Options, PeerInfo};

/// One call; the answer is whom the server saw.
async fn who_am_i(channel: &mut Channel) -> Result<String, tonic::transport::Error> {
    let request = Request::post("http://localhost/who").body(Body::empty()).unwrap();
    let answer = channel.ready().await?.call(request).await?;
    Ok(answer.headers()["peer"].to_str().unwrap().to_owned())
}

#[tokio::test]
async fn handlers_know_their_peer_and_can_close_its_connection() {
    let mut pair = Pair::new();
    pair.options = Options::grpc();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let incoming = Acceptor::new(listener, pair.server_tls()).incoming(stop.clone());
    let seen = Arc::new(Mutex::new(Vec::<PeerInfo>::new()));
    let log = Arc::clone(&seen);
    let handler = service_fn(move |request: Request<Body>| {
        let info = request.extensions().get::<PeerInfo>().unwrap().clone();
        let id = info.peer().unwrap().spiffe_id().to_string();
        log.lock().unwrap().push(info);
        let answer = Response::builder().header("peer", id).body(Body::empty()).unwrap();
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let mut server = JoinSet::new();
    server.spawn(async move { Server::builder().serve_with_incoming(handler, incoming).await });

    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut channel = endpoint.connect_with_connector(Connector::new(pair.client_tls())).await.unwrap();
    assert_eq!(who_am_i(&mut channel).await.unwrap(), CLIENT);
    assert_eq!(who_am_i(&mut channel).await.unwrap(), CLIENT);
    let first: Vec<PeerInfo> = seen.lock().unwrap().clone();
    assert_eq!(first[0].address(), first[1].address(), "one connection");
    first[0].close().cancel();
    // The connection is gone; the channel makes another.
    while seen.lock().unwrap().last().unwrap().address() == first[0].address() {
        who_am_i(&mut channel).await.ok();
    }
    assert_eq!(who_am_i(&mut channel).await.unwrap(), CLIENT);
    stop.cancel();
    drop(channel);
    server.join_next().await.unwrap().unwrap().unwrap();
}
