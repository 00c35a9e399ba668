//! A node agent in this process: a real gRPC server on a Unix socket, which checks the security header and answers each
//! streaming call with the next thing that the test has laid out.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mayfly_proto::workload::spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer};
use mayfly_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, WitBundlesRequest, WitBundlesResponse, WitsvidRequest, WitsvidResponse,
    X509BundlesRequest, X509BundlesResponse, X509svid, X509svidRequest, X509svidResponse,
};
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status};

use crate::client::{Changes, Endpoint, Material, Source, SourceStatus};
use crate::reason::Refusal;
use crate::x509::fixture::{Domain, leaf, signed};

/// What is sent into an open stream; dropping it ends the stream with OK.
pub(super) type Stream = mpsc::UnboundedSender<Result<X509svidResponse, Status>>;

enum Answer {
    Refuse(Status),
    Stream(mpsc::UnboundedReceiver<Result<X509svidResponse, Status>>),
}

pub(super) struct FakeAgent {
    directory: tempfile::TempDir,
    brain: Arc<Brain>,
    server: JoinSet<()>,
    apart: Option<Runtime>,
}

struct Brain {
    answers: Mutex<VecDeque<Answer>>,
    calls: watch::Sender<usize>,
    tokens: Mutex<Vec<Jwtsvid>>,
    jwks: Mutex<String>,
    /// The messages of each stream of WIT-SVIDs; none: unimplemented.
    wits: Mutex<Vec<WitsvidResponse>>,
    bundle: Mutex<Vec<u8>>,
}

impl FakeAgent {
    pub(super) fn new() -> Self {
        let mut agent = Self::absent();
        agent.start();
        agent
    }

    /// One that does not run yet: nothing is at its address.
    pub(super) fn absent() -> Self {
        let brain = Brain {
            answers: Mutex::default(),
            calls: watch::Sender::new(0),
            tokens: Mutex::default(),
            jwks: Mutex::default(),
            wits: Mutex::default(),
            bundle: Mutex::default(),
        };
        Self { directory: tempfile::tempdir().unwrap(), brain: Arc::new(brain), server: JoinSet::new(), apart: None }
    }

    /// On the test's own runtime, so that a paused clock sees when it is idle.
    fn start(&mut self) {
        let incoming = UnixListenerStream::new(UnixListener::bind(self.socket()).unwrap());
        self.server.spawn(serve(Arc::clone(&self.brain), incoming));
    }

    /// On a runtime of its own, which can be killed with every connection.
    pub(super) fn start_apart(&mut self) {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (brain, socket) = (Arc::clone(&self.brain), self.socket());
        runtime.spawn(async move { serve(brain, UnixListenerStream::new(UnixListener::bind(socket).unwrap())).await });
        self.apart = Some(runtime);
    }

    /// Killed, and its socket gone.
    pub(super) fn kill(&mut self) {
        self.apart.take().unwrap().shutdown_background();
        std::fs::remove_file(self.socket()).unwrap();
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        format!("unix://{}", self.socket().display()).parse().unwrap()
    }

    /// The next streaming call is refused.
    pub(super) fn refuse(&self, status: Status) {
        self.brain.answers.lock().unwrap().push_back(Answer::Refuse(status));
    }

    /// The next streaming call gets this stream.
    pub(super) fn stream(&self) -> Stream {
        let (stream, answer) = mpsc::unbounded_channel();
        self.brain.answers.lock().unwrap().push_back(Answer::Stream(answer));
        stream
    }

    /// Streaming calls so far, refused ones included.
    pub(super) fn calls(&self) -> usize {
        *self.brain.calls.borrow()
    }

    pub(super) async fn called(&self, times: usize) {
        let mut calls = self.brain.calls.subscribe();
        timeout(Duration::from_secs(20), calls.wait_for(|calls| *calls >= times)).await.expect("called").unwrap();
    }

    pub(super) fn hold_tokens(&self, tokens: Vec<Jwtsvid>) {
        *self.brain.tokens.lock().unwrap() = tokens;
    }

    pub(super) fn hold_wits(&self, messages: Vec<WitsvidResponse>) {
        *self.brain.wits.lock().unwrap() = messages;
    }

    pub(super) fn hold_jwks(&self, jwks: String) {
        *self.brain.jwks.lock().unwrap() = jwks;
    }

