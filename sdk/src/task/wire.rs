//! A feed's updates as messages: bounded in size, so that a large one is several messages.

use mayfly_proto::task::{Revocations, TaskEvent as WireEvent};

use super::feed::{TaskEvent, Update};
use crate::reason::{Reason, Refusal};
use crate::revision::Revision;
use crate::time::Timestamp;

/// Events in one message: well below what gRPC clients read by default.
const EVENTS_A_MESSAGE: usize = 10_000;
/// The most events that are collected for one update.
const MAX_EVENTS: usize = 10_000_000;

/// The messages of one update, in their order; `said_at`: the issuer's clock, Unix milliseconds.
#[must_use]
pub fn to_wire(update: &Update, said_at: i64) -> Vec<Revocations> {
    let message = |events: &[TaskEvent], more| Revocations {
        whole: update.whole,
        epoch: update.at.epoch,
        n: update.at.n,
        events: events.iter().map(event).collect(),
        issuer: None,
        said_at,
        more,
    };
    if update.events.is_empty() {
        return vec![message(&[], false)];
    }
    let last = (update.events.len() - 1) / EVENTS_A_MESSAGE;
    update.events.chunks(EVENTS_A_MESSAGE).enumerate().map(|(part, events)| message(events, part < last)).collect()
}

/// Collects messages until an update is complete.
#[derive(Debug, Default)]
pub struct UpdateParts {
    events: Vec<TaskEvent>,
}

impl UpdateParts {
    /// The update, if this message completes it.
    ///
    /// # Errors
    /// [`Reason::InvalidArgument`] for an event that cannot be read, or too many of them.
    pub fn take(&mut self, message: &Revocations) -> Result<Option<Update>, Refusal> {
        if self.events.len().saturating_add(message.events.len()) > MAX_EVENTS {
            return Err(Refusal::new(Reason::InvalidArgument, "an update of a feed has too many events"));
        }
        for event in &message.events {
            self.events.push(read(event)?);
        }
        if message.more {
            return Ok(None);
        }
        let at = Revision { epoch: message.epoch, n: message.n };
        Ok(Some(Update { whole: message.whole, at, events: std::mem::take(&mut self.events) }))
    }
}

fn event(event: &TaskEvent) -> WireEvent {
    WireEvent {
        task: event.task.to_string(),
        state: event.state.to_string(),
        forget_at: event.forget_at.map_or(0, Timestamp::unix_s),
    }
}

fn read(event: &WireEvent) -> Result<TaskEvent, Refusal> {
    let wrong = |what: &str| Refusal::new(Reason::InvalidArgument, format!("an event of a feed has {what}"));
    Ok(TaskEvent {
        task: event.task.parse().map_err(|_no_serial| wrong("no id of a task"))?,
        state: event.state.parse().map_err(|_unknown| wrong("an unknown state"))?,
        forget_at: (event.forget_at > 0).then(|| Timestamp::from_unix_s(event.forget_at)),
    })
}
