//! `Sync`: one long-lived stream a node. Nothing is sent but changes; nothing is read from the database.

mod parts;

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream;
use mayfly_proto::node::{
    Bundle, Delta, Denials as WireDenials, Entry, NodeReport, Revision as WireRevision, Sharing as WireSharing,
    SyncHello, SyncRequest, SyncResponse, sync_request, sync_response,
};
use mayfly_sdk::{Reason, Refusal, Revision, TrustDomain};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use self::parts::{MESSAGE_BYTES, Parts};
use super::{Answers, Inner, hello};
use crate::{
    directory::Denials,
    registry::{NodeEntry, Sharing, Uid},
    store::{BundleRow, NodeRow},
    sync::session::{Changes, Pending, Session},
    task::Watch,
};

/// How long the agent may take for its first message.
const START: Duration = Duration::from_secs(10);
/// How long an agent may leave a message unread before its stream is ended.
pub(super) const UNREAD: Duration = Duration::from_secs(30);
/// The most problems that an agent may report.
const MAX_PROBLEMS: usize = 1000;

/// What the session sends, until either side ends it.
pub(super) fn answers(
    inner: Arc<Inner>,
    node: Arc<NodeRow>,
    close: CancellationToken,
    requests: Streaming<SyncRequest>,
) -> Answers<SyncResponse> {
    let (send, answers) = mpsc::channel(4);
    let work = async move {
        let stream = SyncStream { inner: &inner, node: &node, answers: &send, held: None };
        if let Err(refusal) = stream.run(requests, &close).await {
            // Nobody to tell: the agent has gone.
            send.send(Err(inner.refused("sync", refusal))).await.ok();
        }
    };
    Box::pin(driven(work, ReceiverStream::new(answers)))
}

struct SyncStream<'a> {
    inner: &'a Inner,
    node: &'a NodeRow,
    answers: &'a mpsc::Sender<Result<SyncResponse, Status>>,
    held: Option<Revision>,
}

