//! `Attest`: hello and evidence, challenge, response, the enrolled node. Reachable by anybody, so that everything is bounded.

use std::{sync::Arc, time::Duration};

use mayfly_proto::node::{
    AttestAnswer, AttestChallenge, AttestRequest, AttestResponse, Attested, attest_request, attest_response,
    attest_start,
};
use mayfly_sdk::{Reason, Refusal, tls::PeerInfo};
use tokio_stream::StreamExt as _;
use tonic::Streaming;

use super::{Answers, Inner, hello, node_svid};
use crate::attest::{self, Challenge, Claim, ClaimedKey, PresentedChain, Secret};

/// How long the whole exchange may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest node key, secret, id or signature, bytes.
const MAX_PART: usize = 4096;

/// The answers to one attestation.
pub(super) fn answers(
    inner: Arc<Inner>,
    peer: PeerInfo,
    requests: Streaming<AttestRequest>,
) -> Answers<AttestResponse> {
    let (send, answers) = tokio::sync::mpsc::channel(2);
    let work = async move {
        let exchange = Exchange { inner: &inner, peer: &peer, requests };
        let outcome = tokio::time::timeout(DEADLINE, exchange.run(&send)).await;
        let late = || Err(Refusal::new(Reason::HandshakeTimeout, "the attestation took longer than 10 s"));
        if let Err(refusal) = outcome.unwrap_or_else(|_elapsed| late()) {
            // Nobody to tell: the node has gone.
            send.send(Err(inner.refused("attest", refusal))).await.ok();
        }
    };
    // The exchange lives in the stream of its answers: a node that hangs up ends it.
    Box::pin(super::sync::driven(work, tokio_stream::wrappers::ReceiverStream::new(answers)))
}

type Send = tokio::sync::mpsc::Sender<Result<AttestResponse, tonic::Status>>;

struct Exchange<'a> {
    inner: &'a Inner,
    peer: &'a PeerInfo,
    requests: Streaming<AttestRequest>,
}

impl Exchange<'_> {
    async fn run(mut self, answers: &Send) -> Result<(), Refusal> {
        let directory = &self.inner.minter.directory;
        let (claim, challenge) = self.start().await?;
        let asked = AttestChallenge { hello: Some(hello::own(directory)), nonce: challenge.nonce().to_vec().into() };
        answer(answers, attest_response::Message::Challenge(asked)).await?;
        let response = self.response().await?;
        let key = challenge.verify(bounded(&response.signature)?)?;
        let evidence = claim.answered(bounded(&response.machine_signature)?.to_vec());

        let lifetimes = self.inner.lifetimes();
        let attested = attest::attest(directory, &self.inner.attestors, evidence, key)?;
        let enrolled = attested.enrol(&self.inner.minter.authorities, directory, lifetimes).await?;
        let node = &enrolled.node;
        tracing::info!(node = %node.spiffe_id, attestor = node.attestor, serial = %enrolled.svid.serial, "node attested");
        self.inner.metrics.attested();
        let bundle = directory.bundle(directory.trust_domain());
        let bundle = bundle.ok_or_else(|| Refusal::new(Reason::Unavailable, "the trust domain has no bundle yet"))?;
        let attested = Attested {
            svid: Some(node_svid(&enrolled.svid, node.generation, directory.clock().now())),
            bundle: bundle.document.into(),
            reattest_ttl_s: lifetimes.reattest.as_s(),
        };
        answer(answers, attest_response::Message::Attested(attested)).await
    }

    async fn start(&mut self) -> Result<(Claim, Challenge), Refusal> {
        let Some(attest_request::Message::Start(start)) = self.next().await? else {
            return Err(Refusal::new(Reason::InvalidArgument, "an attestation begins with a start message"));
        };
        hello::read(start.hello, &self.inner.minter.directory)?;
        let binding = self.peer.binding().ok_or_else(|| Refusal::new(Reason::Internal, "TLS gave no exporter"))?;
        let challenge = ClaimedKey::read(bounded(&start.node_key)?)?.challenge(*binding)?;
        let claim = match start.evidence {
            Some(attest_start::Evidence::JoinToken(secret)) => {
                bounded(secret.as_bytes())?;
                Claim::JoinToken(Secret::new(secret))
            }
            Some(attest_start::Evidence::EnrolledNode(id)) => {
                bounded(id.as_bytes())?;
                Claim::EnrolledKey(id.parse::<mayfly_sdk::SpiffeId>()?)
            }
            Some(attest_start::Evidence::MachineCertificate(certificate)) => {
                self.inner.attestors.machines()?;
                Claim::Machine(PresentedChain::read(certificate.chain)?)
            }
            None => {
                return Err(Refusal::new(
                    Reason::InvalidArgument,
                    "an attestation needs evidence: a join token, a machine's certificate, or the enrolled node",
                ));
            }
        };
        Ok((claim, challenge))
    }

    async fn response(&mut self) -> Result<AttestAnswer, Refusal> {
        match self.next().await? {
            Some(attest_request::Message::Answer(answer)) => Ok(answer),
            _ => Err(Refusal::new(Reason::InvalidArgument, "a challenge is answered with a signature")),
        }
    }

    async fn next(&mut self) -> Result<Option<attest_request::Message>, Refusal> {
        match self.requests.next().await {
            Some(Ok(request)) => Ok(request.message),
            Some(Err(status)) => Err(Refusal::from_status(&status)),
            None => Err(Refusal::new(Reason::InvalidArgument, "the attestation ended before it was complete")),
        }
    }
}

fn bounded(part: &[u8]) -> Result<&[u8], Refusal> {
    if part.len() <= MAX_PART {
        Ok(part)
    } else {
        Err(Refusal::new(Reason::InvalidArgument, "a part of the message is longer than 4 KiB"))
    }
}

async fn answer(answers: &Send, message: attest_response::Message) -> Result<(), Refusal> {
    let gone = |_| Refusal::new(Reason::ConnectionClosed, "the node hung up");
    answers.send(Ok(AttestResponse { message: Some(message) })).await.map_err(gone)
}
