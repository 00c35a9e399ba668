//! A node agent without its socket, for tests: the real link, identities and Workload API, against a [`FakeIssuer`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests only")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mayfly_proto::node;
use mayfly_sdk::Clock;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Request;

use crate::directory::Directory;
use crate::fake_issuer::FakeIssuer;
use crate::identity::Identities;
use crate::link::{Held, Link, LinkSettings, LinkStatus, LinkView, TaskNews};
use crate::listener::Peer;
use crate::revocations::Revocations;
use crate::streams::Streams;
use crate::tasks::Tasks;
use crate::warm;
use crate::workload::{Attestors, HeldProcess, Instances, boot::BootId};
use crate::workload_api::{CallLimits, Calls, Served, Shared, WorkloadApi};

/// A running node.
pub(crate) struct TestNode {
    pub(crate) issuer: FakeIssuer,
    pub(crate) view: LinkView,
    pub(crate) identities: Identities,
    /// What a warm restart keeps of it.
    pub(crate) subject: warm::Subject,
    pub(crate) api: WorkloadApi,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
    tasks: JoinSet<()>,
    _directory: TempDir,
}

impl TestNode {
    /// A node that is in sync.
    pub(crate) async fn in_sync() -> Self {
        let node = Self::start(FakeIssuer::start(Clock::system()).await);
        node.wait_for_sync().await;
        node
    }

    /// A node that has just begun.
    pub(crate) fn start(issuer: FakeIssuer) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("token"), issuer.token()).unwrap();
        let clock = issuer.state.clock.clone();
        let streams = Streams::new();
        let (soonest_end, ends) = watch::channel(None);
        let (task_news, news) = mpsc::unbounded_channel();
        let (link, view) = Self::link(directory.path(), &issuer, &streams, ends, task_news, &clock);
        let trust_domain = issuer.state.trust_domain.clone();
        let (identities, minters) = Identities::new(&trust_domain, &view, 100, soonest_end, &clock);
        let instances = Arc::new(Instances::new(BootId::current().unwrap()).unwrap());
        let (held_tasks, keeper) = Tasks::new(&view, &identities, &instances, news, &clock);
        let stop = CancellationToken::new();
        let served = Served::default();
        let subject = warm::Subject {
            trust_domain: trust_domain.clone(),
            link: view.clone(),
            identities: identities.clone(),
            instances: Arc::clone(&instances),
            served: served.clone(),
            tasks: held_tasks.clone(),
            clock: clock.clone(),
        };
        let api = WorkloadApi::new(Shared {
            trust_domain,
            link: view.clone(),
            identities: identities.clone(),
            streams,
            revocations: Revocations::new(&view, &clock),
            tasks: held_tasks.clone(),
            attestors: Attestors::new(),
            instances: Arc::clone(&instances),
            served,
            calls: Calls::new(CallLimits { streams_per_uid: 10, calls_per_uid: 10 }),
            clock: clock.clone(),
            stop: stop.clone(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(link.run(stop.clone()));
        tasks.spawn(minters.run(stop.clone()));
        tasks.spawn(keeper.run(stop.clone()));
        let (mut deaths, halt) = (instances.deaths(), stop.clone());
        tasks.spawn(async move {
            while let Some(Some(dead)) = halt.run_until_cancelled(deaths.recv()).await {
                held_tasks.instance_ended(dead);
            }
        });
        let halt = stop.clone();
        tasks.spawn(async move { instances.run(halt).await });
        Self { issuer, view, identities, subject, api, clock, stop, tasks, _directory: directory }
    }

    fn link(
        directory: &Path,
        issuer: &FakeIssuer,
        streams: &Streams,
        ends: watch::Receiver<Option<Duration>>,
        task_news: mpsc::UnboundedSender<TaskNews>,
        clock: &Clock,
    ) -> (Link, LinkView) {
        let settings = LinkSettings {
            trust_domain: issuer.state.trust_domain.clone(),
            addresses: vec![issuer.address.to_string()],
            join_token_file: Some(directory.join("token")),
            machine: None,
            bootstrap_bundle: None,
            boot_id: "boot".to_owned(),
        };
        let state = Directory::open(&directory.join("state")).unwrap();
        Link::new(settings, state, Held::nothing(), streams.clone(), ends, task_news, clock.clone()).unwrap()
    }

    pub(crate) async fn wait_for_sync(&self) {
        let mut status = self.view.status.clone();
        let synced = status.wait_for(LinkStatus::is_in_sync);
        tokio::time::timeout(Duration::from_secs(30), synced).await.expect("in sync").unwrap();
    }

    /// Waits until an entry is known here.
    pub(crate) async fn put(&self, entry: node::Entry) {
        let (uid, issuance) = (entry.uid.clone(), entry.issuance);
        self.issuer.state.put(entry);
        let mut holdings = self.view.holdings.clone();
        holdings.wait_for(|held| held.entry(&uid).is_some_and(|entry| entry.issuance() == issuance)).await.unwrap();
    }

    /// Stops the issuer, and waits until that was noticed.
    pub(crate) async fn without_issuer(&mut self) {
        self.issuer.stop.cancel();
        let mut status = self.view.status.clone();
        status.wait_for(|status| !status.is_in_sync()).await.unwrap();
    }

    /// Starts the issuer again.
    pub(crate) async fn with_issuer(mut self) -> Self {
        self.issuer = self.issuer.restart().await;
        self.wait_for_sync().await;
        self
    }

    /// A call of this very process.
    pub(crate) fn call<T>(message: T) -> Request<T> {
        Self::call_of(std::process::id(), message)
    }

    /// A call of another process.
    pub(crate) fn call_of<T>(pid: u32, message: T) -> Request<T> {
        let process = Arc::new(HeldProcess::of_pid(pid.try_into().unwrap()).unwrap());
        let mut request = Request::new(message);
        request.extensions_mut().insert(Arc::new(Peer::new(process)));
        request
    }

    /// Ends everything.
    pub(crate) async fn halt(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// An entry that this very process matches.
pub(crate) fn entry(uid: &str) -> node::Entry {
    node::Entry {
        uid: uid.to_owned(),
        spiffe_id: format!("spiffe://example.org/{uid}"),
        selectors: vec![format!("unix:uid:{}", nix::unistd::geteuid())],
        ..node::Entry::default()
    }
}
