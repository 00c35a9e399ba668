//! The workload that calls: a new connection, so a whole handshake, for every call.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mayfly_sdk::client::{Source, X509Context};
use mayfly_sdk::tls::{self, Authorizer, ClientTls, Credentials, Options, Trust};
use mayfly_sdk::{Clock, SpiffeId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::say;
use crate::cmd::demo::report::Report;
use crate::failure::Failure;

/// Between two calls.
const EVERY: Duration = Duration::from_millis(50);
/// How long one may take.
const CALL: Duration = Duration::from_secs(2);

pub(super) async fn run(source: &Source<X509Context>, address: String, peer: SpiffeId) -> Result<(), Failure> {
    let build = |credentials, trust| {
        let tls =
            ClientTls::new(credentials, trust, Authorizer::exact(peer.clone()), &Clock::system(), &Options::default());
        tls.map_err(|refusal| Failure::refused("the workload does not call", &refusal))
    };
    let mut tls = build(source.credentials(), source.trust())?;
    let (mut good, mut failed) = (0, 0);
    let (mut last_peer, mut why) = (String::new(), String::new());
    let mut kept: Option<Arc<X509Context>> = None;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match source.current() {
            Ok(context) => kept = Some(context),
            // Withdrawn. What a thief would do who copied key and SVID in time: go on with the copy.
            Err(_) => {
                if let Some(copy) = kept.take() {
                    let bundles = Arc::clone(copy.bundles());
                    let svid = copy.default_svid().clone();
                    tls = build(
                        Credentials::from_svids(move || Some(svid.clone())),
                        Trust::from_fn(move || Arc::clone(&bundles)),
                    )?;
                }
            }
        }
        match timeout(CALL, call(&address, &tls)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(peer) => {
                good += 1;
                last_peer = peer;
            }
            Err(error) => {
                failed += 1;
                why = error.to_string();
            }
        }
        say(&Report::Calls { good, failed, peer: last_peer.clone(), why: why.clone() });
    }
}

/// One call; who answered.
async fn call(address: &str, tls: &ClientTls) -> io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let mut connection = tls::connect(stream, tls).await.map_err(io::Error::other)?;
    connection.write_all(b"ping").await?;
    let mut answer = [0; 4];
    connection.read_exact(&mut answer).await?;
    let peer = connection.info().peer().map(|peer| peer.spiffe_id().to_string());
    peer.filter(|_| &answer == b"ping").ok_or_else(|| io::ErrorKind::InvalidData.into())
}