impl SyncStream<'_> {
    async fn run(mut self, mut requests: Streaming<SyncRequest>, close: &CancellationToken) -> Result<(), Refusal> {
        let directory = &self.inner.minter.directory;
        let start = match tokio::time::timeout(START, requests.next()).await {
            Ok(Some(Ok(SyncRequest { message: Some(sync_request::Message::Start(start)) }))) => start,
            Ok(Some(Err(status))) => return Err(Refusal::from_status(&status)),
            _ => return Err(Refusal::new(Reason::InvalidArgument, "a sync begins with a start message")),
        };
        let greeting = hello::read(start.hello, directory)?;
        self.held = start.held.map(|held| Revision { epoch: held.epoch, n: held.n });
        let stop = self.inner.stop.child_token();
        let session = directory
            .connect(self.node, self.held, greeting.build, greeting.skew_ms, stop)
            .inspect_err(|_refused| close.cancel())?;
        tracing::info!(node = %self.node.spiffe_id, build = session.build, "node in sync");
        self.inner.metrics.connected(directory.count_sessions());
        let connected = Connected { inner: self.inner, session: &session };
        let tasks = greeting.tasks.then(|| self.inner.minter.tasks.watch(&self.node.spiffe_id));
        let outcome = self.serve(&session, tasks.as_deref(), requests).await;
        drop(connected);
        if directory.live_node(&self.node.spiffe_id, &self.node.key_sha256).is_err() {
            // Banned, frozen or evicted meanwhile: its connection ends with its stream.
            close.cancel();
        }
        outcome
    }

    async fn serve(
        &mut self,
        session: &Arc<Session>,
        tasks: Option<&Watch>,
        mut requests: Streaming<SyncRequest>,
    ) -> Result<(), Refusal> {
        let news = async || match tasks {
            Some(tasks) => tasks.next().await,
            None => std::future::pending().await,
        };
        self.send(sync_response::Message::Hello(SyncHello { hello: Some(hello::own(&self.inner.minter.directory)) }))
            .await?;
        loop {
            tokio::select! {
                () = session.stop.cancelled() => return Err(self.ended()),
                pending = session.next() => match pending {
                    Pending::Everything => self.send_everything(session).await?,
                    Pending::Changes(changes) => self.send_changes(session, changes).await?,
                },
                news = news() => {
                    let states = self.inner.task_states(&self.node.spiffe_id, news);
                    self.send(sync_response::Message::Tasks(states)).await?;
                }
                request = requests.next() => match request {
                    None => return Ok(()),
                    Some(Err(status)) => return Err(Refusal::from_status(&status)),
                    Some(Ok(request)) => self.read(session, request)?,
                },
            }
        }
    }

    fn read(&self, session: &Session, request: SyncRequest) -> Result<(), Refusal> {
        match request.message {
            Some(sync_request::Message::Ack(ack)) => {
                let revision = ack.revision.map(|revision| Revision { epoch: revision.epoch, n: revision.n });
                let revision = revision.filter(|revision| self.held.is_some_and(|held| *revision <= held));
                let revision = revision.ok_or_else(|| {
                    Refusal::new(Reason::InvalidArgument, "a revision was acknowledged that was never sent")
                })?;
                self.inner.minter.directory.acknowledge(session, revision);
                Ok(())
            }
            Some(sync_request::Message::Report(report)) => {
                session.report(problems(report)?);
                Ok(())
            }
            Some(sync_request::Message::Start(_)) | None => {
                Err(Refusal::new(Reason::InvalidArgument, "a sync has one start message, and none that is empty"))
            }
        }
    }

    fn ended(&self) -> Refusal {
        let directory = &self.inner.minter.directory;
        match directory.live_node(&self.node.spiffe_id, &self.node.key_sha256) {
            Err(refusal) => refusal,
            Ok(_) if self.inner.stop.is_cancelled() => {
                Refusal::new(Reason::ShuttingDown, "the issuer is shutting down")
            }
            Ok(_) => Refusal::new(Reason::Stale, "a newer stream of this node has taken over"),
        }
    }

    async fn send_everything(&mut self, session: &Session) -> Result<(), Refusal> {
        let everything = self.inner.minter.directory.everything_for(session);
        let revision = everything.revision;
        let entries = everything.entries.put.into_iter().map(wire_entry);
        let bundles = everything.bundles.into_iter().map(wire_bundle);
        for part in Parts::new(wire_revision(revision), wire_denials(everything.denials), bundles, entries) {
            self.send(sync_response::Message::Snapshot(part)).await?;
        }
        self.held = Some(revision);
        Ok(())
    }

    async fn send_changes(&mut self, session: &Session, changes: Changes) -> Result<(), Refusal> {
        if self.held.is_some_and(|held| changes.revision < held) {
            // Everything was sent meanwhile, and these changes with it.
            return Ok(());
        }
        let directory = &self.inner.minter.directory;
        let (bundles, removed_bundles) = self.bundles(changes.bundles);
        let delta = Delta {
            from: self.held.map(wire_revision),
            revision: Some(wire_revision(changes.revision)),
            put: changes.put.into_values().map(wire_entry).collect(),
            removed: changes.removed.iter().map(Uid::to_string).collect(),
            bundles,
            removed_bundles,
            denials: changes.denials.then(|| wire_denials(directory.denials(directory.clock().now()))),
        };
        if delta.encoded_len() > MESSAGE_BYTES {
            // A delta is one message; everything comes in parts.
            return self.send_everything(session).await;
        }
        self.send(sync_response::Message::Delta(delta)).await?;
        self.held = Some(changes.revision);
        Ok(())
    }

    fn bundles(&self, changed: impl IntoIterator<Item = TrustDomain>) -> (Vec<Bundle>, Vec<String>) {
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for trust_domain in changed {
            match self.inner.minter.directory.bundle(&trust_domain) {
                Some(bundle) => there.push(wire_bundle(bundle)),
                None => gone.push(trust_domain.to_string()),
            }
        }
        (there, gone)
    }

    async fn send(&self, message: sync_response::Message) -> Result<(), Refusal> {
        let sending = self.answers.send(Ok(SyncResponse { message: Some(message) }));
        match tokio::time::timeout(UNREAD, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_gone)) => Err(Refusal::new(Reason::ConnectionClosed, "the node hung up")),
            Err(_elapsed) => Err(Refusal::new(Reason::Overloaded, "the node has not read its stream for 30 s")),
        }
    }
}

