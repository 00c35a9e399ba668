//! A node that was enrolled rightly, and then asks for what is not its own: it has the agent's own SVID and node key.

use std::{collections::BTreeMap, fs};

use base64::Engine as _;
use mayfly_proto::node::{
    BeginTaskRequest, CheckTaskRequest, ConfirmTasksRequest, EndTaskRequest, Hello, MintWitItem, MintWitRequest,
    MintX509Item, MintX509Request, Refused, RenewTaskRequest, Subject, SyncRequest, SyncResponse, SyncStart, TaskIssue,
    TaskOutcome, TaskStates, WitIssue, minted_wit, minted_x509, node_service_client::NodeServiceClient, sync_request,
    sync_response,
};
use mayfly_rig::Rig;
use mayfly_sdk::{
    Bundle, Clock, PublicKey, TrustDomain, X509Svid,
    bundle::X509BundleSet,
    tls::{Authorizer, ClientTls, Connector, Credentials, Options, Trust},
};
use serde_json::Value;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

#[derive(Clone)]
pub(crate) struct Rogue(NodeServiceClient<Channel>);

impl Rogue {
    /// With what lies in the state directory of an agent.
    pub(crate) async fn of(rig: &Rig, agent: &str) -> Self {
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", rig.issuer_address())).unwrap();
        let connector = Connector::new(node_tls(rig, agent));
        Self(NodeServiceClient::new(channel.connect_with_connector(connector).await.unwrap()))
    }

    /// The entries that the issuer gives this node: path of the SPIFFE ID, and how it is asked for.
    pub(crate) async fn entries(&mut self, rig: &Rig) -> BTreeMap<String, Subject> {
        loop {
            match self.snapshot(rig).await {
                // The node's own agent came in between.
                Err(status) if reason(&status) == "stale" => {}
                entries => return entries.unwrap(),
            }
        }
    }

    async fn snapshot(&mut self, rig: &Rig) -> Result<BTreeMap<String, Subject>, tonic::Status> {
        let (_requests, mut answers) = self.sync(rig, &[]).await;
        let mut entries = BTreeMap::new();
        loop {
            if let Some(sync_response::Message::Snapshot(part)) = answers.message().await?.unwrap().message {
                entries.extend(part.entries.into_iter().map(|entry| {
                    let subject = Subject { entry_uid: entry.uid, issuance: entry.issuance, ..Subject::default() };
                    (entry.spiffe_id.splitn(4, '/').last().unwrap().to_owned(), subject)
                }));
                if part.done {
                    return Ok(entries);
                }
            }
        }
    }

    async fn sync(
        &mut self,
        rig: &Rig,
        features: &[&str],
    ) -> (tokio::sync::mpsc::Sender<SyncRequest>, Streaming<SyncResponse>) {
        let (send, answers) = self.silent_sync().await;
        send.send(start(rig, features)).await.unwrap();
        (send, answers)
    }

    /// A stream that the issuer has admitted, and on which nothing was said yet.
    async fn silent_sync(&mut self) -> (tokio::sync::mpsc::Sender<SyncRequest>, Streaming<SyncResponse>) {
        let (send, requests) = tokio::sync::mpsc::channel(1);
        let answers = self.0.sync(ReceiverStream::new(requests)).await.unwrap().into_inner();
        (send, answers)
    }

    /// Has a stream admitted, waits for `meanwhile`, and only then begins it. Why nothing is sent on it.
    pub(crate) async fn late_sync(&mut self, rig: &Rig, meanwhile: impl FnOnce()) -> Result<(), String> {
        let (send, mut answers) = self.silent_sync().await;
        meanwhile();
        send.send(start(rig, &[])).await.map_err(|_gone| "gone".to_owned())?;
        answers.message().await.map(|_message| ()).map_err(|status| reason(&status))
    }

    /// What the issuer tells this node of its tasks, one message after the other.
    pub(crate) async fn task_states(&mut self, rig: &Rig) -> States {
        let (requests, answers) = self.sync(rig, &["tasks"]).await;
        States { _requests: requests, answers }
    }

