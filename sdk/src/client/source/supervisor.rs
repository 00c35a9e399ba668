//! The one loop that opens the stream, follows it, and decides what its end means.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use super::Phase;
use super::backoff::Backoff;
use crate::client::{Endpoint, WorkloadClient};
use crate::grpc;
use crate::reason::Refusal;

/// Whoever is told what a stream says, and how it fares.
pub(crate) trait Subscriber: Send + Sync + 'static {
    /// The message on the wire.
    type Message: Send + 'static;

    /// The name of the call, for logs.
    const CALL: &'static str;

    /// How long a stream may be silent before it counts as broken; none: for ever.
    const SILENCE: Option<Duration> = None;

    /// Opens the stream.
    fn open(&self, client: &WorkloadClient) -> impl Future<Output = Result<Streaming<Self::Message>, Status>> + Send;

    /// Takes one message. `Err`: what came after what is held does not fit it, and the stream is opened anew.
    fn take(&self, message: Self::Message) -> Result<(), Refusal>;

    /// The stream is being opened.
    fn connecting(&self);

    /// The stream ended. `withdraw`: and what it brought may not be used any more.
    fn ended(&self, phase: Phase, refusal: Refusal, failures: u32, withdraw: bool);

    /// Nobody follows the stream any more.
    fn close(&self);

    /// Whether the stream has said all that it ever will, so that its end is no failure.
    fn finished(&self) -> bool {
        false
    }

    /// Resolves when the stream, which was opened at this moment, should be opened anew although it has not ended.
    fn anew(&self, _opened: Instant) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// Follows the stream until `stop`, or until the agent says that it will never answer.
pub(crate) async fn supervise<S: Subscriber>(shared: Arc<S>, endpoint: Endpoint, stop: CancellationToken) {
    let mut backoff = Backoff::default();
    loop {
        shared.connecting();
        let mut delivered = Delivered::default();
        let end = tokio::select! {
            () = stop.cancelled() => break,
            end = follow(shared.as_ref(), &endpoint, &mut delivered) => end,
        };
        if shared.finished() {
            break;
        }
        backoff.ended(delivered.since.map(|since| since.elapsed()));
        let (attempt, reason) = (backoff.failures(), end.refusal.reason.code());
        if end.verdict == Verdict::Never {
            tracing::error!(call = S::CALL, reason, error = end.refusal.what, "workload api refuses the call for good");
            shared.ended(Phase::Failed, end.refusal, attempt, false);
            return;
        }
        let pause = backoff.pause(fastrand::f64(), end.asked);
        tracing::info!(call = S::CALL, reason, error = end.refusal.what, attempt, "workload api stream ended");
        shared.ended(Phase::Retrying, end.refusal, attempt, end.verdict == Verdict::Withdrawn);
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep(pause) => {}
        }
    }
    shared.close();
}

/// How a stream ended.
struct End {
    refusal: Refusal,
    verdict: Verdict,
    asked: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Open it again; what it brought stays in use.
    Again,
    /// Open it again; what it brought may not be used any more.
    Withdrawn,
    /// Do not open it again.
    Never,
}

/// When the first message of a stream came.
#[derive(Default)]
struct Delivered {
    since: Option<Instant>,
}

async fn follow<S: Subscriber>(shared: &S, endpoint: &Endpoint, delivered: &mut Delivered) -> End {
    // A connection of its own for every attempt: nothing of a broken one is left over.
    let client = WorkloadClient::new(endpoint);
    let silent = || Status::unavailable("the agent is silent");
    let mut stream = match within(S::SILENCE, shared.open(&client)).await.unwrap_or_else(|| Err(silent())) {
        Ok(stream) => stream,
        Err(status) => return End::of(&status, &client),
    };
    let opened = Instant::now();
    loop {
        let message = tokio::select! {
            message = within(S::SILENCE, stream.message()) => message.unwrap_or_else(|| Err(silent())),
            () = shared.anew(opened) => return End::of(&Status::unavailable("the stream is opened anew on request"), &client),
        };
        match message {
            Ok(Some(message)) => {
                delivered.since.get_or_insert_with(Instant::now);
                if let Err(refusal) = shared.take(message) {
                    return End::again(refusal);
                }
            }
            // The standard leaves the end to either side, and a healthy agent does not end it (row WA-7).
            Ok(None) => return End::of(&Status::unavailable("the agent ended the stream"), &client),
            Err(status) => return End::of(&status, &client),
        }
    }
}

/// `None` when it takes longer. Without a limit no timer runs.
async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => timeout(limit, work).await.ok(),
        None => Some(work.await),
    }
}

impl End {
    const fn again(refusal: Refusal) -> Self {
        Self { refusal, verdict: Verdict::Again, asked: None }
    }

    fn of(status: &Status, client: &WorkloadClient) -> Self {
        let verdict = match status.code() {
            Code::InvalidArgument | Code::Unimplemented => Verdict::Never,
            Code::PermissionDenied => Verdict::Withdrawn,
            _ => Verdict::Again,
        };
        Self { refusal: client.refusal(status), verdict, asked: grpc::retry_after(status) }
    }
}
