//! One end of mTLS connections by the `spiffe` crate and its rustls integration.
//!
//! usage: spiffe-crate-tls tls-serve ADDRESS CLIENT-ID (until it is killed) | tls-call ADDRESS SERVER-ID SECONDS (prints one JSON object).

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a test's workload, which reports on its output")]

use std::{
    collections::BTreeSet,
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use spiffe_rustls::{authorizer, mtls_client, mtls_server};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{ClientConfig, ServerConfig, pki_types::ServerName},
};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let source = spiffe::X509Source::new().await?;
    match args.as_slice() {
        [mode, address, peer] if mode == "tls-serve" => {
            let config = mtls_server(source).authorize(authorizer::exact([peer.as_str()])?).build()?;
            serve(config, address).await
        }
        [_, address, peer, seconds] => {
            let config = mtls_client(source).authorize(authorizer::exact([peer.as_str()])?).build()?;
            call(config, address, Duration::from_secs_f64(seconds.parse()?)).await
        }
        _ => Err("usage: spiffe-crate-tls tls-serve|tls-call ADDRESS PEER-ID [SECONDS]".into()),
    }
}

async fn serve(config: ServerConfig, address: &str) -> Outcome<()> {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(address).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (tcp, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let mut tls = acceptor.accept(tcp).await?;
            tls.read_exact(&mut [0; 4]).await?;
            tls.write_all(b"pong").await?;
            tls.shutdown().await
        });
    }
}

async fn call(config: ClientConfig, address: &str, time: Duration) -> Outcome<()> {
    let connector = TlsConnector::from(Arc::new(config));
    let (mut served, mut certificates, mut failures) = (0, BTreeSet::new(), Vec::new());
    let begun = Instant::now();
    while begun.elapsed() < time {
        match once(&connector, address).await {
            Ok(certificate) => {
                served += 1;
                certificates.insert(certificate);
            }
            Err(error) => failures.push(error.to_string()),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{}", json!({"served": served, "certificates": certificates.len(), "failures": failures}));
    Ok(())
}

/// One call; the certificate of the server.
async fn once(connector: &TlsConnector, address: &str) -> Outcome<Vec<u8>> {
    let tcp = TcpStream::connect(address).await?;
    let mut tls = connector.connect(ServerName::try_from("localhost")?, tcp).await?;
    tls.write_all(b"ping").await?;
    tls.read_exact(&mut [0; 4]).await?;
    let chain = tls.get_ref().1.peer_certificates().ok_or("no certificate")?;
    Ok(chain.first().ok_or("an empty chain")?.to_vec())
}
