//! The workload that is called.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use mayfly_sdk::client::{Source, X509Context};
use mayfly_sdk::tls::{self, Authorizer, ClientAuth, Options, ServerTls};
use mayfly_sdk::{Clock, SpiffeId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::say;
use crate::cmd::demo::report::Report;
use crate::failure::Failure;

/// How long a call may take.
const CALL: Duration = Duration::from_secs(5);

pub(super) async fn run(source: &Source<X509Context>, peer: SpiffeId) -> Result<(), Failure> {
    let clients = ClientAuth::Required(Authorizer::exact(peer));
    let tls = ServerTls::new(source.credentials(), source.trust(), clients, &Clock::system(), &Options::default());
    let tls = Arc::new(tls.map_err(|refusal| Failure::refused("the workload does not serve", &refusal))?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    say(&Report::Listening { address: listener.local_addr()?.to_string() });
    let mut calls = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        while calls.try_join_next().is_some() {}
        let tls = Arc::clone(&tls);
        calls.spawn(timeout(CALL, answer(stream, tls)));
    }
}

/// Repeats what a peer says that was let in; reports one that was not.
async fn answer(stream: TcpStream, tls: Arc<ServerTls>) {
    match tls::accept(stream, &tls).await {
        Ok(mut connection) => {
            let mut said = [0; 4];
            if connection.read_exact(&mut said).await.is_ok() && connection.write_all(&said).await.is_ok() {
                // The caller counts the call when it has read the answer.
                connection.shutdown().await.ok();
            }
        }
        Err(refusal) => say(&Report::Refused { reason: refusal.reason.code().to_owned(), what: refusal.what }),
    }
}
