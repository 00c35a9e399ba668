//! `WatchAudience`: what becomes of the tasks whose tokens a workload of the node may meet.

use std::sync::Arc;

use mayfly_proto::node::WatchAudienceRequest;
use mayfly_proto::task::{Revocations, TaskIssuer};
use mayfly_sdk::task::{MAX_AUDIENCE, to_wire};
use mayfly_sdk::{Reason, Refusal, Revision, jwk};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::sync::{UNREAD, driven};
use super::{Answers, Inner};
use crate::store::NodeRow;
use crate::task::HEARTBEAT;

/// What the feed says, until either side ends it.
pub(super) fn answers(inner: Arc<Inner>, node: Arc<NodeRow>, request: WatchAudienceRequest) -> Answers<Revocations> {
    let (send, answers) = mpsc::channel(4);
    let work = async move {
        if let Err(refusal) = run(&inner, &node, request, &send).await {
            // Nobody to tell: the agent has gone.
            send.send(Err(inner.refused("watch_audience", refusal))).await.ok();
        }
    };
    Box::pin(driven(work, ReceiverStream::new(answers)))
}

async fn run(
    inner: &Inner,
    node: &NodeRow,
    request: WatchAudienceRequest,
    send: &mpsc::Sender<Result<Revocations, Status>>,
) -> Result<(), Refusal> {
    let WatchAudienceRequest { service, audience, epoch, n } = request;
    if audience.is_empty() || audience.len() > MAX_AUDIENCE {
        return Err(Refusal::new(Reason::InvalidArgument, "an audience has 1 to 512 bytes"));
    }
    inner.serves(node, service.clone(), &audience)?;
    let directory = &inner.minter.directory;
    let mut edits = directory.edits();
    let mut feed = inner.minter.tasks.follow(&audience);
    let mut held = (epoch != 0).then_some(Revision { epoch, n });
    let (mut keys_of, mut beat) = (None, Instant::now());
    loop {
        // What gave the right may be gone since the last message.
        edits.mark_unchanged();
        directory.live_node(&node.spiffe_id, &node.key_sha256)?;
        inner.serves(node, service.clone(), &audience)?;
        let update = feed.after(held);
        let keys = inner.minter.authorities.snapshot();
        let new_keys = keys_of != Some(keys.revision());
        if new_keys || update.whole || !update.events.is_empty() || beat <= Instant::now() {
            let mut messages = to_wire(&update, directory.clock().now_ms());
            if let Some(first) = messages.first_mut().filter(|_| new_keys) {
                let jwks = jwk::signing_set(keys.task_keys()).to_string();
                first.issuer = Some(TaskIssuer { iss: inner.minter.task_iss.to_string(), jwks });
            }
            for message in messages {
                match tokio::time::timeout(UNREAD, send.send(Ok(message))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_gone)) => return Ok(()),
                    Err(_elapsed) => {
                        return Err(Refusal::new(Reason::Overloaded, "the node has not read its stream for 30 s"));
                    }
                }
            }
            (held, keys_of, beat) = (Some(update.at), Some(keys.revision()), Instant::now() + HEARTBEAT);
        }
        tokio::select! {
            () = inner.stop.cancelled() => {
                return Err(Refusal::new(Reason::ShuttingDown, "the issuer is shutting down"));
            }
            () = send.closed() => return Ok(()),
            () = feed.changed() => {}
            _edited = edits.changed() => {}
            () = sleep_until(beat) => {}
        }
    }
}