/// A session for as long as its stream is driven: a connection that breaks off drops the stream in the middle.
struct Connected<'a> {
    inner: &'a Inner,
    session: &'a Arc<Session>,
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        let directory = &self.inner.minter.directory;
        directory.disconnect(self.session);
        self.inner.metrics.connected(directory.count_sessions());
        tracing::info!(node = %self.session.node.spiffe_id, "node's sync ended");
    }
}

fn problems(report: NodeReport) -> Result<BTreeMap<Uid, Refusal>, Refusal> {
    if report.problems.len() > MAX_PROBLEMS {
        return Err(Refusal::new(Reason::InvalidArgument, "a node reports at most 1,000 problems"));
    }
    let read = |problem: mayfly_proto::node::EntryProblem| {
        let reason = problem.reason.parse().unwrap_or(Reason::Unavailable);
        let what: String = problem.what.chars().take(500).collect();
        Ok((problem.entry_uid.parse::<Uid>()?, Refusal::new(reason, what)))
    };
    report.problems.into_iter().map(read).collect()
}

fn wire_revision(revision: Revision) -> WireRevision {
    WireRevision { epoch: revision.epoch, n: revision.n }
}

fn wire_bundle(bundle: BundleRow) -> Bundle {
    Bundle {
        trust_domain: bundle.trust_domain.to_string(),
        document: bundle.document.into(),
        sequence: bundle.sequence,
    }
}

fn wire_denials(denials: Denials) -> WireDenials {
    WireDenials { tainted_authorities: denials.authorities, ..WireDenials::default() }
}

fn wire_entry(entry: NodeEntry) -> Entry {
    let sharing = match entry.sharing {
        Sharing::Entry => WireSharing::Entry,
        Sharing::Instance => WireSharing::Instance,
    };
    Entry {
        uid: entry.uid.to_string(),
        name: entry.name.to_string(),
        issuance: entry.issuance,
        spiffe_id: entry.spiffe_id,
        selectors: entry.selectors.iter().map(ToString::to_string).collect(),
        hint: entry.hint.into(),
        federates_with: entry.federates_with.iter().map(ToString::to_string).collect(),
        x509_ttl_s: entry.x509_ttl.as_s(),
        jwt_ttl_s: entry.jwt_ttl.as_s(),
        jwt_audiences: entry.jwt_audiences.iter().map(ToString::to_string).collect(),
        sharing: sharing.into(),
        expires_at: entry.expires_at.map_or(0, mayfly_sdk::Timestamp::unix_s),
        required_features: entry.required_features.iter().map(ToString::to_string).collect(),
        order: entry.order,
        tasks: entry.tasks,
        serves: entry.serves.iter().map(ToString::to_string).collect(),
    }
}

/// The answers of some work, which lives and is driven in the stream of its answers: whoever drops the stream ends it.
pub(super) fn driven<T>(
    work: impl Future<Output = ()> + Send + 'static,
    answers: ReceiverStream<T>,
) -> impl Stream<Item = T> {
    Driven { work: Some(Box::pin(work)), answers }
}

struct Driven<T> {
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    answers: ReceiverStream<T>,
}

impl<T> Stream for Driven<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(work) = &mut self.work
            && work.as_mut().poll(cx).is_ready()
        {
            self.work = None;
        }
        Pin::new(&mut self.answers).poll_next(cx)
    }
}
