//! The one loop that opens the stream, follows it, and decides what its end means.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::backoff::Backoff;
use super::{Material, Phase, Shared};
use crate::client::{Endpoint, WorkloadClient};
use crate::grpc;
use crate::reason::Refusal;

/// Follows the stream until `stop`, or until the agent says that it will never answer.
pub(super) async fn supervise<M: Material>(shared: Arc<Shared<M>>, endpoint: Endpoint, stop: CancellationToken) {
    let mut backoff = Backoff::default();
    loop {
        shared.connecting();
        let mut delivered = Delivered::default();
        let end = tokio::select! {
            () = stop.cancelled() => break,
            end = follow(&shared, &endpoint, &mut delivered) => end,
        };
        backoff.ended(delivered.since.map(|since| since.elapsed()));
        let (attempt, reason) = (backoff.failures(), end.refusal.reason.code());
        if end.verdict == Verdict::Never {
            tracing::error!(call = M::CALL, reason, error = end.refusal.what, "workload api refuses the call for good");
            shared.ended(Phase::Failed, end.refusal, attempt, false);
            return;
        }
        let pause = backoff.pause(fastrand::f64(), end.asked);
        tracing::info!(call = M::CALL, reason, error = end.refusal.what, attempt, "workload api stream ended");
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

async fn follow<M: Material>(shared: &Shared<M>, endpoint: &Endpoint, delivered: &mut Delivered) -> End {
    // A connection of its own for every attempt: nothing of a broken one is left over.
    let client = WorkloadClient::new(endpoint);
    let mut stream = match M::open(&client).await {
        Ok(stream) => stream,
        Err(status) => return End::of(&status, &client),
    };
    loop {
        match stream.message().await {
            Ok(Some(message)) => {
                delivered.since.get_or_insert_with(Instant::now);
                match M::decode(message) {
                    Ok(material) => shared.publish(material),
                    Err(refusal) => {
                        tracing::warn!(call = M::CALL, error = refusal.what, "message discarded");
                        shared.discard(refusal);
                    }
                }
            }
            // The standard leaves the end to either side, and a healthy agent does not end it (row WA-7).
            Ok(None) => return End::of(&Status::unavailable("the agent ended the stream"), &client),
            Err(status) => return End::of(&status, &client),
        }
    }
}

impl End {
    fn of(status: &Status, client: &WorkloadClient) -> Self {
        let verdict = match status.code() {
            Code::InvalidArgument | Code::Unimplemented => Verdict::Never,
            Code::PermissionDenied => Verdict::Withdrawn,
            _ => Verdict::Again,
        };
        Self { refusal: client.refusal(status), verdict, asked: grpc::retry_after(status) }
    }
}
