//! A simulated node agent: the node protocol and nothing behind it.

use std::{sync::Arc, time::Duration};

use mayfly_proto::node::{
    Ack, AttestAnswer, AttestRequest, AttestStart, Attested, Hello, MintX509Item, MintX509Request, Revision, Subject,
    SyncRequest, SyncResponse, SyncStart, attest_request, attest_response, attest_start, minted_x509,
    node_service_client::NodeServiceClient, sync_request, sync_response,
};
use mayfly_rig::Rig;
use mayfly_sdk::{
    Bundle, Clock, KeyAlgorithm, PrivateKey, SignatureAlgorithm, TrustDomain, X509BundleSet, X509Svid,
    tls::{Authorizer, ClientTls, Connector, Credentials, Options, SpkiPin, Trust},
};
use tokio::sync::{Mutex, mpsc};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use crate::admin::Admin;

const CONTEXT: &[u8] = b"mayfly node attestation v1\0";

/// An attested node with its connection.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    pub(crate) client: NodeServiceClient<Channel>,
    trust_domain: String,
}

/// Its `Sync` stream.
#[derive(Debug)]
pub(crate) struct Stream {
    requests: mpsc::Sender<SyncRequest>,
    answers: Streaming<SyncResponse>,
}

impl Agent {
    /// Enrols the node `name` and connects it with its SVID.
    pub(crate) async fn enrol(rig: &Rig, admin: &mut Admin, name: &str) -> Self {
        let token = admin.join_token(name).await;
        let (secret, pin) = token.trim().split_once('.').expect("token.pin");
        let trust_domain: TrustDomain = rig.trust_domain.parse().unwrap();
        let (clock, options) = (Clock::system(), Options::grpc());
        let pin: SpkiPin = pin.parse().unwrap();
        let first = ClientTls::first_contact(pin, trust_domain.clone(), &clock, &options).unwrap();
        let address = format!("{}:8443", rig.ip());
        let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
        let attested = attest(&address, first, &key, secret, &rig.trust_domain).await;

        let chain = attested.svid.unwrap().chain.iter().map(|der| der.to_vec().into()).collect();
        let svid = X509Svid::new(chain, key).unwrap();
        let bundle = Bundle::from_spiffe_json(trust_domain.clone(), &attested.bundle).unwrap();
        let mut bundles = X509BundleSet::default();
        bundles.insert(bundle.x509);
        let credentials = Credentials::from_svids(move || Some(svid.clone()));
        let authorizer = Authorizer::issuer_of(trust_domain);
        let tls = ClientTls::new(credentials, Trust::fixed(bundles), authorizer, &clock, &options).unwrap();
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap();
        // As the node agent's connection: `node-agent/src/link/dial.rs`.
        let channel = channel.http2_keep_alive_interval(Duration::from_mins(2)).keep_alive_while_idle(true);
        let channel = channel.connect_with_connector(Connector::new(tls)).await.unwrap();
        Self { client: NodeServiceClient::new(channel), trust_domain: rig.trust_domain.clone() }
    }

    /// Opens the `Sync` stream, takes the snapshot and acknowledges it.
    pub(crate) async fn sync(&self) -> Stream {
        let (requests, outbound) = mpsc::channel(4);
        let start = SyncStart { hello: Some(hello(&self.trust_domain)), held: None };
        requests.send(SyncRequest { message: Some(sync_request::Message::Start(start)) }).await.unwrap();
        let answers = self.client.clone().sync(ReceiverStream::new(outbound)).await.unwrap().into_inner();
        let mut stream = Stream { requests, answers };
        loop {
            if let sync_response::Message::Snapshot(snapshot) = stream.next().await
                && snapshot.done
            {
                stream.acknowledge(snapshot.revision).await;
                return stream;
            }
        }
    }