    pub(super) fn hold_bundle(&self, der: Vec<u8>) {
        *self.brain.bundle.lock().unwrap() = der;
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        if let Some(runtime) = self.apart.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(brain: Arc<Brain>, incoming: UnixListenerStream) {
    let service = SpiffeWorkloadApiServer::from_arc(brain);
    tonic::transport::Server::builder().serve_with_incoming(service, incoming).await.unwrap();
}

impl Brain {
    fn answer(&self) -> Answer {
        self.calls.send_modify(|calls| *calls += 1);
        self.answers.lock().unwrap().pop_front().unwrap_or(Answer::Refuse(Status::unavailable("nothing laid out")))
    }
}

/// Rows WE-5 and WE-6: exactly `true`, exactly once, before anything else.
fn check_header<T>(request: &Request<T>) -> Result<(), Status> {
    let values: Vec<_> = request.metadata().get_all("workload.spiffe.io").iter().collect();
    if values == ["true"] { Ok(()) } else { Err(Status::invalid_argument("security header missing from request")) }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Brain {
    type FetchX509SVIDStream = UnboundedReceiverStream<Result<X509svidResponse, Status>>;
    type FetchX509BundlesStream = tokio_stream::Once<Result<X509BundlesResponse, Status>>;
    type FetchJWTBundlesStream = tokio_stream::Once<Result<JwtBundlesResponse, Status>>;
    type FetchWITSVIDStream = tokio_stream::Iter<std::vec::IntoIter<Result<WitsvidResponse, Status>>>;
    type FetchWITBundlesStream = tokio_stream::Once<Result<WitBundlesResponse, Status>>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        check_header(&request)?;
        match self.answer() {
            Answer::Refuse(status) => Err(status),
            Answer::Stream(stream) => Ok(Response::new(UnboundedReceiverStream::new(stream))),
        }
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        check_header(&request)?;
        let bundle = self.bundle.lock().unwrap().clone();
        let bundles = [("spiffe://td".to_owned(), bundle.into())].into();
        Ok(Response::new(tokio_stream::once(Ok(X509BundlesResponse { crl: Vec::new(), bundles }))))
    }

    async fn fetch_jwtsvid(&self, request: Request<JwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Status> {
        check_header(&request)?;
        let asked = request.into_inner().spiffe_id;
        let mut svids = self.tokens.lock().unwrap().clone();
        svids.retain(|svid| asked.is_empty() || svid.spiffe_id == asked);
        Ok(Response::new(JwtsvidResponse { svids }))
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        check_header(&request)?;
        let jwks = self.jwks.lock().unwrap().clone().into_bytes();
        let bundles = [("spiffe://td".to_owned(), jwks.into())].into();
        Ok(Response::new(tokio_stream::once(Ok(JwtBundlesResponse { bundles }))))
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        check_header(&request)?;
        let asked = request.into_inner();
        let tokens = self.tokens.lock().unwrap();
        match tokens.iter().find(|held| held.svid == asked.svid && asked.audience == "db") {
            Some(held) => {
                Ok(Response::new(ValidateJwtsvidResponse { spiffe_id: held.spiffe_id.clone(), claims: None }))
            }
            None => Err(Status::invalid_argument("unexpected audience")),
        }
    }

    async fn fetch_witsvid(
        &self,
        request: Request<WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        check_header(&request)?;
        self.calls.send_modify(|calls| *calls += 1);
        let messages = self.wits.lock().unwrap().clone();
        if messages.is_empty() {
            return Err(Status::unimplemented("WIT-SVIDs are off"));
        }
        Ok(Response::new(tokio_stream::iter(messages.into_iter().map(Ok).collect::<Vec<_>>())))
    }

    async fn fetch_wit_bundles(
        &self,
        request: Request<WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        check_header(&request)?;
        self.calls.send_modify(|calls| *calls += 1);
        let jwks = self.jwks.lock().unwrap().clone();
        if jwks.is_empty() {
            return Err(Status::unimplemented("WIT-SVIDs are off"));
        }
        let bundles = [("spiffe://td".to_owned(), jwks)].into();
        Ok(Response::new(tokio_stream::once(Ok(WitBundlesResponse { bundles }))))
    }
}

/// The next change, or a failed test: nothing here takes long.
pub(super) async fn next<M: Material>(changes: &mut Changes<M>) -> Option<Result<Arc<M>, Refusal>> {
    timeout(Duration::from_secs(20), changes.next()).await.expect("a change within 20 s")
}

/// The next status like this, or a failed test.
pub(super) async fn status<M: Material>(source: &Source<M>, like: impl Fn(&SourceStatus) -> bool) -> SourceStatus {
    let mut status = source.watch_status();
    let seen = timeout(Duration::from_secs(20), status.wait_for(|status| like(status))).await;
    seen.expect("such a status within 20 s").unwrap().clone()
}

/// A message with a fresh SVID for each of these ids and hints.
pub(super) fn message(domain: &Domain, ids: &[(&str, &str)]) -> X509svidResponse {
    let svids = ids.iter().map(|(id, hint)| part(domain, id, hint)).collect();
    X509svidResponse { svids, crl: Vec::new(), federated_bundles: [].into() }
}

pub(super) fn part(domain: &Domain, id: &str, hint: &str) -> X509svid {
    let leaf = signed(leaf(id), &domain.intermediate);
    X509svid {
        spiffe_id: id.to_owned(),
        x509_svid: [leaf.der.as_slice(), &domain.intermediate.der].concat().into(),
        x509_svid_key: leaf.key.serialize_der().into(),
        bundle: domain.root.der.clone().into(),
        hint: hint.to_owned(),
    }
}
