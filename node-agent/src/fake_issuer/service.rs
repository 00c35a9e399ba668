use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use mayfly_proto::node;
use mayfly_proto::node::node_service_server::NodeService;
use mayfly_proto::node::{
    attest_request, attest_response, attest_start, minted_jwt, minted_wit, minted_x509, sync_request, sync_response,
};
use mayfly_sdk::tls::PeerInfo;
use mayfly_sdk::{PublicKey, Reason, Refusal, SignatureAlgorithm};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{SECRET, State};

/// The service, once for each connection.
pub(super) struct Service(pub(super) Arc<State>);

type Answers<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

impl State {
    fn hello(&self) -> node::Hello {
        node::Hello {
            build: "fake".to_owned(),
            protocol_min: 1,
            protocol_max: 1,
            clock_ms: self.clock.now_ms() + self.knobs.lock().hello_skew_ms,
            trust_domain: self.trust_domain.to_string(),
            ..node::Hello::default()
        }
    }

    fn node_svid(&self, id: &str, spki: &[u8], generation: u64) -> node::NodeSvid {
        let knobs = self.knobs.lock();
        let chain = self.authority.leaf(id, spki, knobs.node_lifetime_s);
        node::NodeSvid {
            spiffe_id: id.to_owned(),
            chain: chain.into_iter().map(|der| der.to_vec().into()).collect(),
            lifetime_s: knobs.node_lifetime_s,
            renew_after_s: knobs.node_renew_after_s,
            generation,
        }
    }

    fn node_id(&self) -> String {
        format!("spiffe://{}/mayfly/node/join_token/1", self.trust_domain)
    }

    async fn attest(
        self: Arc<Self>,
        mut requests: Streaming<node::AttestRequest>,
        binding: [u8; 32],
        answers: mpsc::Sender<Result<node::AttestResponse, Status>>,
    ) -> Result<(), Status> {
        let bad = |what: &str| Status::from(Refusal::new(Reason::InvalidArgument, what));
        let Some(attest_request::Message::Start(start)) = requests.message().await?.and_then(|message| message.message)
        else {
            return Err(bad("no start"));
        };
        let challenge = node::AttestChallenge { hello: Some(self.hello()), nonce: vec![7; 32].into() };
        let message = Some(attest_response::Message::Challenge(challenge));
        answers.send(Ok(node::AttestResponse { message })).await.ok();
        let Some(attest_request::Message::Answer(answer)) =
            requests.message().await?.and_then(|message| message.message)
        else {
            return Err(bad("no answer"));
        };
        let signed = [b"mayfly node attestation v1\0".as_slice(), &[7; 32], &binding].concat();
        let key = PublicKey::from_spki(&start.node_key).unwrap();
        key.verify(SignatureAlgorithm::EcSha256Der, &signed, &answer.signature)
            .map_err(|_refused| bad("wrong signature"))?;
        if let Some(refusal) = self.knobs.lock().refuse_attest.clone() {
            return Err(refusal.into());
        }
        let generation = {
            let mut seen = self.seen.lock();
            match start.evidence {
                Some(attest_start::Evidence::JoinToken(token)) if token.starts_with(SECRET) => seen.attests += 1,
                Some(attest_start::Evidence::EnrolledNode(id)) if id == self.node_id() => seen.reattests += 1,
                _ => return Err(Refusal::new(Reason::JoinTokenUnknown, "no such token").into()),
            }
            seen.generation += 1;
            seen.node_keys.push(start.node_key.to_vec());
            seen.generation
        };
        let attested = node::Attested {
            svid: Some(self.node_svid(&self.node_id(), &start.node_key, generation)),
            bundle: self.authority.wire_bundle(1).document,
            reattest_ttl_s: 86_400,
        };
        let message = Some(attest_response::Message::Attested(attested));
        answers.send(Ok(node::AttestResponse { message })).await.ok();
        Ok(())
    }

    async fn sync(
        self: Arc<Self>,
        mut requests: Streaming<node::SyncRequest>,
        answers: mpsc::Sender<Result<node::SyncResponse, Status>>,
    ) -> Result<(), Status> {
        let Some(sync_request::Message::Start(start)) = requests.message().await?.and_then(|message| message.message)
        else {
            return Err(Refusal::new(Reason::InvalidArgument, "no start").into());
        };
        self.seen.lock().syncs.push(start.held);
        if let Some(refusal) = self.knobs.lock().refuse_sync.clone() {
            return Err(refusal.into());
        }
        let say = |message| answers.send(Ok(node::SyncResponse { message: Some(message) }));
        say(sync_response::Message::Hello(node::SyncHello { hello: Some(self.hello()) })).await.ok();
        let (mut pushes, snapshot) = (self.pushes.subscribe(), self.snapshot.lock().clone());
        let first = if start.held == snapshot.revision {
            sync_response::Message::Delta(node::Delta {
                from: start.held,
                revision: start.held,
                ..node::Delta::default()
            })
        } else {
            sync_response::Message::Snapshot(snapshot)
        };
        say(first).await.ok();
        if start.hello.is_some_and(|hello| hello.features.iter().any(|feature| feature == "tasks")) {
            say(sync_response::Message::Tasks(self.whole_states())).await.ok();
        }
        loop {
            tokio::select! {
                push = pushes.recv() => { answers.send(Ok(push.unwrap())).await.ok(); }
                request = requests.message() => match request?.and_then(|request| request.message) {
                    Some(sync_request::Message::Ack(ack)) => {
                        self.acknowledged.send_modify(|all| all.push(ack.revision.unwrap()));
                    }
                    Some(sync_request::Message::Report(report)) => self.reports.send_modify(|all| all.push(report)),
                    _ => return Ok(()),
                },
            }
        }
    }

