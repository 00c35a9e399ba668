//! The stream of revocations, and the verifier that it feeds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mayfly_proto::task as wire;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tonic::{Status, Streaming};

use crate::client::{Phase, SourceStatus, Subscriber, WorkloadClient};
use crate::reason::{Reason, Refusal};
use crate::task::{SILENCE, TaskCaller, TaskKeys, TaskTokenError, TaskVerifier, UpdateParts};

/// How often an unknown key may open the stream anew.
const ANEW: Duration = Duration::from_secs(30);

/// How often a caller is looked at while nothing is heard: tokens end, and so does what is known.
const LOOK: Duration = Duration::from_secs(1);

/// What came of an update that is not complete. Its keys wait for the rest: what has ended is known before keys are that would let it in.
#[derive(Default)]
struct Parts {
    update: UpdateParts,
    keys: Option<TaskKeys>,
}

/// Whatever is known stays known while the stream is away; that it grows stale is for the verifier to see. When the audience is
/// withdrawn from this service, it takes no token until it may follow it again.
pub(super) struct Feed {
    verifier: TaskVerifier,
    status: watch::Sender<SourceStatus>,
    /// What came of an update that is longer than a message.
    parts: Mutex<Parts>,
    wanted: AtomicBool,
    anew: Notify,
}

impl Feed {
    pub(super) fn new(verifier: TaskVerifier) -> Self {
        let status = watch::Sender::new(SourceStatus::connecting());
        Self { verifier, status, parts: Mutex::default(), wanted: AtomicBool::new(false), anew: Notify::new() }
    }

    pub(super) const fn verifier(&self) -> &TaskVerifier {
        &self.verifier
    }

    pub(super) fn watch_status(&self) -> watch::Receiver<SourceStatus> {
        self.status.subscribe()
    }

    pub(super) fn available(&self) -> Result<(), Refusal> {
        let status = self.status.borrow();
        match &status.refusal {
            _ if status.available => Ok(()),
            Some(refusal) => Err(refusal.clone()),
            None => Err(Refusal::new(Reason::SourceNotReady, "the agent has not sent anything yet")),
        }
    }

    /// Waits until a caller would not be admitted any more: why.
    pub(super) async fn no_longer_good(&self, caller: &TaskCaller) -> TaskTokenError {
        let mut heard = self.status.subscribe();
        loop {
            // What is heard from here on wakes it.
            heard.mark_unchanged();
            if let Err(error) = self.verifier.still_good(caller) {
                return error;
            }
            drop(timeout(LOOK, heard.changed()).await);
        }
    }

    /// Asks for the stream to be opened anew, once it is 30 s old.
    pub(super) fn ask_anew(&self) {
        if !self.wanted.swap(true, Ordering::Relaxed) {
            self.anew.notify_one();
        }
    }
}

impl Subscriber for Feed {
    type Message = wire::Revocations;
    const CALL: &'static str = "WatchRevocations";
    const SILENCE: Option<Duration> = Some(SILENCE);

    async fn open(&self, client: &WorkloadClient) -> Result<Streaming<wire::Revocations>, Status> {
        *self.parts.lock().unwrap_or_else(PoisonError::into_inner) = Parts::default();
        let request = wire::WatchRevocationsRequest { audience: self.verifier.audience().to_owned() };
        client.task_api().watch_revocations(request).await.map(tonic::Response::into_inner)
    }

    fn take(&self, message: wire::Revocations) -> Result<(), Refusal> {
        let taken = self.read(&message);
        self.status.send_modify(|status| match &taken {
            Ok(()) if message.more => {}
            Ok(()) => {
                status.phase = Phase::Live;
                status.available = true;
                status.updates += 1;
                status.refusal = None;
            }
            Err(_) => status.discarded += 1,
        });
        taken
    }

    fn connecting(&self) {
        self.status.send_modify(|status| status.phase = Phase::Connecting);
    }

    fn ended(&self, phase: Phase, refusal: Refusal, failures: u32, withdraw: bool) {
        // This service may not decide for this audience any more, be its feed stale or not.
        if withdraw {
            self.verifier.forget_keys();
        }
        self.status.send_modify(|status| {
            status.available &= !withdraw;
            status.phase = phase;
            status.failures = failures;
            status.refusal = Some(refusal);
        });
    }

    fn close(&self) {
        self.status.send_modify(|status| status.phase = Phase::Closed);
    }

    async fn anew(&self, opened: Instant) {
        // A stream that has just been opened brought the keys of that moment.
        tokio::time::sleep_until(opened + ANEW).await;
        while !self.wanted.swap(false, Ordering::Relaxed) {
            self.anew.notified().await;
        }
    }
}

impl Feed {
    fn read(&self, message: &wire::Revocations) -> Result<(), Refusal> {
        let invalid = |what: &str| Refusal::new(Reason::MessageInvalid, format!("the feed is opened anew: {what}"));
        let keys = |issuer: &wire::TaskIssuer| TaskKeys::from_jwks(issuer.iss.as_str(), issuer.jwks.as_bytes());
        let keys = message.issuer.as_ref().map(keys).transpose()?;
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.is_some() {
            parts.keys = keys;
        }
        let update = parts.update.take(message).map_err(|refusal| invalid(&refusal.what))?;
        let Some(update) = update else { return Ok(()) };
        self.verifier.take(&update, message.said_at).map_err(|error| invalid(&error.to_string()))?;
        if let Some(keys) = parts.keys.take() {
            self.verifier.set_keys(keys);
        }
        Ok(())
    }
}