    /// An X.509-SVID of this entry for this instance: its certificates, leaf first.
    pub(crate) async fn svid(&mut self, entry: &Subject) -> Vec<bytes::Bytes> {
        let key = mayfly_sdk::PrivateKey::generate(mayfly_sdk::KeyAlgorithm::EcP256).unwrap();
        let item = MintX509Item {
            request_id: vec![9; 16].into(),
            subject: Some(entry.clone()),
            public_key: key.public_key_spki().into(),
            remaining_s: 0,
        };
        let answer = self.0.mint_x509(MintX509Request { items: vec![item] }).await.unwrap().into_inner();
        match answer.items.into_iter().next().unwrap().outcome.unwrap() {
            minted_x509::Outcome::Svid(svid) => std::iter::once(svid.leaf).chain(svid.intermediates).collect(),
            minted_x509::Outcome::Refused(refused) => panic!("{refused:?}"),
        }
    }

    /// Asks for `items` X.509-SVIDs at once, all for one key, and says that nothing is as urgent; otherwise the reason why not.
    pub(crate) async fn x509s(&mut self, entry: &Subject, key: &PublicKey, items: usize) -> Result<(), String> {
        let item = MintX509Item {
            request_id: vec![6; 16].into(),
            subject: Some(entry.clone()),
            public_key: key.spki().to_vec().into(),
            remaining_s: 0,
        };
        let answer = self.0.mint_x509(MintX509Request { items: vec![item; items] }).await;
        answer.map(|_minted| ()).map_err(|status| reason(&status))
    }

    /// Begins a task; otherwise the reason why not.
    pub(crate) async fn begin(&mut self, request: BeginTaskRequest) -> Result<TaskIssue, String> {
        let request = BeginTaskRequest { request_id: vec![1; 16].into(), ..request };
        self.0.begin_task(request).await.map(tonic::Response::into_inner).map_err(|status| reason(&status))
    }

    /// Begins a task that is refused: the reason, and the words.
    pub(crate) async fn refused(&mut self, request: BeginTaskRequest) -> (String, String) {
        let request = BeginTaskRequest { request_id: vec![1; 16].into(), ..request };
        let status = self.0.begin_task(request).await.unwrap_err();
        (reason(&status), mayfly_sdk::Refusal::from_status(&status).what)
    }

    /// A fresh token of a task; otherwise the reason why not.
    pub(crate) async fn renew(
        &mut self,
        holder: &Subject,
        svid: &[bytes::Bytes],
        id: &str,
    ) -> Result<TaskIssue, String> {
        let request = RenewTaskRequest {
            request_id: vec![2; 16].into(),
            holder: Some(holder.clone()),
            svid: svid.to_vec(),
            id: id.to_owned(),
        };
        self.0.renew_task(request).await.map(tonic::Response::into_inner).map_err(|status| reason(&status))
    }

    /// Ends a task: the ids of all that this ended; otherwise the reason why not.
    pub(crate) async fn end(&mut self, id: &str, outcome: TaskOutcome) -> Result<Vec<String>, String> {
        let request = EndTaskRequest { request_id: vec![3; 16].into(), id: id.to_owned(), outcome: outcome.into() };
        let ended = self.0.end_task(request).await.map_err(|status| reason(&status))?;
        Ok(ended.into_inner().ended)
    }

    /// Says that the instances of these tasks live; otherwise the reason why that is not heard.
    pub(crate) async fn confirm(&mut self, ids: &[&str]) -> Result<(), String> {
        let request = ConfirmTasksRequest { ids: ids.iter().map(ToString::to_string).collect() };
        self.0.confirm_tasks(request).await.map(|_confirmed| ()).map_err(|status| reason(&status))
    }

    /// What a token says, as a service is told; otherwise the reason why it is refused.
    pub(crate) async fn check(
        &mut self,
        service: &Subject,
        audience: &str,
        token: &str,
        certificate: &[u8],
    ) -> Result<Value, String> {
        let request = CheckTaskRequest {
            service: Some(service.clone()),
            token: token.to_owned(),
            audience: audience.to_owned(),
            peer_certificate: bytes::Bytes::copy_from_slice(certificate),
        };
        let checked = self.0.check_task(request).await.map_err(|status| reason(&status))?;
        Ok(serde_json::from_str(&checked.into_inner().claims).unwrap())
    }