    /// The id that an entry is rendered to: `{type.key}` replaced by the facts that came with the item.
    pub(super) fn rendered(&self, subject: &node::Subject) -> Option<String> {
        let mut id =
            self.snapshot.lock().entries.iter().find(|entry| entry.uid == subject.entry_uid)?.spiffe_id.clone();
        for fact in &subject.facts {
            let (kind, rest) = fact.split_once(':')?;
            let (key, value) = rest.split_once(':')?;
            id = id.replace(&format!("{{{kind}.{key}}}"), value);
        }
        Some(id)
    }

    /// Answers one item: the id that it is for, or a refusal.
    fn subject(&self, subject: Option<node::Subject>) -> Result<String, node::Refused> {
        let subject = subject.unwrap();
        let id = self.rendered(&subject);
        self.seen.lock().subjects.push_back(subject);
        if let Some(refused) = self.knobs.lock().refuse_mint.clone() {
            return Err(refused);
        }
        id.ok_or_else(|| node::Refused { reason: "unknown_entry".to_owned(), ..node::Refused::default() })
    }
}

#[tonic::async_trait]
impl NodeService for Service {
    type AttestStream = Answers<node::AttestResponse>;
    type SyncStream = Answers<node::SyncResponse>;
    type WatchAudienceStream = Answers<mayfly_proto::task::Revocations>;

    async fn attest(
        &self,
        request: Request<Streaming<node::AttestRequest>>,
    ) -> Result<Response<Self::AttestStream>, Status> {
        let binding = *request.extensions().get::<PeerInfo>().unwrap().binding().unwrap();
        let (send, answers) = mpsc::channel(4);
        let work = Arc::clone(&self.0).attest(request.into_inner(), binding, send.clone());
        Ok(Response::new(driven(work, send, answers)))
    }

    async fn renew_node(
        &self,
        request: Request<node::RenewNodeRequest>,
    ) -> Result<Response<node::RenewNodeResponse>, Status> {
        let peer = request.extensions().get::<PeerInfo>().unwrap().peer().cloned();
        let peer = peer.ok_or_else(|| Refusal::new(Reason::Unauthenticated, "no certificate"))?;
        let node::RenewNodeRequest { request_id, generation } = request.into_inner();
        self.0.seen.lock().renewals.push((request_id.to_vec(), generation));
        {
            let mut knobs = self.0.knobs.lock();
            if knobs.lose_renewals > 0 {
                knobs.lose_renewals -= 1;
                return Err(Status::unavailable("lost"));
            }
        }
        let svid = self.0.node_svid(peer.spiffe_id().as_str(), peer.public_key().spki(), generation + 1);
        Ok(Response::new(node::RenewNodeResponse { svid: Some(svid) }))
    }

    async fn sync(&self, request: Request<Streaming<node::SyncRequest>>) -> Result<Response<Self::SyncStream>, Status> {
        if request.extensions().get::<PeerInfo>().unwrap().peer().is_none() {
            return Err(Refusal::new(Reason::Unauthenticated, "no certificate").into());
        }
        let (send, answers) = mpsc::channel(4);
        let work = Arc::clone(&self.0).sync(request.into_inner(), send.clone());
        Ok(Response::new(driven(work, send, answers)))
    }

    async fn mint_x509(
        &self,
        request: Request<node::MintX509Request>,
    ) -> Result<Response<node::MintX509Response>, Status> {
        let items = request.into_inner().items;
        self.0.seen.lock().x509_batches.push(items.len());
        let items = items.into_iter().map(|item| {
            let outcome = match self.0.subject(item.subject) {
                Ok(id) => {
                    let knobs = self.0.knobs.lock();
                    let mut chain = self.0.authority.leaf(&id, &item.public_key, knobs.svid_lifetime_s).into_iter();
                    minted_x509::Outcome::Svid(node::X509Issue {
                        spiffe_id: id,
                        leaf: chain.next().unwrap().to_vec().into(),
                        intermediates: chain.map(|der| der.to_vec().into()).collect(),
                        lifetime_s: knobs.svid_lifetime_s,
                        renew_after_s: knobs.svid_renew_after_s,
                        serial: String::new(),
                    })
                }
                Err(refused) => minted_x509::Outcome::Refused(refused),
            };
            node::MintedX509 { outcome: Some(outcome) }
        });
        Ok(Response::new(node::MintX509Response { items: items.collect() }))
    }

