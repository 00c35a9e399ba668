//! The ledger, read: its newest records, and each new one as it becomes durable.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _, stream};
use mayfly_proto::admin::{LedgerRecord, TailLedgerRequest, TailLedgerResponse};
use mayfly_sdk::{Reason, Refusal};
use tonic::Status;

use super::{
    Admin,
    authorize::{Authorized, Object},
    wire_revision,
};
use crate::{directory::Directory, ledger::Logged, store::Follower};

/// The most records to begin with.
const MAX_LAST: usize = 10_000;
/// Records in one message.
const RECORDS_A_MESSAGE: usize = 500;

/// How often the clock is asked whether a grant has ended; edits are heard of at once.
const LOOK: Duration = Duration::from_secs(1);

/// The answers of a tail.
pub(super) type Records = Pin<Box<dyn Stream<Item = Result<TailLedgerResponse, Status>> + Send>>;

impl Admin {
    pub(super) async fn tail(&self, request: TailLedgerRequest, authorized: &Authorized) -> Result<Records, Refusal> {
        let last = usize::try_from(request.last).unwrap_or(MAX_LAST).min(MAX_LAST);
        let store = self.directory.store();
        if !request.follow {
            let records = store.tail(last).await?;
            let parts: Vec<_> = records.chunks(RECORDS_A_MESSAGE).map(|part| Ok(message(part))).collect();
            return Ok(Box::pin(stream::iter(parts)));
        }
        let follower = store.follow(last).await?;
        let stop = self.stop.clone().cancelled_owned();
        let records = stream::unfold(follower, |mut follower: Follower| async move {
            let next =
                follower.next().await.map(|records| message(&records)).map_err(|error| Refusal::from(error).into());
            Some((next, follower))
        });
        let records = records.take_until(stop);
        if authorized.remote().is_none() {
            return Ok(Box::pin(records));
        }
        // Asked before each message, and whenever the answer may have changed: a silent stream ends too.
        let (directory, judge) = (Arc::clone(&self.directory), authorized.clone());
        let records = records.map(move |message| if still(&directory, &judge) { message } else { Err(withdrawn()) });
        let end = stream::once(until_withdrawn(Arc::clone(&self.directory), authorized.clone()));
        Ok(Box::pin(stream::select(records, end)))
    }
}

fn still(directory: &Directory, authorized: &Authorized) -> bool {
    let now = directory.clock().now();
    directory.with_registry(|registry| authorized.may(registry, now, Object::Everything))
}

async fn until_withdrawn(directory: Arc<Directory>, authorized: Authorized) -> Result<TailLedgerResponse, Status> {
    let mut edits = directory.edits();
    while still(&directory, &authorized) {
        tokio::time::timeout(LOOK, edits.changed()).await.ok();
    }
    Err(withdrawn())
}

fn withdrawn() -> Status {
    Refusal::new(Reason::PermissionDenied, "the grant of ledger:tail was taken away").into()
}

fn message(records: &[Logged]) -> TailLedgerResponse {
    TailLedgerResponse { records: records.iter().map(wire).collect() }
}

fn wire(logged: &Logged) -> LedgerRecord {
    let record = &logged.record;
    let text = |id: Option<String>| id.unwrap_or_default();
    LedgerRecord {
        event_id: record.event.to_string(),
        kind: record.kind.name().to_owned(),
        time_ms: record.time_ms(),
        authority: text(record.authority.as_ref().map(ToString::to_string)),
        key_sha256: text(record.key_sha256.map(hex::encode)),
        node: text(record.node.as_ref().map(ToString::to_string)),
        instance: text(record.instance.map(|instance| instance.to_string())),
        entry_uid: text(record.entry_uid.as_ref().map(ToString::to_string)),
        entry_revision: record.revision.map(wire_revision),
        request_id: text(record.request_id.map(hex::encode)),
        released_sha256: text(record.released_sha256.map(hex::encode)),
        spiffe_id: text(record.personal.spiffe_id.as_ref().map(ToString::to_string)),
        actor: text(record.personal.actor.as_ref().map(ToString::to_string)),
        detail: text(record.personal.detail.as_ref().map(ToString::to_string)),
        digest: hex::encode(logged.digest),
        reason: text(record.reason.as_ref().map(ToString::to_string)),
        policy: text(record.policy.as_ref().map(ToString::to_string)),
    }
}
