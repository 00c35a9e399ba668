//! Renews the node's SVID under an open session, and prepares the connection that follows it.

use std::time::Duration;

use futures_util::future::BoxFuture;
use mayfly_proto::node;
use mayfly_sdk::tls::ClientTls;
use mayfly_sdk::{Reason, Refusal};

use super::backoff::Backoff;
use super::dial::{Dialed, HANDSHAKE_WITHIN, dial};
use super::record::PendingRenewal;
use super::session::NodeClient;

/// How long the issuer may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// What a finished step has brought.
#[derive(Debug)]
pub(super) enum Renewed {
    /// The answer of the issuer, to be checked and stored.
    Svid(node::NodeSvid),
    /// A connection made with the new SVID.
    Dialed(Dialed),
}

/// A renewal in progress: at most one step at a time, which runs beside the session.
pub(super) struct Renewal {
    step: Option<BoxFuture<'static, Result<Renewed, Refusal>>>,
    backoff: Backoff,
    /// The new SVID is stored, and the connection is still the old one.
    pub(super) must_dial: bool,
}

impl Renewal {
    pub(super) fn new() -> Self {
        Self { step: None, backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(30)), must_dial: false }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.step.is_none()
    }

    /// Asks the issuer. The request must be on disk by now.
    pub(super) fn ask(&mut self, client: NodeClient, pending: &PendingRenewal) {
        let request =
            node::RenewNodeRequest { request_id: pending.request_id().into(), generation: pending.generation };
        self.step = Some(Box::pin(ask(client, request, self.pause())));
    }

    /// Dials anew with the new SVID.
    pub(super) fn dial(&mut self, address: String, tls: ClientTls) {
        let pause = self.pause();
        self.step = Some(Box::pin(async move {
            tokio::time::sleep(pause).await;
            dial(&address, &tls, HANDSHAKE_WITHIN).await.map(Renewed::Dialed)
        }));
    }

    /// The outcome of the step; pending for ever where there is none. Cancel safe.
    pub(super) async fn outcome(&mut self) -> Result<Renewed, Refusal> {
        let Some(step) = &mut self.step else { return std::future::pending().await };
        let outcome = step.await;
        self.step = None;
        outcome
    }

    pub(super) fn failed(&mut self) {
        // The pause is drawn when the next step begins.
        self.backoff.failed(None);
    }

    pub(super) fn succeeded(&mut self) {
        self.backoff.succeeded();
    }

    fn pause(&self) -> Duration {
        if self.backoff.failures() == 0 { Duration::ZERO } else { self.backoff.clone().failed(None) }
    }
}

async fn ask(mut client: NodeClient, request: node::RenewNodeRequest, pause: Duration) -> Result<Renewed, Refusal> {
    tokio::time::sleep(pause).await;
    let late = |_| Refusal::new(Reason::HandshakeTimeout, "the issuer did not answer the renewal in time");
    let answer = tokio::time::timeout(ANSWER_WITHIN, client.renew_node(request)).await.map_err(late)?;
    let answer = answer.map_err(|status| Refusal::from_status(&status))?.into_inner();
    let svid = answer
        .svid
        .ok_or_else(|| Refusal::new(Reason::MessageInvalid, "the issuer answered the renewal without an SVID"))?;
    Ok(Renewed::Svid(svid))
}