    async fn mint_agentless(
        &self,
        _: Request<node::MintAgentlessRequest>,
    ) -> Result<Response<node::MintAgentlessResponse>, Status> {
        Err(Status::unimplemented("node agents do not call this"))
    }

    async fn begin_task(&self, request: Request<node::BeginTaskRequest>) -> Result<Response<node::TaskIssue>, Status> {
        let begun = self.0.begin_task(request.into_inner());
        let answer_after = self.0.tasks.lock().answer_after;
        tokio::time::sleep(answer_after).await;
        begun.map(Response::new)
    }

    async fn renew_task(&self, request: Request<node::RenewTaskRequest>) -> Result<Response<node::TaskIssue>, Status> {
        self.0.renew_task(&request.into_inner()).map(Response::new)
    }

    async fn end_task(
        &self,
        request: Request<node::EndTaskRequest>,
    ) -> Result<Response<node::EndTaskResponse>, Status> {
        self.0.end_task(request.into_inner()).map(Response::new)
    }

    async fn confirm_tasks(
        &self,
        request: Request<node::ConfirmTasksRequest>,
    ) -> Result<Response<node::ConfirmTasksResponse>, Status> {
        self.0.confirm_tasks(request.into_inner())?;
        Ok(Response::new(node::ConfirmTasksResponse {}))
    }

    async fn check_task(
        &self,
        request: Request<node::CheckTaskRequest>,
    ) -> Result<Response<node::CheckTaskResponse>, Status> {
        self.0.check_task(&request.into_inner()).map(Response::new)
    }

    async fn watch_audience(
        &self,
        _: Request<node::WatchAudienceRequest>,
    ) -> Result<Response<Self::WatchAudienceStream>, Status> {
        Err(Status::unimplemented("an issuer of a version without feeds"))
    }

    async fn mint_jwt(
        &self,
        request: Request<node::MintJwtRequest>,
    ) -> Result<Response<node::MintJwtResponse>, Status> {
        let items = request.into_inner().items;
        self.0.seen.lock().jwt_batches.push(items.len());
        let items = items.into_iter().map(|item| {
            let outcome = match self.0.subject(item.subject) {
                Ok(id) => {
                    let knobs = self.0.knobs.lock();
                    let (token, jti) = self.0.authority.token(&id, &item.audience, knobs.svid_lifetime_s);
                    minted_jwt::Outcome::Svid(node::JwtIssue {
                        spiffe_id: id,
                        token,
                        lifetime_s: knobs.svid_lifetime_s,
                        renew_after_s: knobs.svid_renew_after_s,
                        jti,
                    })
                }
                Err(refused) => minted_jwt::Outcome::Refused(refused),
            };
            node::MintedJwt { outcome: Some(outcome) }
        });
        Ok(Response::new(node::MintJwtResponse { items: items.collect() }))
    }

    async fn mint_wit(
        &self,
        request: Request<node::MintWitRequest>,
    ) -> Result<Response<node::MintWitResponse>, Status> {
        let items = request.into_inner().items;
        self.0.seen.lock().wit_batches.push(items.len());
        let items = items.into_iter().map(|item| {
            let outcome = match self.0.subject(item.subject) {
                Ok(id) => {
                    let knobs = self.0.knobs.lock();
                    let (token, jti) = self.0.authority.wit(&id, &item.public_key, knobs.svid_lifetime_s);
                    minted_wit::Outcome::Svid(node::WitIssue {
                        spiffe_id: id,
                        token,
                        lifetime_s: knobs.svid_lifetime_s,
                        renew_after_s: knobs.svid_renew_after_s,
                        jti,
                    })
                }
                Err(refused) => minted_wit::Outcome::Refused(refused),
            };
            node::MintedWit { outcome: Some(outcome) }
        });
        Ok(Response::new(node::MintWitResponse { items: items.collect() }))
    }
}

/// Runs `work` for as long as somebody reads its answers.
fn driven<M: Send + 'static>(
    work: impl Future<Output = Result<(), Status>> + Send + 'static,
    send: mpsc::Sender<Result<M, Status>>,
    answers: mpsc::Receiver<Result<M, Status>>,
) -> Answers<M> {
    let work = futures_util::stream::once(async move {
        let outcome = work.await;
        drop(send);
        outcome
    });
    let failures = work.filter_map(|outcome| std::future::ready(outcome.err().map(Err)));
    Box::pin(futures_util::stream::select(ReceiverStream::new(answers), failures))
}
