//! Proves which node this is, by a join token or by the key that is enrolled already.

use std::time::Duration;

use bytes::Bytes;
use mayfly_proto::node;
use mayfly_proto::node::attest_request::Message as Ask;
use mayfly_proto::node::attest_response::Message as Answer;
use mayfly_proto::node::attest_start::Evidence as Sent;
use mayfly_proto::node::node_service_client::NodeServiceClient;
use mayfly_sdk::{PrivateKey, Reason, Refusal, SignatureAlgorithm, SpiffeId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::dial::Dialed;
use super::hello::{Greeter, check_hello};
use super::machine::Machine;
use super::token::JoinToken;

/// How long the whole exchange may take.
const WITHIN: Duration = Duration::from_secs(20);
/// What the node's signature begins with, so that it can mean nothing else.
const CONTEXT: &[u8] = b"mayfly node attestation v1\0";
/// The same for the signature by the key of the machine's certificate.
const MACHINE_CONTEXT: &[u8] = b"mayfly machine certificate v1\0";
/// Bytes of a challenge.
const NONCE_BYTES: usize = 32;

/// What the node shows for itself.
#[derive(Debug)]
pub(super) enum Evidence<'a> {
    /// A join token, for a node that was never enrolled or must be enrolled anew.
    JoinToken(&'a JoinToken),
    /// Possession of the enrolled key, for a node whose SVID has expired.
    EnrolledKey(&'a SpiffeId),
    /// The certificate that this machine has from elsewhere, for a node that was never enrolled or must be enrolled anew.
    Machine(&'a Machine),
}

/// The exchange: start, challenge, answer, result.
///
/// # Errors
/// What the issuer refuses, or how the exchange broke.
pub(super) async fn attest(
    dialed: Dialed,
    key: &PrivateKey,
    evidence: Evidence<'_>,
    greeter: &Greeter,
) -> Result<node::Attested, Refusal> {
    let late = |_| Refusal::new(Reason::HandshakeTimeout, "the issuer did not finish the attestation in time");
    tokio::time::timeout(WITHIN, exchange(dialed, key, evidence, greeter)).await.map_err(late)?
}

async fn exchange(
    dialed: Dialed,
    key: &PrivateKey,
    evidence: Evidence<'_>,
    greeter: &Greeter,
) -> Result<node::Attested, Refusal> {
    let Dialed { channel, exporter } = dialed;
    let sent = match evidence {
        Evidence::JoinToken(token) => Sent::JoinToken(token.expose_secret().to_owned()),
        Evidence::EnrolledKey(id) => Sent::EnrolledNode(id.to_string()),
        Evidence::Machine(machine) => {
            Sent::MachineCertificate(node::MachineCertificate { chain: machine.chain().to_vec() })
        }
    };
    let start = node::AttestStart {
        hello: Some(greeter.hello()),
        node_key: key.public_key_spki().into(),
        evidence: Some(sent),
    };
    let (requests, outbound) = mpsc::channel(2);
    send(&requests, Ask::Start(start)).await?;
    let mut client = NodeServiceClient::new(channel);
    let mut answers = client
        .attest(ReceiverStream::new(outbound))
        .await
        .map_err(|status| Refusal::from_status(&status))?
        .into_inner();
    let Answer::Challenge(challenge) = next(&mut answers).await? else { return Err(out_of_order()) };
    check_hello(challenge.hello.as_ref(), greeter)?;
    let signature = answer(key, &challenge.nonce, &exporter)?;
    let machine_signature = match evidence {
        Evidence::Machine(machine) => {
            let key_sha256 = key.public_key().spki_sha256();
            machine.sign(&[MACHINE_CONTEXT, &challenge.nonce, &exporter, &key_sha256].concat())?
        }
        Evidence::JoinToken(_) | Evidence::EnrolledKey(_) => Bytes::new(),
    };
    send(&requests, Ask::Answer(node::AttestAnswer { signature, machine_signature })).await?;
    let Answer::Attested(attested) = next(&mut answers).await? else { return Err(out_of_order()) };
    Ok(attested)
}

/// Signs the challenge together with the keying material of this very connection, so that nobody in between can pass it on.
fn answer(key: &PrivateKey, nonce: &[u8], exporter: &[u8; 32]) -> Result<Bytes, Refusal> {
    if nonce.len() != NONCE_BYTES {
        return Err(Refusal::new(Reason::MessageInvalid, format!("the issuer's challenge has {} bytes", nonce.len())));
    }
    let message = [CONTEXT, nonce, exporter].concat();
    let signature = key.sign(SignatureAlgorithm::EcSha256Der, &message);
    signature.map(Bytes::from).map_err(|error| Refusal::new(error.reason(), error.to_string()))
}

async fn send(requests: &mpsc::Sender<node::AttestRequest>, message: Ask) -> Result<(), Refusal> {
    let sent = requests.send(node::AttestRequest { message: Some(message) }).await;
    sent.map_err(|_closed| Refusal::new(Reason::Unavailable, "the issuer ended the attestation"))
}

async fn next(answers: &mut tonic::Streaming<node::AttestResponse>) -> Result<Answer, Refusal> {
    let answer = answers.message().await.map_err(|status| Refusal::from_status(&status))?;
    answer
        .and_then(|answer| answer.message)
        .ok_or_else(|| Refusal::new(Reason::Unavailable, "the issuer ended the attestation"))
}

fn out_of_order() -> Refusal {
    Refusal::new(Reason::MessageInvalid, "the issuer's messages came out of order")
}
