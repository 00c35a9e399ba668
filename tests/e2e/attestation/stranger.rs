//! A caller that is no node agent: it speaks the node protocol, and does not keep to it.

use std::{collections::BTreeMap, path::PathBuf};

use mayfly_proto::node::{
    AttestAnswer, AttestRequest, AttestResponse, AttestStart, Attested, Hello, MachineCertificate, attest_request,
    attest_response, attest_start, node_service_client::NodeServiceClient,
};
use mayfly_rig::Rig;
use mayfly_sdk::{
    Bundle, Clock, KeyAlgorithm, PrivateKey, Refusal, SignatureAlgorithm, TrustDomain,
    bundle::X509BundleSet,
    tls::{Authorizer, ClientTls, Credentials, Options, Trust, connect},
};
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

/// A connection to the issuer without a client certificate.
pub(crate) struct Stranger {
    pub(crate) client: NodeServiceClient<Channel>,
    pub(crate) exporter: [u8; 32],
    trust_domain: String,
}

/// An attestation that was begun.
pub(super) struct Begun {
    pub(super) nonce: Vec<u8>,
    send: mpsc::Sender<AttestRequest>,
    answers: Streaming<AttestResponse>,
}

impl Stranger {
    pub(crate) async fn dial(rig: &Rig) -> Self {
        let trust_domain: TrustDomain = rig.trust_domain.parse().unwrap();
        let document = bundle(rig);
        let bundle = Bundle::from_spiffe_json(trust_domain.clone(), document.as_bytes()).unwrap();
        let trust = Trust::fixed(X509BundleSet::from_iter([bundle.x509]));
        let authorizer = Authorizer::issuer_of(trust_domain);
        let tls = ClientTls::new(Credentials::none(), trust, authorizer, &Clock::system(), &Options::grpc()).unwrap();
        let tcp = tokio::net::TcpStream::connect(rig.issuer_address()).await.unwrap();
        let connection = connect(tcp, &tls).await.unwrap();
        let exporter = *connection.info().binding().unwrap();
        let once = Mutex::new(Some(hyper_util::rt::TokioIo::new(connection)));
        let once = std::sync::Arc::new(once);
        let connector = tower::service_fn(move |_| {
            let once = std::sync::Arc::clone(&once);
            async move { once.lock().await.take().ok_or_else(|| std::io::Error::other("it was cut")) }
        });
        let channel = tonic::transport::Endpoint::from_static("http://issuer.invalid");
        let channel = channel.connect_with_connector(connector).await.unwrap();
        let client = NodeServiceClient::new(channel).max_encoding_message_size(usize::MAX);
        Self { client, exporter, trust_domain: rig.trust_domain.clone() }
    }

    /// Presents a chain and a node key; what the issuer asks in return.
    pub(super) async fn begin(&mut self, chain: &[Vec<u8>], node_key: &PrivateKey) -> Result<Begun, Refusal> {
        let chain = chain.iter().map(|der| der.clone().into()).collect();
        let start = AttestStart {
            hello: Some(Hello {
                build: "stranger".into(),
                protocol_min: 1,
                protocol_max: 1,
                trust_domain: self.trust_domain.clone(),
                clock_ms: Clock::system().now_ms(),
                ..Hello::default()
            }),
            node_key: node_key.public_key_spki().into(),
            evidence: Some(attest_start::Evidence::MachineCertificate(MachineCertificate { chain })),
        };
        let (send, requests) = mpsc::channel(2);
        send.send(AttestRequest { message: Some(attest_request::Message::Start(start)) }).await.unwrap();
        let answers = self.client.attest(ReceiverStream::new(requests)).await;
        let mut answers = answers.map_err(|status| Refusal::from_status(&status))?.into_inner();
        match next(&mut answers).await? {
            attest_response::Message::Challenge(asked) => Ok(Begun { nonce: asked.nonce.to_vec(), send, answers }),
            attest_response::Message::Attested(_) => panic!("attested without a challenge"),
        }
    }

    /// Attests as it should be done.
    pub(super) async fn attest(
        &mut self,
        chain: &[Vec<u8>],
        machine_key: &PrivateKey,
        node_key: &PrivateKey,
    ) -> Result<Attested, Refusal> {
        let begun = self.begin(chain, node_key).await?;
        let answer = answer(&begun.nonce, &self.exporter, machine_key, node_key, node_key);
        begun.finish(answer).await
    }
}

impl Begun {
    pub(super) async fn finish(mut self, answer: AttestAnswer) -> Result<Attested, Refusal> {
        self.send.send(AttestRequest { message: Some(attest_request::Message::Answer(answer)) }).await.unwrap();
        match next(&mut self.answers).await? {
            attest_response::Message::Attested(attested) => Ok(attested),
            attest_response::Message::Challenge(_) => panic!("challenged twice"),
        }
    }
}

/// The answer to a challenge: the node key signs, and the machine's key vouches for `vouched`.
pub(super) fn answer(
    nonce: &[u8],
    exporter: &[u8; 32],
    machine_key: &PrivateKey,
    node_key: &PrivateKey,
    vouched: &PrivateKey,
) -> AttestAnswer {
    let by_node = [b"mayfly node attestation v1\0", nonce, exporter].concat();
    let by_machine =
        [b"mayfly machine certificate v1\0", nonce, exporter, &vouched.public_key().spki_sha256()].concat();
    let algorithm = match machine_key.public_key().key_type() {
        mayfly_sdk::key::KeyType::Rsa => SignatureAlgorithm::RsaPssSha256,
        other => SignatureAlgorithm::for_x509(other),
    };
    AttestAnswer {
        signature: node_key.sign(SignatureAlgorithm::EcSha256Der, &by_node).unwrap().into(),
        machine_signature: machine_key.sign(algorithm, &by_machine).unwrap().into(),
    }
}

/// A fresh P-256 key.
pub(crate) fn key() -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::EcP256).unwrap()
}

/// The bundle of a rig's trust domain. Asked for once: its root does not change while a test runs.
fn bundle(rig: &Rig) -> String {
    static BUNDLES: std::sync::Mutex<BTreeMap<PathBuf, String>> = std::sync::Mutex::new(BTreeMap::new());
    let mut bundles = BUNDLES.lock().unwrap();
    let ask = || rig.json(&["bundle", "show"])["bundle"].to_string();
    bundles.entry(rig.dir().to_owned()).or_insert_with(ask).clone()
}

async fn next(answers: &mut Streaming<AttestResponse>) -> Result<attest_response::Message, Refusal> {
    let answer = answers.message().await.map_err(|status| Refusal::from_status(&status))?;
    Ok(answer.unwrap().message.unwrap())
}