    /// Mints one X.509-SVID for each of `keys`.
    pub(crate) async fn mint(&self, entry: (&str, u64), keys: &[Vec<u8>]) {
        let (entry_uid, issuance) = entry;
        let item = |key: &Vec<u8>| MintX509Item {
            request_id: vec![1; 16].into(),
            subject: Some(Subject { entry_uid: entry_uid.to_owned(), issuance, ..Subject::default() }),
            public_key: key.clone().into(),
            remaining_s: 150,
        };
        let request = MintX509Request { items: keys.iter().map(item).collect() };
        let minted = self.client.clone().mint_x509(request).await.unwrap().into_inner();
        for item in minted.items {
            match item.outcome {
                Some(minted_x509::Outcome::Svid(_)) => {}
                other => panic!("not minted: {other:?}"),
            }
        }
    }
}

impl Stream {
    /// The next message.
    pub(crate) async fn next(&mut self) -> sync_response::Message {
        self.answers.next().await.expect("the stream goes on").unwrap().message.unwrap()
    }

    /// The next entry that is put; acknowledged.
    pub(crate) async fn next_entry(&mut self) -> (String, u64) {
        loop {
            if let sync_response::Message::Delta(delta) = self.next().await {
                self.acknowledge(delta.revision).await;
                if let Some(entry) = delta.put.into_iter().next() {
                    return (entry.uid, entry.issuance);
                }
            }
        }
    }

    async fn acknowledge(&self, revision: Option<Revision>) {
        let message = Some(sync_request::Message::Ack(Ack { revision }));
        self.requests.send(SyncRequest { message }).await.unwrap();
    }
}

/// Fresh public keys, DER.
pub(crate) fn fresh_keys(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|_| PrivateKey::generate(KeyAlgorithm::EcP256).unwrap().public_key_spki()).collect()
}

/// This many agents, enrolled and in sync.
pub(crate) async fn fleet(rig: &Rig, count: usize) -> Vec<(Agent, Arc<Mutex<Stream>>)> {
    let (mut fleet, mut admin) = (Vec::with_capacity(count), Admin::connect(rig).await);
    for n in 0..count {
        let agent = Agent::enrol(rig, &mut admin, &format!("n{n}")).await;
        let stream = agent.sync().await;
        fleet.push((agent, Arc::new(Mutex::new(stream))));
    }
    fleet
}

async fn attest(address: &str, tls: ClientTls, key: &PrivateKey, secret: &str, trust_domain: &str) -> Attested {
    let (host, port) = address.rsplit_once(':').unwrap();
    let connection = Connector::new(tls).dial(host, port.parse().unwrap()).await.unwrap();
    let binding = *connection.info().binding().expect("TLS 1.3 exports");
    let mut connection = Some(hyper_util::rt::TokioIo::new(connection));
    let connector = tonic::transport::Endpoint::from_static("http://issuer.invalid");
    let channel = connector
        .connect_with_connector(tower::service_fn(move |_| {
            let once = connection.take().ok_or(std::io::ErrorKind::NotConnected);
            std::future::ready(once.map_err(std::io::Error::from))
        }))
        .await
        .unwrap();
    let (requests, outbound) = mpsc::channel(2);
    let start = AttestStart {
        hello: Some(hello(trust_domain)),
        node_key: key.public_key_spki().into(),
        evidence: Some(attest_start::Evidence::JoinToken(secret.to_owned())),
    };
    requests.send(AttestRequest { message: Some(attest_request::Message::Start(start)) }).await.unwrap();
    let mut answers = NodeServiceClient::new(channel).attest(ReceiverStream::new(outbound)).await.unwrap().into_inner();
    loop {
        match answers.next().await.expect("an answer").unwrap().message.unwrap() {
            attest_response::Message::Challenge(challenge) => {
                let message = [CONTEXT, &challenge.nonce, &binding].concat();
                let signature = key.sign(SignatureAlgorithm::EcSha256Der, &message).unwrap().into();
                let answer = attest_request::Message::Answer(AttestAnswer { signature, ..AttestAnswer::default() });
                requests.send(AttestRequest { message: Some(answer) }).await.unwrap();
            }
            attest_response::Message::Attested(attested) => return attested,
        }
    }
}

fn hello(trust_domain: &str) -> Hello {
    Hello {
        build: "mayfly-load".into(),
        protocol_min: 1,
        protocol_max: 1,
        features: Vec::new(),
        clock_ms: Clock::system().now_ms(),
        trust_domain: trust_domain.to_owned(),
        boot_id: "load".into(),
    }
}
