//! The task API of a node agent in this process: a real gRPC server on a Unix socket, which answers as the test has laid out.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mayfly_proto::task as wire;
use mayfly_proto::task::task_service_server::{TaskService, TaskServiceServer};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status};

use crate::client::Endpoint;

pub(crate) type Messages<T> = mpsc::UnboundedSender<Result<T, Status>>;
type Waiting<T> = Mutex<VecDeque<Result<mpsc::UnboundedReceiver<Result<T, Status>>, Status>>>;

pub(crate) struct FakeTasks {
    directory: tempfile::TempDir,
    brain: Arc<Brain>,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct Brain {
    feeds: Waiting<wire::Revocations>,
    watches: Waiting<wire::WatchResponse>,
    begins: Mutex<VecDeque<Result<wire::BeginResponse, Status>>>,
    seen: watch::Sender<Vec<Seen>>,
}

/// What was called.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    Begin(wire::BeginRequest),
    Delegate(wire::DelegateRequest),
    Watch(String),
    Complete(String, bool),
    Feed(String),
}

impl FakeTasks {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let brain = Arc::new(Brain::default());
        let incoming = UnixListenerStream::new(UnixListener::bind(directory.path().join("api.sock")).unwrap());
        let service = TaskServiceServer::from_arc(Arc::clone(&brain));
        let mut server = JoinSet::new();
        server.spawn(async move {
            tonic::transport::Server::builder().serve_with_incoming(service, incoming).await.unwrap();
        });
        Self { directory, brain, _server: server }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        format!("unix://{}", self.socket().display()).parse().unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    /// The next `WatchRevocations` gets this stream.
    pub(crate) fn feed(&self) -> Messages<wire::Revocations> {
        let (stream, answer) = mpsc::unbounded_channel();
        self.brain.feeds.lock().unwrap().push_back(Ok(answer));
        stream
    }

    /// The next `WatchRevocations` is refused.
    pub(crate) fn refuse_feed(&self, status: Status) {
        self.brain.feeds.lock().unwrap().push_back(Err(status));
    }

    /// The next `Watch` gets this stream.
    pub(crate) fn watch(&self) -> Messages<wire::WatchResponse> {
        let (stream, answer) = mpsc::unbounded_channel();
        self.brain.watches.lock().unwrap().push_back(Ok(answer));
        stream
    }

    /// The next `Begin` or `Delegate` gets this answer.
    pub(crate) fn begin(&self, answer: Result<wire::BeginResponse, Status>) {
        self.brain.begins.lock().unwrap().push_back(answer);
    }

    /// Everything that was called, once there is a call like this.
    pub(crate) async fn seen(&self, like: impl Fn(&Seen) -> bool) -> Vec<Seen> {
        let mut seen = self.brain.seen.subscribe();
        let found = seen.wait_for(|seen| seen.iter().any(&like));
        timeout(Duration::from_secs(20), found).await.expect("such a call within 20 s").unwrap().clone()
    }

    /// Waits for so many calls of `WatchRevocations`.
    pub(crate) async fn fed(&self, times: usize) {
        self.seen_times(|seen| matches!(seen, Seen::Feed(_)), times).await;
    }

    /// Waits for so many calls like this.
    pub(crate) async fn seen_times(&self, like: impl Fn(&Seen) -> bool, times: usize) {
        let mut seen = self.brain.seen.subscribe();
        let count = |seen: &Vec<Seen>| seen.iter().filter(|seen| like(seen)).count();
        timeout(Duration::from_secs(20), seen.wait_for(|seen| count(seen) >= times)).await.expect("called").unwrap();
    }
}

impl Brain {
    fn note(&self, call: Seen) {
        self.seen.send_modify(|seen| seen.push(call));
    }

    fn begun(&self) -> Result<Response<wire::BeginResponse>, Status> {
        let laid_out = self.begins.lock().unwrap().pop_front();
        laid_out.unwrap_or(Err(Status::unavailable("nothing laid out"))).map(Response::new)
    }
}

fn next<T>(waiting: &Waiting<T>) -> Result<Response<UnboundedReceiverStream<Result<T, Status>>>, Status> {
    let laid_out = waiting.lock().unwrap().pop_front();
    let stream = laid_out.unwrap_or(Err(Status::unavailable("nothing laid out")))?;
    Ok(Response::new(UnboundedReceiverStream::new(stream)))
}

fn check_header<T>(request: &Request<T>) -> Result<(), Status> {
    let values: Vec<_> = request.metadata().get_all("workload.spiffe.io").iter().collect();
    if values == ["true"] { Ok(()) } else { Err(Status::invalid_argument("security header missing from request")) }
}

#[tonic::async_trait]
impl TaskService for Brain {
    type WatchStream = UnboundedReceiverStream<Result<wire::WatchResponse, Status>>;
    type WatchRevocationsStream = UnboundedReceiverStream<Result<wire::Revocations, Status>>;

    async fn begin(&self, request: Request<wire::BeginRequest>) -> Result<Response<wire::BeginResponse>, Status> {
        check_header(&request)?;
        self.note(Seen::Begin(request.into_inner()));
        self.begun()
    }

    async fn delegate(&self, request: Request<wire::DelegateRequest>) -> Result<Response<wire::BeginResponse>, Status> {
        check_header(&request)?;
        self.note(Seen::Delegate(request.into_inner()));
        self.begun()
    }

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        check_header(&request)?;
        self.note(Seen::Watch(request.into_inner().id));
        next(&self.watches)
    }

    async fn complete(
        &self,
        request: Request<wire::CompleteRequest>,
    ) -> Result<Response<wire::CompleteResponse>, Status> {
        check_header(&request)?;
        let wire::CompleteRequest { id, failed } = request.into_inner();
        self.note(Seen::Complete(id.clone(), failed));
        Ok(Response::new(wire::CompleteResponse { ended: vec![id] }))
    }

    async fn list(&self, _request: Request<wire::ListRequest>) -> Result<Response<wire::ListResponse>, Status> {
        Err(Status::unimplemented("not laid out"))
    }

    async fn validate(
        &self,
        _request: Request<wire::ValidateRequest>,
    ) -> Result<Response<wire::ValidateResponse>, Status> {
        Err(Status::unimplemented("not laid out"))
    }

    async fn watch_revocations(
        &self,
        request: Request<wire::WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        check_header(&request)?;
        self.note(Seen::Feed(request.into_inner().audience));
        next(&self.feeds)
    }
}
