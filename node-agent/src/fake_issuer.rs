//! An issuer with real behaviour, for tests: TLS, attestation, minting and `Sync` over loopback, and knobs for what can go wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests only"
)]

mod authority;
mod service;
mod tasks;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt as _;
use mayfly_proto::node;
use mayfly_proto::node::node_service_server::NodeServiceServer;
use mayfly_proto::node::sync_response::Message as Update;
use mayfly_sdk::tls::{Acceptor, Authorizer, ClientAuth, Credentials, Options, ServerTls, Trust};
use mayfly_sdk::{Clock, Refusal, TrustDomain};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use self::authority::Authority;
use self::service::Service;
use self::tasks::FakeTasks;

/// Tokens that begin so enrol.
pub(crate) const SECRET: &str = "s3cret";

/// A running issuer. It ends when it is dropped.
pub(crate) struct FakeIssuer {
    pub(crate) state: Arc<State>,
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// What it knows, and how it is to behave.
pub(crate) struct State {
    pub(crate) clock: Clock,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) authority: Authority,
    pub(crate) knobs: Mutex<Knobs>,
    /// Pushed to every open stream.
    pub(crate) pushes: broadcast::Sender<node::SyncResponse>,
    /// What is sent to an agent that holds nothing.
    pub(crate) snapshot: Mutex<node::Snapshot>,
    pub(crate) seen: Mutex<Seen>,
    pub(crate) tasks: Mutex<FakeTasks>,
    /// Revisions that were acknowledged, the newest last.
    pub(crate) acknowledged: watch::Sender<Vec<node::Revision>>,
    pub(crate) reports: watch::Sender<Vec<node::NodeReport>>,
}

/// How it is to behave.
pub(crate) struct Knobs {
    pub(crate) refuse_attest: Option<Refusal>,
    pub(crate) refuse_sync: Option<Refusal>,
    /// Renewals are carried out and their answers lost.
    pub(crate) lose_renewals: u32,
    pub(crate) refuse_mint: Option<node::Refused>,
    pub(crate) node_lifetime_s: u32,
    pub(crate) node_renew_after_s: u32,
    pub(crate) svid_lifetime_s: u32,
    pub(crate) svid_renew_after_s: u32,
    pub(crate) hello_skew_ms: i64,
}

/// What it was asked.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) attests: u32,
    pub(crate) reattests: u32,
    /// Request id and generation of each renewal.
    pub(crate) renewals: Vec<(Vec<u8>, u64)>,
    /// What each `Sync` resumed from.
    pub(crate) syncs: Vec<Option<node::Revision>>,
    /// The number of items of each batch.
    pub(crate) x509_batches: Vec<usize>,
    pub(crate) jwt_batches: Vec<usize>,
    pub(crate) wit_batches: Vec<usize>,
    pub(crate) subjects: VecDeque<node::Subject>,
    pub(crate) generation: u64,
    pub(crate) node_keys: Vec<Vec<u8>>,
}

impl FakeIssuer {
    /// An issuer of `example.org`, on a port of its own.
    pub(crate) async fn start(clock: Clock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let trust_domain: TrustDomain = "example.org".parse().unwrap();
        let authority = Authority::new(&trust_domain, &clock);
        let snapshot = node::Snapshot {
            revision: Some(node::Revision { epoch: 1, n: 1 }),
            bundles: vec![authority.wire_bundle(1)],
            done: true,
            ..node::Snapshot::default()
        };
        let state = Arc::new(State {
            clock,
            trust_domain,
            authority,
            knobs: Mutex::new(Knobs {
                refuse_attest: None,
                refuse_sync: None,
                lose_renewals: 0,
                refuse_mint: None,
                node_lifetime_s: 3600,
                node_renew_after_s: 1800,
                svid_lifetime_s: 900,
                svid_renew_after_s: 450,
                hello_skew_ms: 0,
            }),
            pushes: broadcast::Sender::new(64),
            snapshot: Mutex::new(snapshot),
            seen: Mutex::default(),
            tasks: Mutex::new(FakeTasks::new()),
            acknowledged: watch::Sender::new(Vec::new()),
            reports: watch::Sender::new(Vec::new()),
        });
        Self::serve(state, listener)
    }

    /// The same issuer again, at the same address, after it was stopped.
    pub(crate) async fn restart(self) -> Self {
        let (state, address) = (Arc::clone(&self.state), self.address);
        self.halt().await;
        let listener = TcpListener::bind(address).await.unwrap();
        Self::serve(state, listener)
    }

    /// Ends it with all its connections.
    pub(crate) async fn halt(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    fn serve(state: Arc<State>, listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let own = state.authority.issuer_svid();
        let credentials = Credentials::from_svids(move || Some(own.clone()));
        let clients = ClientAuth::Optional(Authorizer::member_of(state.trust_domain.clone()));
        let trust = Trust::fixed(state.authority.trust());
        let tls = ServerTls::new(credentials, trust, clients, &state.clock, &Options::grpc()).unwrap();
        let service = NodeServiceServer::new(Service(Arc::clone(&state)));
        let mut tasks = JoinSet::new();
        let halt = stop.clone();
        tasks.spawn(async move {
            // tonic leaves connections to themselves when a server is dropped.
            let connections = Arc::new(Mutex::new(Vec::new()));
            let opened = Arc::clone(&connections);
            let incoming = Acceptor::new(listener, tls).incoming(halt.clone()).inspect(move |accepted| {
                opened.lock().push(accepted.as_ref().unwrap().info().close().clone());
            });
            let server = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
            halt.run_until_cancelled(server).await;
            connections.lock().iter().for_each(CancellationToken::cancel);
        });
        Self { state, address, stop, tasks }
    }

    /// The join token that it takes.
    pub(crate) fn token(&self) -> String {
        format!("{SECRET}.{}", self.state.authority.pin())
    }
}

impl State {
    /// Puts an entry into the snapshot and pushes it as the next revision.
    pub(crate) fn put(&self, entry: node::Entry) {
        self.change(|delta| delta.put.push(entry));
    }

    /// Takes an entry away.
    pub(crate) fn remove(&self, uid: &str) {
        self.change(|delta| delta.removed.push(uid.to_owned()));
    }

    /// Makes a change: the next revision, for those who come and those who are there.
    pub(crate) fn change(&self, fill: impl FnOnce(&mut node::Delta)) {
        let mut snapshot = self.snapshot.lock();
        let from = snapshot.revision.unwrap();
        let revision = node::Revision { n: from.n + 1, ..from };
        let mut delta = node::Delta { from: Some(from), revision: Some(revision), ..node::Delta::default() };
        fill(&mut delta);
        snapshot.revision = Some(revision);
        snapshot
            .entries
            .retain(|held| !delta.removed.contains(&held.uid) && delta.put.iter().all(|put| put.uid != held.uid));
        snapshot.entries.extend(delta.put.iter().cloned());
        for bundle in &delta.bundles {
            snapshot.bundles.retain(|held| held.trust_domain != bundle.trust_domain);
            snapshot.bundles.push(bundle.clone());
        }
        snapshot.denials = delta.denials.clone().or(snapshot.denials.take());
        // Nobody listens where nobody is connected.
        self.pushes.send(node::SyncResponse { message: Some(Update::Delta(delta)) }).ok();
    }

    /// Waits until a revision was acknowledged.
    pub(crate) async fn acknowledged(&self, n: u64) {
        let mut acknowledged = self.acknowledged.subscribe();
        acknowledged.wait_for(|all| all.last().is_some_and(|last| last.n >= n)).await.unwrap();
    }
}