    /// Asks for `items` WIT-SVIDs at once, all for one key.
    pub(crate) async fn wits(
        &mut self,
        entry: &Subject,
        key: &PublicKey,
        items: usize,
    ) -> Result<minted_wit::Outcome, Status> {
        let item = MintWitItem {
            request_id: vec![7; 16].into(),
            subject: Some(entry.clone()),
            public_key: key.spki().to_vec().into(),
            remaining_s: 0,
        };
        let answer = self.0.mint_wit(MintWitRequest { items: vec![item; items] }).await?.into_inner();
        Ok(answer.items.into_iter().next().unwrap().outcome.unwrap())
    }

    /// Asks for one, which the issuer answers one way or the other.
    pub(crate) async fn wit(&mut self, entry: &Subject, key: &PublicKey) -> Result<WitIssue, Refused> {
        match self.wits(entry, key, 1).await.unwrap() {
            minted_wit::Outcome::Svid(issue) => Ok(issue),
            minted_wit::Outcome::Refused(refused) => Err(refused),
        }
    }

    /// Whether an X.509-SVID is to be had for this key; otherwise why not.
    pub(crate) async fn x509(&mut self, entry: &Subject, key: &PublicKey) -> Result<(), String> {
        let item = MintX509Item {
            request_id: vec![8; 16].into(),
            subject: Some(entry.clone()),
            public_key: key.spki().to_vec().into(),
            remaining_s: 0,
        };
        let answer = self.0.mint_x509(MintX509Request { items: vec![item] }).await.unwrap().into_inner();
        match answer.items.into_iter().next().unwrap().outcome.unwrap() {
            minted_x509::Outcome::Svid(_) => Ok(()),
            minted_x509::Outcome::Refused(refused) => Err(refused.reason),
        }
    }
}

/// How an agent meets the issuer, with what lies in its state directory.
pub(crate) fn node_tls(rig: &Rig, agent: &str) -> ClientTls {
    let record: Value = serde_json::from_slice(&fs::read(rig.agent_dir(agent).join("node.json")).unwrap()).unwrap();
    let key = fs::read(rig.agent_dir(agent).join("node.key")).unwrap();
    let der = |text: &Value| base64::engine::general_purpose::STANDARD.decode(text.as_str().unwrap()).unwrap();
    let chain: Vec<u8> = record["chain"].as_array().unwrap().iter().flat_map(der).collect();
    let svid = X509Svid::from_der(&chain, &key).unwrap();
    let trust_domain: TrustDomain = rig.trust_domain.parse().unwrap();
    let bundle = record["bundle"].as_str().unwrap();
    let bundle = Bundle::from_spiffe_json(trust_domain.clone(), bundle.as_bytes()).unwrap();
    let trust = Trust::fixed(X509BundleSet::from_iter([bundle.x509]));
    let credentials = Credentials::from_svids(move || Some(svid.clone()));
    let authorizer = Authorizer::issuer_of(trust_domain);
    ClientTls::new(credentials, trust, authorizer, &Clock::system(), &Options::grpc()).unwrap()
}

/// How a `Sync` begins.
fn start(rig: &Rig, features: &[&str]) -> SyncRequest {
    let hello = Hello {
        build: "rogue".into(),
        protocol_min: 1,
        protocol_max: 1,
        trust_domain: rig.trust_domain.clone(),
        clock_ms: Clock::system().now_ms(),
        features: features.iter().map(ToString::to_string).collect(),
        ..Hello::default()
    };
    SyncRequest { message: Some(sync_request::Message::Start(SyncStart { hello: Some(hello), held: None })) }
}

/// The stable code of a refusal.
fn reason(status: &Status) -> String {
    mayfly_sdk::Refusal::from_status(status).reason.code().to_owned()
}

/// A `Sync` stream on which the node hears of its tasks.
pub(crate) struct States {
    _requests: tokio::sync::mpsc::Sender<SyncRequest>,
    answers: Streaming<SyncResponse>,
}

impl States {
    /// The next message about tasks.
    pub(crate) async fn next(&mut self) -> TaskStates {
        loop {
            let message = self.answers.message().await.unwrap().expect("the stream goes on").message;
            if let Some(sync_response::Message::Tasks(states)) = message {
                return states;
            }
        }
    }
}
